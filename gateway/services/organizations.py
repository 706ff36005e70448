"""Organizations: founded, changed and removed by the operator; each governs its own rules.

Invariant: the operator's admins keep the list of organizations and never see into another one. Whoever looks from the
other side sees `System` acting, not the operator's people; what they did is told in both trails. A removed organization
stays as a row, with all of its keys revoked; the operator itself cannot be removed.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import Conflict, FieldError, Invalid
from gateway.keys.authority import ADMIN
from gateway.keys.naming import folded
from gateway.services import paging
from gateway.services.access import require_admin, require_operator, require_reading
from gateway.services.actor import SYSTEM, Actor, Caller
from gateway.services.changed import Changed
from gateway.services.clock import Clock, utc_now
from gateway.services.founding import found, founded, readmit, refuse_organization_twins
from gateway.services.idempotency import repeatable
from gateway.services.named_listing import Page
from gateway.services.organization_rows import (
    OrganizationRow,
    find_organization,
    organization_from_row,
    organization_page,
)
from gateway.services.people_requests import CreateOrganization, UpdateOrganization, given
from gateway.services.people_shapes import FoundedOrganization, OrganizationPage
from gateway.services.requests import validate
from gateway.services.shapes import Initialised, MemberName, Organization, OrganizationName
from gateway.services.trail import Fields, Target, record_event
from gateway.services.writing import Writing, refuse_lost_race, writing
from gateway.store import change_log
from gateway.store.engine import read_transaction, write_transaction
from gateway.store.schema import keys, organizations

_OPERATORS_FIELDS: Final = frozenset({"name", "external_id"})


class OrganizationService:
    """The organizations of the store behind `engine`."""

    __slots__ = ("_clock", "_engine", "_key_prefix")

    def __init__(self, engine: AsyncEngine, *, key_prefix: str = "sk_", clock: Clock = utc_now) -> None:
        self._engine = engine
        self._key_prefix = key_prefix
        self._clock = clock

    async def initialise(
        self, name: str, admin_email: str, *, another_key: bool = False, actor: Actor = SYSTEM
    ) -> Initialised:
        """Make an organization without being called by a key. Raises Conflict where the name is taken, Invalid.

        `another_key`: there is one of that name, and its admin gets a further key; raises NotFound where there is none.
        """
        request = initial(name, admin_email)
        make = readmit if another_key else found
        async with write_transaction(self._engine) as connection:
            made = await make(connection, request, prefix=self._key_prefix, actor=actor, now=self._clock())
        return Initialised(
            organization=OrganizationName(id=made.organization_id, name=request.name),
            member=MemberName(id=made.member_id, email=request.admin),
            key=made.key,
        )

    async def create(
        self, caller: Caller, body: Mapping[str, object], idempotency_key: str | None = None
    ) -> Changed[FoundedOrganization]:
        """Make an organization, its first admin and their key, whose secret is in this answer alone.

        A repeated call changes nothing and answers with what the first one made, without the secret. Raises NotAllowed,
        Invalid, Conflict for a name or external id in use.
        """
        async with writing(self._engine, self._clock, caller, ADMIN) as change:
            require_operator(change.authority, "found organizations")
            request = validate(CreateOrganization, body)
            call = repeatable(change.authority, "organization.create", body, idempotency_key)
            organization_id = await call.made_before(change.connection, change.now)
            if organization_id is not None:
                return Changed(await founded(change.connection, organization_id, change.now), None)
            prefix = self._key_prefix
            made = await found(change.connection, request, prefix=prefix, actor=SYSTEM, now=change.now)
            await call.remember(change.connection, made.organization_id, change.now)
            told = {"name": request.name, "external_id": request.external_id}
            await _tell_operator(change, "organization.create", made.organization_id, request.name, after=told)
            shown = await founded(change.connection, made.organization_id, change.now)
            return Changed(shown.model_copy(update={"key": made.key}), made.seq)

    async def list(
        self, caller: Caller, search: str | None = None, cursor: str | None = None, limit: int = paging.DEFAULT_LIMIT
    ) -> OrganizationPage:
        """Return one page: for the operator of all organizations, for anybody else of their own alone.

        Newest first; with `search` those whose name begins so, in alphabetical order.
        """
        require_reading(caller.authority, ADMIN)
        async with read_transaction(self._engine) as connection:
            page = Page(search, cursor, limit)
            rows, next_cursor = await organization_page(connection, caller.authority, page)
        return OrganizationPage(items=tuple(organization_from_row(row) for row in rows), next_cursor=next_cursor)

    async def show(self, caller: Caller, organization_id: str) -> Organization:
        """Return the organization. Raises NotFound."""
        require_reading(caller.authority, ADMIN)
        async with read_transaction(self._engine) as connection:
            return organization_from_row(await find_organization(connection, caller.authority, organization_id))

    async def update(
        self, caller: Caller, organization_id: str, body: Mapping[str, object], if_match: int | None = None
    ) -> Changed[Organization]:
        """Change what the body gives. Keys that exist keep their expiry; name and external id are the operator's.

        Raises NotAllowed, NotFound, Invalid, Conflict for a name or external id in use, PreconditionFailed.
        """
        async with writing(self._engine, self._clock, caller, ADMIN) as change:
            row = await find_organization(change.connection, change.authority, organization_id)
            require_admin(change.authority, "change the organization's rules")
            wanted = given(validate(UpdateOrganization, body))
            refuse_lost_race(row.version, if_match)
            changes = {name: value for name, value in wanted.items() if value != getattr(row, name)}
            if changes.keys() & _OPERATORS_FIELDS:
                require_operator(change.authority, "change an organization's name and external id")
            seq = await _update(change, row, changes) if changes else None
            row = await find_organization(change.connection, change.authority, organization_id)
            return Changed(organization_from_row(row), seq)

    async def delete(self, caller: Caller, organization_id: str) -> Changed[Organization]:
        """Remove the organization and revoke all of its keys; return its last state.

        Raises NotAllowed, NotFound, Conflict for the operator's own.
        """
        async with writing(self._engine, self._clock, caller, ADMIN) as change:
            row = await find_organization(change.connection, change.authority, organization_id)
            require_operator(change.authority, "remove organizations")
            if row.operator:
                detail = f"{row.name} operates this gateway; without it nobody could found another organization."
                raise Conflict(detail, code="operator_organization")
            return Changed(organization_from_row(row), await _remove(change, row))


def initial(name: str, admin_email: str) -> CreateOrganization:
    """Check what the command line was given; raises Invalid, which names what is wrong as it was called there."""
    try:
        return validate(CreateOrganization, {"name": name, "admin": admin_email})
    except Invalid as error:
        called = {"name": "org"}
        faults = [FieldError(called.get(fault.field, fault.field), fault.rule) for fault in error.fields]
        raise Invalid(faults) from error


async def _update(change: Writing, row: OrganizationRow, changes: Mapping[str, Any]) -> int:  # Any: of each column
    name, external_id = changes.get("name"), changes.get("external_id")
    await refuse_organization_twins(change.connection, name=name, external_id=external_id, but=row.id)
    columns = {**changes, "version": row.version + 1}
    if name is not None:
        columns["name_search"] = folded(name)
    await change.connection.execute(update(organizations).where(organizations.c.id == row.id).values(**columns))
    before = {field: getattr(row, field) for field in changes}
    await _tell(change, row, "organization.update", before=before, after=changes)
    return await change_log.append(change.connection, "organization", row.id, row.version + 1)


async def _remove(change: Writing, row: OrganizationRow) -> int:
    """Mark the organization; its external id may be given to others. One log row lets workers drop all of its keys."""
    revocation = {
        "revoked_at": change.now,
        "revoked_by_id": SYSTEM.id,
        "revoked_by_text": SYSTEM.text,
        "revoked_reason": "The organization was removed.",
        "version": keys.c.version + 1,
    }
    live = keys.c.organization_id == row.id, keys.c.revoked_at.is_(None)
    await change.connection.execute(update(keys).where(*live).values(**revocation))
    marked = {"removed_at": change.now, "external_id": None, "version": row.version + 1}
    await change.connection.execute(update(organizations).where(organizations.c.id == row.id).values(**marked))
    await _tell(change, row, "organization.remove", before={"name": row.name, "external_id": row.external_id})
    return await change_log.append(change.connection, "organization", row.id, row.version + 1)


async def _tell(
    change: Writing, row: OrganizationRow, action: str, *, before: Fields, after: Fields | None = None
) -> None:
    """Tell the organization's own trail, and the operator's where the operator acts from outside."""
    inside = row.id == change.organization_id
    await record_event(
        change.connection,
        at=change.now,
        actor=change.actor if inside else SYSTEM,
        action=action,
        target=Target(row.id, "organization", row.id, row.name, None),
        before=before,
        after=after,
    )
    if not inside:
        await _tell_operator(change, action, row.id, row.name, before=before, after=after)


async def _tell_operator(
    change: Writing,
    action: str,
    organization_id: str,
    name: str,
    *,
    before: Fields | None = None,
    after: Fields | None = None,
) -> None:
    await record_event(
        change.connection,
        at=change.now,
        actor=change.actor,
        action=action,
        target=Target(change.organization_id, "organization", organization_id, name, None),
        before=before,
        after=after,
    )
