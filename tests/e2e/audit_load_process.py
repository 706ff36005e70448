"""The clients of the gateways whose records are judged, as a process of its own: they remember what came whole.

    python audit_load_process.py    then JSON objects, a line each; every command is answered with one line

The first line is the site: {"proxies": [[host, port], …], "keys": [[secret, id], …], "rate": 2000, "lines": 52,
"streams": 8, "tunnels": 4, "me": "/me", "seed": 1, "padding": 0}. Then {"command": …}:

    "go"        ask, until told otherwise
    "move"      {"proxies"}: the gateways are somewhere else from now on
    "seen"      how often each status came since the last rest
    "rest"      {"file"}: ask nothing more, wait for what is under way, write down all that was received whole since the
                last rest, one JSON array a line (`Whole` in audit_load.py), and tell how much it was
    "stop"      end

Invariant: a response is *whole* when its last byte has come by its own framing, and only then is it written down; a
tunnel, when its 101 has come. `sent` is taken before the first byte of the request is handed to the system, by the wall
clock of the machine that the gateways share. What broke off is counted, and nothing is claimed about it.

Most connections ask at the rate, in turn, each with one request at a time: with and without bodies and lengths, for the
gateway's own answer, with keys that are no good. Streams and tunnels have connections of their own, and last from a
moment to some seconds.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import contextlib
import json
import random
import time
from pathlib import Path
from typing import Any, Final, cast

from tests.e2e import mixed_answer
from tests.e2e.parent import follow, heard, tell

_TICK_SECONDS: Final = 0.002
_RECONNECT_SECONDS: Final = 0.02
_END_SECONDS: Final = 15.0
_BODY: Final = b"x" * 4096
_KINDS: Final = {
    7: ("HEAD", "/l/"),
    13: ("GET", "/n/"),
    29: ("GET", "/e/"),
    **dict.fromkeys((5, 21, 37, 53), ("GET", "/c/")),
}
"""What is asked for in some of 64 turns."""
_WITHOUT_A_GOOD_KEY: Final = frozenset({15, 47})


def now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


class Ask:
    """One request: what it says, and what is known of it until its answer has come."""

    __slots__ = ("bytes_in", "key_id", "method", "path", "sent", "token", "wire")

    def __init__(self, wire: bytes, method: str, path: str, token: bytes, key_id: str, bytes_in: int = 0) -> None:
        self.wire, self.method, self.path, self.token = wire, method, path, token
        self.key_id, self.bytes_in = key_id, bytes_in
        self.sent = 0


class Answer(mixed_answer.Answer):
    """A response as it comes, with what the record has of it."""

    __slots__ = ()

    @property
    def request_id(self) -> str:
        return self.fields.get(b"x-request-id", b"").decode()

    @property
    def code(self) -> str:
        """That of a problem document."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(self.body)["code"])
        return ""


class Book:
    """What was received whole since the last rest, and how much was not."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.whole: list[list[object]] = []
        self.statuses: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []

    def enter(self, ask: Ask, answer: Answer, kind: str) -> None:
        code = answer.code if answer.status >= 400 else ""
        self.statuses[f"{answer.status} {code}".rstrip()] += 1
        own = not code and ask.token and ask.method != "HEAD" and kind == "line"
        if own and answer.body != ask.token:
            self.wrong.append(f"{answer.body[:60]!r} for {ask.token!r}")
        entry = [answer.request_id, kind, ask.method, ask.path, answer.status, code, ask.key_id]
        self.whole.append([*entry, ask.sent, time.monotonic(), ask.bytes_in, len(answer.body)])

    def cut(self) -> None:
        self.statuses["0 cut"] += 1

    def told(self) -> dict[str, object]:
        return {
            "seconds": time.monotonic() - self.began,
            "whole": len(self.whole),
            "statuses": dict(self.statuses),
            "wrong": self.wrong[:5],
        }


class Line(asyncio.Protocol):
    """One of the connections that ask at the rate. It opens itself again whenever it is closed."""

    __slots__ = ("_answer", "_ask", "_load", "_transport")

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._ask: Ask | None = None
        self._answer: Answer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # of uvloop, which does not say so
        self._load.idle.append(self)

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing() and self._ask is None

    @property
    def waits(self) -> bool:
        return self._ask is not None

    def send(self, ask: Ask) -> None:
        self._ask, self._answer = ask, Answer(head_only=ask.method == "HEAD")
        assert self._transport is not None
        ask.sent = now()
        self._transport.write(ask.wire)

    def data_received(self, data: bytes) -> None:
        if self._ask is None or self._answer is None:
            return  # a farewell, such as a 408; the connection ends
        if not self._answer.take(data):
            return
        self._load.book.enter(self._ask, self._answer, "line")
        closes = self._answer.closes
        self._ask = self._answer = None
        if closes and self._transport is not None:
            self._transport.close()
        else:
            self._load.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._ask is not None:
            self._load.book.cut()
        self._ask = self._answer = self._transport = None
        self._load.reopen(self)


class Load:
    """All clients."""

    def __init__(self, site: dict[str, Any]) -> None:
        self.proxies: list[tuple[str, int]] = [(host, port) for host, port in site["proxies"]]
        self.keys: list[tuple[str, str]] = [(secret, key) for secret, key in site["keys"]]
        self.book = Book()
        self.idle: collections.deque[Line] = collections.deque()
        self._rate: float = site["rate"]
        self._me: str | None = site["me"]
        self._padding = "/x" * (site["padding"] // 2)
        self._kinds = {turn: kind for turn, kind in _KINDS.items() if kind[0] != "HEAD" or not self._padding}
        self._random = random.Random(site["seed"])  # noqa: S311 - repeatable on purpose
        self._lines = [Line(self) for _ in range(site["lines"])]
        self._numbers = iter(range(10**15, 10**16))
        self._going = asyncio.Event()
        self._open = 0
        self._places = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._site = site

    def start(self) -> None:
        """Everything that runs until the end."""
        for line in self._lines:
            self.reopen(line)
        works = [self._pace(), *(self._stream() for _ in range(self._site["streams"]))]
        for work in (*works, *(self._tunnel() for _ in range(self._site["tunnels"]))):
            self._keep(asyncio.create_task(work))

    def go(self) -> None:
        self.book = Book()
        self._going.set()

    async def rest(self) -> Book:
        """Ask nothing more; what is not answered after a while counts as cut."""
        self._going.clear()
        until = time.monotonic() + _END_SECONDS
        while (self._open or any(line.waits for line in self._lines)) and time.monotonic() < until:
            await asyncio.sleep(_TICK_SECONDS)
        self.book.statuses["0 silent"] += self._open + sum(line.waits for line in self._lines)
        return self.book

    def reopen(self, line: Line) -> None:
        """As often as it takes."""
        self._keep(asyncio.create_task(self._opened(line)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _place(self) -> tuple[str, int]:
        self._places += 1
        return self.proxies[self._places % len(self.proxies)]

    async def _opened(self, line: Line) -> None:
        while True:
            try:
                await asyncio.get_running_loop().create_connection(lambda: line, *self._place())
            except OSError:
                await asyncio.sleep(_RECONNECT_SECONDS)
            else:
                return

    # --- requests at the rate -----------------------------------------------------------------------------------------

    async def _pace(self) -> None:
        while True:
            await self._going.wait()
            began, asked = time.monotonic(), 0
            while self._going.is_set():
                due = int((time.monotonic() - began) * self._rate) - asked
                while due > 0 and self.idle:
                    line = self.idle.popleft()
                    if line.usable:  # one that was opened again may be here twice
                        line.send(self._next())
                        asked += 1
                        due -= 1
                if due > self._rate / 4:  # what nobody could send is not made good by a burst
                    began, asked = time.monotonic(), 0
                await asyncio.sleep(_TICK_SECONDS)

    def _next(self) -> Ask:
        number = next(self._numbers)
        secret, key_id = self.keys[number % len(self.keys)]
        turn = number % 64
        if turn == 63 and self._me is not None:
            return self._plain("GET", self._me, b"", secret, key_id)
        if turn in _WITHOUT_A_GOOD_KEY:
            secret, key_id = "" if turn == 47 else secret[:-6] + "ZZZZZZ", ""
        method, start = self._kinds.get(turn, ("POST", "/p/") if turn % 8 == 3 else ("GET", "/l/"))
        body = _BODY[: number % 1400] if method == "POST" else b""
        return self._plain(method, start, b"%016d" % number, secret, key_id, body)

    def _plain(self, method: str, start: str, token: bytes, secret: str, key_id: str, body: bytes = b"") -> Ask:
        path = start + token.decode() + (self._padding if token else "")
        query = "?q=1" if token else ""
        key = f"X-API-KEY: {secret}\r\n" if secret else ""
        agent = "load/1" + self._padding
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        head = f"{method} {path}{query} HTTP/1.1\r\nHost: load\r\n{key}User-Agent: {agent}\r\n{length}\r\n"
        return Ask(head.encode() + body, method, path, token, key_id, len(body))

    # --- what lasts ---------------------------------------------------------------------------------------------------

    async def _stream(self) -> None:
        while True:
            await self._going.wait()
            count, milliseconds = self._random.randint(1, 20), self._random.randint(10, 150)
            number = next(self._numbers)
            secret, key_id = self.keys[number % len(self.keys)]
            path = f"/s/{number:016d}"
            fields = f"Host: load\r\nX-API-KEY: {secret}\r\nX-Pieces: {count} {milliseconds}\r\n\r\n"
            ask = Ask(f"GET {path} HTTP/1.1\r\n{fields}".encode(), "GET", path, b"", key_id)
            await self._alone(ask, "stream", 0)

    async def _tunnel(self) -> None:
        while True:
            await self._going.wait()
            number = next(self._numbers)
            secret, key_id = self.keys[number % len(self.keys)]
            path = f"/w/{number:016d}"
            nonce = base64.b64encode(self._random.randbytes(16)).decode()
            fields = (
                f"Host: load\r\nX-API-KEY: {secret}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {nonce}\r\n\r\n"
            )
            ask = Ask(f"GET {path} HTTP/1.1\r\n{fields}".encode(), "GET", path, b"", key_id)
            await self._alone(ask, "tunnel", self._random.uniform(0.0, 2.0))

    async def _alone(self, ask: Ask, kind: str, held_seconds: float) -> None:
        """One request on a connection of its own; a tunnel is held for so long, and a few bytes go to and fro."""
        try:
            reader, writer = await asyncio.open_connection(*self._place())
        except OSError:
            await asyncio.sleep(_RECONNECT_SECONDS)
            return
        self._open += 1
        try:
            ask.sent = now()
            writer.write(ask.wire)
            answer = Answer(head_only=ask.method == "HEAD")
            while not answer.take(data := await reader.read(1 << 16)):
                if not data:
                    self.book.cut()
                    return
            self.book.enter(ask, answer, kind if answer.status < 400 else "line")
            until = time.monotonic() + held_seconds
            while answer.status == 101 and time.monotonic() < until and self._going.is_set():
                writer.write(b"to and fro")
                await reader.readexactly(10)
                await asyncio.sleep(0.05)
        except (OSError, asyncio.IncompleteReadError):
            self.book.cut()
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def main() -> None:
    """Follow the parent's commands until it says stop, or is gone."""
    commands = heard()
    load = Load(await anext(commands))
    load.start()
    tell({"ok": True})
    async for command in commands:
        match command["command"]:
            case "go":
                load.go()
                tell({"ok": True})
            case "move":
                load.proxies = [(host, port) for host, port in command["proxies"]]
                tell({"ok": True})
            case "seen":
                tell({"statuses": dict(load.book.statuses)})
            case "rest":
                book = await load.rest()
                with Path(command["file"]).open("w") as file:  # noqa: ASYNC230 - nothing else is to be done now
                    file.writelines(json.dumps(entry) + "\n" for entry in book.whole)
                tell(book.told())
            case "stop":
                break


if __name__ == "__main__":
    follow(main)
