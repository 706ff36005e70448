"""From the rows of a key, its owner and their organization to a `Caller`: the one place where authority is read.

Invariant: what is returned is good at `now`: neither revoked, expired nor disabled, its owner and organization still
there. Changes read it once more inside their own transaction (`confirmed`), so that nothing is committed with an
authority that another change has ended meanwhile. Trusting what was read a moment before was turned down: of a
removal and a create that cross, the create could leave a key behind that belongs to nobody.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import Unauthenticated
from gateway.keys.authority import Authority
from gateway.keys.record import Status, status
from gateway.keys.refused import INACTIVE
from gateway.services.actor import Actor, Caller
from gateway.store.schema import keys, members, organizations, owners

CallerRow = Row[Any]  # Any: SQLAlchemy cannot type a row of columns given as a list

_COLUMNS: Final = (
    keys.c.id.label("key_id"),
    keys.c.name.label("key_name"),
    keys.c.permissions.label("key_permissions"),
    keys.c.expires_at,
    keys.c.disabled_at,
    keys.c.revoked_at,
    keys.c.organization_id,
    owners.c.id.label("owner_id"),
    owners.c.kind.label("owner_kind"),
    owners.c.permissions.label("owner_permissions"),
    owners.c.removed_at.label("owner_removed_at"),
    members.c.role,
    organizations.c.operator,
    organizations.c.removed_at.label("organization_removed_at"),
)


def select_callers(*further: Any) -> Select[Any]:  # noqa: ANN401 - any column or labelled expression
    """Select what an authority is made of, and `further` columns; the caller of this adds joins and conditions."""
    return select(*_COLUMNS, *further).select_from(
        keys.join(owners, owners.c.id == keys.c.owner_id)
        .join(organizations, organizations.c.id == keys.c.organization_id)
        .outerjoin(members, members.c.owner_id == owners.c.id)
    )


def refuse_inactive(row: CallerRow, now: datetime) -> None:
    """Raise Unauthenticated unless the key is active. The keys of whoever was removed are dead, revoked or not."""
    standing = status(
        revoked_at=_seconds(row.revoked_at or row.owner_removed_at or row.organization_removed_at),
        expires_at=_seconds(row.expires_at),
        disabled_at=_seconds(row.disabled_at),
        now=now.timestamp(),
    )
    if standing is not Status.ACTIVE:
        code, detail = INACTIVE[standing]
        raise Unauthenticated(detail, code=code)


def caller_from_row(row: CallerRow, *, address: str | None, request_id: str | None) -> Caller:
    """Build the caller; whether the key is active is another question."""
    authority = Authority(
        organization_id=row.organization_id,
        owner_id=row.owner_id,
        owner_kind=row.owner_kind,
        role=row.role,
        key_id=row.key_id,
        key_permissions=row.key_permissions,
        owner_permissions=row.owner_permissions,
        operator=row.operator,
    )
    actor = Actor(
        id=row.key_id,
        text=f"API Key: {row.key_name}",
        address=address,
        request_id=request_id,
        owner_id=row.owner_id,
    )
    return Caller(authority, actor)


async def confirmed(connection: AsyncConnection, caller: Caller, now: datetime) -> Caller:
    """Read the caller's authority again, within a write transaction. Raises Unauthenticated where it has ended."""
    row = (await connection.execute(select_callers().where(keys.c.id == caller.authority.key_id))).one_or_none()
    if row is None:
        raise Unauthenticated("The API key was deleted just now; use another one.")
    refuse_inactive(row, now)
    current = caller_from_row(row, address=caller.actor.address, request_id=caller.actor.request_id)
    return replace(caller, authority=current.authority)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
