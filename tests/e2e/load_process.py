"""The clients of the nodes, as a process of its own: load with many keys, and the one key under test.

    python load_process.py      then JSON objects, a line each; every command is answered with one line

The first line is the site: {"proxies": [[host, port], …], "keys": [[secret, id], …], "connections": 64, "rate": 2000,
"workers": 2, "pause": 0.005}. Then {"command": …}:

    "mark"      what the load saw since the last mark: statuses, failures, latencies
    "cover"     open connections for the key under test until every worker of every node has one; the workers found
    "watch"     {"secret", "times"}: send it over all, again and again; told as soon as each had so many 200
    "once"      {"secret"}: send it over each of them once, and tell each request as "unwatch" does
    "watch"     {"secret", "times"}: send it over all of them all the time; told when each had so many 200
    "stop"      end; the same as "mark"

Invariant: `sent` is taken before the first byte of a request is handed to the system and `received` after the last byte
of its answer came, both on CLOCK_MONOTONIC. So a request whose `sent` is later than another process's moment was
certainly made after it. A worker is known by the first 16 digits of its X-Request-ID, which it made up as it started.

Requests are made from prepared pieces and judged by the end of their answers alone: a client that parses would take
more of the machine than the gateways do. Without a rate each connection sends as soon as it was answered.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import time
from functools import partial
from typing import Any, Final, cast

from tests.e2e.parent import follow, heard, tell

_TICK_SECONDS: Final = 0.002
_RECONNECT_SECONDS: Final = 0.02
_KEPT_FAILURES: Final = 2000
_WORKER_DIGITS: Final = 16
_COVER_TRIES: Final = 400
_WATCHED_SECONDS: Final = 20.0
_END_SECONDS: Final = 10.0
_CLOSES: Final = b"\r\nConnection: close"
_REQUEST: Final = b"GET /%b/%016d HTTP/1.1\r\nHost: load\r\nX-API-KEY: %b\r\n\r\n"


class Answer:
    """One answer, read whole: for those that are not as expected, and for the key under test."""

    def __init__(self, data: bytes, length: int) -> None:
        head = data[:length]
        self.status = int(head[9:12])
        self.closes = _CLOSES in head
        self.body = data[length:]
        start = head.find(b"\r\nX-Request-ID: ")
        self.worker = head[start + 16 : start + 16 + _WORKER_DIGITS].decode() if start >= 0 else ""

    @classmethod
    def whole(cls, data: bytes) -> Answer | None:
        """None where there is more to come."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return None
        lower = data[:end].lower()
        start = lower.find(b"\r\ncontent-length:")
        length = int(lower[start + 17 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
        return cls(data, end + 4) if len(data) >= end + 4 + length else None

    @property
    def code(self) -> str:
        """That of a problem document."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(self.body)["code"])
        return ""


class Tally:
    """What the load saw since the last mark."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.latencies: list[float] = []
        self.good = 0
        self.others: collections.Counter[str] = collections.Counter()
        self.failures: list[dict[str, object]] = []

    def fail(self, status: int, code: str, sent: float, key: int, node: int) -> None:
        """Status 0: the connection ended before the answer did."""
        self.others[f"{status} {code}".rstrip()] += 1
        if len(self.failures) < _KEPT_FAILURES:
            now = time.monotonic()
            self.failures.append({"status": status, "code": code, "sent": sent, "at": now, "key": key, "node": node})

    def told(self) -> dict[str, object]:
        """As JSON takes it. Latencies in milliseconds."""
        ordered = sorted(self.latencies)
        seconds = time.monotonic() - self.began
        statuses = {"200": self.good, **self.others} if self.good else dict(self.others)
        return {
            "began": self.began,
            "seconds": seconds,
            "requests": self.good + sum(self.others.values()),
            "statuses": statuses,
            "failures": self.failures,
            "p50": _quantile(ordered, 0.50),
            "p99": _quantile(ordered, 0.99),
            "max": _quantile(ordered, 1.0),
        }


def _quantile(ordered: list[float], part: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1e3 if ordered else None


class Line(asyncio.Protocol):
    """One of the load's connections. It opens itself again whenever it is closed."""

    __slots__ = ("_buffer", "_expected", "_key", "_load", "_node", "_sent", "_transport")

    def __init__(self, load: Load, node: int) -> None:
        self._load, self._node = load, node
        self._transport: asyncio.Transport | None = None
        self._expected: bytes | None = None
        self._buffer = b""
        self._key = 0
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # of uvloop, which does not say so
        self._load.idle_again(self)

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def waits(self) -> bool:
        return self._expected is not None

    def send(self, number: int) -> None:
        """The next request of the load."""
        load = self._load
        self._key = key = number % len(load.keys)
        secret, self_id = load.keys[key]
        self._expected = b"%016d%b" % (number, self_id)
        assert self._transport is not None
        self._sent = time.monotonic()
        self._transport.write(_REQUEST % (b"l", number, secret))

    def data_received(self, data: bytes) -> None:
        expected = self._expected
        if expected is None:
            return  # a farewell, such as a 408; the connection ends
        if self._buffer:
            data = self._buffer + data
        if data.startswith(b"HTTP/1.1 200") and data.endswith(expected):
            tally = self._load.tally
            tally.good += 1
            tally.latencies.append(time.monotonic() - self._sent)
            if _CLOSES in data and self._transport is not None:
                self._transport.close()
        else:
            answer = Answer.whole(data)
            if answer is None:
                self._buffer = data
                return
            # A 200 that is not its own is the worst of all, and must not be taken for one.
            code = answer.code if answer.status != 200 else f"foreign {answer.body[:80]!r} for {expected!r}"
            self._load.tally.fail(answer.status, code, self._sent, self._key, self._node)
            if answer.closes and self._transport is not None:
                self._transport.close()
        self._expected, self._buffer = None, b""
        self._load.idle_again(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._expected is not None:
            self._load.tally.fail(0, "cut", self._sent, self._key, self._node)
        self._expected, self._buffer, self._transport = None, b"", None
        self._load.reopen(self, self._node)


class Load:
    """The many keys."""

    def __init__(self, site: dict[str, Any]) -> None:
        self.proxies: list[tuple[str, int]] = [(host, port) for host, port in site["proxies"]]
        self.keys = [(secret.encode(), key.encode()) for secret, key in site["keys"]]
        self.tally = Tally()
        self._rate: float = site.get("rate", 0)
        self._lines = [Line(self, number % len(self.proxies)) for number in range(site["connections"])]
        self._idle: collections.deque[Line] = collections.deque()
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._going = True

    async def run(self) -> None:
        """Until `end`."""
        for number, line in enumerate(self._lines):
            self.reopen(line, number % len(self.proxies))
        began, first = time.monotonic(), self._number
        while self._going and self._rate:
            due = int((time.monotonic() - began) * self._rate) - (self._number - first)
            while due > 0 and self._idle:
                line = self._idle.popleft()
                if line.usable and not line.waits:  # one that was opened again is here twice
                    self._next(line)
                    due -= 1
            if due > self._rate:  # a stop of a second is not made good by a burst
                began, first = time.monotonic(), self._number
            await asyncio.sleep(_TICK_SECONDS)

    def idle_again(self, line: Line) -> None:
        """It may send again."""
        if self._rate or not self._going:
            self._idle.append(line)
        elif line.usable:
            self._next(line)

    def reopen(self, line: Line, node: int) -> None:
        """As often as it takes."""
        if self._going:
            self._tasks.add(task := asyncio.create_task(self._open(line, node)))
            task.add_done_callback(self._tasks.discard)

    async def _open(self, line: Line, node: int) -> None:
        host, port = self.proxies[node]
        while self._going:
            try:
                await asyncio.get_running_loop().create_connection(lambda: line, host, port)
            except OSError:
                await asyncio.sleep(_RECONNECT_SECONDS)
            else:
                return

    def _next(self, line: Line) -> None:
        self._number += 1
        line.send(self._number)

    async def end(self) -> None:
        """Send nothing more, and wait a moment for what is under way: what is not answered by then was cut."""
        self._going = False
        until = time.monotonic() + _END_SECONDS
        while any(line.waits for line in self._lines) and time.monotonic() < until:
            await asyncio.sleep(_TICK_SECONDS)
        for line in self._lines:
            if line.waits:
                self.tally.fail(0, "silent", line._sent, line._key, line._node)

    def mark(self) -> dict[str, object]:
        """What was seen since the last one."""
        tally, self.tally = self.tally, Tally()
        return tally.told()


class Asked:
    """A request with the key under test."""

    __slots__ = ("node", "sent", "token", "told")

    def __init__(self, node: int, token: int) -> None:
        self.node, self.token = node, token
        self.sent = time.monotonic()
        self.told: list[object] | None = None

    def end(self, worker: str, status: int, code: str) -> None:
        """Write down what came of it."""
        self.told = [self.node, worker, self.sent, time.monotonic(), status, code, f"{self.token:016d}"]


class WatchLine(asyncio.Protocol):
    """A connection that carries the key under test, to one worker as long as it lasts."""

    def __init__(self, watch: Watch, node: int) -> None:
        self.node = node
        self.worker = ""
        self.transport: asyncio.Transport | None = None
        self.good = 0
        self.asked: Asked | None = None
        self.answered = asyncio.Event()
        self.told = 0
        self._watch = watch
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # of uvloop, which does not say so

    def ask(self, secret: bytes, kind: bytes = b"w") -> None:
        """One request; `answered` is set when it was, or when the connection is over."""
        self.answered.clear()
        assert self.transport is not None
        token = self._watch.token()
        self.asked = Asked(self.node, token)
        self.transport.write(_REQUEST % (kind, token, secret))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        answer = Answer.whole(self._buffer)
        if answer is None or self.asked is None:
            return
        self._buffer = b""
        self.worker = answer.worker
        self.good += answer.status == 200
        self._over(answer.status, answer.code if answer.status != 200 else "")
        if answer.closes and self.transport is not None:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.transport = None
        if self.asked is not None:
            self._over(0, "cut")
        self._watch.lost(self)

    def _over(self, status: int, code: str) -> None:
        assert self.asked is not None
        self.asked.end(self.worker, status, code)
        if self in self._watch.lines:  # else it asks only who is there
            self._watch.note(self.asked)
        self.asked = None
        self.answered.set()


class Watch:
    """The key under test, at every worker of every node."""

    def __init__(self, site: dict[str, Any], load: Load) -> None:
        self._load = load
        self._workers: int = site["workers"]
        self._pause: float = site.get("pause", 0.005)
        self.lines: list[WatchLine] = []
        self._senders: dict[WatchLine, asyncio.Task[None]] = {}
        self._noted: list[Asked] = []
        self._tokens = 0
        self._secret: bytes | None = None
        self._opening = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()

    def token(self) -> int:
        """Unused ones, apart from the load's."""
        self._tokens += 1
        return 10**15 + self._tokens

    def note(self, asked: Asked) -> None:
        """Keep what came of a request."""
        self._noted.append(asked)

    def lost(self, line: WatchLine) -> None:
        """Another connection takes its place, to whichever worker lacks one by then."""
        if line in self.lines:
            self.lines.remove(line)
            self._tasks.add(task := asyncio.ensure_future(self._refill(line.node)))
            task.add_done_callback(self._tasks.discard)

    async def _refill(self, node: int) -> None:
        await asyncio.sleep(_RECONNECT_SECONDS)
        await self._cover(node)

    async def cover(self) -> dict[str, object]:
        """The workers of each node, as many as could be found."""
        for node in range(len(self._load.proxies)):
            await self._cover(node)
        return {"workers": [sorted(self._covered(node)) for node in range(len(self._load.proxies))]}

    def _covered(self, node: int) -> set[str]:
        return {line.worker for line in self.lines if line.node == node}

    async def _cover(self, node: int) -> None:
        host, port = self._load.proxies[node]
        async with self._opening:
            for _ in range(_COVER_TRIES):
                if len(self._covered(node)) >= self._workers:
                    return
                line = WatchLine(self, node)
                try:
                    await asyncio.get_running_loop().create_connection(partial(_same, line), host, port)
                    line.ask(self._load.keys[0][0], b"l")
                    await asyncio.wait_for(line.answered.wait(), 1)
                except (OSError, TimeoutError):  # a stopped worker is silent; another connection may reach its sibling
                    await asyncio.sleep(_RECONNECT_SECONDS)
                if line.transport is None:
                    continue
                if not line.worker or line.worker in self._covered(node):
                    line.asked = None
                    line.transport.close()
                    continue
                line.good = 0
                self.lines.append(line)
                if self._secret is not None:
                    self._start(line)

    async def watch(self, secret: str, times: int = 2) -> dict[str, object]:
        """Send it everywhere, from now on."""
        self._noted = []
        self._secret = secret.encode()
        for line in self.lines:
            line.good = 0
            self._start(line)
        until = time.monotonic() + _WATCHED_SECONDS
        whole = self._workers * len(self._load.proxies)
        while len(workers := self._let_through(times)) < whole and time.monotonic() < until:
            await asyncio.sleep(_TICK_SECONDS)
        return {"workers": sorted(workers), "lines": len(self.lines)}

    def _let_through(self, times: int) -> set[str]:
        return {line.worker for line in self.lines if line.good >= times}

    def _start(self, line: WatchLine) -> None:
        if line not in self._senders:
            self._senders[line] = task = asyncio.create_task(self._send(line))
            task.add_done_callback(lambda _: self._senders.pop(line, None))

    async def _send(self, line: WatchLine) -> None:
        while self._secret is not None and line.transport is not None and not line.transport.is_closing():
            line.ask(self._secret)
            await line.answered.wait()
            await asyncio.sleep(self._pause)

    async def once(self, secret: str) -> dict[str, object]:
        """One request over each."""
        self._noted = []
        lines = [line for line in self.lines if line.transport is not None]
        for line in lines:
            line.ask(secret.encode())
        for line in lines:
            await line.answered.wait()
        return await self.unwatch()

    async def unwatch(self) -> dict[str, object]:
        """Each request since `watch`; `silent` are those without an answer after a while."""
        self._secret = None
        until = time.monotonic() + _END_SECONDS
        while self._senders and time.monotonic() < until:
            await asyncio.sleep(_TICK_SECONDS)
        silent = [[line.node, line.worker, line.asked.sent] for line in self.lines if line.asked is not None]
        noted, self._noted = self._noted, []
        return {"asked": [asked.told for asked in noted], "silent": silent}


def _same(line: WatchLine) -> WatchLine:
    return line


async def main() -> None:
    """Follow the parent's commands until it says stop, or is gone."""
    commands = heard()
    site = await anext(commands)
    load = Load(site)
    watch = Watch(site, load)
    running = asyncio.create_task(load.run())
    tell({"ok": True})
    async for command in commands:
        match command.pop("command"):
            case "mark":
                tell(load.mark())
            case "cover":
                tell(await watch.cover())
            case "watch":
                tell(await watch.watch(**command))
            case "once":
                tell(await watch.once(**command))
            case "unwatch":
                tell(await watch.unwatch())
            case "stop":
                await load.end()
                tell(load.mark())
                break
    running.cancel()


if __name__ == "__main__":
    follow(main)
