"""One request and its response: the phases of a request's life, in the order in which they happen.

    admit (`gateway.proxy.admission`) → lease → send → relay → finish

Invariants:
- `phase` changes in `_move` alone, as `gateway.proxy.phases` allows; an illegal move raises.
- No request head is written without testing, right before, that the key it was admitted with still counts (`_send`).
- A response head goes out at most once; after it, an error is visible as an abort, never as a second answer.
- The last bytes of a response go out only when it is on record (`gateway.proxy.recording`), or they do not go out.
- `_over` runs exactly once, whatever ends the exchange; there the upstream connection and all counts are given back.

A hit in the key cache and an idle upstream connection make the whole way synchronous; a task exists only for what
really waits. Turned down: a coroutine per request, which costs more than the work (see `docs/decisions.md`).
"""

import asyncio
from math import inf
from typing import TYPE_CHECKING, Final

from gateway.policies.refusal import Refusal
from gateway.proxy import answers, kernel_view
from gateway.proxy.admission import Admission
from gateway.proxy.body import LAST_CHUNK, BodyReader, ChunkedBody, LengthBody, MalformedBody, Piece, chunk
from gateway.proxy.client_response import client_head, interim_head, switching_head
from gateway.proxy.keepalive_probes import probe_when_silent
from gateway.proxy.phases import ADMIT, LEASE, NAMES, OVER, RELAY, SENT, TUNNEL, may_follow
from gateway.proxy.recording import ABORTED, ANSWERED, OPEN, REFUSED
from gateway.proxy.request_head import CHUNKED, RequestHead
from gateway.proxy.response_head import ResponseHead
from gateway.proxy.upstream_pool import Target, UpstreamUnreachable
from gateway.proxy.upstream_request import upstream_head

if TYPE_CHECKING:
    from gateway.proxy.client_connection import ClientConnection
    from gateway.proxy.upstream_connection import UpstreamConnection

_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
"""RFC 9110 section 9.2.2; TRACE never gets this far."""
_JOIN_LIMIT_BYTES: Final = 65_536
"""Up to here head and body are copied together into one write; a longer body is handed on as it is."""
_CONTINUE: Final = 100
_KEEPING: Final = frozenset({401, 403, 404, 405, 500, 502, 503, 504})
"""Answers after which the connection goes on; the others say that the client and we may not mean the same bytes."""


class Exchange(Admission):
    """See the module."""

    __slots__ = (
        "_asked",
        "_body_taken",
        "_chunks",
        "_close",
        "_recorded",
        "_reusable",
        "_saw_interim",
        "_streams",
        "_tried",
        "at",
        "begun",
        "body",
        "bytes_in",
        "bytes_out",
        "halves_closed",
        "opened",
        "request_id_field",
        "status",
        "upstream",
    )

    def __init__(self, client: "ClientConnection", head: RequestHead, now: float) -> None:
        super().__init__(client, head, now)
        self.upstream: UpstreamConnection | None = None
        self.body: BodyReader | None = None
        """Reads what the client still sends of the request's body; None when there is none, or no more."""
        self._tried: set[Target] | None = None
        self.request_id_field = client.origin.request_id_field(head)
        """`X-Request-ID: …`, the same for both sides."""
        recording = client.worker.recording
        self.begun = 0.0 if recording is None else recording.clock()
        self.at = 0
        """The moment of that in its record: microseconds since 1970, 0 as long as there is none."""
        self.bytes_in = 0
        """Of the request's body, that were sent on."""
        self.bytes_out = 0
        """Of the response's body, that were sent to the client; of a tunnel, everything."""
        self.status = 0
        """Of the response that has begun."""
        self.opened = 0
        """The position of the record of its beginning, if it lasts."""
        self._recorded = False
        self._asked = not head.expects_continue
        """Whether the upstream waits for the client's body; as long as it has not asked, the client waits for it."""
        self._body_taken = False
        """Whether a part of the request's body is no longer with the client connection."""
        self._saw_interim = False
        self._chunks = False
        """Whether the response goes out chunked."""
        self._close = True
        self._reusable = False
        self._streams = False
        self.halves_closed = 0
        """Sides of a tunnel that send no more."""

    def __repr__(self) -> str:
        """Name phase and request."""
        return f"<Exchange {NAMES[self.phase]} {self.head!r} upstream={self.upstream!r}>"

    def _move(self, phase: int) -> None:
        if not may_follow(self.phase, phase):
            message = f"{self!r} cannot move to {NAMES[phase]}"
            raise RuntimeError(message)
        self.phase = phase

    # --- lease ------------------------------------------------------------------------------------------------------

    def admitted(self) -> None:
        """Make ready the reader of the request's body, and find a connection."""
        length = self.head.body_length
        if length:
            self.body = ChunkedBody() if length == CHUNKED else LengthBody(length)
        self._move(LEASE)
        target = self.route.pool.pick(self._tried)
        connection = target.lease() if target is not None else None
        if connection is not None:
            self._send(connection)
        else:
            self.wait(self._connect(target))

    async def _connect(self, target: Target | None) -> None:
        """Open a connection, to another target where one cannot be reached: nothing was sent, so any may answer."""
        while target is not None:
            try:
                connection = await target.connect()
            except UpstreamUnreachable as error:
                target.complain(str(error), self._whose(answers.BAD_GATEWAY))
                self._tried = (self._tried or set()) | {target}
                target = self.route.pool.pick(self._tried)
            else:
                self._send_after_waiting(connection)
                return
        self.refuse(answers.BAD_GATEWAY)

    # --- send -------------------------------------------------------------------------------------------------------

    def _send_after_waiting(self, connection: "UpstreamConnection") -> None:
        """The same, unless the proof that the key still counts has run out meanwhile.

        A process that was stopped while it waited has heard of no change, and whoever makes one waits for it no more.
        """
        worker = self.client.worker
        worker.now = worker.clock()
        if self.entry is not None and worker.cache.proven_until <= worker.now:
            connection.lend(self)
            self._judge_again(connection)
        else:
            self._send(connection)

    def _judge_again(self, connection: "UpstreamConnection") -> None:
        """Nothing has been sent: begin anew, as if the request had come now."""
        connection.release(self.client.worker.now)
        self.entry = None
        self.now = self.client.worker.clock()
        self._move(ADMIT)
        self.admit(0)

    def _send(self, connection: "UpstreamConnection") -> None:
        """Write the request's head, and what has arrived of its body, unless the key died meanwhile."""
        connection.lend(self)
        entry = self.entry
        if entry is not None and (entry.dead or entry.active_until <= self.client.worker.now):
            self._judge_again(connection)
            return
        head, client = self.head, self.client
        self.upstream = connection
        self._move(SENT)
        request = upstream_head(self, connection.target.host_field)
        if self.body is None:
            connection.transport.write(request)
        elif 0 < head.body_length == len(client.pending) <= _JOIN_LIMIT_BYTES:
            # The whole body came with the head: one write, as it was one read.
            connection.transport.write(request + client.pending)
            client.pending = b""
            self.body = None
            self._body_taken = True
            self.bytes_in = head.body_length
        else:
            connection.transport.write(request)
            self._stream()
            client.expect_body(asked=self._asked)
        self.request_progress()

    def request_progress(self) -> None:
        """The upstream's time for its head runs once it has the whole request, or while it takes no more of it.

        In a tunnel it runs while it takes no more of what the client sends, and once one half is closed, but for a
        client that reads slowly, whose own time runs.
        """
        upstream = self.upstream
        if upstream is None:
            return
        if self.phase == TUNNEL:
            bounded = upstream.writing_paused or (self.halves_closed > 0 and not self.client.flow.writing_paused)
            upstream.deadline = self.client.worker.clock() + self.route.body_timeout if bounded else inf
        elif self.phase == SENT:
            waits_for_client = self.body is not None and self._asked and not upstream.writing_paused
            upstream.deadline = inf if waits_for_client else self.client.worker.now + self.route.head_timeout

    def take_body(self, data: bytes) -> bytes:
        """Pass on what has arrived of the request's body; returns what is left over of the next request."""
        body, upstream = self.body, self.upstream
        if body is None or upstream is None:  # called by the client connection only while both are there
            return data
        try:
            pieces, used = body.feed(data)
        except MalformedBody:
            self.refuse(answers.MALFORMED_BODY)
            return b""
        if body.fine_grained:
            self.client.read_finely()
        self._body_taken = self._asked = True
        self.bytes_in += sum(map(len, pieces))
        if self.bytes_in > self.route.max_body:
            self.refuse(answers.BODY_TOO_LARGE)
            return b""
        if self.head.body_length == CHUNKED:
            pieces = self._framed(pieces, whole=body.done)
        if pieces:
            upstream.transport.writelines(pieces)
        if body.done:
            self.body = None
        self.client.worker.now = self.client.worker.clock()
        self.request_progress()
        return data[used:]

    # --- relay ------------------------------------------------------------------------------------------------------

    def relay_interim(self, response: ResponseHead) -> None:
        """A 1xx response goes on to a client that can have asked for it (RFC 9110 section 15.2)."""
        self._saw_interim = True
        wanted = self.head.expects_continue or response.status != _CONTINUE
        if self.head.minor and wanted:
            self.client.transport.write(interim_head(response, self))
            if response.status == _CONTINUE and not self._asked:  # one more asks for nothing, and gives no time
                self._asked = True
                self.client.expect_body(asked=True)
                self.request_progress()

    def relay_head(self, response: ResponseHead, body: bytes, *, whole: bool) -> None:
        """The final response has begun, with these first bytes of its payload; `whole`: they are all of it."""
        self._move(RELAY)
        client, head = self.client, self.head
        self._reusable = response.keep_alive
        self.status = response.status
        self.bytes_out = len(body)
        unbounded = response.length < 0
        self._chunks = unbounded and head.minor == 1
        # A response that overtakes the request's body: what follows on the connection would not be a request.
        self._close = (
            not head.keep_alive or self.body is not None or client.ends_here() or (unbounded and not self._chunks)
        )
        lines = client_head(response, head, self, client.worker.date_field, chunks=self._chunks, close=self._close)
        if whole and not self._record(ANSWERED):
            self.abort()
            return
        if self._chunks:
            client.transport.writelines([b"\r\n".join(lines), *self._framed([body] if body else [], whole=whole)])
        elif len(body) <= _JOIN_LIMIT_BYTES:
            lines[-1] = body
            client.transport.write(b"\r\n".join(lines))
        else:
            client.transport.writelines([b"\r\n".join(lines), body])
        if whole:
            self._finish()
        elif self.phase == RELAY:
            self._stream()
            self.body_progress()

    def relay_body(self, pieces: list[Piece], *, whole: bool) -> None:
        """More of the response's body."""
        for piece in pieces:
            self.bytes_out += len(piece)
        if whole and not self._record(ANSWERED):
            self.abort()
            return
        if self._chunks:
            pieces = self._framed(pieces, whole=whole)
        if pieces:
            self.client.transport.writelines(pieces)
        if whole:
            self._finish()
        else:
            self.body_progress()

    def relay_end(self) -> None:
        """The upstream closed the connection, which ends this body properly."""
        if not self._record(ANSWERED):
            self.abort()
            return
        if self._chunks:
            self.client.transport.write(LAST_CHUNK)
        self._finish()

    def _framed(self, pieces: list[Piece], *, whole: bool) -> list[Piece]:
        framed = chunk(pieces)
        if whole:
            framed.append(LAST_CHUNK)
        return framed

    def body_progress(self) -> None:
        """Bytes came, or may come again: silence counts from now; none while the client is the slow one."""
        upstream = self.upstream
        if upstream is None:
            return
        if self.client.flow.writing_paused:
            upstream.hold_reading()
        if self.phase == RELAY:
            slow_client = self.client.flow.writing_paused
            upstream.deadline = inf if slow_client else self.client.worker.clock() + self.route.body_timeout
        else:
            self._tunnel_progress()

    # --- tunnel -----------------------------------------------------------------------------------------------------

    def begin_tunnel(self, response: ResponseHead, data: bytes) -> None:
        """The upstream agreed to the WebSocket (RFC 6455 section 4.2.2): from here on bytes pass unread."""
        upstream = self.upstream
        assert upstream is not None  # noqa: S101  it is the caller
        self._move(TUNNEL)
        self.status = response.status
        if not self.record_beginning():
            self.abort()
            return
        upstream.deadline = inf
        upstream.target.answered()
        self.bytes_out = len(data)
        self._stream()
        probe_when_silent(self.client.transport)
        probe_when_silent(upstream.transport)
        self.client.transport.write(switching_head(response, self) + data)
        ahead = self.client.begin_tunnel()
        if ahead:
            self.tunnel_to_upstream(ahead)

    def tunnel_to_client(self, data: bytes) -> None:
        """Bytes from the upstream."""
        self.bytes_out += len(data)
        self.client.transport.write(data)
        self._tunnel_progress()

    def tunnel_to_upstream(self, data: bytes) -> None:
        """Bytes from the client."""
        if self.upstream is not None:
            self.bytes_in += len(data)
            self.upstream.transport.write(data)
            self._tunnel_progress()

    def _tunnel_progress(self) -> None:
        """Once one half is closed, silence counts from now."""
        if self.halves_closed:
            self.request_progress()

    def upstream_half_closed(self) -> None:
        """The upstream sends no more: tell the client; when both are silent, it is over."""
        self._half_closed(self.client.transport)

    def client_half_closed(self) -> None:
        """The client sends no more."""
        if self.upstream is not None:
            self._half_closed(self.upstream.transport)

    def _half_closed(self, other: asyncio.Transport) -> None:
        self.halves_closed += 1
        if other.can_write_eof() and self.halves_closed == 1:
            other.write_eof()
            self._tunnel_progress()
        else:
            self._end_tunnel()

    def look_for_reset(self) -> None:
        """Notice that a side is gone of which no event tells, since its end has been read already.

        A peer that has closed its connection, and not a half of it, says so by a reset when it gets more to read.
        """
        upstream = self.upstream
        if upstream is not None:
            for transport in (self.client.transport, upstream.transport):
                if not transport.is_closing() and kernel_view.end(transport) == kernel_view.RESET:
                    transport.abort()

    def _end_tunnel(self) -> None:
        if self.upstream is not None:
            self.upstream.close_when_flushed()
            self.upstream = None
        self._record(ANSWERED)
        self._over()
        self.client.end_tunnel()

    # --- finish -----------------------------------------------------------------------------------------------------

    def _stream(self) -> None:
        """From here on it lasts: a change of its key has to find it."""
        self._streams = True
        self.client.worker.streaming.add(self)

    def _finish(self) -> None:
        """The response went out whole."""
        upstream = self.upstream
        assert upstream is not None  # noqa: S101  a response came on it
        upstream.target.answered()
        if self._reusable and self.body is None and not upstream.writing_paused:
            upstream.release(self.client.worker.now)
        else:
            upstream.discard()
        self.upstream = None
        self._over()
        self.client.exchange_over(close=self._close)

    def refuse(self, refusal: Refusal) -> None:
        """Answer instead of the upstream; where its head is out already, abort."""
        self.code = refusal.code.encode()
        if self.phase in {RELAY, TUNNEL}:
            self.abort()
            return
        self.answer(answers.problem(refusal, self.request_id_field), keeps=refusal.status in _KEEPING)

    def answer(self, answer: answers.OwnAnswer, *, keeps: bool = True) -> None:
        """Answer in the gateway's own name. `keeps`: the connection may serve another request."""
        self.status = answer.status
        if answer.body is not None and self.head.method != b"HEAD":
            self.bytes_out = len(answer.body)
        if not self._record(REFUSED if self.code else ANSWERED):
            self.abort()
            return
        self._give_up_upstream()
        self._over()
        length = self.head.body_length
        untouched = length != 0 and not self._body_taken
        ended = self.client.skip_body(self.head) if untouched else self.body is None
        fields = [self.request_id_field]
        if self.cors is not None:
            fields += self.cors.answer_fields(self.origin)  # so that a page can read why, and no other is given it
        self.client.answer(answer, self.head, fields, keeps=keeps and ended)

    def abort(self) -> None:
        """End it so that the client sees it was cut off."""
        self._give_up_upstream()
        self._over()
        self.client.abort()

    def client_lost(self) -> None:
        """Nobody is there to answer."""
        upstream = self.upstream
        if self.phase == TUNNEL and upstream is not None:
            if self.halves_closed or not upstream.writing_paused:
                upstream.close_when_flushed()
                self.upstream = None  # else it was reset, before an upstream that takes nothing: that may last for ever
            self._record(ANSWERED)  # a tunnel has no other end than that one of the two goes
        elif self.phase == RELAY and upstream is not None:
            upstream.target.answered()  # as far as the client wanted to know
        self._give_up_upstream()
        self._over()

    def _give_up_upstream(self) -> None:
        if self.upstream is not None:
            self.upstream.discard()
            self.upstream = None

    def _over(self) -> None:
        """The one end of every exchange."""
        if not self._recorded:
            self._record(ABORTED)
        self._move(OVER)
        worker = self.client.worker
        worker.in_flight -= 1
        if self._streams:
            worker.streaming.discard(self)
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    # --- on record --------------------------------------------------------------------------------------------------

    def _record(self, outcome: int) -> bool:
        """Put the end on record, before the client can see it; False: there is no room, and it must not be told."""
        self._recorded = True
        recording = self.client.worker.recording
        return recording is None or recording.write(self, outcome) >= 0

    def record_beginning(self) -> bool:
        """Put on record that it lasts; False: there is no room."""
        recording = self.client.worker.recording
        if recording is None:
            return True
        if self.opened:  # a tunnel whose upstream took its time
            return True
        position = recording.write(self, OPEN)
        self.opened = max(position, 0)
        return position >= 0

    def lasts_unrecorded(self, begun_before: float) -> bool:
        """Whether it should have its beginning on record by now, and has not."""
        return self.begun < begun_before and self.passed and not self.opened and not self._recorded

    # --- what goes wrong at the upstream ----------------------------------------------------------------------------

    def upstream_lost(self, *, reused: bool, answered: bool) -> None:
        """The connection ended before the response did. `answered`: a byte of the response had come."""
        upstream = self.upstream
        assert upstream is not None  # noqa: S101  it is the caller
        if self.phase == TUNNEL:
            self._end_tunnel()
            return
        untouched = self.head.body_length == 0 and not answered and not self._saw_interim
        if self.phase == SENT and reused and untouched and self.head.method in _IDEMPOTENT:
            # The peer closed an idle connection while the request was on its way: the one safe retry, on a fresh one.
            self.upstream = None
            self._move(LEASE)
            self.wait(self._connect(upstream.target))
            return
        self._fail(answers.BAD_GATEWAY, "closed the connection before the response was whole")

    def upstream_broke(self, reason: str) -> None:
        """What came is no response."""
        self._fail(answers.INVALID_RESPONSE, reason)

    def upstream_timed_out(self) -> None:
        """Silence for longer than the settings allow; where one half of a tunnel is closed, that is the other's end."""
        upstream = self.upstream
        if self.halves_closed and upstream is not None and not upstream.writing_paused:
            self._end_tunnel()
            return
        setting = "head_timeout_seconds" if self.phase == SENT else "body_timeout_seconds"
        # While the client waits to be asked for the body, and the upstream need not ask, neither has failed.
        asked = self.body is None or self._asked
        self._fail(answers.UPSTREAM_TIMEOUT, f"was silent for longer than {setting} allows", failed=asked)

    def _fail(self, refusal: Refusal, reason: str, *, failed: bool = True) -> None:
        upstream = self.upstream
        if upstream is not None:
            if failed:
                upstream.target.failed()
            upstream.target.complain(reason, self._whose(refusal))
        self.refuse(refusal)

    def _whose(self, refusal: Refusal) -> str:
        return f"{refusal.code}, request {self.request_id_field[14:].decode()}"
