"""Organizations as rows, found and listed within what the caller reaches; and owners found by what they are called.

Invariant: what was removed is not found, except where what it left behind is asked for (`removed`); what a caller does
not reach is not found either, in the same words: the operator reaches every organization, anybody else their own. An id
always wins over a name; a name that fits two owners is a conflict, never a guess.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import Conflict, NotFound
from gateway.keys.authority import Authority
from gateway.keys.quoting import quoted
from gateway.services.named_listing import Page, named_page
from gateway.services.shapes import Organization
from gateway.store.schema import organizations, owners

OrganizationRow = Row[Any]  # Any: SQLAlchemy cannot type a row of a whole table


async def active_organization(connection: AsyncConnection, organization_id: str) -> OrganizationRow:
    """Return the organization with this id. Raises NotFound."""
    query = select(organizations).where(organizations.c.id == organization_id, organizations.c.removed_at.is_(None))
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"There is no organization {quoted(organization_id)}.", code="organization_not_found")
    return row


async def find_organization(connection: AsyncConnection, authority: Authority, organization_id: str) -> OrganizationRow:
    """Return the organization with this id if the caller reaches it. Raises NotFound."""
    if not (authority.operates or organization_id == authority.organization_id) or not organization_id.isascii():
        raise NotFound(f"There is no organization {quoted(organization_id)}.", code="organization_not_found")
    return await active_organization(connection, organization_id)


async def organization_page(
    connection: AsyncConnection, authority: Authority, wanted: Page
) -> tuple[Sequence[OrganizationRow], str | None]:
    """Return one page and the next one's cursor. Raises Invalid for a bad cursor or limit."""
    query = select(organizations).where(organizations.c.removed_at.is_(None))
    if not authority.operates:
        query = query.where(organizations.c.id == authority.organization_id)
    return await named_page(connection, query, organizations, "organizations", wanted)


def organization_from_row(row: OrganizationRow) -> Organization:
    """Build the shape."""
    return Organization(
        id=row.id,
        name=row.name,
        external_id=row.external_id,
        default_expiry=row.default_expiry,
        max_expiry=row.max_expiry,
        keys_create_requires_admin=row.keys_create_requires_admin,
        keys_revoke_requires_admin=row.keys_revoke_requires_admin,
        created_at=row.created_at,
        version=row.version,
    )


async def resolve_owner(
    connection: AsyncConnection, organization_id: str, reference: str, *, removed: bool = False
) -> str:
    """Return the id of the owner with this id, e-mail or service account name. Raises NotFound, Conflict.

    `removed`: who was removed is found by their id as well, and by a name that nobody has now.
    """
    named = owners.c.name.in_({reference, reference.lower()})
    identified, present = owners.c.id == reference, owners.c.removed_at.is_(None)
    wanted = or_(identified, and_(present, named)) if removed else and_(present, or_(identified, named))
    query = select(owners.c.id).where(owners.c.organization_id == organization_id)
    found = (await connection.execute(query.where(wanted))).scalars().all()
    if removed and not found:
        found = (await connection.execute(query.where(named))).scalars().all()
    if not found:
        detail = f"There is no owner {quoted(reference)} in this organization."
        raise NotFound(detail, code="owner_not_found")
    if reference in found:
        return reference
    if len(found) > 1:
        raise Conflict(f"Several owners are called {quoted(reference)}. Name one by its id.", code="owner_ambiguous")
    return str(found[0])
