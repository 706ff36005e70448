"""Keys: everything that can be asked of them, each call judged by who calls.

    create  import_key  list  show  update  disable  enable  revoke  rotate  finish_rotation  delete  verify

Invariant: each change is one write transaction that holds the new state, the next version, a row in the change log and
an event of the trail; when the call returns, all of it is on the disk, and when it raises, none of it is. The caller's
authority is read again inside of it. Asking for the state a key is in already changes nothing and is no error, so that
a call whose answer was lost can be repeated.

Revoked and deleted are final; disabled is reversible. What is out of the caller's reach, or of another organization,
does not exist here. This file says in which order things happen; `key_rules` has the rules.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.keys.authority import KEYS
from gateway.services import key_issuing, key_listing, key_rotation, key_updating, key_verification, secret_rows
from gateway.services.access import require_admin, require_reading
from gateway.services.actor import Caller
from gateway.services.changed import Changed
from gateway.services.clock import Clock, utc_now
from gateway.services.idempotency import repeatable
from gateway.services.key_changing import Change, changing
from gateway.services.key_filters import EVERYTHING, KeyFilter, Place, examine
from gateway.services.key_making import expiry_rules, making
from gateway.services.key_request import (
    CreateKey,
    ImportKey,
    RevokeKey,
    RotateKey,
    UpdateKey,
    VerifyKey,
    digest_from_text,
)
from gateway.services.key_rows import key_from_row
from gateway.services.key_rules import find_key, find_owner, refuse_revoked, require_coverage, require_enabling
from gateway.services.organization_rows import active_organization
from gateway.services.paging import DEFAULT_LIMIT
from gateway.services.requests import RequestContext, validate
from gateway.services.shapes import ImportedKey, IssuedKey, Key, KeyPage, Verification
from gateway.services.writing import refuse_lost_race
from gateway.store.engine import read_transaction
from gateway.store.schema import key_secrets, keys

Body = Mapping[str, object]

_NOTHING: Final[Body] = {}


class KeyService:
    """The keys of the store behind `engine`. What a call can see and do is up to its caller."""

    __slots__ = ("_clock", "_engine", "_key_prefix")

    def __init__(self, engine: AsyncEngine, *, key_prefix: str = "sk_", clock: Clock = utc_now) -> None:
        self._engine = engine
        self._key_prefix = key_prefix
        self._clock = clock

    async def create(self, caller: Caller, body: Body, idempotency_key: str | None = None) -> Changed[IssuedKey]:
        """Make a key (`CreateKey`). The answer alone carries the secret; a repetition has none, and no `seq`."""
        async with making(self._engine, self._clock, caller) as begun:
            change = begun.writing
            call = repeatable(change.authority, "key.create", body, idempotency_key)
            if (made := await call.made_before(change.connection, change.now)) is not None:
                key = await begun.shown(made)
                return Changed(IssuedKey(**dict(key), secret=None, code="secret_already_issued"), None)
            owner_id, wanted = await begun.examined(validate(CreateKey, body, begun.context))
            issued = await key_issuing.issue_key(
                change.connection,
                wanted,
                organization_id=change.organization_id,
                owner_id=owner_id,
                prefix=self._key_prefix,
                actor=change.actor,
                now=change.now,
            )
            await call.remember(change.connection, issued.resource.id, change.now)
            return issued

    async def import_key(self, caller: Caller, body: Body, idempotency_key: str | None = None) -> Changed[ImportedKey]:
        """Take on a key of another system by the SHA-256 of its secret (`ImportKey`). A repetition has no `seq`.

        Raises Conflict where a secret with this digest is or was one of this gateway's.
        """
        async with making(self._engine, self._clock, caller) as begun:
            change = begun.writing
            call = repeatable(change.authority, "key.import", body, idempotency_key)
            if (made := await call.made_before(change.connection, change.now)) is not None:
                return Changed(ImportedKey(**dict(await begun.shown(made))), None)
            request = validate(ImportKey, body, begun.context)
            owner_id, wanted = await begun.examined(request)
            imported = await key_issuing.admit_key(
                change.connection,
                wanted,
                secret_rows.StoredSecret(digest_from_text(request.sha256), request.prefix, request.tail),
                organization_id=change.organization_id,
                owner_id=owner_id,
                actor=change.actor,
                now=change.now,
            )
            await call.remember(change.connection, imported.resource.id, change.now)
            return imported

    async def list(
        self,
        caller: Caller,
        wanted: KeyFilter = EVERYTHING,
        cursor: str | None = None,
        limit: int = DEFAULT_LIMIT,
    ) -> KeyPage:
        """Return one page of the keys within reach that fit the filter (see `key_listing` for the orders)."""
        require_reading(caller.authority, KEYS)
        start = examine(wanted, cursor, limit)
        async with read_transaction(self._engine) as connection:
            owner_id = None if caller.authority.administers else caller.authority.owner_id
            if wanted.owner is not None:
                owner_id = (await find_owner(connection, caller.authority, wanted.owner, removed=True)).id
            place = Place(caller.authority.organization_id, owner_id, self._clock())
            return await key_listing.page(connection, place, wanted, start, limit)

    async def show(self, caller: Caller, key_id: str) -> Key:
        """Return the key, whatever its status."""
        require_reading(caller.authority, KEYS)
        async with read_transaction(self._engine) as connection:
            return key_from_row(await find_key(connection, caller.authority, key_id), self._clock())

    async def update(self, caller: Caller, key_id: str, body: Body, if_match: int | None = None) -> Changed[Key]:
        """Change what the body has (`UpdateKey`). Raises PreconditionFailed unless the key is at version `if_match`."""
        async with changing(self._engine, self._clock, caller, key_id) as change:
            refuse_lost_race(change.row.version, if_match)
            organization = await active_organization(change.connection, change.authority.organization_id)
            request = validate(UpdateKey, body, RequestContext(expiry_rules(organization), change.now))
            return await key_updating.update_key(change, request, admins_only=organization.keys_create_requires_admin)

    async def disable(self, caller: Caller, key_id: str) -> Changed[Key]:
        """Stop the key until it is enabled again. Raises Conflict where it is revoked."""
        async with changing(self._engine, self._clock, caller, key_id) as change:
            refuse_revoked(change.row)
            if change.row.disabled_at is not None:
                return change.nothing()
            return await change.apply("key.disable", _by(change, "disabled"))

    async def enable(self, caller: Caller, key_id: str) -> Changed[Key]:
        """End what `disable` began. An expired key stays expired. Raises Conflict where it is revoked.

        What somebody else than its owner disabled is enabled by admins alone.
        """
        async with changing(self._engine, self._clock, caller, key_id) as change:
            refuse_revoked(change.row)
            if change.row.disabled_at is None:
                return change.nothing()
            await require_enabling(change.connection, change.authority, change.row)
            require_coverage(change.authority, change.row.permissions, change.row.owner_permissions)
            return await change.apply("key.enable", dict.fromkeys(_by(change, "disabled")))

    async def revoke(self, caller: Caller, key_id: str, body: Body = _NOTHING) -> Changed[Key]:
        """End the key for good (`RevokeKey`); it stays in the lists. A second revoke changes nothing."""
        request = validate(RevokeKey, body)
        async with changing(self._engine, self._clock, caller, key_id) as change:
            await _require_ending(change)
            if change.row.revoked_at is not None:
                return change.nothing()
            values = {**_by(change, "revoked"), "revoked_reason": request.reason or None}
            return await change.apply("key.revoke", values)

    async def rotate(self, caller: Caller, key_id: str, body: Body = _NOTHING) -> Changed[IssuedKey]:
        """Make a new secret (`RotateKey`), which the answer alone carries. Raises Conflict while a rotation goes on."""
        request = validate(RotateKey, body)
        async with changing(self._engine, self._clock, caller, key_id) as change:
            return await key_rotation.rotate(change, request.grace, self._key_prefix)

    async def finish_rotation(self, caller: Caller, key_id: str) -> Changed[Key]:
        """End the old secret before its grace period is over."""
        async with changing(self._engine, self._clock, caller, key_id) as change:
            return await key_rotation.finish(change)

    async def delete(self, caller: Caller, key_id: str) -> Changed[Key]:
        """Remove the key from the store for good, whatever its status; return its last state.

        Its digests are retired and never come back; its events stay.
        """
        async with changing(self._engine, self._clock, caller, key_id) as change:
            await _require_ending(change)
            await secret_rows.retire(change.connection, key_secrets.c.key_id == key_id, change.now)
            await change.connection.execute(delete(keys).where(keys.c.id == key_id))
            before = {name: getattr(change.row, name) for name in _REMEMBERED}
            return Changed(key_from_row(change.row, change.now), await change.tell("key.delete", before=before))

    async def verify(self, caller: Caller, body: Body) -> Verification:
        """Tell what a secret that was presented elsewhere is good for (`VerifyKey`)."""
        require_reading(caller.authority, KEYS)
        request = validate(VerifyKey, body)
        async with read_transaction(self._engine) as connection:
            return await key_verification.verify(
                connection, caller.authority.organization_id, request, prefix=self._key_prefix, now=self._clock()
            )


# What the trail keeps of a key that is gone.
_REMEMBERED: Final = (
    "name",
    "description",
    "owner_id",
    "permissions",
    "allowed_origins",
    "created_at",
    "expires_at",
    "disabled_at",
    "revoked_at",
)


async def _require_ending(change: Change) -> None:
    """Raise NotAllowed where the organization leaves it to its admins to end keys for good."""
    organization = await active_organization(change.connection, change.authority.organization_id)
    if organization.keys_revoke_requires_admin:
        require_admin(change.authority, "revoke and delete keys here")


def _by(change: Change, done: str) -> dict[str, Any]:  # Any: columns of several types
    """Return the columns that say when and by whom something was done."""
    actor = change.writing.actor
    return {f"{done}_at": change.now, f"{done}_by_id": actor.id, f"{done}_by_text": actor.text}
