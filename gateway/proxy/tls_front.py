"""The clients' side of TLS: handshakes, which cost much and may never end, before there is a connection to speak of.

Invariants: a handshake has the time of a request's head; handshakes count among the connections, and where all places
are taken by far, a new connection is cut off before anything is computed for it. What goes wrong is said once in a
while, never for each connection: whoever connects with a port scanner must not fill the log. A client that speaks plain
HTTP here is told so, in plain HTTP, as nginx and Go do it.
"""

import asyncio
import logging
import ssl
from math import inf
from typing import TYPE_CHECKING, Final, cast

from gateway.policies.refusal import Refusal
from gateway.proxy import answers
from gateway.proxy.tls_connection import OVER, TlsConnection

if TYPE_CHECKING:
    from gateway.proxy.worker import Worker

_LOG = logging.getLogger(__name__)
_BEYOND: Final = 64
"""So many connections above the limit get their handshake, for the sake of an answer that says why."""
_LOG_SECONDS: Final = 10.0
_NOTICE_SECONDS: Final = 2.0
_MEANINGS: Final = {
    "HTTP_REQUEST": "it spoke plain HTTP",
    "WRONG_VERSION_NUMBER": "what it spoke is no TLS",
    "UNSUPPORTED_PROTOCOL": "its version of TLS is older than server.tls.minimum_version",
    "NO_SHARED_CIPHER": "it shares no cipher with us",
    "UNKNOWN_CA": "it does not know the authority of our certificate",
    "BAD_CERTIFICATE": "it does not accept our certificate",
    "CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "CERTIFICATE_EXPIRED": "to it our certificate has expired",
}
"""What OpenSSL's reasons mean here, by a part of each."""
_HTTP_HERE: Final = Refusal(400, "tls_required", "This port speaks HTTPS: begin the address with https://.")


class TlsFront:
    """TLS for the clients of one worker."""

    def __init__(self, worker: "Worker", context: ssl.SSLContext) -> None:
        self.worker = worker
        self.context = context
        self.handshakes: set[ClientTls] = set()
        """Connections that have not ended their handshake, or were refused in it."""
        self._failures = 0
        self._last_failure = ""
        self._quiet_until = 0.0

    def protocol(self) -> "ClientTls":
        """Make the protocol of a new TCP connection."""
        return ClientTls(self)

    def has_room(self) -> bool:
        """Whether one more handshake may be begun."""
        worker = self.worker
        return len(self.handshakes) + len(worker.connections) < worker.settings.max_connections + _BEYOND

    def left(self, connection: "ClientTls") -> None:
        """A handshake is over, in one way or another."""
        self.handshakes.discard(connection)
        self.worker.handshake_over()

    def count(self, peer: str, reason: str) -> None:
        """A handshake has failed."""
        self._failures += 1
        self._last_failure = f"{peer}: {reason}"

    def tick(self, now: float) -> None:
        """End what takes too long, and tell of failures from time to time."""
        for each in [each for each in self.handshakes if each.deadline < now]:
            each.on_deadline()
        if self._failures and now >= self._quiet_until:
            self._tell_failures()
            self._quiet_until = now + _LOG_SECONDS

    def _tell_failures(self) -> None:
        if self._failures:
            _LOG.info(
                "TLS handshakes with clients failed: %d, the last one with %s", self._failures, self._last_failure
            )
            self._failures = 0

    def end(self) -> None:
        """The worker's time is over."""
        for each in list(self.handshakes):
            each.give_up()
        self._tell_failures()


class ClientTls(TlsConnection):
    """A client's TCP connection; the one that requests come on is above it."""

    __slots__ = ("_front", "deadline")

    def __init__(self, front: TlsFront) -> None:
        super().__init__(front.context, server_side=True, server_name=None)
        self._front = front
        self.deadline = inf
        """When, on the loop's clock, the handshake has taken too long."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        front = self._front
        worker = front.worker
        if not front.has_room():
            self.state = OVER
            worker.overload.connections += 1
            cast("asyncio.Transport", transport).abort()
            return
        front.handshakes.add(self)
        self.deadline = worker.clock() + worker.settings.client_head_timeout_seconds
        super().connection_made(transport)

    def opened(self) -> asyncio.Protocol:
        """See TlsConnection."""
        self._front.handshakes.discard(self)  # the worker is not told: it gets another connection at once
        return self._front.worker.connection()

    def failed(self, error: Exception) -> None:
        """Close what is no TLS, quietly: an alert or a notice has said why."""
        front = self._front
        front.count(self._peer(), reason_of(error))
        if isinstance(error, ssl.SSLError) and error.reason == "HTTP_REQUEST":
            self._answer_plain()
            # It stays among the handshakes, and what it still sends is thrown away, so that it can read that.
            self.deadline = front.worker.clock() + _NOTICE_SECONDS
            return
        front.left(self)
        self.raw.close()

    def _peer(self) -> str:
        peer = self.raw.get_extra_info("peername")
        return str(peer[0]) if peer else "?"

    def _answer_plain(self) -> None:
        worker = self._front.worker
        request_id_field = worker.request_id_field()
        fields = [request_id_field, worker.date_field, b"Connection: close"]
        self.raw.write(answers.to_bytes(answers.problem(_HTTP_HERE, request_id_field), fields, head_only=False))
        self.raw.write_eof()

    def cut(self, protocol: asyncio.Protocol, error: Exception) -> None:  # noqa: ARG002  TlsConnection's signature
        """See TlsConnection: the client is gone all the same, and may still read what was written."""
        protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        if self in self._front.handshakes:
            self._front.left(self)

    def on_deadline(self) -> None:
        """The handshake has taken too long."""
        if self.state != OVER:
            self._front.count(self._peer(), "it took too long")
        self.give_up()

    def give_up(self) -> None:
        """Close at once."""
        self._front.left(self)
        self.abort()


def reason_of(error: Exception) -> str:
    """Why a handshake failed, in a few words and without OpenSSL's places in its source."""
    if isinstance(error, ssl.SSLError) and error.reason:
        words = error.reason.replace("_", " ").lower()
        return next((f"{meaning} ({words})" for part, meaning in _MEANINGS.items() if part in error.reason), words)
    return str(error) or type(error).__name__
