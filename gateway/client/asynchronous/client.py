"""`AsyncClient`: the admin API, each kind of thing under a name of its own.

    async with AsyncClient(api_key="sk_…") as client:
        made = await client.keys.create("CI", expires="30d")

Invariant: one client speaks with one key to one gateway. It may be shared by tasks; it keeps connections open between
calls, so close it or use it as a context manager.
"""

from types import TracebackType
from typing import Self

import httpx

from gateway.client.asynchronous.events import AsyncEvents
from gateway.client.asynchronous.keys import AsyncKeys
from gateway.client.asynchronous.members import AsyncMembers
from gateway.client.asynchronous.organizations import AsyncOrganizations
from gateway.client.asynchronous.service_accounts import AsyncServiceAccounts
from gateway.client.asynchronous.transport import AsyncTransport
from gateway.client.call import Call
from gateway.client.credentials import find_admin_url, find_api_key
from gateway.client.requests import path
from gateway.client.retries import DEFAULT_RETRIES
from gateway.client.shapes import Me, PermissionList, Reloaded, Status


class AsyncClient:
    """The admin API with one key: `keys`, `members`, `service_accounts`, `organizations`, `events`."""

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        timeout_seconds: float = 30.0,
        retries: int = DEFAULT_RETRIES,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """Take the key from GATEWAY_API_KEY and the address from GATEWAY_ADMIN_URL where none is given.

        `retries`: how often a call is repeated where that is safe. `http`: a client of your own, for certificates or
        a proxy; it stays yours to close. InvalidArgument where there is no key or the address is none.
        """
        self._transport = AsyncTransport(
            find_api_key(api_key),
            find_admin_url(base_url),
            timeout_seconds=timeout_seconds,
            retries=retries,
            http=http,
        )
        self.keys = AsyncKeys(self._transport)
        self.members = AsyncMembers(self._transport)
        self.service_accounts = AsyncServiceAccounts(self._transport)
        self.organizations = AsyncOrganizations(self._transport)
        self.events = AsyncEvents(self._transport)

    async def me(self) -> Me:
        """Who the key is: its owner, its organization, and what it may do now."""
        return await self._transport.send(Call("GET", path("me"), Me, repeatable=True))

    async def permissions(self) -> PermissionList:
        """The permissions that are known: the gateway's own, those that routes ask for, those that are granted."""
        return await self._transport.send(Call("GET", path("permissions"), PermissionList, repeatable=True))

    async def status(self) -> Status:
        """How the gateway is doing: every worker of every node. For the operator."""
        return await self._transport.send(Call("GET", path("status"), Status, repeatable=True))

    async def reload(self) -> Reloaded:
        """Have the node that answers read its settings again. For the operator's admins.

        ConflictError where nothing came of it: `code` says why, `detail` every problem on a line of its own.
        """
        return await self._transport.send(Call("POST", path("reload"), Reloaded))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
