"""Finding organizations and owners by what people call them.

Invariant: what was removed is not found, and what belongs to another organization is not found either, in the same
words. An id always wins over a name; a name that fits two owners is a conflict, never a guess.
"""

from typing import Any

from sqlalchemy import Row, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import Conflict, NotFound
from gateway.store.schema import members, organizations, owners

OrganizationRow = Row[Any]  # Any: SQLAlchemy cannot type a row of a whole table


async def active_organization(connection: AsyncConnection, organization_id: str) -> OrganizationRow:
    """Return the organization with this id. Raises NotFound."""
    query = select(organizations).where(organizations.c.id == organization_id, organizations.c.removed_at.is_(None))
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"There is no organization {organization_id[:64]!r}.", code="organization_not_found")
    return row


async def resolve_organization(connection: AsyncConnection, reference: str | None) -> OrganizationRow:
    """Return the organization with this id, external id or name; without a reference the only one there is."""
    query = select(organizations).where(organizations.c.removed_at.is_(None)).limit(2)
    if reference is not None:
        names = organizations.c.id, organizations.c.external_id, organizations.c.name
        query = query.where(or_(*(column == reference for column in names)))
    rows = (await connection.execute(query)).all()
    if not rows:
        which = "no organization yet" if reference is None else f"no organization {reference[:64]!r}"
        raise NotFound(f"There is {which}.", code="organization_not_found")
    if len(rows) > 1:
        raise Conflict("Several organizations fit. Name one by its id.", code="organization_ambiguous")
    return rows[0]


async def resolve_owner(connection: AsyncConnection, organization_id: str, reference: str | None) -> str:
    """Return the id of the owner with this id, e-mail or service account name; without a reference the first admin."""
    present = (owners.c.organization_id == organization_id, owners.c.removed_at.is_(None))
    if reference is None:
        admins = owners.join(members, members.c.owner_id == owners.c.id)
        query = select(owners.c.id).select_from(admins).where(*present, members.c.role == "admin")
        found = (await connection.execute(query.order_by(owners.c.id).limit(1))).scalars().all()
    else:
        names = or_(owners.c.id == reference, owners.c.name == reference, owners.c.name == reference.lower())
        found = (await connection.execute(select(owners.c.id).where(*present, names))).scalars().all()
    if not found:
        whom = "an admin" if reference is None else f"{reference[:64]!r}"
        raise NotFound(f"There is no owner {whom} in this organization.", code="owner_not_found")
    if reference in found:
        return str(reference)
    if len(found) > 1:
        raise Conflict(f"Several owners are called {reference!r}. Name one by its id.", code="owner_ambiguous")
    return str(found[0])
