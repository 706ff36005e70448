"""`client.members`: the people of an organization.

Invariant: no member goes without a word on what becomes of their keys; `remove` is refused (`keys_need_a_choice`)
where there are live ones and nothing is said.

Made from the file of this name in `asynchronous` by `python -m gateway.client.generate`.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

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
from gateway.client.synchronous.paging import each_item
from gateway.client.synchronous.transport import Transport

Role = Literal["admin", "member"]


class Members:
    """The members of the caller's organization."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def add(
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
        return self._transport.send(call)

    def list(self, *, search: str | None = None, limit: int | None = None) -> Iterator[Member]:
        """Every member whose e-mail address begins with `search`, page by page as they are asked for."""
        return each_item(lambda cursor: self.page(search=search, cursor=cursor, limit=limit))

    def page(self, *, search: str | None = None, cursor: str | None = None, limit: int | None = None) -> Page[Member]:
        """One page of the list."""
        query = {"search": search, "cursor": cursor, "limit": limit}
        return self._transport.send(Call("GET", path("members"), Page[Member], query=query, repeatable=True))

    def get(self, member_id: str) -> Member:
        """One member."""
        return self._transport.send(Call("GET", path("members", member_id), Member, repeatable=True))

    def update(
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
        return self._transport.send(call)

    def remove(
        self, member_id: str, *, keys: Literal["revoke", "move"] | None = None, move_to: str | None = None
    ) -> RemovedMember:
        """Remove a person. `keys`: revoke theirs, or move them to the service account `move_to`."""
        query = {"keys": keys, "move_to": move_to}
        return self._transport.send(Call("DELETE", path("members", member_id), RemovedMember, query=query))
