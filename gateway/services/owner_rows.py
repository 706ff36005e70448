"""Members and service accounts as rows: found, shown and listed, within what the caller reaches.

Invariant: who was removed is not found, and what a caller does not reach (another organization's, and for whoever does
not administer also everybody but themselves) is not found either, in the same words. So whoever answers a
caller finds owners by `find_owner` and `owner_page`, which begin with `_reached`.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import NotFound
from gateway.keys.authority import Authority
from gateway.keys.identifiers import Kind, is_id
from gateway.keys.quoting import quoted
from gateway.keys.record import OwnerKind
from gateway.services.named_listing import Page, named_page
from gateway.services.people_shapes import Member, ServiceAccount
from gateway.services.shapes import OwnerShape
from gateway.store.schema import members, owners, service_accounts

OwnerRow = Row[Any]  # Any: SQLAlchemy cannot type a row of columns given as a list

NAMES: Final[dict[OwnerKind, str]] = {"member": "member", "service_account": "service account"}
_PREFIXES: Final[dict[OwnerKind, Kind]] = {"member": "mem", "service_account": "sva"}


def select_owners() -> Select[Any]:
    """Select owners with all that a member or service account shows; the caller adds the bounds."""
    return select(*owners.c, members.c.role, service_accounts.c.description).select_from(
        owners.outerjoin(members, members.c.owner_id == owners.c.id).outerjoin(
            service_accounts, service_accounts.c.owner_id == owners.c.id
        )
    )


def _reached(authority: Authority, kind: OwnerKind) -> list[ColumnElement[bool]]:
    """Return the bounds of what the caller sees of this kind."""
    within = [
        owners.c.organization_id == authority.organization_id,
        owners.c.kind == kind,
        owners.c.removed_at.is_(None),
    ]
    return within if authority.administers else [*within, owners.c.id == authority.owner_id]


async def find_owner(connection: AsyncConnection, authority: Authority, kind: OwnerKind, owner_id: str) -> OwnerRow:
    """Return the owner with this id. Raises NotFound."""
    row: OwnerRow | None = None
    if is_id(_PREFIXES[kind], owner_id):
        query = select_owners().where(*_reached(authority, kind), owners.c.id == owner_id)
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        detail = f"There is no {NAMES[kind]} {quoted(owner_id)} in this organization."
        raise NotFound(detail, code=f"{kind}_not_found")
    return row


async def owner_page(
    connection: AsyncConnection, authority: Authority, kind: OwnerKind, wanted: Page
) -> tuple[Sequence[OwnerRow], str | None]:
    """Return one page and the next one's cursor. Raises Invalid for a bad cursor or limit."""
    query = select_owners().where(*_reached(authority, kind))
    return await named_page(connection, query, owners, kind, wanted)


def member_from_row(row: OwnerRow) -> Member:
    """Build the shape."""
    return Member(
        id=row.id,
        organization_id=row.organization_id,
        email=row.name,
        role=row.role,
        permissions=row.permissions,
        external_id=row.external_id,
        created_at=row.created_at,
        version=row.version,
    )


def service_account_from_row(row: OwnerRow) -> ServiceAccount:
    """Build the shape."""
    return ServiceAccount(
        id=row.id,
        organization_id=row.organization_id,
        name=row.name,
        description=row.description,
        permissions=row.permissions,
        external_id=row.external_id,
        created_at=row.created_at,
        version=row.version,
    )


def owner_shape(row: OwnerRow) -> OwnerShape:
    """Name the owner, as keys do."""
    return OwnerShape(id=row.id, kind=row.kind, name=row.name)
