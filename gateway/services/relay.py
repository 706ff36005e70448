"""Keeps the shared key table in Redis as far as the store is: relays changes in order, and builds the table anew.

One per control process, any number of them at once. A step asks Redis where the table is, then the store for what
follows (one snapshot), decides, and acts. It relays whatever is behind, whoever committed it: what a process left
behind that died between its commit and its message is told by another one within half a second.

Invariants, beside those of the scripts (`store/key_table_scripts`), which hold for a step that was paused anywhere:
- The records that a change has altered are in the table before its head moves, over one connection: where that was lost
  in between, or the table was made anew, the step ends, and the next one begins by asking where the table is.
- The moment of a stamp is Redis' time from before the store was asked.
- A log that has gone back (restored, or failed over to a server that had not all of it) gets a new epoch, given under
  the store's write lock, where it is verified again.

Turned down: relaying right in the service that commits. Its caller would wait for Redis, and what it left behind at a
crash would need all of this nevertheless.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from enum import Enum
from typing import TYPE_CHECKING, Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.errors import RedisUnavailable, Unreachable
from gateway.keys.projection import LogLook, LogPosition
from gateway.services import epochs, projection
from gateway.services.epochs import KnownLog, Life
from gateway.store.engine import read_transaction
from gateway.store.key_table import Build, Entry, KeyTable, TableState

if TYPE_CHECKING:
    from collections.abc import Sequence

STEP_SECONDS: Final = 0.5
SILENCE_SECONDS: Final = 0.5
"""While the store says nothing for longer, stamps say that it cannot be asked."""
MOST_BEHIND: Final = 1000
"""Further behind than this, copying everything is less work than telling every change."""
_LOG = logging.getLogger(__name__)


class Plan(Enum):
    """What is to be done about the table."""

    RELAY = "relay"
    """It is the store's, and as far as it or not far behind."""
    MEND = "mend"
    """As RELAY; but something of it was lost, so it is built anew meanwhile."""
    BUILD = "build"
    NEW_EPOCH = "new_epoch"
    """The log has gone back: what was told of it no longer holds."""


def decide(state: TableState | None, log: LogLook) -> Plan:
    """What to do, by the table and by the log behind its head, which was read after it."""
    if state is None or not state.finished:
        return Plan.BUILD
    life = epochs.compare(_known(state), log)
    if life is not Life.SAME:
        return Plan.BUILD if life is Life.YOUNGER else Plan.NEW_EPOCH
    if log.head - state.head != len(log.changes):  # MOST_BEHIND were asked for
        return Plan.BUILD
    return Plan.RELAY if state.whole else Plan.MEND


class Relay:
    """The relay of one control process."""

    def __init__(self, engine: AsyncEngine, table: KeyTable) -> None:
        """No I/O."""
        self._engine = engine
        self._table = table
        self._wanted = asyncio.Event()
        self._building: asyncio.Task[None] | None = None
        self._outages: set[str] = set()
        self._seen: LogPosition | None = None
        """How far the store was when it last answered."""
        self.redis_reachable = False
        self.store_reachable = False
        self.complete = False
        """Whether the table was whole, and the store's, at the last step."""
        self.head: int | None = None
        """The number of the store's newest change."""
        self.relayed: int | None = None
        """The number of the newest change in the table."""
        self.rebuilds = 0

    def nudge(self) -> None:
        """Something was committed: do not wait for the next step."""
        self._wanted.set()

    async def run(self) -> None:
        """Step until cancelled. Outages are told once, and their end once."""
        try:
            while True:
                self._wanted.clear()
                try:
                    again = await self.step()
                except Exception:  # noqa: BLE001 - whatever it is
                    # Without a relay, every change of every node would wait for nothing from now on.
                    _LOG.exception("a step of the relay failed in a way that was not foreseen; it goes on")
                    again = False
                if not again:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(STEP_SECONDS):
                            await self._wanted.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """End a build that is under way."""
        if self._building is not None:
            self._building.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._building

    # --- one step -----------------------------------------------------------------------------------------------------

    async def step(self) -> bool:
        """Bring the table as far as the store, and say so in it. True: step again right away."""
        try:
            at, state = await self._table.state()
            self._show_table(state)
            try:
                position, again = await self._catch_up(state)
            except RedisUnavailable:
                raise
            except Unreachable as error:
                self.store_reachable = False
                self._tell_outage("store", "changes of keys cannot be read from the store", error)
                again = False
                await self._vouch_without_store()
            else:
                self.store_reachable = True
                self._tell_end("store", "changes of keys can be read from the store again")
                await self._table.stamp(at, position)
        except RedisUnavailable as error:
            again = self.redis_reachable  # a connection that was lost is often made anew at once; nobody else is asked
            self.redis_reachable = self.complete = False
            self._tell_outage("redis", "workers follow the store, not Redis", error)
            return again
        self.redis_reachable = True
        self._tell_end("redis", "Redis can be used again")
        return again

    async def _catch_up(self, state: TableState | None) -> tuple[LogPosition, bool]:
        """Where the store is, and whether to step again right away."""
        again = False
        async with AsyncExitStack() as ended:
            async with self._stamping():
                connection = await ended.enter_async_context(read_transaction(self._engine))
                log = await (
                    projection.look(connection, 0, 0)
                    if state is None
                    else projection.look(connection, state.head, MOST_BEHIND)
                )
            plan = decide(state, log)
            self._show(state, log)
            if state is not None and plan in {Plan.RELAY, Plan.MEND} and log.changes:
                again = not await self._relay(connection, state, log)
        if state is not None and plan is Plan.NEW_EPOCH:
            await self._begin_epoch(state)
            again = True
        elif plan is not Plan.RELAY and self._building is None:
            self._building = asyncio.create_task(self._build())
            self._building.add_done_callback(self._built)
        return LogPosition(log.epoch, log.head), again

    @asynccontextmanager
    async def _stamping(self) -> AsyncIterator[None]:
        """Say meanwhile that the store cannot be asked. Giving up the look would never end with a slow store."""
        answered = asyncio.Event()
        stamping = asyncio.create_task(self._stamp_outage(answered))
        try:
            yield
        finally:
            answered.set()
            with contextlib.suppress(RedisUnavailable):
                await stamping

    async def _stamp_outage(self, answered: asyncio.Event) -> None:
        while not answered.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SILENCE_SECONDS):
                    await answered.wait()
                    return
            self.store_reachable = False
            await self._vouch_without_store()

    async def _vouch_without_store(self) -> None:
        """Say that the store cannot be asked; but not for a table that lacks what was seen there before."""
        at, state = await self._table.state()
        self._show_table(state)
        seen = self._seen
        if seen is None or (state is not None and state.epoch == seen.epoch and state.head >= seen.seq):
            await self._table.stamp(at, None)

    async def _relay(self, connection: AsyncConnection, state: TableState, log: LogLook) -> bool:
        """Tell the changes; False where somebody else did, or made the table anew."""
        entries: Sequence[Entry] = ()
        async for page in projection.of_changes(connection, log.changes):
            # The last page travels with the first change, as the only one does of a single key.
            if entries and not await self._table.put(state, log.head, entries):
                return False
            entries = page
        for change in log.changes:
            if not await self._table.advance(state, change, log.head, entries):
                return False
            entries = ()
            self.relayed = change.seq
        return True

    async def _begin_epoch(self, state: TableState) -> None:
        log = await epochs.begin(self._engine, _known(state))
        if log is None:
            return  # another control process was faster
        _LOG.warning(
            "the store is not the one that was relayed before, or has gone back to an earlier state; every worker "
            "forgets what it knows of keys",
            extra={"store_head": log.head, "relayed": state.head},
        )

    # --- building it anew ---------------------------------------------------------------------------------------------

    async def _build(self) -> None:
        build: Build | None = None
        done = False
        try:
            build = await self._table.begin_build()
            if build is None:
                return  # another control process is at it
            done = await self._fill(build)
            if done:
                self.rebuilds += 1
                self._wanted.set()
                self._tell_end("build", "the shared key table could be built")
                _LOG.info("the shared key table was built anew", extra={"keys": build.size})
        except Unreachable as error:
            self._tell_outage("build", "the shared key table cannot be built; workers ask the store", error)
        finally:
            if build is not None and not done:
                await build.give_up()

    def _built(self, task: asyncio.Task[None]) -> None:
        self._building = None
        if not task.cancelled() and task.exception() is not None:
            _LOG.error("building the shared key table failed", exc_info=task.exception())

    async def _fill(self, build: Build) -> bool:
        """Copy the store, then what has changed since, until it is no less than the table in use."""
        async with read_transaction(self._engine) as connection:
            log = await projection.look(connection, (await projection.look(connection, 0, 0)).head, 0)
            async for page in projection.of_everything(connection):
                if not await build.fill(page, log.head):
                    return False
        position, tip = LogPosition(log.epoch, log.head), log.at
        while (ahead := await build.install(position, tip)) != 0:
            if ahead is None:
                return False
            async with read_transaction(self._engine) as connection:
                log = await projection.look(connection, position.seq, MOST_BEHIND)
                if log.epoch != position.epoch or log.at != tip or not log.changes:
                    return False  # the store has gone back meanwhile
                async for page in projection.of_changes(connection, log.changes):
                    if not await build.fill(page, log.head):
                        return False
            tip = log.changes[-1]
            position = LogPosition(log.epoch, tip.seq)
        return True

    # --- telling ------------------------------------------------------------------------------------------------------

    def _show_table(self, state: TableState | None) -> None:
        self.relayed = None if state is None else state.head
        self.complete = state is not None and state.finished and state.whole

    def _show(self, state: TableState | None, log: LogLook) -> None:
        self.head = log.head
        self._seen = LogPosition(log.epoch, log.head)
        self.complete = self.complete and state is not None and state.epoch == log.epoch

    def _tell_outage(self, of: str, what: str, error: Unreachable) -> None:
        if of not in self._outages:
            self._outages.add(of)
            _LOG.error("%s: %s", what, error.detail, extra={"reason": error.internal})

    def _tell_end(self, of: str, what: str) -> None:
        if of in self._outages:
            self._outages.discard(of)
            _LOG.warning("%s", what)


def _known(state: TableState) -> KnownLog:
    return KnownLog(state.epoch, state.head, state.tip)
