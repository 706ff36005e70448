"""One connection of a client: cuts what arrives into requests, one exchange at a time, and answers refusals.

Invariants: pipelined requests are answered in order, one in flight. After a request that could not be understood, or an
answer that closes, not a byte of what follows is read as a request. What the client sends ahead is held up to
`_PENDING_LIMIT_BYTES`, then the gateway stops reading. A client that sends a body nobody wants gets its answer, and the
body is read and thrown away within bounds, so that the answer is not lost in a reset (RFC 9112 section 9.6).
"""

import asyncio
import fcntl
import logging
import re
import socket
import struct
import termios
from ipaddress import ip_address
from math import inf
from typing import TYPE_CHECKING, Final, cast

from gateway.policies.refusal import Refusal
from gateway.proxy import answers
from gateway.proxy.abrupt_end import reset_on_close
from gateway.proxy.exchange import Exchange
from gateway.proxy.forwarding import believed_address, forwarding_fields
from gateway.proxy.phases import OVER, TUNNEL
from gateway.proxy.request_head import (
    CHUNKED,
    FORWARDED_FOR,
    REQUEST_ID,
    VIA,
    MalformedRequest,
    RequestHead,
    read_request_head,
)

if TYPE_CHECKING:
    from gateway.proxy.recording import Tail
    from gateway.proxy.worker import Worker

_LOG = logging.getLogger(__name__)
_PENDING_LIMIT_BYTES: Final = 65_536
_HEADS_PER_TURN: Final = 16
"""Requests of one connection that are read before others have their turn."""
_WRITE_BUFFER_BYTES: Final = 65_536
_LINGER_BYTES: Final = 16 * 1_048_576
_LINGER_SECONDS: Final = 5.0
_UNREAD_SECONDS: Final = 1.0
"""How long bytes that the kernel holds for us may take to be handed to us."""
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._~+/=:@-]{1,128}")
"""What ids look like that proxies in front send (UUIDs, trace ids, base64), and what JSON need not escape."""
_TCP_CLOSE: Final = 7
"""tcpi_state, the first byte of Linux's TCP_INFO, of a connection that was reset."""


# The states: what the next byte from the client is. Plain numbers, as in `exchange`.
HEAD: Final = 0
"""Part of a request's head."""
EXCHANGE: Final = 1
"""Part of the body of the request in progress, or of a request after it."""
LINGER: Final = 2
"""Nobody's: it is thrown away."""
CLOSED: Final = 3
_NAMES: Final = ("HEAD", "EXCHANGE", "LINGER", "CLOSED")


class ClientConnection(asyncio.Protocol):
    """See the module."""

    __slots__ = (
        "_forwarding",
        "_full",
        "_head_begun",
        "_held",
        "_linger_left",
        "_peer",
        "_reads_soon",
        "_seen",
        "_skipped_line",
        "deadline",
        "exchange",
        "pending",
        "state",
        "tail",
        "transport",
        "trusted",
        "worker",
        "writing_paused",
    )

    transport: asyncio.Transport

    def __init__(self, worker: "Worker") -> None:
        self.worker = worker
        self.state = HEAD
        self.pending = b""
        """Received and not yet read: the beginning of a head, of a body, or of the next request."""
        self.exchange: Exchange | None = None
        self.deadline = inf
        """When, on the loop's clock, the client has been silent for too long."""
        self.writing_paused = False
        self._held = False
        """The upstream is the slow one: nothing is read, and the client need not hurry."""
        self._linger_left = 0
        self._skipped_line = False
        self._head_begun = False
        self._full = False
        """Much that the client sent ahead waits already."""
        self._reads_soon = False
        self.trusted = False
        """Whether it is a proxy whose word on the client is believed."""
        self._peer = b""
        self._forwarding = (b"", b"")
        self.tail: Tail | None = None
        """What the records of its requests end in."""
        self._seen: tuple[bytes | None, bytes] = (None, b"")

    def __repr__(self) -> str:
        """Name state and exchange."""
        return f"<ClientConnection {_NAMES[self.state]} {self.exchange!r}>"

    # --- events of the transport ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # uvloop's transports are not registered as subclasses of asyncio.Transport, so nothing can be asserted here.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(_WRITE_BUFFER_BYTES)
        worker = self.worker
        peer: tuple[str, ...] = transport.get_extra_info("peername") or ("",)
        address = peer[0].partition("%")[0].removeprefix("::ffff:")
        self._peer = address.encode()
        if worker.trusted_networks and address:
            self.trusted = any(ip_address(address) in network for network in worker.trusted_networks)
        worker.connections.add(self)
        self.deadline = worker.clock() + worker.settings.client_idle_timeout_seconds
        if len(worker.connections) > worker.settings.max_connections:
            self._refuse_connection(answers.OVERLOADED)

    def data_received(self, data: bytes) -> None:
        """Read on where the last bytes ended."""
        if self.state == HEAD:
            self.pending = self.pending + data if self.pending else data
            self._read_heads()
            self._bound_pending()
        elif self.state == EXCHANGE:
            self._receive_ahead(data)
        elif self.state == LINGER:
            self._linger_left -= len(data)
            if self._linger_left < 0:
                self.abort()

    def eof_received(self) -> bool:
        """A client that closes its half is gone, but for a tunnel, where halves matter."""
        if self.exchange is not None and self.exchange.phase == TUNNEL:
            self.exchange.client_half_closed()
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio.Protocol
        """The client is gone: so is what was done for it."""
        self.state = CLOSED
        self.deadline = inf
        self.pending = b""
        self.worker.left(self)
        exchange, self.exchange = self.exchange, None
        if exchange is not None and exchange.phase != OVER:
            exchange.client_lost()

    def pause_writing(self) -> None:
        """The client reads slowly: so does the gateway."""
        self.writing_paused = True
        worker = self.worker
        self.deadline = worker.clock() + worker.settings.client_body_timeout_seconds
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.body_progress()

    def resume_writing(self) -> None:
        """See pause_writing."""
        self.writing_paused = False
        if self.state == EXCHANGE:
            self._set_exchange_deadline()
        elif self.state == HEAD:
            self.deadline = self.worker.clock() + self.worker.client_idle_timeout
            self._read_heads()
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.go_on_reading()
            self.exchange.body_progress()

    def is_lost_unseen(self) -> bool:
        """Whether the client reset a connection that is not read from at the moment, of which no event tells."""
        if not self._held and not self._full:
            return False
        raw = self.transport.get_extra_info("socket")
        return raw is not None and raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE

    def on_deadline(self) -> None:
        """The client was silent for too long."""
        if self.state == HEAD and self.pending:
            self._refuse_connection(answers.CLIENT_TIMEOUT)
        elif self.state == EXCHANGE and self.exchange is not None:
            if self.writing_paused:
                self.exchange.abort()
            else:
                self.exchange.refuse(answers.CLIENT_TIMEOUT)
        elif self.state == CLOSED:
            self.abort()
        elif self.state == HEAD and self._has_unread():
            self.deadline = self.worker.clock() + _UNREAD_SECONDS  # a request: it came in time, and is read at once
        else:
            self.close()

    def _has_unread(self) -> bool:
        """Whether bytes have arrived that the event loop has not read yet: deadlines are looked at before sockets."""
        raw = self.transport.get_extra_info("socket")
        descriptor = -1 if raw is None else raw.fileno()
        if descriptor < 0:  # closed
            return False
        unread: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0"))[0]
        return unread > 0

    # --- requests ---------------------------------------------------------------------------------------------------

    def _read_heads(self) -> None:
        """Begin exchanges while whole heads are there and none is in progress."""
        worker = self.worker
        left = _HEADS_PER_TURN
        # Not while the client reads slowly: its next answer would only wait in memory.
        while self.pending and self.state == HEAD and not self.writing_paused:
            if not left:
                self._read_heads_soon()  # others have their turn first
                return
            left -= 1
            data = self.pending
            if data[:2] == b"\r\n":
                if not self._skip_empty_line(data):
                    return
                continue
            section, ending, rest = data.partition(b"\r\n\r\n")
            if not ending:
                if not self._head_is_too_large(data):
                    self._await_head()
                return
            if len(section) > worker.head_limit and self._head_is_too_large(data):
                return
            try:
                head = read_request_head(section, worker.field_limit)
            except MalformedRequest as error:
                self._refuse_connection(error.refusal)
                return
            self.pending = rest
            self.state = EXCHANGE
            self.deadline = inf
            self._skipped_line = False
            self._head_begun = False
            worker.requests += 1
            worker.in_flight += 1
            worker.now = now = worker.clock()
            self.exchange = exchange = Exchange(self, head, now)
            self._begin(exchange)

    def _begin(self, exchange: Exchange) -> None:
        try:
            exchange.begin()
        except Exception:  # noqa: BLE001  a task has `_waited` for this; without it the connection would hang
            _LOG.exception("a defect of the gateway ended %r", exchange)
            if exchange.phase != OVER:
                exchange.refuse(answers.INTERNAL_ERROR)

    def _skip_empty_line(self, data: bytes) -> bool:
        """One empty line before a request is overlooked (RFC 9112 section 2.2), a second one refused."""
        if self._skipped_line:
            self._refuse_connection(answers.EMPTY_LINES)
            return False
        self._skipped_line = True
        self.pending = data[2:]
        return True

    def _head_is_too_large(self, data: bytes) -> bool:
        """Judge a head by its sizes, the same whether it has arrived whole or in part."""
        settings = self.worker.settings
        line = data.find(b"\r\n")
        if (len(data) - 1 if line < 0 else line) > settings.request_line_limit_bytes:  # less one: it may be a CR
            self._refuse_connection(answers.URI_TOO_LONG)
            return True
        end = data.find(b"\r\n\r\n")
        section = (len(data) - 3 if end < 0 else end) - line  # less three: they may be the beginning of its end
        if line >= 0 and section > settings.header_section_limit_bytes:
            self._refuse_connection(answers.HEAD_TOO_LARGE)
            return True
        return False

    def _await_head(self) -> None:
        """The head counts its time from its first byte, whatever dribbles in."""
        if not self._head_begun:
            self._head_begun = True
            self.deadline = self.worker.clock() + self.worker.settings.client_head_timeout_seconds

    def _receive_ahead(self, data: bytes) -> None:
        """Bytes while an exchange is in progress."""
        exchange = self.exchange
        if exchange is not None and exchange.phase == TUNNEL and exchange.upstream is not None:
            exchange.tunnel_to_upstream(data)
            return
        self.pending = self.pending + data if self.pending else data
        if exchange is not None and exchange.body is not None and exchange.upstream is not None:
            self.pump_body()
        else:
            self._bound_pending()

    def _bound_pending(self) -> None:
        """Read no more while much waits already, and again when it does not; a slow upstream is held back apart."""
        full = len(self.pending) > _PENDING_LIMIT_BYTES
        if full != self._full:
            self._full = full
            if full:
                self.transport.pause_reading()
            elif not self._held:
                self.transport.resume_reading()

    def _read_heads_soon(self) -> None:
        if not self._reads_soon:
            self._reads_soon = True
            self.worker.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        self._reads_soon = False
        self._read_heads()
        if self.state != CLOSED:
            self._bound_pending()

    def pump_body(self) -> None:
        """Hand what has arrived to the exchange; it takes what belongs to its body."""
        exchange = self.exchange
        if exchange is None:
            return
        if self.pending:
            data, self.pending = self.pending, b""
            self.pending = exchange.take_body(data)
        if self.exchange is exchange and exchange.phase != OVER:
            self._bound_pending()
            self._set_exchange_deadline()

    def _set_exchange_deadline(self) -> None:
        """While a body is expected, silence is bounded; while the upstream works, the client may well be silent."""
        worker = self.worker
        waits_for_body = self.exchange is not None and self.exchange.body is not None and not self._held
        self.deadline = worker.clock() + worker.settings.client_body_timeout_seconds if waits_for_body else inf

    def begin_tunnel(self) -> bytes:
        """From here on bytes pass unread; returns those that came ahead."""
        self.deadline = inf
        self._held = self._full = False
        self.transport.resume_reading()
        ahead, self.pending = self.pending, b""
        return ahead

    def end_tunnel(self) -> None:
        """The other side is gone; what it sent still goes out."""
        self.exchange = None
        self.close()

    def hold_reading(self) -> None:
        """The upstream takes no more of the body for now."""
        self._held = True
        self.transport.pause_reading()
        self.deadline = inf

    def go_on_reading(self) -> None:
        """See hold_reading."""
        self._held = False
        if not self._full:
            self.transport.resume_reading()
        self._set_exchange_deadline()

    # --- answers ----------------------------------------------------------------------------------------------------

    def exchange_over(self, *, close: bool) -> None:
        """The response is out: on to the next request, or to the end of the connection."""
        self.exchange = None
        if close:
            self._linger()
        else:
            self._next_request()

    def _next_request(self) -> None:
        worker = self.worker
        self.state = HEAD
        self.deadline = worker.now + (worker.drain_idle_seconds if worker.draining else worker.client_idle_timeout)
        self._bound_pending()
        if self._held:
            self._held = False
            if not self._full:
                self.transport.resume_reading()
        if self.pending:
            # Not called here: a long pipeline would grow the stack by one exchange per request.
            self._read_heads_soon()

    def answer(self, answer: answers.OwnAnswer, head: RequestHead, fields: list[bytes], *, keeps: bool) -> None:
        """Answer the request in progress in the gateway's own name, with these further fields.

        `keeps`: what follows on the connection is another request.
        """
        self.exchange = None
        kept = keeps and head.keep_alive and not self.ends_here()
        fields.append(self.worker.date_field)
        if not kept:
            fields.append(b"Connection: close")
        elif not head.minor:
            fields.append(b"Connection: keep-alive")
        self.transport.write(answers.to_bytes(answer, fields, head_only=head.method == b"HEAD"))
        if kept:
            self._next_request()
        else:
            self._linger()

    def skip_body(self, length: int) -> bool:
        """Take a body that nobody wants out of what has arrived; False when it has not arrived whole."""
        if length == CHUNKED or length > len(self.pending):
            return False
        self.pending = self.pending[length:]
        return True

    def _refuse_connection(self, refusal: Refusal) -> None:
        """Answer what is no request, and listen no more."""
        request_id_field = self.worker.request_id_field()
        if self.worker.recording is not None:
            self.worker.recording.refused_connection(self._peer, request_id_field, refusal)
        answer = answers.problem(refusal, request_id_field)
        fields = [request_id_field, self.worker.date_field, b"Connection: close"]
        self.transport.write(answers.to_bytes(answer, fields, head_only=False))
        self._linger()

    def _linger(self) -> None:
        """Close for writing, and read for a while what the client still sends, so that it gets to read the answer."""
        self.state = LINGER
        self.exchange = None
        self.pending = b""
        self._held = self._full = False
        self._linger_left = _LINGER_BYTES
        self.deadline = self.worker.clock() + _LINGER_SECONDS
        self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.close()

    def close(self) -> None:
        """Close when what was written is out; a client that does not read it has its time, too."""
        self.state = CLOSED
        self.deadline = self.worker.clock() + self.worker.settings.client_body_timeout_seconds
        self.transport.close()

    def abort(self) -> None:
        """Close with a reset."""
        self.state = CLOSED
        self.deadline = inf
        self.exchange = None
        reset_on_close(self.transport)
        self.transport.abort()

    def drain(self) -> None:
        """The worker stops: an idle connection has some time for one more request."""
        if self.state == HEAD and not self.pending:
            self.deadline = min(self.deadline, self.worker.clock() + self.worker.drain_idle_seconds)

    def ends_here(self) -> bool:
        """Whether the worker drains and nothing of another request has arrived, which would have to be answered."""
        return self.worker.draining and not self.pending

    # --- what an exchange says of this connection ---------------------------------------------------------------------

    def request_id_field(self, head: RequestHead) -> bytes:
        """A trusted proxy's X-Request-ID, or a new one."""
        if self.trusted:
            received = head.special[REQUEST_ID]
            if received and _REQUEST_ID.fullmatch(received):
                return b"X-Request-ID: " + received
        return self.worker.request_id_field()

    def address(self, head: RequestHead) -> bytes:
        """Who sent a request: the peer, or whom the trusted proxies in front saw; the last answer is kept."""
        chain = head.special[FORWARDED_FOR] if self.trusted else None
        if chain is None:
            return self._peer
        if chain != self._seen[0]:
            self._seen = chain, believed_address(chain, self._peer, self.worker.trusted_networks)
        return self._seen[1]

    def forwarding_fields(self, head: RequestHead) -> bytes:
        """X-Forwarded-* and Forwarded for a request; the last ones are kept, since a client repeats its Host."""
        worker = self.worker
        if self.trusted or head.special[VIA] is not None:
            return forwarding_fields(head, self._peer, trusted=self.trusted, tls=False, via=worker.settings.via)
        host, fields = self._forwarding
        if host != head.host or not fields:
            fields = forwarding_fields(head, self._peer, trusted=False, tls=False, via=worker.settings.via)
            self._forwarding = (head.host, fields)
        return fields
