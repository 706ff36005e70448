"""The clients of the mixed load, as a process of its own: they read strictly, and hold each answer against its request.

    python mixed_load_process.py    then JSON objects, a line each; every command is answered with one line

The first line is the site: {"proxy": [host, port], "keys": [[secret, id], …], "owner": id, "bad": {code: secret},
"rate": 2400, "connections": 64, "seed": 1, "fates": FILE, "whole": FILE}. Then {"command": …}:

    "go"        ask, until told otherwise
    "rest"      ask nothing more, wait for what is under way, and tell what was seen since "go"
    "stop"      end

What comes of a request is one of: right; refused, as it should be; fault, as it asked the API to fail; left, where the
client itself broke off, or was told that the connection ends before this one's turn; failed, which the parent has to
explain by what it did at that moment; and wrong, which nothing explains.

Invariant: nothing is right by its status alone: token, key, owner, framing and every byte of the body are as they
should be, also of what was cut off. `whole` gets a line for each answer that came whole (`Whole` in audit_load.py),
`fates` a byte for each number (mixed_asks).
"""

from __future__ import annotations

import asyncio
import collections
import mmap
import time
from pathlib import Path
from typing import Any, Final, TextIO, cast

from tests.e2e.mixed_answer import Answer, NotHttp
from tests.e2e.mixed_asks import SEEN, SENT, TWICE, UNSEEN, Ask, Site, Wrong
from tests.e2e.mixed_words import FAULTS, token_of
from tests.e2e.parent import follow, heard, tell

_TICK_SECONDS: Final = 0.002
_RECONNECT_SECONDS: Final = 0.02
_SILENT_SECONDS: Final = 45.0
_END_SECONDS: Final = 50.0
_ABANDON_SECONDS: Final = 0.02
_ABANDON_BYTES: Final = 100_000
_MESSAGE_SECONDS: Final = 0.03
_KEPT_WRONG: Final = 20
_KEPT_FAILED: Final = 200_000


class Book:
    """What was seen since `go`."""

    def __init__(self, fates: mmap.mmap, whole: TextIO) -> None:
        self.began = time.monotonic()
        self.classes: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.failed: list[dict[str, object]] = []
        self.entries = 0
        self._fates, self._whole = fates, whole

    def sent(self, ask: Ask) -> None:
        self._fates[ask.number] = SENT | (TWICE if ask.twice else 0)

    def end(self, ask: Ask, what: str, code: str = "") -> None:
        """Count it; what was refused or answered tells whether the API may have seen it."""
        self.classes[f"{what} {ask.kind} {code}".rstrip()] += 1
        if what == "right":
            self._fates[ask.number] |= SEEN
        elif what == "refused":
            self._fates[ask.number] |= UNSEEN

    def unasked(self, ask: Ask) -> None:
        """It stood behind an answer that ended its connection: nobody may have read it."""
        self.classes["left unasked"] += 1
        self._fates[ask.number] |= UNSEEN

    def fail(self, ask: Ask, what: str, *, begun: bool, fresh: bool, worker: str) -> None:
        """What came, which the parent has to explain."""
        self.classes[f"failed {what}"] += 1
        if len(self.failed) == _KEPT_FAILED:
            self.wrongly(ask, "more failures than can be explained one by one", what.encode())
        else:
            told = {"what": what, "kind": ask.kind, "number": ask.number, "sent": ask.since, "at": time.monotonic()}
            self.failed.append({**told, "begun": begun, "fresh": fresh, "worker": worker})

    def wrongly(self, ask: Ask | None, why: str, raw: bytes) -> None:
        self.classes["wrong"] += 1
        if len(self.wrong) < _KEPT_WRONG:
            whose = f"{ask.method} {ask.path} with {ask.key.decode()}" if ask is not None else "nobody"
            self.wrong.append(f"{why}, for {whose} at {time.monotonic():.3f}: {raw[:900]!r}")

    def keep(self, ask: Ask, answer: Answer, code: str) -> None:
        """One that came whole."""
        self.entries += 1
        kind = "tunnel" if answer.status == 101 else "stream" if ask.kind == "events" else "line"
        request_id = answer.fields.get(b"x-request-id", b"").decode()
        self._whole.write(
            f'["{request_id}","{kind}","{ask.method}","{ask.path}",{answer.status},"{code}",'
            f'"{ask.key.decode()}",{ask.sent},{time.monotonic():.4f},{ask.bytes_in},{len(answer.body)}]\n'
        )

    def told(self) -> dict[str, object]:
        self._whole.flush()
        seconds = time.monotonic() - self.began
        return {
            "seconds": seconds,
            "whole": self.entries,
            "classes": dict(self.classes),
            "wrong": self.wrong,
            "failed": self.failed,
        }


class Line(asyncio.Protocol):
    """One of the connections. It opens itself again whenever it is closed."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._asks: collections.deque[Ask] = collections.deque()
        self._answer: Answer | None = None
        self._fresh = True
        self._worker = ""
        self._tunnel: Ask | None = None
        self._echo = b""
        self._messages = 0
        self._left = False
        """Whether this side has ended the connection, in the middle of something."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # of uvloop, which does not say so
        self._fresh, self._left, self._worker = True, False, ""
        self._load.idle.append(self)

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing() and not self.waits

    @property
    def waits(self) -> bool:
        return bool(self._asks) or self._tunnel is not None

    @property
    def waits_since(self) -> float:
        return self._asks[0].since if self._asks else time.monotonic()

    @property
    def asked(self) -> Ask:
        return self._asks[0]

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def send(self, asks: list[Ask]) -> None:
        at, since = time.time_ns() // 1000, time.monotonic()
        for ask in asks:
            ask.sent, ask.since = at, since
            self._load.book.sent(ask)
        self._asks.extend(asks)
        self._answer = Answer(head_only=asks[0].head_only)
        self.transport.write(b"".join([ask.wire for ask in asks]))
        if asks[0].kind == "abandoned-upload":
            asyncio.get_running_loop().call_later(_ABANDON_SECONDS, self._abandon, asks[0])

    def _abandon(self, ask: Ask) -> None:
        """In the middle: with a reset, or as a program that ends."""
        if self._asks and self._asks[0] is ask and self._transport is not None:
            self._left = True
            if ask.number % 2:
                self._transport.abort()
            else:
                self._transport.close()

    # --- what comes -------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._left:
            return
        while data:
            if self._tunnel is not None:
                self._echoed(data)
                return
            if not self._asks or self._answer is None:
                self._wrong(None, "bytes that nobody has asked for", data)
                return
            data = self._read(self._asks[0], self._answer, data)

    def _read(self, ask: Ask, answer: Answer, data: bytes) -> bytes:
        """What is left."""
        try:
            if answer.take(data):
                return self._whole(ask, answer)
            if answer.interim and ask.held:
                self.transport.write(ask.held)
                ask.held = b""
            if ask.kind == "abandoned" and answer.received() > _ABANDON_BYTES:
                ask.check_part(answer)
                self._abandon(ask)
        except (NotHttp, Wrong) as error:
            self._wrong(ask, repr(error), answer.raw + b" <- " + data[:300])
        return b""

    def _whole(self, ask: Ask, answer: Answer) -> bytes:
        book = self._load.book
        what, code = ask.judged(answer)
        if not self._worker:
            self._worker = answer.fields.get(b"x-request-id", b"")[:16].decode()
        if what == "failed":
            book.fail(ask, f"{answer.status} {code}".rstrip(), begun=True, fresh=self._fresh, worker=self._worker)
        else:
            book.end(ask, what, code)
        book.keep(ask, answer, code)
        self._fresh = False
        if answer.status == 101:
            self._asks.clear()
            self._tunnel, self._messages = ask, 5 + ask.number % 10
            self._say()
            return answer.rest
        self._asks.popleft()
        if answer.closes or ask.held:
            self._end_of_line(answer)
            return b""
        if self._asks:
            self._answer = Answer(head_only=self._asks[0].head_only)
        else:
            self._answer = None
            self._load.idle.append(self)
        return answer.rest

    def _end_of_line(self, answer: Answer) -> None:
        if answer.rest:
            self._wrong(None, "bytes behind an answer that ends the connection", answer.rest)
        for each in self._asks:
            self._load.book.unasked(each)
        self._asks.clear()
        self._answer = None
        self.transport.close()

    def _wrong(self, ask: Ask | None, why: str, raw: bytes) -> None:
        self._load.book.wrongly(ask, f"{why} (worker {self._worker})", raw)
        self._asks.clear()
        self._answer = self._tunnel = None
        self._left = True
        self.transport.abort()

    # --- a tunnel ---------------------------------------------------------------------------------------------------

    def _say(self) -> None:
        ask = self._tunnel
        if ask is None or self._transport is None:
            return
        if not self._messages:
            self._load.book.classes["right tunnel"] += 1
            self._tunnel = None
            self._left = True
            self._transport.close()
            return
        self._messages -= 1
        self._echo = token_of(ask.number) + b" %d" % self._messages + b"\0\xff" * (ask.number % 300)
        self._transport.write(self._echo)

    def _echoed(self, data: bytes) -> None:
        if not self._echo.startswith(data):
            self._wrong(self._tunnel, "another echo", data)
            return
        self._echo = self._echo[len(data) :]
        if not self._echo:
            asyncio.get_running_loop().call_later(_MESSAGE_SECONDS, self._say)

    # --- the end ----------------------------------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        book = self._load.book
        if self._tunnel is not None:
            book.fail(self._tunnel, "cut", begun=True, fresh=False, worker=self._worker)
        for position, ask in enumerate(self._asks):
            self._cut(ask, self._answer if position == 0 else None)
        self._asks.clear()
        self._answer = self._transport = self._tunnel = None
        self._load.reopen(self)

    def _cut(self, ask: Ask, answer: Answer | None) -> None:
        book = self._load.book
        if self._left:
            book.end(ask, "left")
            return
        begun = answer is not None and answer.has_bytes
        try:
            if answer is not None:
                ask.check_part(answer)
        except Wrong as error:
            book.wrongly(ask, repr(error), answer.raw if answer is not None else b"")
            return
        if answer is not None and answer.begun and "abort" in FAULTS.get(ask.kind, ()):
            book.end(ask, "fault", "abort")
        else:
            book.fail(ask, "cut", begun=begun, fresh=self._fresh, worker=self._worker)


class Load:
    """All clients."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._site = Site(told)
        self._proxy: tuple[str, int] = tuple(told["proxy"])
        with Path(told["fates"]).open("r+b") as file:
            self._fates = mmap.mmap(file.fileno(), 0)
        self._file = Path(told["whole"]).open("w")  # noqa: SIM115 - until the end
        self.book = Book(self._fates, self._file)
        self.idle: collections.deque[Line] = collections.deque()
        self._rate: float = told["rate"]
        self._number = 0
        self._going = asyncio.Event()
        self._over = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._lines = [Line(self) for _ in range(told["connections"])]

    def start(self) -> None:
        for line in self._lines:
            self.reopen(line)
        self._keep(asyncio.create_task(self._pace()))

    def go(self) -> None:
        self.book = Book(self._fates, self._file)
        self._going.set()

    async def rest(self) -> Book:
        """What is not answered after a while is wrong, and every connection ends."""
        self._going.clear()
        until = time.monotonic() + _END_SECONDS
        while any(line.waits for line in self._lines) and time.monotonic() < until:
            await asyncio.sleep(_TICK_SECONDS)
        for line in self._lines:
            if line.waits:
                self.book.wrongly(line.asked if line._asks else None, "no end", b"")
        return self.book

    def close(self) -> None:
        """All connections."""
        self._over = True
        for line in self._lines:
            if line._transport is not None:
                line._transport.close()

    def reopen(self, line: Line) -> None:
        """As often as it takes."""
        if not self._over:
            self._keep(asyncio.create_task(self._opened(line)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _opened(self, line: Line) -> None:
        while not self._over:
            try:
                await asyncio.get_running_loop().create_connection(lambda: line, *self._proxy)
            except OSError:
                await asyncio.sleep(_RECONNECT_SECONDS)
            else:
                return

    async def _pace(self) -> None:
        while True:
            await self._going.wait()
            began, first = time.monotonic(), self._number
            while self._going.is_set():
                now = time.monotonic()
                due = int((now - began) * self._rate) - (self._number - first)
                while due > 0 and self.idle and self._number < len(self._fates) - 2:
                    line = self.idle.popleft()
                    if line.usable:  # one that was opened again may be here twice
                        asks = self._site.turn(self._number)
                        self._number += len(asks)
                        due -= len(asks)
                        line.send(asks)
                if due > self._rate:  # what nobody could send for a second is not made good by a burst
                    began, first = now, self._number
                self._look_for_silence(now)
                await asyncio.sleep(_TICK_SECONDS)

    def _look_for_silence(self, now: float) -> None:
        for line in self._lines:
            if line.waits and now - line.waits_since > _SILENT_SECONDS:
                line._wrong(line.asked, "no answer", b"")


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
            case "seen":
                tell({"classes": dict(load.book.classes)})
            case "rest":
                tell((await load.rest()).told())
            case "close":
                load.close()
                tell({"ok": True})
            case "stop":
                break


if __name__ == "__main__":
    follow(main)
