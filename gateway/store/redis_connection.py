"""One connection to Redis: questions out, answers back in their order, and what it pushes to whoever listens.

Invariants: an answer settles the oldest question that waits, also one that nobody waits for any more; what arrives is
bounded in bytes and in elements before it is kept; a connection that breaks any of this is closed, and everybody who
waits on it hears so. Nothing here knows where servers are, or waits with a time-out: that is `redis_link`.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, cast

import hiredis

from gateway.errors import RedisUnavailable

Word = str | bytes | int
Reply = int | bytes | list["Reply"] | None

_MOST_WAITING: Final = 4096
_MOST_UNREAD: Final = 10_000
_MOST_REPLY_BYTES: Final = 16 * 1024 * 1024
"""The longest answer of ours is the list of workers, 200 bytes each. What is parsed may take several times as much."""
_TOO_LONG: Final = re.compile(rb"[*%~>|][0-9]{7,}\r\n")
"""The head of a list of a million elements or more, for which the parser takes memory at once. In none of our texts:
JSON has no line breaks, and digests are too short for it to come by chance."""
_LONGEST_HEAD_BYTES: Final = 24


class ConnectionLost(Exception):
    """The connection is not, or no longer, there."""


class Connection(asyncio.Protocol):
    """One open connection: questions out, answers in, in the same order. Compared by identity."""

    def __init__(self, on_push: Callable[[Reply], None] | None = None) -> None:
        """With `on_push`, what comes after the answers that are waited for goes there."""
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._unsent: list[bytes] = []
        self._unfinished_bytes = 0
        """How much has come of the answer that is coming."""
        self._end = b""
        self._transport: asyncio.Transport | None = None
        self.on_push = on_push
        self.server: tuple[str, int] | None = None
        """Where it leads to; None: a socket of this machine."""
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection is."""

    def __repr__(self) -> str:
        """Say how it stands."""
        return f"<Connection {'closed' if self.is_closed else 'open'} waiting={len(self._waiting)}>"

    @property
    def is_closed(self) -> bool:
        """Whether nothing more can be asked."""
        return self.lost.done()

    def ask(self, words: Sequence[Word]) -> asyncio.Future[Reply]:
        """Send a command with the others of this turn of the loop. An error answer is an exception of the future."""
        answer: asyncio.Future[Reply] = self._loop.create_future()
        if self.is_closed:
            answer.set_exception(ConnectionLost("closed"))
            return answer
        if len(self._waiting) >= _MOST_WAITING:
            raise RedisUnavailable("Redis is asked faster than it answers.", internal=f"{_MOST_WAITING} are waiting")
        self._waiting.append(answer)
        self.send(words)
        return answer

    def send(self, words: Sequence[Word]) -> None:
        """Send a command whose answer nobody waits for in the queue."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(cast("bytes", hiredis.pack_command(tuple(words))))  # type: ignore[arg-type]

    def close(self) -> None:
        """At once; whoever waits for an answer is told."""
        if self._transport is not None:
            self._transport.abort()
        self.connection_lost(None)

    def _flush(self) -> None:
        if self._transport is not None and not self.is_closed:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    # --- what the loop calls ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Give each answer to the one who waits for it."""
        if _TOO_LONG.search(self._end + data if self._unfinished_bytes else data):
            self.close()
            return
        self._end = data[-_LONGEST_HEAD_BYTES:]
        self._unfinished_bytes += len(data)
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not False:
                self._unfinished_bytes = self._reader.len()
                if self._waiting:
                    _settle(self._waiting.popleft(), answer)
                elif self.on_push is not None:
                    self.on_push(answer)
                else:  # nobody asked: from here on, answers would be given to the wrong questions
                    self.close()
                    return
        except Exception:  # noqa: BLE001 - hiredis raises TypeError, ValueError and more for answers that no Redis gives
            self.close()
        if self._unfinished_bytes > _MOST_REPLY_BYTES:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody; doing it twice is harmless."""
        if not self.lost.done():
            self.lost.set_result(None)
        for each in self._waiting:
            if not each.done():
                each.set_exception(ConnectionLost(str(exc or "closed")))
                each.exception()  # seen: whoever has given up waiting must not be reported as careless
        self._waiting.clear()


def _settle(waiting: asyncio.Future[Reply], answer: Reply | hiredis.ReplyError) -> None:
    if waiting.done():
        return
    if isinstance(answer, hiredis.ReplyError):
        waiting.set_exception(answer)
        waiting.exception()  # as above
    else:
        waiting.set_result(answer)


class Unread:
    """What a subscription has heard and nobody has taken yet; beyond its bounds, it is given up."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._bytes = 0
        self.replies: deque[Reply] = deque()
        self.arrived = asyncio.Event()
        connection.on_push = self._push
        connection.lost.add_done_callback(lambda _: self.arrived.set())

    def take(self) -> Reply:
        """Return the oldest; there has to be one."""
        reply = self.replies.popleft()
        self._bytes -= _size(reply)
        return reply

    def _push(self, reply: Reply) -> None:
        self._bytes += _size(reply)
        self.replies.append(reply)
        if self._bytes > _MOST_REPLY_BYTES or len(self.replies) > _MOST_UNREAD:
            self.replies.clear()  # what is missing shows at the next pulse
            self._bytes = 0
            self._connection.close()
        self.arrived.set()


def _size(reply: Reply) -> int:
    return sum(len(part) for part in reply if isinstance(part, bytes)) if isinstance(reply, list) else 0
