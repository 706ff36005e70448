"""A TCP proxy that breaks on command: between the gateway and Redis, or PostgreSQL.

    with FaultProxy(server.port) as link: … link.refuse() … link.heal()

What it can do, at any time: pass; refuse new connections; cut those that are open; swallow (accept, keep open, forward
nothing, which is what a network partition looks like); delay. With `tampering` it reads what Redis sends, RESP2 and
RESP3 alike, and drops, repeats or holds back whole messages of publish/subscribe while all else passes untouched.

Invariant: what it forwards is in order and whole. Bytes that were swallowed are kept, and go on after `heal`, as after
a partition that TCP survives; only `cut` loses them. It runs on a loop of its own in a thread: a test may block.
"""

from __future__ import annotations

import asyncio
import enum
import random
import socket
import struct
import threading
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

_MESSAGE_KINDS: Final = frozenset({b"message", b"pmessage", b"smessage"})
_AT_ONCE: Final = struct.pack("ii", 1, 0)
_LINES: Final = b"+-:,#_("
_BULKS: Final = b"$=!"
_AGGREGATES: Final = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2, ord("|"): 2}


def end_of_value(data: bytes | bytearray, start: int = 0) -> int | None:
    """Where the RESP value that begins at `start` ends, or None where more is to come (RESP2 and RESP3)."""
    wanted, at = 1, start
    while wanted:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        kind = data[at]
        wanted -= 1
        if kind in _AGGREGATES:
            # A null array has the length -1. An attribute comes before the value that it is about, and is not it.
            wanted += max(0, int(data[at + 1 : line])) * _AGGREGATES[kind] + (kind == ord("|"))
            at = line + 2
        elif kind in _BULKS:
            length = int(data[at + 1 : line])
            at = line + 2 if length < 0 else line + 2 + length + 2
        elif kind in _LINES:
            at = line + 2
        else:
            raise ValueError(f"no RESP: {bytes(data[at : at + 40])!r}")
        if at > len(data):
            return None
    return at


def is_message(value: bytes) -> bool:
    """Tell whether a whole value is a message to a subscriber: an array or a push whose first element says so."""
    if value[:1] not in {b"*", b">"}:
        return False
    parts = value.split(b"\r\n", 3)
    return (
        len(parts) == 4
        and parts[1][:1] in {b"$", b"+"}
        and (parts[2] in _MESSAGE_KINDS if parts[1][:1] == b"$" else parts[1][1:] in _MESSAGE_KINDS)
    )


class Tampering:
    """What becomes of messages: shares of them that are dropped, repeated, and held back until after a later one."""

    def __init__(self, *, drop: float = 0, repeat: float = 0, reorder: float = 0, seed: int = 0) -> None:
        self._drop, self._repeat, self._reorder = drop, repeat, reorder
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self.dropped = self.repeated = self.reordered = self.passed = 0

    def __call__(self, value: bytes, held: list[bytes]) -> list[bytes]:
        """What to send now; `held` is what this connection waits to send."""
        now: list[bytes] = []
        if self._random.random() < self._drop:
            self.dropped += 1
        elif self._random.random() < self._reorder:
            self.reordered += 1
            held.append(value)
            return now
        else:
            copies = 1 + (self._random.random() < self._repeat)
            self.repeated += copies - 1
            self.passed += 1
            now += [value] * copies
        now += reversed(held)
        held.clear()
        return now


class Mode(enum.Enum):
    """What becomes of bytes."""

    PASS = "pass"
    SWALLOW = "swallow"


class _End(asyncio.Protocol):
    """One side of a connection. Bytes for the other side wait here where they may not pass."""

    def __init__(self, pair: _Pair, *, is_server: bool) -> None:
        self._pair, self._is_server = pair, is_server
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._pair.made(self, is_server=self._is_server)

    def data_received(self, data: bytes) -> None:
        self._pair.received(data, from_server=self._is_server)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._pair.lost(from_server=self._is_server)


class _Pair:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy
        self.client = _End(self, is_server=False)
        self.server = _End(self, is_server=True)
        self._waiting: dict[bool, list[bytes]] = {True: [], False: []}  # by whether the server sent it
        self._ended: set[bool] = set()
        self._unread = bytearray()
        self._held: list[bytes] = []

    def made(self, end: _End, *, is_server: bool) -> None:
        if not is_server:
            self._proxy.pairs.add(self)
            self._proxy.connect(self)
        else:
            del end
            self.flush()

    def received(self, data: bytes, *, from_server: bool) -> None:
        if from_server and self._proxy.reads_messages:
            data = self._tampered(data)
        if data:
            self._waiting[from_server].append(data)
            self._proxy.later(self.flush)

    def _tampered(self, data: bytes) -> bytes:
        self._unread += data
        out = bytearray()
        start = 0
        while (end := end_of_value(self._unread, start)) is not None and end > start:
            value = bytes(self._unread[start:end])
            start = end
            tamper = self._proxy.tampering
            if not is_message(value):
                out += value
            elif tamper is not None:
                out += b"".join(tamper(value, self._held))
            else:
                out += value + b"".join(self._held)
                self._held.clear()
            if start >= len(self._unread):
                break
        del self._unread[:start]
        return bytes(out)

    def flush(self) -> None:
        """Forward what waits, as far as that is allowed now."""
        if self._proxy.mode is Mode.SWALLOW:
            return
        for from_server, waiting in self._waiting.items():
            to = (self.client if from_server else self.server).transport
            if to is None or to.is_closing():
                continue
            if waiting:
                to.write(b"".join(waiting))
                waiting.clear()
            if from_server in self._ended:
                to.close()

    def release(self) -> None:
        """Send what was held back, and forward again."""
        if self._held:
            self._waiting[True].append(b"".join(self._held))
            self._held.clear()
        self.flush()

    def lost(self, *, from_server: bool) -> None:
        """The other side learns of it after what was sent before, and not while the line swallows everything."""
        self._ended.add(from_server)
        if self._proxy.mode is not Mode.SWALLOW:
            self._proxy.later(self.flush)
        if len(self._ended) == 2 or (not from_server and self.server.transport is None):
            self._proxy.pairs.discard(self)

    def abort(self) -> None:
        """As a reset does."""
        self._proxy.pairs.discard(self)
        for end in (self.client, self.server):
            if end.transport is not None and not end.transport.is_closing():
                # Without this, an end that had read everything would say a polite farewell.
                end.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                end.transport.abort()


class FaultProxy:
    """Listens on `port` until it is closed, whatever it does to those who come."""

    def __init__(self, target_port: int, *, tampering: bool = False) -> None:
        """`tampering`: read what the server sends as RESP from its first byte on, which costs something."""
        self.reads_messages = tampering
        self.pairs: set[_Pair] = set()
        self.mode = Mode.PASS
        self.tampering: Tampering | None = None
        self._delay = 0.0
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self._listen)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What a test calls.

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self.pairs)

    def heal(self, target_port: int | None = None) -> None:
        """Pass everything again; to another server from now on, where one is named."""

        async def work() -> None:
            self._target_port = target_port or self._target_port
            self.mode, self.tampering, self._delay = Mode.PASS, None, 0.0
            await self._listen()
            for pair in list(self.pairs):
                pair.release()

        self._do(work)

    def refuse(self) -> None:
        """Nobody listens any more, as after a crash; connections that are open stay (see `cut`)."""
        self._do(self._close_listener)

    def cut(self) -> None:
        """Reset every open connection."""

        async def work() -> None:
            for pair in list(self.pairs):
                pair.abort()

        self._do(work)

    def swallow(self) -> None:
        """Accept and keep everything, forward nothing."""

        async def work() -> None:
            self.mode = Mode.SWALLOW

        self._do(work)

    def delay(self, seconds: float) -> None:
        """Let all bytes, in both directions, wait that long."""

        async def work() -> None:
            self._delay = seconds

        self._do(work)

    def tamper(self, tampering: Tampering | None) -> None:
        """Change what becomes of messages from now on."""
        assert self.reads_messages, "made without tampering=True"

        async def work() -> None:
            self.tampering = tampering

        self._do(work)

    def close(self) -> None:
        """End everything."""
        if not self._thread.is_alive():
            return
        self._do(self._close_listener)
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # What its own loop runs.

    def connect(self, pair: _Pair) -> None:
        """Open the other half of a pair."""
        self._connecting.add(task := self._loop.create_task(self._open(pair)))
        task.add_done_callback(self._connecting.discard)

    def later(self, work: Callable[[], None]) -> None:
        """Now, or after the delay: the loop keeps the order of equal delays."""
        if self._delay:
            self._loop.call_later(self._delay, work)
        else:
            work()

    async def _open(self, pair: _Pair) -> None:
        try:
            await self._loop.create_connection(lambda: pair.server, "127.0.0.1", self._target_port)
        except OSError:
            pair.abort()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await self._loop.create_server(
                lambda: _Pair(self).client, "127.0.0.1", self.port, reuse_address=True, backlog=256
            )
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close_listener(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _do(self, work: Callable[[], Coroutine[object, object, None]]) -> None:
        asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)
