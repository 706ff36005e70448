"""`client.service_accounts`: owners of keys that are no people.

Invariant: the same as for members: what becomes of live keys has to be said before their owner goes.

Made from the file of this name in `asynchronous` by `python -m gateway.client.generate`.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

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
from gateway.client.shapes import ChangedServiceAccount, Page, RemovedServiceAccount, ServiceAccount
from gateway.client.synchronous.paging import each_item
from gateway.client.synchronous.transport import Transport


class ServiceAccounts:
    """The service accounts of the caller's organization."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        *,
        description: str | None = None,
        permissions: Iterable[str] | None = None,
        external_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> ChangedServiceAccount:
        """Make a service account. `permissions`: what its keys can hold at most; None is nothing."""
        fields = new_body(name=name, description=description, permissions=permissions, external_id=external_id)
        headers = idempotency_fields(idempotency_key)
        call = Call(
            "POST", path("service-accounts"), ChangedServiceAccount, body=fields, fields=headers, repeatable=True
        )
        return self._transport.send(call)

    def list(self, *, search: str | None = None, limit: int | None = None) -> Iterator[ServiceAccount]:
        """Every service account whose name begins with `search`, page by page as they are asked for."""
        return each_item(lambda cursor: self.page(search=search, cursor=cursor, limit=limit))

    def page(
        self, *, search: str | None = None, cursor: str | None = None, limit: int | None = None
    ) -> Page[ServiceAccount]:
        """One page of the list."""
        query = {"search": search, "cursor": cursor, "limit": limit}
        call = Call("GET", path("service-accounts"), Page[ServiceAccount], query=query, repeatable=True)
        return self._transport.send(call)

    def get(self, account_id: str) -> ServiceAccount:
        """One service account."""
        call = Call("GET", path("service-accounts", account_id), ServiceAccount, repeatable=True)
        return self._transport.send(call)

    def update(
        self,
        account_id: str,
        *,
        name: str | Unchanged = UNCHANGED,
        description: str | Unchanged = UNCHANGED,
        permissions: Iterable[str] | Unchanged = UNCHANGED,
        external_id: str | Unchanged | None = UNCHANGED,
        if_match: int | None = None,
    ) -> ChangedServiceAccount:
        """Change what is given; it counts at once for all of its keys. `if_match`: as for keys."""
        fields = body(name=name, description=description, permissions=permissions, external_id=external_id)
        headers = if_match_fields(if_match)
        call = Call("PATCH", path("service-accounts", account_id), ChangedServiceAccount, body=fields, fields=headers)
        return self._transport.send(call)

    def remove(
        self, account_id: str, *, keys: Literal["revoke", "move"] | None = None, move_to: str | None = None
    ) -> RemovedServiceAccount:
        """Remove it. `keys`: revoke those it has, or move them to the service account `move_to`."""
        query = {"keys": keys, "move_to": move_to}
        call = Call("DELETE", path("service-accounts", account_id), RemovedServiceAccount, query=query)
        return self._transport.send(call)
