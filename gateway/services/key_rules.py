"""Who may do what to which key: reach, whose secret it is, what would give more than the caller holds.

Invariant: taking away never needs more than reach (disable, revoke, shorten, remove permissions); giving needs a caller
who holds what the resulting key would give (create, rotate, enable, widen, extend). A member's secret is the member's:
nobody else makes or takes one in their name, or lets it do more, however mighty. What an admin has disabled, an admin
enables. The refusals' order is that of `access`.
"""

from typing import Any

from sqlalchemy import ColumnElement, Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import Conflict, NotAllowed, NotFound
from gateway.keys.authority import Authority
from gateway.keys.identifiers import is_id
from gateway.keys.permissions import covers
from gateway.keys.quoting import quoted
from gateway.keys.record import OwnerKind
from gateway.services.access import refuse_escalation, require_admin
from gateway.services.key_rows import KeyRow, select_keys
from gateway.services.organization_rows import resolve_owner
from gateway.store.schema import keys, management_events, owners

OwnerRow = Row[Any]  # Any: SQLAlchemy cannot type a row of a whole table


def within_reach(authority: Authority) -> list[ColumnElement[bool]]:
    """Say in SQL which keys the caller can see: the organization's for who administers it, else their own."""
    conditions: list[ColumnElement[bool]] = [keys.c.organization_id == authority.organization_id]
    if not authority.administers:
        conditions.append(keys.c.owner_id == authority.owner_id)
    return conditions


async def find_key(connection: AsyncConnection, authority: Authority, key_id: str) -> KeyRow:
    """Return the key with this id. Raises NotFound, in the same words for none and for one out of reach."""
    row: KeyRow | None = None
    if is_id("key", key_id):
        query = select_keys().where(keys.c.id == key_id, *within_reach(authority))
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"There is no key {quoted(key_id)} that you can see.", code="key_not_found")
    return row


async def find_owner(
    connection: AsyncConnection, authority: Authority, reference: str | None, *, removed: bool = False
) -> OwnerRow:
    """Return the owner who is called so, of those whose keys the caller can see; without a reference the caller's own.

    `removed`: who was removed counts as well, see `resolve_owner`. Raises NotFound, and Conflict where several are
    called so.
    """
    owner_id = authority.owner_id
    if reference is not None and authority.administers:
        owner_id = await resolve_owner(connection, authority.organization_id, reference, removed=removed)
    row = (await connection.execute(select(owners).where(owners.c.id == owner_id))).one()
    if reference is not None and not authority.administers and not {row.id, row.name} & {reference, reference.lower()}:
        raise NotFound(f"There is no owner {quoted(reference)} that you can see.", code="owner_not_found")
    return row


def require_own_secret(authority: Authority, owner_kind: OwnerKind, owner_id: str) -> None:
    """Raise NotAllowed where a secret of another member would be made: it is theirs alone."""
    if _is_another_members(authority, owner_kind, owner_id):
        detail = (
            "A member's key is made and rotated by that member alone, because its secret is theirs. "
            "Let them do it, or make a key of a service account."
        )
        raise NotAllowed(detail, code="secret_belongs_to_owner")


def require_own_key(authority: Authority, owner_kind: OwnerKind, owner_id: str) -> None:
    """Raise NotAllowed where another member's key would get more: only who could have made it gives it more."""
    if _is_another_members(authority, owner_kind, owner_id):
        detail = (
            "A member's key gets more permissions, origins or time from that member alone, because its secret is "
            "theirs. Let them do it; admins may rename, narrow and shorten it."
        )
        raise NotAllowed(detail, code="secret_belongs_to_owner")


def _is_another_members(authority: Authority, owner_kind: OwnerKind, owner_id: str) -> bool:
    return owner_kind == "member" and owner_id != authority.owner_id


async def require_enabling(connection: AsyncConnection, authority: Authority, row: KeyRow) -> None:
    """Raise NotAllowed where somebody else than its owner disabled the key, and the caller does not administer.

    Whose key it was done with is read from the trail: the key that `disabled_by_id` names may be gone, or moved.
    """
    if authority.administers:
        return
    told = management_events.c
    query = (
        select(told.actor_owner_id)
        .where(told.organization_id == row.organization_id, told.target_id == row.id, told.action == "key.disable")
        .order_by(told.at.desc(), told.id.desc())
        .limit(1)
    )
    if (await connection.execute(query)).scalar_one_or_none() != row.owner_id:
        require_admin(authority, "enable a key that somebody else than its owner disabled")


def require_coverage(
    authority: Authority, permissions: tuple[str, ...] | None, owner_permissions: tuple[str, ...]
) -> None:
    """Raise NotAllowed where a key like that would give more than the caller holds."""
    if authority.may_hand_on(permissions, owner_permissions):
        return
    if permissions is None and authority.key_permissions is not None:
        refuse_escalation(
            "The key would inherit all that its owner may do, and the calling key is limited to a list itself. "
            "Give the key a list of permissions, or call with a key that inherits."
        )
    wanted = owner_permissions if permissions is None else permissions
    missing = ", ".join(each for each in wanted if not authority.holds((each,)))
    refuse_escalation(f"The key would give {missing}, which the calling key does not hold itself.")


def refuse_revoked(row: KeyRow) -> None:
    """Raise Conflict where the key is revoked."""
    if row.revoked_at is not None:
        raise Conflict(f"The key {row.id} is revoked, which is final. Create a new key instead.", code="key_revoked")


def widens(before: tuple[str, ...] | None, after: tuple[str, ...] | None) -> bool:
    """Tell whether the second list allows anything that the first does not. None (inherit) allows all there can be."""
    if before is None:
        return False
    return after is None or not covers(before, after)


def opens(before: tuple[str, ...] | None, after: tuple[str, ...] | None) -> bool:
    """Tell whether pages may use the key that could not before. None: not bound to any origin."""
    if before is None:
        return False
    return after is None or not set(after) <= set(before)
