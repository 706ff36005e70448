"""The upstream side of TLS: a connection to a target counts as open when its handshake is over.

Invariant: a failure after the handshake is said in the log as well: with TLS 1.3 a server that misses a client's
certificate says so only then, when the client takes the connection for open (RFC 8446 section 4.4.2.4).
"""

import asyncio
import ssl
from collections.abc import Callable

from gateway.proxy.tls import explained
from gateway.proxy.tls_connection import TlsConnection


class UpstreamTls(TlsConnection):
    """See the module. `ready` ends with the handshake; an exception of it is for `explained`."""

    __slots__ = ("_complain", "_connection", "_name", "ready")

    def __init__(
        self, context: ssl.SSLContext, name: str, connection: asyncio.Protocol, complain: Callable[[str], None]
    ) -> None:
        """`name`: what the certificate should say; `connection` is what the bytes are for; `complain` is the log's."""
        super().__init__(context, server_side=False, server_name=name)
        self._name = name
        self._connection = connection
        self._complain = complain
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def opened(self) -> asyncio.Protocol:
        """See TlsConnection."""
        if not self.ready.done():
            self.ready.set_result(None)
        return self._connection

    def failed(self, error: Exception) -> None:
        """See TlsConnection."""
        if not self.ready.done():
            self.ready.set_exception(error)
        self.raw.close()

    def cut(self, protocol: asyncio.Protocol, error: Exception) -> None:  # noqa: ARG002  TlsConnection's signature
        """See TlsConnection: over at once, as the next request must not meet it."""
        self.lose(error)
        self.raw.abort()

    def broken(self, error: ssl.SSLError) -> None:
        """See TlsConnection."""
        self._complain(explained(error, self._name))
