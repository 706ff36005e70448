"""`client.members`: the people of an organization.

Invariant: no member goes without a word on what becomes of their keys; `remove` is refused (`keys_need_a_choice`)
where there are live ones and nothing is said.
"""

from collections.abc import AsyncIterator, Iterable
from typing import Literal

from gateway.client.asynchronous.paging import each_item
from gateway.client.asynchronous.transport import AsyncTransport
from gateway.client.call import Call
from gateway.client.requests import (
    UNCHANGED,
    Expiry,
    Unchanged,
    body,
    first_key,
    idempotency_fields,
    if_match_fields,
    new_body,
    path,
)
from gateway.client.shapes import AddedMember, ChangedMember, Member, Page, RemovedMember

Role = Literal["admin", "member"]


class AsyncMembers:
    """The members of the caller's organization."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def add(
        self,
        email: str,
        *,
        role: Role | None = None,
        permissions: Iterable[str] | None = None,
        external_id: str | None = None,
        with_key: bool = False,
        key_name: str | None = None,
        key_expires: Expiry | None = None,
        idempotency_key: str | None = None,
    ) -> AddedMember:
        """Add a person. `with_key`: make a first key for them too, which you hand on; it is in `key` of the answer.

        `role` and `permissions`: None is what the gateway gives a member by default.
        """
        fields = new_body(
            email=email,
            role=role,
            permissions=permissions,
            external_id=external_id,
            first_key=first_key(key_name, key_expires) if with_key else None,
        )
        headers = idempotency_fields(idempotency_key)
        call = Call("POST", path("members"), AddedMember, body=fields, fields=headers, repeatable=True)
        return await self._transport.send(call)

    def list(self, *, search: str | None = None, limit: int | None = None) -> AsyncIterator[Member]:
        """Every member whose e-mail address begins with `search`, page by page as they are asked for."""
        return each_item(lambda cursor: self.page(search=search, cursor=cursor, limit=limit))

    async def page(
        self, *, search: str | None = None, cursor: str | None = None, limit: int | None = None
    ) -> Page[Member]:
        """One page of the list."""
        query = {"search": search, "cursor": cursor, "limit": limit}
        return await self._transport.send(Call("GET", path("members"), Page[Member], query=query, repeatable=True))

    async def get(self, member_id: str) -> Member:
        """One member."""
        return await self._transport.send(Call("GET", path("members", member_id), Member, repeatable=True))

    async def update(
        self,
        member_id: str,
        *,
        email: str | Unchanged = UNCHANGED,
        role: Role | Unchanged = UNCHANGED,
        permissions: Iterable[str] | Unchanged = UNCHANGED,
        external_id: str | Unchanged | None = UNCHANGED,
        if_match: int | None = None,
    ) -> ChangedMember:
        """Change what is given; it counts at once for all of the member's keys. `if_match`: as for keys."""
        fields = body(email=email, role=role, permissions=permissions, external_id=external_id)
        headers = if_match_fields(if_match)
        call = Call("PATCH", path("members", member_id), ChangedMember, body=fields, fields=headers)
        return await self._transport.send(call)

    async def remove(
        self, member_id: str, *, keys: Literal["revoke", "move"] | None = None, move_to: str | None = None
    ) -> RemovedMember:
        """Remove a person. `keys`: revoke theirs, or move them to the service account `move_to`."""
        query = {"keys": keys, "move_to": move_to}
        return await self._transport.send(Call("DELETE", path("members", member_id), RemovedMember, query=query))
