"""An upstream that does what a test says, byte by byte, on real sockets: it answers wrongly, twice, too early or never.

It speaks on the loop that the gateway runs on (`tests.wire.live`), so each piece that it says is a read of the
gateway's own, and a test knows when the gateway has dealt with it. Invariant: nothing is said that the test did not
say, not even the end of a connection. Turned down: asyncio's transports for this side, since they can neither keep half
a connection open nor reset it at a moment of one's choice.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import select
import socket
import struct
import termios
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from tests.proxy.harness import OTHER_SECRET, SECRET
from tests.proxy.wire_reader import Incomplete, Message, NotHttp, read_request
from tests.wire.live import live, wants

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from gateway.proxy.upstream_connection import UpstreamConnection
    from tests.wire.live import Live
    from tests.wire.live_clients import Client

_BLOCK: Final = 1 << 16
_TURNS: Final = 3000
_PATIENT_TURNS: Final = 40
"""Turns of the loop that cost no time; whoever waits longer waits for a clock, and lets it run."""
_ARRIVES_MILLISECONDS: Final = 5000
"""Bound of a wait for the kernel alone; it matters when a test is wrong."""
_NO_LINGER: Final = struct.pack("ii", 1, 0)
FIRST: Final = b"X-API-KEY: " + SECRET + b"\r\n"
SECOND: Final = b"X-API-KEY: " + OTHER_SECRET + b"\r\n"
MARK: Final = b"POISON"
"""Stands in everything that a hostile upstream says and no client may ever see, and in no good answer."""


def arrived(connection: socket.socket) -> None:
    """Wait until the peer's kernel has everything: on a busy machine that takes a while, on the loopback too."""
    while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0\0\0\0"))[0]:
        time.sleep(0)


def send_unread(connection: socket.socket, data: bytes) -> None:
    """Send without giving the gateway its turn; returns when its kernel has it."""
    assert connection.send(data) == len(data)
    arrived(connection)


class Line:
    """One connection that the gateway opened, in the hands of the test."""

    def __init__(self, upstream: HostileUpstream, connection: socket.socket) -> None:
        self._upstream = upstream
        self.socket = connection
        self.received = b""
        self.requests: list[Message] = []
        self.ended = False
        """The gateway has closed or reset it."""
        self._unread = b""
        self._port = connection.getpeername()[1]
        self._other: UpstreamConnection | None = None

    def take(self) -> bool:
        """Read what is here; whether there was something."""
        taken = False
        while not self.ended:
            try:
                data = self.socket.recv(_BLOCK)
            except BlockingIOError:
                break
            except OSError:  # reset, or closed by the test itself
                data = b""
            taken = True
            self.ended = not data
            self.received += data
            self._unread += data
        while self._unread:
            try:
                request, self._unread = read_request(self._unread)
            except (Incomplete, NotHttp):
                break
            self.requests.append(request)
        return taken

    async def say(self, *pieces: bytes) -> None:
        """Say this, each piece in a read of the gateway's own; it may have closed meanwhile."""
        for piece in filter(None, pieces):
            try:
                rest = memoryview(piece)
                while rest:
                    try:
                        rest = rest[self.socket.send(rest) :]
                    except BlockingIOError:
                        await asyncio.sleep(0)
            except OSError:
                return
            await self._noticed()

    async def _noticed(self) -> None:
        """Wait until what was done has come to the gateway, then let it act."""
        other = self._other = self._other or self._upstream.other_end(self._port)
        if other is not None and not other.closing and other.transport.is_reading():
            raw = other.transport.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                poller = select.poll()
                poller.register(raw.fileno(), select.POLLIN)
                poller.poll(_ARRIVES_MILLISECONDS)
        await self._upstream.read_by_gateway()

    def say_unread(self, data: bytes) -> None:
        """Say this without giving the gateway its turn: the kernel holds it when this returns."""
        send_unread(self.socket, data)

    def end_unread(self) -> None:
        """Say that nothing more comes, in the same way."""
        self.socket.shutdown(socket.SHUT_WR)
        arrived(self.socket)

    async def end(self) -> None:
        """Say that nothing more comes, and go on listening."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        await self._noticed()

    async def reset(self) -> None:
        """Be gone at once."""
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.socket.close()
        self.ended = True
        await self._noticed()

    def close(self) -> None:
        self.ended = True
        self.socket.close()


class HostileUpstream:
    """See the module; made by `hostile`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener.settimeout(0)
        self.port: int = self._listener.getsockname()[1]
        self.lines: list[Line] = []
        """Connections that neither side has closed, as far as is known."""
        self.gate: Live

    def look(self) -> bool:
        """Accept and read what is here; whether there was something."""
        happened = False
        with suppress(BlockingIOError):
            while True:
                accepted, _ = self._listener.accept()
                accepted.settimeout(0)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.lines.append(Line(self, accepted))
                happened = True
        for line in self.lines:
            happened = line.take() or happened
        return happened

    async def request(self, target: bytes) -> Line:
        """Wait for a whole request for `target`; returns the connection on which it came."""

        def found() -> Line | None:
            return next((each for each in self.lines if each.requests and each.requests[-1].target == target), None)

        return await self._until(found, f"request for {target!r}")

    async def connection(self) -> Line:
        """Wait until the gateway has opened another connection, whatever it says there."""
        known = len(self.lines)
        return await self._until(lambda: self.lines[-1] if len(self.lines) > known else None, "connection")

    async def _until(self, found: Callable[[], Line | None], what: str) -> Line:
        for turn in range(_TURNS):
            self.look()
            line = found()
            if line is not None:
                return line
            await asyncio.sleep(0 if turn < _PATIENT_TURNS else 0.01)
        message = f"no {what}"
        raise AssertionError(message)

    def other_end(self, port: int) -> UpstreamConnection | None:
        """The gateway's end of a connection; None while it is being opened."""
        for each in self.gate.target.connections:
            if each.transport.get_extra_info("sockname")[1] == port:
                return each
        return None

    async def read_by_gateway(self) -> None:
        """Let the gateway read what it is willing to read, and say what it has to say to that."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
            if not any(wants(each.transport) for each in self.gate.target.connections):
                break
        await asyncio.sleep(0)

    def forget(self) -> None:
        """Let go of every connection."""
        for line in self.lines:
            line.close()
        self.lines.clear()

    def close(self) -> None:
        self.forget()
        self._listener.close()


@asynccontextmanager
async def hostile(
    *,
    upstream: dict[str, Any] | None = None,
    **tables: Any,  # noqa: ANN401  tables of the settings, as `live` has them
) -> AsyncIterator[tuple[Live, HostileUpstream]]:
    """Run a gateway in front of a hostile upstream; two clients have keys: FIRST and SECOND."""
    behind = HostileUpstream()
    settings = {"targets": [f"http://127.0.0.1:{behind.port}"], "ejection_failures": 0, **(upstream or {})}
    try:
        async with live(upstream=settings, **tables) as gate:
            gate.keys.put(OTHER_SECRET, key_id="key_2", owner_id="mem_2", owner_name="ben@example.com")
            behind.gate = gate
            yield gate, behind
    finally:
        behind.close()


async def outcome(gate: Live, client: Client) -> None:
    """Wait until the client has heard something to the end, or until everybody waits for a clock."""
    for turn in range(_TURNS):
        await gate.settled()
        if client.over() or _has_final(client):
            return
        if turn >= _PATIENT_TURNS:
            await asyncio.sleep(0.01)
    message = f"the client hears nothing: {client.received!r}"
    raise AssertionError(message)


def _has_final(client: Client) -> bool:
    """Whether a final answer has come whole; NotHttp is the judge's to say."""
    try:
        answers = client.answers
    except Incomplete:
        return False
    except NotHttp:
        return True
    return bool(answers) and answers[-1].whole and (answers[-1].status >= 200 or answers[-1].status == 101)


def request(
    target: bytes, *, method: bytes = b"GET", key: bytes = FIRST, fields: bytes = b"", body: bytes = b""
) -> bytes:
    """The bytes of a request."""
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return method + b" " + target + b" HTTP/1.1\r\nHost: api.test\r\n" + key + fields + length + b"\r\n" + body


async def begin(gate: Live, data: bytes, *, upstream: HostileUpstream) -> tuple[Client, Line]:
    """Send a request that the upstream gets to see whole."""
    client = await gate.client()
    client.methods = [data.partition(b" ")[0]]
    client.socket.send(data)
    return client, await upstream.request(data.split(b" ", 2)[1])


def code_of(answer: Message) -> tuple[int, str]:
    """Status and code of an answer of the gateway's own; one to HEAD says its status alone."""
    if not answer.body:
        return answer.status, ""
    assert answer.one("content-type") == "application/problem+json", answer
    return answer.status, json.loads(answer.body)["code"]


async def check_next_client(gate: Live, upstream: HostileUpstream, before: Line, *, fresh: bool = True) -> None:
    """A second client, with a key of its own, gets its own answer, and not a byte of what came `before`.

    `fresh`: the connection of before is of no more use, so that answer comes on a new one.
    """
    used = len(before.requests)
    client, line = await begin(gate, request(b"/second", key=SECOND), upstream=upstream)
    assert line.requests[-1].one("x-credential-identifier") == "key_2"
    if fresh:
        assert line is not before, "a connection that is of no more use was used again"
        assert len(line.requests) == 1
        assert len(before.requests) == used
        assert before.ended, "a connection that is of no more use stays open"
    own = b"of the second client"
    await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(own) + own)
    await outcome(gate, client)
    assert MARK not in client.received
    assert [(each.status, each.body) for each in client.answers] == [(200, own)]
    line.close()
    client.close()
    gate.clients.remove(client)
