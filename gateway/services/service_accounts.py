"""Service accounts: owners of keys that are no people, kept by the organization's admins.

Invariant: as for members, nobody gives more than they hold. What a service account may do is what it was given, nothing
by default; one that holds `gateway:admin` administers the organization as an admin does, any other sees itself alone.
"""

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.keys.authority import MEMBERS
from gateway.services import paging
from gateway.services.access import require_admin, require_reading
from gateway.services.actor import Caller
from gateway.services.changed import Changed
from gateway.services.clock import Clock, utc_now
from gateway.services.idempotency import repeatable
from gateway.services.named_listing import Page
from gateway.services.owner_changes import insert_owner, log_owner, update_owner
from gateway.services.owner_removal import removal, remove_owner
from gateway.services.owner_rows import find_owner, owner_page, service_account_from_row
from gateway.services.people_requests import CreateServiceAccount, UpdateServiceAccount, given
from gateway.services.people_shapes import RemovedServiceAccount, ServiceAccount, ServiceAccountPage
from gateway.services.requests import validate
from gateway.services.writing import refuse_lost_race, writing
from gateway.store.engine import read_transaction


class ServiceAccountService:
    """The service accounts of the caller's organization, in the store behind `engine`."""

    __slots__ = ("_clock", "_engine")

    def __init__(self, engine: AsyncEngine, *, clock: Clock = utc_now) -> None:
        self._engine = engine
        self._clock = clock

    async def create(
        self, caller: Caller, body: Mapping[str, object], idempotency_key: str | None = None
    ) -> Changed[ServiceAccount]:
        """Add a service account; a repeated call changes nothing and answers with what the first one made.

        Raises NotAllowed, Invalid, Conflict for a name or external id in use.
        """
        async with writing(self._engine, self._clock, caller, MEMBERS) as change:
            require_admin(change.authority, "add service accounts")
            request = validate(CreateServiceAccount, body)
            call = repeatable(change.authority, "service_account.create", body, idempotency_key)
            account_id, seq = await call.made_before(change.connection, change.now), None
            if account_id is None:
                account_id = await insert_owner(change, "service_account", dict(request))
                seq = await log_owner(change, account_id, 1)
                await call.remember(change.connection, account_id, change.now)
            row = await find_owner(change.connection, change.authority, "service_account", account_id)
            return Changed(service_account_from_row(row), seq)

    async def list(
        self, caller: Caller, search: str | None = None, cursor: str | None = None, limit: int = paging.DEFAULT_LIMIT
    ) -> ServiceAccountPage:
        """Return one page, newest first; with `search` those whose name begins so, in alphabetical order."""
        require_reading(caller.authority, MEMBERS)
        async with read_transaction(self._engine) as connection:
            page = Page(search, cursor, limit)
            rows, next_cursor = await owner_page(connection, caller.authority, "service_account", page)
        return ServiceAccountPage(items=tuple(service_account_from_row(row) for row in rows), next_cursor=next_cursor)

    async def show(self, caller: Caller, account_id: str) -> ServiceAccount:
        """Return the service account. Raises NotFound."""
        require_reading(caller.authority, MEMBERS)
        async with read_transaction(self._engine) as connection:
            row = await find_owner(connection, caller.authority, "service_account", account_id)
        return service_account_from_row(row)

    async def update(
        self, caller: Caller, account_id: str, body: Mapping[str, object], if_match: int | None = None
    ) -> Changed[ServiceAccount]:
        """Change what the body gives. It counts for all keys of the service account at once.

        Raises NotAllowed, NotFound, Invalid, Conflict for a name or external id in use, PreconditionFailed.
        """
        async with writing(self._engine, self._clock, caller, MEMBERS) as change:
            row = await find_owner(change.connection, change.authority, "service_account", account_id)
            require_admin(change.authority, "change service accounts")
            wanted = given(validate(UpdateServiceAccount, body))
            refuse_lost_race(row.version, if_match)
            seq = await update_owner(change, row, wanted)
            row = await find_owner(change.connection, change.authority, "service_account", account_id)
            return Changed(service_account_from_row(row), seq)

    async def remove(
        self, caller: Caller, account_id: str, body: Mapping[str, object]
    ) -> Changed[RemovedServiceAccount]:
        """Remove the service account; the body says what becomes of its keys: `RemoveOwner`.

        Raises NotAllowed, NotFound, Invalid, Conflict (`keys_need_a_choice`, `own_account`).
        """
        async with writing(self._engine, self._clock, caller, MEMBERS) as change:
            row = await find_owner(change.connection, change.authority, "service_account", account_id)
            require_admin(change.authority, "remove service accounts")
            removed = await remove_owner(change, row, removal(account_id, body))
            account = service_account_from_row(row)
            return Changed(RemovedServiceAccount(**dict(account), keys=removed.keys), removed.seq)
