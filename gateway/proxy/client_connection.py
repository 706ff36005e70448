"""One connection of a client: cuts what arrives into requests, one exchange at a time, and answers refusals.

Invariants: pipelined requests are answered in order, one in flight. After a request that could not be understood, or an
answer that closes, not a byte of what follows is read as a request. A client that sends a body nobody wants gets its
answer, and the body is read and thrown away within bounds, so that the answer is not lost in a reset (RFC 9112 section
9.6). What slow clients may do, and how much may wait, is `gateway.proxy.client_flow`'s to say.
"""

import asyncio
import logging
from math import inf
from typing import TYPE_CHECKING, Final, cast

from gateway.policies.refusal import Refusal
from gateway.proxy import answers, kernel_view
from gateway.proxy.abrupt_end import reset_on_close
from gateway.proxy.client_flow import ClientFlow
from gateway.proxy.client_origin import ClientOrigin
from gateway.proxy.exchange import Exchange
from gateway.proxy.head_limits import too_large
from gateway.proxy.phases import OVER, TUNNEL
from gateway.proxy.request_head import (
    CHUNKED,
    MalformedRequest,
    RequestHead,
    begins_no_request,
    read_request_head,
)
from gateway.proxy.small_reads import (
    FINE_READ_BYTES,
    LARGE_READ_BYTES,
    TUNNEL_READ_BYTES,
    WRITE_BUFFER_BYTES,
    SmallReads,
)

if TYPE_CHECKING:
    from gateway.proxy.recording import Tail
    from gateway.proxy.worker import Worker

_LOG = logging.getLogger(__name__)
_HEADS_PER_TURN: Final = 16
"""Requests of one connection that are read before others have their turn."""
_LINGER_BYTES: Final = 16 * 1_048_576
_LINGER_SECONDS: Final = 5.0
_TOLD_AT_ONCE: Final = 1024
"""Connections above `max_connections` that may wait to have read their refusal; further ones are reset unheard."""


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
        "_finely",
        "_head_begun",
        "_in_pieces",
        "_linger_left",
        "_reads_soon",
        "_reprieved",
        "_skipped_line",
        "deadline",
        "exchange",
        "flow",
        "origin",
        "pending",
        "state",
        "tail",
        "transport",
        "turned_away",
        "worker",
    )

    transport: asyncio.Transport
    flow: ClientFlow
    origin: ClientOrigin

    def __init__(self, worker: "Worker") -> None:
        self.worker = worker
        self.state = HEAD
        self.pending = b""
        """Received and not yet read: the beginning of a head, of a body, or of the next request."""
        self.exchange: Exchange | None = None
        self.deadline = inf
        """When, on the loop's clock, the client has been silent or slow for too long."""
        self._linger_left = 0
        self._skipped_line = False
        self._head_begun = False
        self._in_pieces = False
        self._finely = False
        self._reads_soon = False
        self._reprieved = False
        """Its time was over while bytes of it lay with the kernel (`kernel_view.UNREAD_SECONDS`)."""
        self.turned_away = False
        """It is one connection too many, and stays no longer than its refusal takes."""
        self.tail: Tail | None = None
        """What the records of its requests end in."""

    def __repr__(self) -> str:
        """Name state and exchange."""
        return f"<ClientConnection {_NAMES[self.state]} {self.exchange!r}>"

    # --- events of the transport ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # uvloop's transports are not registered as subclasses of asyncio.Transport, so nothing can be asserted here.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        worker = self.worker
        self.origin = ClientOrigin(transport, worker)
        self.flow = ClientFlow(self.transport, worker.ahead_limit, worker.client_body_timeout, worker.client_least_rate)
        worker.connections.add(self)
        self.deadline = worker.clock() + worker.client_idle_timeout
        if len(worker.connections) - worker.turned_away > worker.max_connections:
            self._turn_away()
        elif worker.draining:  # its handshake ended after the drain began
            self.drain()

    def data_received(self, data: bytes) -> None:
        """Read on where the last bytes ended."""
        if len(data) > LARGE_READ_BYTES:
            self._read_in_pieces()
        if self.state == HEAD:
            self.pending = self.pending + data if self.pending else data
            self._read_heads()
            self.flow.bound_ahead(len(self.pending))
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
        self._end_exchange()  # now: what was written for the client may take its time to go out
        if self.state != CLOSED:
            self.state = CLOSED
            self._await_reader()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio.Protocol
        """The client is gone: so is what was done for it."""
        self.state = CLOSED
        self.deadline = inf
        self.pending = b""
        self.worker.left(self)
        self._end_exchange()

    def _end_exchange(self) -> None:
        """Nobody is there to answer."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None and exchange.phase != OVER:
            exchange.client_lost()

    def pause_writing(self) -> None:
        """The client reads slowly: so does the gateway."""
        self.flow.pause_writing(self.worker.clock())
        self.deadline = min(self.deadline, self.flow.reading_due)
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.body_progress()

    def resume_writing(self) -> None:
        """See pause_writing."""
        self.flow.resume_writing()
        if self.state == EXCHANGE:
            self._set_exchange_deadline()
        elif self.state == HEAD:
            self._head_begun = False
            self._await_request(self.worker.clock())
            self._read_heads()
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.go_on_reading()
            self.exchange.body_progress()

    def look_for_end(self) -> None:
        """Notice that the client is gone while it is not read from, of which no event tells."""
        end = kernel_view.OPEN if self.transport.is_closing() else kernel_view.end(self.transport)
        if end == kernel_view.RESET:
            self.transport.abort()
        elif end == kernel_view.ENDED and (self.exchange is None or self.exchange.phase != TUNNEL):
            self.eof_received()  # of a tunnel, what came before is read first
            self.transport.close()

    def on_deadline(self) -> None:
        """The client was silent or slow for too long."""
        now = self.worker.clock()
        if self.state == LINGER:
            self.close()
        elif self.state == CLOSED or self.flow.reading_due <= now:
            self._judge_reader(now)
        elif not (self._reprieved or self.flow.stops) and kernel_view.unread(self.transport):
            self._reprieved = True
            self.deadline = now + kernel_view.UNREAD_SECONDS
        elif self.state == EXCHANGE and self.exchange is not None:
            self.exchange.refuse(answers.BODY_TIMEOUT)
        elif self.pending:
            self._refuse_connection(answers.CLIENT_TIMEOUT)
        else:
            self.close()

    def _judge_reader(self, now: float) -> None:
        """The client has much to read and its time is over; one that reads on, however slowly, has as much again."""
        if not self.flow.reads_on(now):
            if self.exchange is not None:
                self.exchange.abort()
            else:
                self.abort()
        elif self.state == EXCHANGE:
            self._set_exchange_deadline()
        else:
            self.deadline = self.flow.reading_due

    # --- requests ---------------------------------------------------------------------------------------------------

    def _read_heads(self) -> None:
        """Begin exchanges while whole heads are there and none is in progress."""
        worker = self.worker
        left = _HEADS_PER_TURN
        # Not while the client reads slowly: its next answer would only wait in memory.
        while self.pending and self.state == HEAD and not self.flow.writing_paused:
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
                    self._await_head(data)
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
            self._reprieved = False
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
        """Refuse a head for its size."""
        settings = self.worker.settings
        refusal = too_large(data, settings.request_line_limit_bytes, settings.header_section_limit_bytes)
        if refusal is not None:
            self._refuse_connection(refusal)
        return refusal is not None

    def _await_head(self, data: bytes) -> None:
        """The head counts its time from its first byte, whatever dribbles in."""
        if begins_no_request(data):
            self._refuse_connection(answers.NO_REQUEST)
        elif not self._head_begun:
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
            self.flow.bound_ahead(len(self.pending))

    def _read_heads_soon(self) -> None:
        if not self._reads_soon:
            self._reads_soon = True
            self.worker.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        self._reads_soon = False
        self._read_heads()
        if self.state != CLOSED:
            self.flow.bound_ahead(len(self.pending))

    def expect_body(self, *, asked: bool) -> None:
        """The client may send the body of the request in progress, of which some may be here.

        `asked`: its time runs; else it may be waiting for the upstream to ask for it.
        """
        self._read_in_pieces()  # the next one may wait for its key while much of its body comes at once
        self.flow.expect_body(self.worker.clock() if asked else inf)
        self.pump_body()

    def _read_in_pieces(self) -> None:
        if not self._in_pieces:
            self._in_pieces = True
            self.transport.set_protocol(SmallReads(self, LARGE_READ_BYTES))

    def read_finely(self) -> None:
        """Take fewer bytes at once, until the next request."""
        if not self._finely:
            self._finely = self._in_pieces = True
            self.transport.set_protocol(SmallReads(self, FINE_READ_BYTES))

    def pump_body(self) -> None:
        """Hand what has arrived to the exchange; it takes what belongs to its body."""
        exchange = self.exchange
        if exchange is None:
            return
        if self.pending:
            data, self.pending = self.pending, b""
            self.pending = exchange.take_body(data)
            self.flow.body_came(len(data) - len(self.pending), self.worker.now)
        if self.exchange is exchange and exchange.phase != OVER:
            self.flow.bound_ahead(len(self.pending))
            self._set_exchange_deadline()

    def _set_exchange_deadline(self) -> None:
        """A body has to come, and what was written has to be read; else the client may well be silent."""
        flow = self.flow
        due = inf if self.exchange is None or self.exchange.body is None else flow.body_due()
        self.deadline = min(due, flow.reading_due)

    def begin_tunnel(self) -> bytes:
        """From here on bytes pass unread; returns those that came ahead."""
        self._set_exchange_deadline()
        self.transport.set_protocol(SmallReads(self, TUNNEL_READ_BYTES))
        self.flow.read_freely()
        ahead, self.pending = self.pending, b""
        return ahead

    def end_tunnel(self) -> None:
        """The other side is gone; what it sent still goes out."""
        self.exchange = None
        self.close()

    def hold_reading(self) -> None:
        """The upstream takes no more of the body for now."""
        self.flow.hold(self.worker.clock())
        self._set_exchange_deadline()

    def go_on_reading(self) -> None:
        """See hold_reading."""
        self.flow.release(self.worker.clock())
        self._set_exchange_deadline()

    # --- answers ----------------------------------------------------------------------------------------------------

    def exchange_over(self, *, close: bool) -> None:
        """The response is out: on to the next request, or to the end of the connection."""
        self.exchange = None
        if close:
            self._linger()
        else:
            self._next_request()

    def _await_request(self, now: float) -> None:
        """Another one may come for some time; during a drain not for long."""
        worker = self.worker
        self.deadline = now + (worker.drain_idle_seconds if worker.draining else worker.client_idle_timeout)

    def _next_request(self) -> None:
        worker = self.worker
        self.state = HEAD
        flow = self.flow
        if flow.writing_paused:
            self.deadline = flow.reading_due  # it has answers to read, and no more until it has
        else:
            self._await_request(worker.now)
        flow.bound_ahead(len(self.pending))
        if flow.stops:
            flow.release(worker.now)
        if self._finely:
            self._finely = False
            self.transport.set_protocol(SmallReads(self, LARGE_READ_BYTES))
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

    def skip_body(self, head: RequestHead) -> bool:
        """Take a body that nobody wants out of what has arrived; False when it has not arrived whole.

        A client that waits to be asked for it may take the answer for a no, and send another request in its place.
        """
        length = head.body_length
        if length == CHUNKED or length > len(self.pending) or head.expects_continue:
            return False
        self.pending = self.pending[length:]
        return True

    def _refuse_connection(self, refusal: Refusal) -> None:
        """Answer what is no request, and listen no more."""
        request_id_field = self.worker.request_id_field()
        if self.worker.recording is not None:
            self.worker.recording.refused_connection(self.origin.peer, request_id_field, refusal)
        answer = answers.problem(refusal, request_id_field)
        fields = [request_id_field, self.worker.date_field, b"Connection: close"]
        self.transport.write(answers.to_bytes(answer, fields, head_only=False))
        self._linger()

    def _turn_away(self) -> None:
        """It is one connection too many: say so, as long as not too many others are being told."""
        self.turned_away = True
        self.worker.turned_away += 1
        self.worker.overload.connections += 1
        if self.worker.turned_away > _TOLD_AT_ONCE:
            self.abort()
        else:
            self._refuse_connection(answers.TOO_MANY_CONNECTIONS)

    def _linger(self) -> None:
        """Close for writing, and read for a while what the client still sends, so that it gets to read the answer."""
        self.state = LINGER
        self.exchange = None
        self.pending = b""
        self._linger_left = _LINGER_BYTES
        self.deadline = self.worker.clock() + _LINGER_SECONDS
        self.flow.read_freely()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.close()

    def close(self) -> None:
        """Close when what was written is out; a client that does not read it has its time, too."""
        self.state = CLOSED
        self._await_reader()
        self.transport.close()

    def _await_reader(self) -> None:
        self.flow.await_reader(self.worker.clock())
        self.deadline = self.flow.reading_due

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
