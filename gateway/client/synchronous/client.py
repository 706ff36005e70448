"""`Client`: the admin API, each kind of thing under a name of its own.

    with Client(api_key="sk_…") as client:
        made = client.keys.create("CI", expires="30d")

Invariant: one client speaks with one key to one gateway. It may be shared by threads; it keeps connections open between
calls, so close it or use it as a context manager.

Made from the file of this name in `asynchronous` by `python -m gateway.client.generate`.
"""

from types import TracebackType
from typing import Self

import httpx

from gateway.client.call import Call
from gateway.client.credentials import find_admin_url, find_api_key
from gateway.client.requests import path
from gateway.client.retries import DEFAULT_RETRIES
from gateway.client.shapes import Me, PermissionList, Reloaded, Status
from gateway.client.synchronous.events import Events
from gateway.client.synchronous.keys import Keys
from gateway.client.synchronous.members import Members
from gateway.client.synchronous.organizations import Organizations
from gateway.client.synchronous.service_accounts import ServiceAccounts
from gateway.client.synchronous.transport import Transport


class Client:
    """The admin API with one key: `keys`, `members`, `service_accounts`, `organizations`, `events`."""

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        timeout_seconds: float = 30.0,
        retries: int = DEFAULT_RETRIES,
        http: httpx.Client | None = None,
    ) -> None:
        """Take the key from GATEWAY_API_KEY and the address from GATEWAY_ADMIN_URL where none is given.

        `retries`: how often a call is repeated where that is safe. `http`: a client of your own, for certificates or
        a proxy; it stays yours to close. InvalidArgument where there is no key or the address is none.
        """
        self._transport = Transport(
            find_api_key(api_key),
            find_admin_url(base_url),
            timeout_seconds=timeout_seconds,
            retries=retries,
            http=http,
        )
        self.keys = Keys(self._transport)
        self.members = Members(self._transport)
        self.service_accounts = ServiceAccounts(self._transport)
        self.organizations = Organizations(self._transport)
        self.events = Events(self._transport)

    def me(self) -> Me:
        """Who the key is: its owner, its organization, and what it may do now."""
        return self._transport.send(Call("GET", path("me"), Me, repeatable=True))

    def permissions(self) -> PermissionList:
        """The permissions that are known: the gateway's own, those that routes ask for, those that are granted."""
        return self._transport.send(Call("GET", path("permissions"), PermissionList, repeatable=True))

    def status(self) -> Status:
        """How the gateway is doing: every worker of every node. For the operator."""
        return self._transport.send(Call("GET", path("status"), Status, repeatable=True))

    def reload(self) -> Reloaded:
        """Have the node that answers read its settings again. For the operator's admins.

        ConflictError where nothing came of it: `code` says why, `detail` every problem on a line of its own.
        """
        return self._transport.send(Call("POST", path("reload"), Reloaded))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
