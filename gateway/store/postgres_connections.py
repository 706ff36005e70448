"""A worker's few connections to PostgreSQL: bounded in number, in how long a call may take, and in how many may wait.

Invariants:
- A call takes `timeout_seconds` at the most, whatever the server or the way to it does.
- A connection that failed or hung is thrown away, never asked again. A server that was found away is asked by one call
  at a time, at most once in `PAUSE_SECONDS`; all others fail at once, so that an outage holds up no request.
- A connection that the server has closed since its last use costs nobody a failed call: work is done once more, on a
  new one. So what is done here must be harmless when it is done twice.
- A standby is no store: what it says may be old, and it keeps no list of workers.

Turned down: asyncpg's own pool. It asks the server to forget the session's settings after each use, which doubles the
cost of a point read; when a server hangs, giving a connection back waits for it once more; and nothing bounds how many
wait.
"""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Final, TypeVar

from gateway.errors import StoreUnavailable, Unreachable
from gateway.store import postgres_driver
from gateway.store.location import postgres_name

PAUSE_SECONDS: Final = 0.2
WAITING_LIMIT: Final = 1024
_CLOSE_SECONDS: Final = 1.0
# Class 57P: the server is being stopped, has crashed, or is not up yet; class 08: the connection is lost.
_LOST_STATES: Final = ("57P", "08")

_Result = TypeVar("_Result")
Connection = Any  # asyncpg has no complete annotations, and is imported where it is used, as it is an extra
Work = Callable[[Connection], Awaitable[_Result]]


class PostgresConnections:
    """Lends connections. They are made when they are needed, and in the event loop of the first call."""

    def __init__(self, url: str, *, connections: int, timeout_seconds: float) -> None:
        self._url = url
        self._timeout = timeout_seconds
        self._failures = postgres_driver.failures()
        self._free = asyncio.Semaphore(connections)
        self._idle: list[Connection] = []
        self._calls = 0
        self._limit = connections + WAITING_LIMIT
        self._outage: StoreUnavailable | None = None
        self._asking = False
        """Somebody is finding out whether the outage has ended."""
        self._ask_again_at = 0.0
        self._closed = False

    def __repr__(self) -> str:
        """Name the server, for diagnostics."""
        state = "closed" if self._closed else "away" if self._outage else "there"
        return f"<PostgresConnections {postgres_name(self._url)} {state} idle={len(self._idle)} calls={self._calls}>"

    async def use(self, work: "Work[_Result]", *, insist: bool = False) -> _Result:
        """Do something with a connection; raises StoreUnavailable. `insist`: ask, though there is an outage."""
        asks = self._admit(insist=insist)
        self._calls += 1
        try:
            return await self._in_time(work, may_ask=asks or insist)
        finally:
            self._calls -= 1
            if asks:
                self._asking = False

    async def close(self) -> None:
        """End all connections, politely where that is quick; those in use end with their use."""
        self._closed = True
        try:
            while self._idle:
                await self._idle[-1].close(timeout=_CLOSE_SECONDS)
                self._idle.pop()
        except self._failures:
            pass  # then the rest would take as long
        finally:
            self._drop_idle()

    def _admit(self, *, insist: bool) -> bool:
        """Whether this is the call that finds out how the server is; raises where it shall not even be asked."""
        if self._closed:
            raise self._unavailable("is closed in this process")
        if self._outage is not None and not insist:
            if self._asking or asyncio.get_running_loop().time() < self._ask_again_at:
                raise _again(self._outage)
            self._asking = True
            return True
        if self._calls >= self._limit:
            raise self._unavailable("is asked for more than it answers; try again")
        return False

    async def _in_time(self, work: "Work[_Result]", *, may_ask: bool) -> _Result:
        loop = asyncio.get_running_loop()
        turn = inf
        try:
            async with asyncio.timeout(self._timeout), self._free:
                if self._outage is not None and not may_ask:
                    raise _again(self._outage)  # found while this one waited for its turn
                turn = loop.time()
                result = await self._work(work)
        except TimeoutError as error:
            outage = _again(postgres_driver.translated(self._url, error))
            # Whoever has waited for its turn most of the time has learnt nothing about the server.
            if loop.time() - turn >= self._timeout / 2:
                self._note_outage(outage)
            raise outage from error
        except self._failures as error:
            outage = _again(postgres_driver.translated(self._url, error))
            if _is_lost(error):
                self._note_outage(outage)
            raise outage from error
        self._outage = None
        return result

    async def _work(self, work: "Work[_Result]") -> _Result:
        while self._idle:
            try:
                return await self._with(self._idle.pop(), work)
            except self._failures as error:
                if not _is_lost(error):
                    raise
                self._drop_idle()  # the others are as old as this one
        return await self._with(await self._connect(), work)

    async def _with(self, connection: Connection, work: "Work[_Result]") -> _Result:
        try:
            result = await work(connection)
        except BaseException:  # a cancellation too: the answer is still to come
            connection.terminate()
            raise
        if self._closed:
            connection.terminate()
        else:
            self._idle.append(connection)
        return result

    async def _connect(self) -> Connection:
        """Make a connection. Whatever is in the way of that, such as a wrong password, is in the way of all others."""
        try:
            connection = await postgres_driver.connect(self._url, command_timeout_seconds=None)
        except self._failures as error:
            self._note_outage(_again(postgres_driver.translated(self._url, error)))
            raise
        if getattr(connection.get_settings(), "in_hot_standby", "off") == "on":
            connection.terminate()
            standby = self._unavailable("is a standby just now. Name the primary in store.url")
            self._note_outage(standby)
            raise standby
        self._outage = None
        return connection

    def _note_outage(self, outage: StoreUnavailable) -> None:
        self._outage = outage
        self._ask_again_at = asyncio.get_running_loop().time() + PAUSE_SECONDS
        self._drop_idle()

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().terminate()

    def _unavailable(self, what: str) -> StoreUnavailable:
        return StoreUnavailable(f"The key store {postgres_name(self._url)} {what}.")


def _again(error: Unreachable) -> StoreUnavailable:
    """Make a new error with the same words: one that is raised twice would collect the traces of both."""
    return StoreUnavailable(error.detail, internal=error.internal)


def _is_lost(error: Exception) -> bool:
    """Whether the server, or this connection to it, is gone; else it has answered, if with a refusal."""
    state = getattr(error, "sqlstate", None)
    return state is None or state.startswith(_LOST_STATES)
