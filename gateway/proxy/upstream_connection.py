"""One connection to an upstream target: sends one request at a time, reads its response, goes back to the pool.

Invariants: a byte that no request asked for (a surplus one, a response on an idle connection) makes the connection
unusable once the worker has read it or asked for it (`has_unread`), and reaches nobody then; when it is asked for is
`Target.lease`'s to say. A connection serves one exchange; it is released only after the whole request went out
and the whole response came in. It decides nothing about the client: it tells its exchange what arrived.
"""

import asyncio
from math import inf
from typing import TYPE_CHECKING, Final, cast

from gateway.proxy import kernel_view
from gateway.proxy.abrupt_end import reset_on_close
from gateway.proxy.body import BodyReader, MalformedBody, Piece
from gateway.proxy.grammar import list_tokens
from gateway.proxy.response_head import (
    SWITCHING_PROTOCOLS,
    UPGRADE,
    MalformedResponse,
    ResponseHead,
    read_response_head,
)
from gateway.proxy.small_reads import (
    FINE_READ_BYTES,
    LARGE_READ_BYTES,
    TUNNEL_READ_BYTES,
    WRITE_BUFFER_BYTES,
    SmallReads,
)
from gateway.proxy.tls_connection import TlsConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.proxy.exchange import Exchange
    from gateway.proxy.upstream_pool import Target

HEAD_LIMIT_BYTES: Final = 65_536
"""Longest response head; twice what browsers and servers commonly take."""
_FIRST_FINAL_STATUS: Final = 200
_FLUSH_SECONDS: Final = 60.0
_BEGINNING: Final = b"HTTP/1."
_TLS_RECORDS: Final = b"\x15\x16"
"""The first byte of an alert and of a handshake (RFC 8446 section 5.1), as what speaks TLS answers plain HTTP."""
_CR: Final = 0x0D
_INTERIM_LIMIT: Final = 256
"""1xx responses to one request; progress reports are far fewer, and a flood would hold up everybody else."""


def _is_hopeless(data: bytes) -> bool:
    """Whether no further byte makes a head of it: it is no HTTP/1, or its first line ends in a bare LF."""
    line_end = data.find(b"\n")
    return data[: len(_BEGINNING)] != _BEGINNING[: len(data)] or (line_end > 0 and data[line_end - 1] != _CR)


class UpstreamConnection(asyncio.Protocol):
    """See the module. `exchange` is None while idle."""

    __slots__ = (
        "_body",
        "_buffer",
        "_finely",
        "_held",
        "_interims",
        "_poll",
        "_reprieved",
        "_response",
        "_tls",
        "_tunnel",
        "_untaken",
        "answered_at",
        "closing",
        "deadline",
        "exchange",
        "leased",
        "leased_at",
        "rests_until",
        "reused",
        "slowest_seconds",
        "target",
        "transport",
        "uses",
        "writing_paused",
    )

    transport: asyncio.Transport

    def __init__(self, target: "Target") -> None:
        self.target = target
        self.exchange: Exchange | None = None
        self.deadline = inf
        """When, on the loop's clock, silence has lasted too long."""
        self.reused = False
        """Whether an earlier exchange used it: then the peer may have closed it unseen."""
        # From here on what the target keeps of it; moments are on the target's precise clock.
        self.leased = False
        self.leased_at = 0.0
        self.answered_at = 0.0
        """When its last response was whole."""
        self.rests_until = 0.0
        """When it may be used again."""
        self.uses = 0
        """Since its last rest; a new one begins with some, see `Target.connect`."""
        self.slowest_seconds = 0.0
        """The longest of these answers, but for the very first of the connection."""
        self.closing = False
        self.writing_paused = False
        """Whether there is more to be written than the peer takes."""
        self._untaken = 0
        """Bytes of that, when it was looked at last (`_takes_on`)."""
        self._held = False
        self._finely = False
        """Whether fewer bytes than usual are read at once."""
        self._interims = 0
        self._reprieved = False
        """Its time was over while bytes of it lay with the kernel (`kernel_view.UNREAD_SECONDS`)."""
        self._tls: TlsConnection | None = None
        self._poll: Callable[[int], list[tuple[int, int]]] | None = None
        """See `kernel_view.poller`."""
        self._buffer = b""
        self._response: ResponseHead | None = None
        self._body: BodyReader | None = None
        self._tunnel = False

    def __repr__(self) -> str:
        """Name target and state."""
        state = "idle" if self.exchange is None else "tunnel" if self._tunnel else "busy"
        return f"<UpstreamConnection {self.target.authority} {state}{' closing' if self.closing else ''}>"

    def has_unread(self) -> bool:
        """Whether the peer has sent something, or ended the connection, and the event loop has not told us yet.

        It has not when the worker was stopped meanwhile, or when both this and the next request came in the same turn
        of the loop: then what nobody asked for would be read as the answer to that request. With TLS it may be a record
        of the protocol's own, such as a session ticket; that is rare once a response has come, and costs no more than a
        new connection.
        """
        poll, tls = self._poll, self._tls
        return poll is not None and (bool(poll(0)) or (tls is not None and tls.holds_some()))

    # --- lent to an exchange ----------------------------------------------------------------------------------------

    def lend(self, exchange: "Exchange") -> None:
        """Begin an exchange; its request is written with `transport` afterwards."""
        self.exchange = exchange
        self._interims = 0
        self._reprieved = False

    def release(self, now: float) -> None:
        """Give the connection back after a whole request and a whole response."""
        response, held = self._response, self._held
        self.exchange = None
        self._response = None
        self._body = None
        if held:
            self.go_on_reading()
        if self._finely:
            self._finely = False
            self.transport.set_protocol(SmallReads(self, LARGE_READ_BYTES))
        seconds = response.keep_alive_seconds if response is not None else -1
        self.target.take_back(self, now, seconds, rests=held)  # what came while it was held came long ago
        self.reused = True

    def discard(self) -> None:
        """Never use the connection again."""
        self.exchange = None
        if not self.closing:
            self.closing = True
            self.deadline = inf
            self.target.drop(self)
            if self.writing_paused:
                # Behind what the peer does not read, it would learn of the end only after reading all of it.
                reset_on_close(self.transport)
            self.transport.abort()

    def close_when_flushed(self) -> None:
        """End a tunnel: what was written still goes out, if the peer takes it in time."""
        self.exchange = None
        if not self.closing:
            self.closing = True
            self.target.drop(self)
            self.transport.close()
            asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.transport.abort)

    def hold_reading(self) -> None:
        """The client takes no more of the response for now."""
        if not self._held:
            self._held = True
            self.transport.pause_reading()

    def go_on_reading(self) -> None:
        """See hold_reading."""
        if self._held:
            self._held = False
            self.transport.resume_reading()

    def on_deadline(self) -> None:
        """Silence has lasted too long: an idle connection is closed, an exchange has failed."""
        if self.exchange is None:
            self.discard()
        elif self.writing_paused and self._takes_on():
            self.exchange.request_progress()
            self.exchange.body_progress()
        elif not (self._reprieved or self._held) and self.has_unread():
            self._reprieved = True
            self.deadline += kernel_view.UNREAD_SECONDS
        else:
            self.exchange.upstream_timed_out()

    def _takes_on(self) -> bool:
        """Whether the peer has taken anything of what waits for it since that was looked at last."""
        before = self._untaken
        self._untaken = self.transport.get_write_buffer_size() + kernel_view.unacknowledged(self.transport)
        return self._untaken < before

    # --- events of the transport ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # uvloop's transports are not registered as subclasses of asyncio.Transport, so nothing can be asserted here.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        if isinstance(transport, TlsConnection):
            self._tls = transport
        self._poll = kernel_view.poller(transport)

    def data_received(self, data: bytes) -> None:
        """Read on where the last bytes ended."""
        if len(data) > LARGE_READ_BYTES:
            self.transport.set_protocol(SmallReads(self, LARGE_READ_BYTES))
        exchange = self.exchange
        if exchange is None:
            if not self.closing:
                self.target.distrust()
            self.discard()
        elif self._tunnel:
            exchange.tunnel_to_client(data)
        elif self._body is None:
            self._read_head(exchange, self._buffer + data if self._buffer else data)
        else:
            self._read_body(exchange, self._body, data)

    def eof_received(self) -> bool:
        """Half-close matters in a tunnel alone; else the connection is over."""
        if self._tunnel and self.exchange is not None:
            self.exchange.upstream_half_closed()
            return True
        if self.exchange is None:
            self.discard()  # at once: the next request must not meet a connection that is closing
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the exchange, which knows whether this is an end or a failure."""
        exchange = self.exchange
        response, body = self._response, self._body
        self.discard()
        if exchange is not None:
            if exc is None and body is not None and body.ends_with_connection():
                exchange.relay_end()
            else:
                exchange.upstream_lost(reused=self.reused, answered=response is not None or bool(self._buffer))

    def pause_writing(self) -> None:
        """The upstream reads slowly: so does the gateway."""
        self.writing_paused = True
        self._takes_on()
        if self.exchange is not None:
            self.exchange.client.hold_reading()
            self.exchange.request_progress()

    def resume_writing(self) -> None:
        """See pause_writing."""
        self.writing_paused = False
        if self.exchange is not None:
            self.exchange.client.go_on_reading()
            self.exchange.request_progress()

    # --- the response -----------------------------------------------------------------------------------------------

    def _read_head(self, exchange: "Exchange", data: bytes) -> None:
        section, ending, rest = data.partition(b"\r\n\r\n")
        while ending and len(section) <= HEAD_LIMIT_BYTES:
            try:
                response = read_response_head(section, exchange.head.method)
            except MalformedResponse as error:
                self._broke(exchange, str(error), distrust=_is_hopeless(data))
                return
            data = rest
            if response.status >= _FIRST_FINAL_STATUS:
                self._buffer = b""
                self._response = response
                self._begin_body(exchange, response, data)
                return
            if response.status == SWITCHING_PROTOCOLS:
                self._buffer = b""
                self._switch(exchange, response, data)
                return
            self._interims += 1
            if self._interims > _INTERIM_LIMIT:
                exchange.upstream_broke("too many interim responses")
                return
            exchange.relay_interim(response)
            section, ending, rest = data.partition(b"\r\n\r\n")
        if ending or len(data) - 3 > HEAD_LIMIT_BYTES:  # less three: they may be the beginning of its end
            exchange.upstream_broke("the response head is too large")
            return
        if _is_hopeless(data):
            seems = "TLS: is its address https://?" if data[0] in _TLS_RECORDS else "not the beginning of a response"
            self._broke(exchange, f"what came is {seems}", distrust=True)
            return
        self._buffer = data

    def _begin_body(self, exchange: "Exchange", response: ResponseHead, data: bytes) -> None:
        if response.length == len(data):
            exchange.relay_head(response, data, whole=True)
            return
        self._body = body = response.body_reader()
        pieces = self._read_payload(exchange, body, data)
        if pieces is not None:
            exchange.relay_head(response, b"".join(pieces), whole=body.done)

    def _read_body(self, exchange: "Exchange", body: BodyReader, data: bytes) -> None:
        pieces = self._read_payload(exchange, body, data)
        if pieces is not None:
            exchange.relay_body(pieces, whole=body.done)

    def _read_payload(self, exchange: "Exchange", body: BodyReader, data: bytes) -> list[Piece] | None:
        """The payload in `data`; None when it is broken or has a surplus, which the exchange was told then."""
        try:
            pieces, used = body.feed(data)
        except MalformedBody as error:
            exchange.upstream_broke(str(error))
            return None
        if used != len(data):
            self._broke(exchange, "bytes follow the end of the response", distrust=True)
            return None
        if body.fine_grained and not self._finely:
            self._finely = True
            self.transport.set_protocol(SmallReads(self, FINE_READ_BYTES))
        return pieces

    def _broke(self, exchange: "Exchange", reason: str, *, distrust: bool) -> None:
        """`distrust`: it may be what belongs to another request, or to none."""
        if distrust:
            self.target.distrust()
        exchange.upstream_broke(reason)

    def _switch(self, exchange: "Exchange", response: ResponseHead, data: bytes) -> None:
        if not exchange.head.wants_websocket or exchange.body is not None:
            exchange.upstream_broke("the upstream switched protocols unasked")
            return
        upgrade = response.special[UPGRADE]
        if upgrade is None or list_tokens(upgrade) != [b"websocket"]:
            exchange.upstream_broke("the upstream switched to another protocol than was asked for")
            return
        self._response = response
        self._tunnel = True
        self.transport.set_protocol(SmallReads(self, TUNNEL_READ_BYTES))
        exchange.begin_tunnel(response, data)
