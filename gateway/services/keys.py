"""Keys: create, show, list, disable, enable, revoke, delete.

Invariant: each change is one write transaction that holds the new state, the next version, a row in the change log and
an event of the trail; when the call returns, all of it is on the disk, and when it raises, none of it is. Asking for
the state a key is in already changes nothing and is no error, so that a call whose answer was lost can be repeated.

Revoked and deleted are final; disabled is reversible. What belongs to another organization does not exist here.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import delete, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.errors import Conflict, FieldError, Invalid, NotFound
from gateway.keys.naming import clean_description
from gateway.services import key_listing
from gateway.services.actor import SYSTEM, Actor
from gateway.services.key_issuing import issue_key
from gateway.services.key_request import CreateKey, ExpiryRules, examine
from gateway.services.key_rows import KeyRow, key_from_row, select_keys
from gateway.services.organization_rows import active_organization, resolve_owner
from gateway.services.shapes import IssuedKey, Key, KeyPage
from gateway.services.trail import Field, Target, record_event
from gateway.store import change_log
from gateway.store.engine import read_transaction, write_transaction
from gateway.store.schema import key_secrets, keys, retired_digests, secret_uses

Changes = dict[str, Field]
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Tell the time; tests hand in another clock."""
    return datetime.now(UTC)


class KeyService:
    """The keys of the store behind `engine`. `organization_id` bounds what each call can see."""

    __slots__ = ("_clock", "_engine", "_key_prefix")

    def __init__(self, engine: AsyncEngine, *, key_prefix: str = "sk_", clock: Clock = utc_now) -> None:
        self._engine = engine
        self._key_prefix = key_prefix
        self._clock = clock

    async def create(self, organization_id: str, request: CreateKey, *, actor: Actor = SYSTEM) -> IssuedKey:
        """Make a key. The answer alone carries the secret. Raises Invalid with all bad fields, NotFound."""
        async with write_transaction(self._engine) as connection:
            now = self._clock()
            organization = await active_organization(connection, organization_id)
            rules = ExpiryRules(default=organization.default_expiry, maximum=organization.max_expiry)
            draft = examine(request, rules, now)
            owner_id = await resolve_owner(connection, organization_id, request.owner)
            return await issue_key(
                connection,
                draft,
                organization_id=organization_id,
                owner_id=owner_id,
                prefix=self._key_prefix,
                actor=actor,
                now=now,
            )

    async def show(self, organization_id: str, key_id: str) -> Key:
        """Return the key, whatever its status. Raises NotFound."""
        async with read_transaction(self._engine) as connection:
            return key_from_row(await _find(connection, organization_id, key_id), self._clock())

    async def list(
        self,
        organization_id: str,
        wanted: key_listing.KeyFilter = key_listing.EVERYTHING,
        *,
        cursor: str | None = None,
        limit: int = key_listing.DEFAULT_LIMIT,
    ) -> KeyPage:
        """Return one page of the keys that fit the filter, newest first (see `key_listing` for the other orders)."""
        async with read_transaction(self._engine) as connection:
            if wanted.owner is not None:
                owner_id = await resolve_owner(connection, organization_id, wanted.owner)
                wanted = key_listing.for_owner(wanted, owner_id)
            return await key_listing.page(connection, organization_id, wanted, cursor, limit, now=self._clock())

    async def disable(self, organization_id: str, key_id: str, *, actor: Actor = SYSTEM) -> Key:
        """Stop the key until it is enabled again. Raises Conflict where it is revoked."""

        def changes(row: KeyRow, now: datetime) -> Changes | None:
            _refuse_revoked(row)
            if row.disabled_at is not None:
                return None
            return {"disabled_at": now, "disabled_by_id": actor.id, "disabled_by_text": actor.text}

        return await self._change(organization_id, key_id, "key.disable", actor, changes)

    async def enable(self, organization_id: str, key_id: str, *, actor: Actor = SYSTEM) -> Key:
        """End what `disable` began. An expired key stays expired. Raises Conflict where it is revoked."""

        def changes(row: KeyRow, _now: datetime) -> Changes | None:
            _refuse_revoked(row)
            if row.disabled_at is None:
                return None
            return {"disabled_at": None, "disabled_by_id": None, "disabled_by_text": None}

        return await self._change(organization_id, key_id, "key.enable", actor, changes)

    async def revoke(
        self, organization_id: str, key_id: str, *, reason: str | None = None, actor: Actor = SYSTEM
    ) -> Key:
        """End the key for good; it stays in the lists. A second revoke changes nothing, not even the reason."""
        cleaned = _clean_reason(reason)

        def changes(row: KeyRow, now: datetime) -> Changes | None:
            if row.revoked_at is not None:
                return None
            return {
                "revoked_at": now,
                "revoked_by_id": actor.id,
                "revoked_by_text": actor.text,
                "revoked_reason": cleaned,
            }

        return await self._change(organization_id, key_id, "key.revoke", actor, changes)

    async def delete(self, organization_id: str, key_id: str, *, actor: Actor = SYSTEM) -> None:
        """Remove the key from the store for good, whatever its status. Its digests are retired and never come back."""
        async with write_transaction(self._engine) as connection:
            row = await _find(connection, organization_id, key_id)
            now = self._clock()
            of_key = key_secrets.c.key_id == key_id
            retired = select(key_secrets.c.digest, literal(key_id), literal(now, retired_digests.c.retired_at.type))
            await connection.execute(
                insert(retired_digests).from_select(["digest", "key_id", "retired_at"], retired.where(of_key))
            )
            secret_ids = select(key_secrets.c.id).where(of_key).scalar_subquery()
            await connection.execute(delete(secret_uses).where(secret_uses.c.secret_id.in_(secret_ids)))
            await connection.execute(delete(key_secrets).where(of_key))
            await connection.execute(delete(keys).where(keys.c.id == key_id))
            await change_log.append(connection, "key", key_id, row.version + 1)
            await record_event(
                connection,
                at=now,
                actor=actor,
                action="key.delete",
                target=Target(organization_id, "key", key_id, row.name),
                before={name: getattr(row, name) for name in _REMEMBERED},
            )

    async def _change(
        self,
        organization_id: str,
        key_id: str,
        action: str,
        actor: Actor,
        decide: Callable[[KeyRow, datetime], Changes | None],
    ) -> Key:
        """Apply what `decide` makes of the key as it stands, None for nothing; return the key afterwards."""
        async with write_transaction(self._engine) as connection:
            row = await _find(connection, organization_id, key_id)
            now = self._clock()
            changes = decide(row, now)
            if changes is None:
                return key_from_row(row, now)
            version = row.version + 1
            await connection.execute(update(keys).where(keys.c.id == key_id).values(**changes, version=version))
            await change_log.append(connection, "key", key_id, version)
            await record_event(
                connection,
                at=now,
                actor=actor,
                action=action,
                target=Target(organization_id, "key", key_id, row.name),
                before={name: getattr(row, name) for name in changes},
                after=changes,
            )
            return key_from_row(await _find(connection, organization_id, key_id), now)


# What the trail keeps of a key that is gone.
_REMEMBERED = (
    "name",
    "description",
    "owner_id",
    "permissions",
    "created_at",
    "expires_at",
    "disabled_at",
    "revoked_at",
)


async def _find(connection: AsyncConnection, organization_id: str, key_id: str) -> KeyRow:
    query = select_keys().where(keys.c.id == key_id, keys.c.organization_id == organization_id)
    row: KeyRow | None = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"There is no key {key_id[:64]!r} in this organization.", code="key_not_found")
    return row


def _refuse_revoked(row: KeyRow) -> None:
    if row.revoked_at is not None:
        raise Conflict(f"The key {row.id} is revoked, which is final. Create a new key instead.", code="key_revoked")


def _clean_reason(reason: str | None) -> str | None:
    try:
        return None if reason is None else clean_description(reason) or None
    except ValueError as error:
        raise Invalid([FieldError("reason", str(error))]) from error
