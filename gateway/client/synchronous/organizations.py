"""`client.organizations`: one's own; for the operator of the gateway, all of them.

Invariant: an organization comes with an admin and their key, so that there is none which nobody can get into.

Made from the file of this name in `asynchronous` by `python -m gateway.client.generate`.
"""

from collections.abc import Iterator

from gateway.client.call import Call
from gateway.client.requests import (
    UNCHANGED,
    Unchanged,
    body,
    idempotency_fields,
    if_match_fields,
    new_body,
    path,
)
from gateway.client.shapes import ChangedOrganization, FoundedOrganization, Organization, Page
from gateway.client.synchronous.paging import each_item
from gateway.client.synchronous.transport import Transport


class Organizations:
    """The organizations that the caller may know of."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        *,
        admin: str,
        external_id: str | None = None,
        default_expiry: str | None = None,
        max_expiry: str | None = None,
        idempotency_key: str | None = None,
    ) -> FoundedOrganization:
        """Make an organization, its first member (`admin`, an e-mail address) and their key."""
        fields = new_body(
            name=name, admin=admin, external_id=external_id, default_expiry=default_expiry, max_expiry=max_expiry
        )
        headers = idempotency_fields(idempotency_key)
        call = Call("POST", path("organizations"), FoundedOrganization, body=fields, fields=headers, repeatable=True)
        return self._transport.send(call)

    def list(self, *, search: str | None = None, limit: int | None = None) -> Iterator[Organization]:
        """Every organization whose name begins with `search`, page by page as they are asked for."""
        return each_item(lambda cursor: self.page(search=search, cursor=cursor, limit=limit))

    def page(
        self, *, search: str | None = None, cursor: str | None = None, limit: int | None = None
    ) -> Page[Organization]:
        """One page of the list."""
        query = {"search": search, "cursor": cursor, "limit": limit}
        call = Call("GET", path("organizations"), Page[Organization], query=query, repeatable=True)
        return self._transport.send(call)

    def get(self, organization_id: str) -> Organization:
        """One organization."""
        call = Call("GET", path("organizations", organization_id), Organization, repeatable=True)
        return self._transport.send(call)

    def update(
        self,
        organization_id: str,
        *,
        name: str | Unchanged = UNCHANGED,
        external_id: str | Unchanged | None = UNCHANGED,
        default_expiry: str | Unchanged = UNCHANGED,
        max_expiry: str | Unchanged | None = UNCHANGED,
        keys_create_requires_admin: bool | Unchanged = UNCHANGED,
        keys_revoke_requires_admin: bool | Unchanged = UNCHANGED,
        if_match: int | None = None,
    ) -> ChangedOrganization:
        """Change what is given. `max_expiry=None`: keys may live for ever. `if_match`: as for keys."""
        fields = body(
            name=name,
            external_id=external_id,
            default_expiry=default_expiry,
            max_expiry=max_expiry,
            keys_create_requires_admin=keys_create_requires_admin,
            keys_revoke_requires_admin=keys_revoke_requires_admin,
        )
        headers = if_match_fields(if_match)
        call = Call("PATCH", path("organizations", organization_id), ChangedOrganization, body=fields, fields=headers)
        return self._transport.send(call)

    def delete(self, organization_id: str) -> ChangedOrganization:
        """Remove an organization; all of its keys are revoked."""
        return self._transport.send(Call("DELETE", path("organizations", organization_id), ChangedOrganization))
