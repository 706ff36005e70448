"""What creating and importing share: may this caller have such a key made, for this owner, by these rules.

Invariant: what `examined` returns may be inserted as it is. Everything is read within the transaction that inserts it,
so neither the caller's authority, the owner nor the organization's rules can be gone or stricter by then.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.keys.authority import KEYS
from gateway.keys.expiry import ExpiryRules
from gateway.services.access import require_admin
from gateway.services.actor import Caller
from gateway.services.clock import Clock
from gateway.services.key_request import CreateKey, Draft, draft
from gateway.services.key_rows import key_from_row
from gateway.services.key_rules import find_key, find_owner, require_coverage, require_own_secret
from gateway.services.organization_rows import OrganizationRow, active_organization
from gateway.services.requests import RequestContext
from gateway.services.shapes import Key
from gateway.services.writing import Writing, writing


def expiry_rules(organization: OrganizationRow) -> ExpiryRules:
    """Return how long keys of the organization may live."""
    return ExpiryRules(organization.default_expiry, organization.max_expiry)


@dataclass(frozen=True, slots=True)
class Making:
    """A key about to be made, under an organization's rules."""

    writing: Writing
    organization: OrganizationRow

    @property
    def context(self) -> RequestContext:
        """Return what the request is validated by."""
        return RequestContext(expiry_rules(self.organization), self.writing.now)

    async def examined(self, request: CreateKey) -> tuple[str, Draft]:
        """Return whose key it will be, and what it will be like. Raises NotFound, Conflict and NotAllowed."""
        authority = self.writing.authority
        owner = await find_owner(self.writing.connection, authority, request.owner)
        require_own_secret(authority, owner.kind, owner.id)
        require_coverage(authority, request.permissions, owner.permissions)
        return owner.id, draft(request, expiry_rules(self.organization), self.writing.now)

    async def shown(self, key_id: str) -> Key:
        """Return the key that a repeated call made the first time. Raises NotFound where it was deleted since."""
        row = await find_key(self.writing.connection, self.writing.authority, key_id)
        return key_from_row(row, self.writing.now)


@asynccontextmanager
async def making(engine: AsyncEngine, clock: Clock, caller: Caller) -> AsyncIterator[Making]:
    """Open the making of a key. Raises Unauthenticated and NotAllowed."""
    async with writing(engine, clock, caller, KEYS) as begun:
        organization = await active_organization(begun.connection, begun.organization_id)
        if organization.keys_create_requires_admin:
            require_admin(begun.authority, "make keys here")
        yield Making(begun, organization)
