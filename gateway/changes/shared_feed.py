"""Follows the change log where stores are servers: through Redis while that can be believed, through the store else.

Every half second a pulse asks Redis how far its table is, and by whose word. It is believed only with a stamp of a
control process that is younger than three seconds, in the epoch that this worker follows, with nothing missing between
what the stamp says of the store, the table's head and what was applied here. Otherwise, and where there is no Redis,
the log is read from the store itself. Changes arrive by subscription between pulses; a message that was lost shows at
the next pulse, so nothing depends on messages but speed.

Invariants:
- A proof counts from before it was asked for, less the age of the stamp it rests on.
- Each proof takes along this worker's sign of life (`WorkerPresence`): whoever waits for workers hears of exactly those
  that may serve from memory. Until the worker is entered in the store it proves nothing and looks nothing up; so it is
  after a time without proof that is long enough to be dropped (a process that was stopped). Proofs by Redis alone renew
  the entry in the store now and then, so that the store's list is whole whoever reads it, by whichever Redis.
- An epoch is taken from Redis only where the store cannot be asked, and only a younger one: the store is the truth.

Turned down: forgetting everything whenever the subscription is made anew, as one has to where messages have no numbers.
Here a position that equals the table's head shows that nothing was missed.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from math import inf
from typing import Final, Literal, Protocol

from gateway.changes.applier import Applier
from gateway.errors import Unreachable
from gateway.keys.change import Change
from gateway.keys.projection import LogLook, LogPosition, Pulse, Stamp, WorkerPresence, generation

PULSE_SECONDS: Final = 0.5
STORE_LOOK_SECONDS: Final = 1.0
"""How often the store is asked while Redis, which there is, cannot be believed."""
STAMP_BELIEVED_SECONDS: Final = 3.0
RENEW_SECONDS: Final = 10.0
"""How often the entry in the store is renewed while Redis proves everything; sooner where less is believed."""
_MESSAGE_SECONDS: Final = 0.05
"""How long a message may be behind what a pulse has shown, on another connection, before it counts as lost."""
_STORE_ANSWER_SECONDS: Final = 0.5
"""For how long the store is asked where a control process has said that it cannot be."""
_SUBSCRIBE_PAUSE_SECONDS: Final = 0.2
_BATCH: Final = 1000
_LOG = logging.getLogger(__name__)

Source = Literal["redis", "store", "none"]


class StoreLog(Protocol):
    """The log in the store, and the list of workers beside it."""

    async def enter(self, presence: WorkerPresence) -> None:
        """Enter this worker in the list; raises Unreachable."""

    async def look(self, seq: int, limit: int, *, presence: WorkerPresence) -> LogLook:
        """The log behind `seq`, renewing the presence; raises Unreachable."""


class SharedTable(Protocol):
    """The key table in Redis, and the channel beside it."""

    async def pulse(self, presence: WorkerPresence) -> Pulse:
        """The table's state, renewing the presence; raises Unreachable."""

    def follow(self) -> AsyncGenerator[tuple[str, Change] | None, None]:
        """None at each confirmation of the subscription, then epoch and change; raises Unreachable."""


class SharedFeed:
    """One worker's way of hearing of changes."""

    def __init__(
        self,
        applier: Applier,
        log: StoreLog,
        table: SharedTable | None,
        *,
        presence: Callable[[LogPosition | None], WorkerPresence],
        proven: Callable[[float], None],
        clock: Callable[[], float],
        poll_seconds: float,
    ) -> None:
        """`presence` makes this worker's sign of life; `poll_seconds` is how often the store is asked without Redis."""
        self._applier = applier
        self._log = log
        self._table = table
        self._presence = presence
        self._proven = proven
        self._clock = clock
        self._pause_by_store = poll_seconds if table is None else STORE_LOOK_SECONDS
        self._believes_for = presence(None).believes_for_seconds
        self._renew_seconds = min(RENEW_SECONDS, self._believes_for / 4)
        self._wanted = asyncio.Event()
        self._moved = asyncio.Event()
        self._outage = ""
        self._entered = False
        self._proven_at = -inf
        self._asked_store_at = -inf
        self.source: Source = "none"
        """What the last proof came from."""

    @property
    def entered(self) -> bool:
        """Whether this worker is in the store's list for certain; else nobody might wait for it."""
        return self._entered and self._clock() - self._proven_at < self._believes_for

    async def start(self) -> None:
        """The first proof, for whoever must not begin without one; raises Unreachable."""
        await self._enter()

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._table is not None:
                group.create_task(self._listen(self._table))
            group.create_task(self._keep_proving())

    def look(self) -> None:
        """There is a change: do not wait for the next time."""
        self._wanted.set()

    def applied(self) -> None:
        """The position has moved; to be called by whoever hears of it from the applier."""
        self._moved.set()
        self._wanted.set()  # whoever made the change waits for this worker's next sign of life

    # --- proof --------------------------------------------------------------------------------------------------------

    async def _keep_proving(self) -> None:
        async with asyncio.TaskGroup() as beside:
            while True:
                self._wanted.clear()
                await self._prove()
                if self.source == "redis" and self._clock() - self._asked_store_at >= self._renew_seconds:
                    # Not waited for: a commit in the store may take long, and changes wait for this worker's word.
                    self._asked_store_at = self._clock()  # it may be a moment before the task says so
                    beside.create_task(self._renew())
                pause = PULSE_SECONDS if self.source == "redis" else self._pause_by_store
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wanted.wait()

    async def _prove(self) -> None:
        try:
            if not self.entered:
                self._entered = False
                await self._enter()
            elif not await self._prove_by_table():
                await self._prove_by_store()
        except Unreachable as error:
            self.source = "none"
            self._note(f"{error.detail} {error.internal}")
        else:
            self._note("")

    async def _enter(self) -> None:
        """Enter the list, then begin where the store is.

        Not where Redis is: whoever waited for a change before this worker was in the list does not wait for it.
        """
        await self._log.enter(self._presence(self._applier.position))
        self._entered = True
        await self._prove_by_store()

    async def _prove_by_table(self) -> bool:
        """Whether Redis has proven that this worker is current."""
        began = self._clock()
        pulse = await self._pulse()
        at = self._applier.position
        if pulse is None or at is None or not self.entered:  # stopped since that was asked: the store first
            return False
        if (at.epoch != pulse.epoch or pulse.stamp.head is None) and await self._store_answers():
            return True
        if not await self._come_to(at, LogPosition(pulse.epoch, pulse.head)):
            return False
        self._prove_from(began - pulse.stamp.age_seconds)
        self.source = "redis"
        return True

    async def _pulse(self) -> "_Vouched | None":
        """What Redis says, if a control process stands in for it."""
        if self._table is None:
            return None
        try:
            return _vouched(await self._table.pulse(self._presence(self._applier.position)))
        except Unreachable:
            return None

    async def _come_to(self, at: LogPosition, to: LogPosition) -> bool:
        """Come as far as the table is; False where it is of a life of the store that is over."""
        if at.epoch != to.epoch:
            if generation(to.epoch) <= generation(at.epoch):
                return False
            self._applier.jump(to, "the shared key table is of another life of the store")
        elif to.seq < at.seq:
            return False  # or what was announced to us is of another log: the store knows
        elif to.seq > at.seq and not await self._hears_of(to):
            self._applier.jump(to, f"no message told of the changes up to {to.seq}")
        return True

    async def _store_answers(self) -> bool:
        """Not waited for as long as a look may take: what Redis has proven grows old meanwhile."""
        try:
            async with asyncio.timeout(_STORE_ANSWER_SECONDS):
                await self._prove_by_store()
        except (Unreachable, TimeoutError):
            return False
        return True

    async def _renew(self) -> None:
        """Renew the entry in the store, or make it again, and hold what was announced against the log.

        No proof: that of Redis, which came meanwhile, is newer.
        """
        with contextlib.suppress(Unreachable, TimeoutError):
            async with asyncio.timeout(_STORE_ANSWER_SECONDS):
                await self._look_in_store()

    async def _prove_by_store(self) -> None:
        began = self._clock()
        if await self._look_in_store():
            self._prove_from(began)
            self.source = "store"

    async def _look_in_store(self) -> bool:
        """Come as far as the store; False where messages came meanwhile, which what was read does not follow."""
        at = self._applier.position
        self._asked_store_at = self._clock()
        seq, limit = (at.seq, _BATCH) if at is not None else (0, 0)
        look = await self._log.look(seq, limit, presence=self._presence(at))
        if self._applier.position != at:
            self._wanted.set()  # the next look is soon
            return False
        self._applier.take_look(look)
        return True

    def _prove_from(self, moment: float) -> None:
        self._proven_at = moment
        self._proven(moment)

    async def _hears_of(self, to: LogPosition) -> bool:
        """Whether messages lead to there within the time that they may need."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MESSAGE_SECONDS):
                while not self._is_at(to):
                    self._moved.clear()
                    await self._moved.wait()
        return self._is_at(to)

    def _is_at(self, to: LogPosition) -> bool:
        at = self._applier.position
        return at is not None and at.epoch == to.epoch and at.seq >= to.seq

    # --- messages -----------------------------------------------------------------------------------------------------

    async def _listen(self, table: SharedTable) -> None:
        while True:
            try:
                await self._follow(table)
            except Unreachable:
                self._wanted.set()  # changes may be passing by: ask at once
                await asyncio.sleep(_SUBSCRIBE_PAUSE_SECONDS)

    async def _follow(self, table: SharedTable) -> None:
        async with contextlib.aclosing(table.follow()) as messages:
            async for message in messages:
                if message is None:
                    self._wanted.set()  # what was announced before the subscription held shows at a pulse
                elif self._applier.position is not None:
                    self._take(*message)

    def _take(self, epoch: str, change: Change) -> None:
        at = self._applier.position
        if at is not None and at.epoch != epoch:
            self._wanted.set()  # the store says which life it is in
        else:
            self._applier.take_message(epoch, change)

    # --- outages ------------------------------------------------------------------------------------------------------

    def _note(self, outage: str) -> None:
        """Tell an outage once, and its end once."""
        if outage and not self._outage:
            _LOG.error(
                "neither Redis nor the store tells of changes; cached keys are served until their time is over: %s",
                outage,
            )
        elif self._outage and not outage:
            _LOG.warning("changes are heard of again, through %s", self.source)
        self._outage = outage


@dataclass(frozen=True, slots=True)
class _Vouched:
    """A pulse that can be believed."""

    epoch: str
    head: int
    stamp: Stamp


def _vouched(pulse: Pulse) -> _Vouched | None:
    """The pulse, if a control process vouches for the table just now, and the table holds all that it says."""
    epoch, head, stamp = pulse.epoch, pulse.head, pulse.stamp
    if epoch is None or head is None or stamp is None:
        return None
    current = stamp.epoch == epoch and (stamp.head is None or head >= stamp.head)
    return _Vouched(epoch, head, stamp) if current and stamp.age_seconds < STAMP_BELIEVED_SECONDS else None


class LocalLog:
    """A store of this machine as a StoreLog: read on the loop, and without a list, as all workers are of one node."""

    __slots__ = ("_reader",)

    def __init__(self, reader: "LocalReader") -> None:
        self._reader = reader

    async def enter(self, presence: WorkerPresence) -> None:
        """Nothing to do: the supervisor says who is there."""

    async def look(self, seq: int, limit: int, *, presence: WorkerPresence) -> LogLook:
        """See StoreLog."""
        del presence
        self._reader.data_version()  # opens the file anew where it was replaced
        return self._reader.look(seq, limit)


class LocalReader(Protocol):
    """What `LocalLog` reads."""

    def data_version(self) -> int:
        """See `log_follower.ChangeLog`."""

    def look(self, seq: int, limit: int) -> LogLook:
        """See `log_follower.ChangeLog`."""
