"""Whose word a worker takes for being current: Redis' while it can be believed, the store's else, and nobody's else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gateway.changes.applier import Applier
from gateway.changes.shared_feed import LocalLog, SharedFeed
from gateway.errors import StoreUnavailable, Unreachable
from gateway.keys.change import Change
from gateway.keys.projection import LogLook, LogPosition, Pulse, Stamp, WorkerPresence

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator


def change(seq: int) -> Change:
    return Change(seq, "key", f"key_{seq}", 1)


class Store:
    """A StoreLog of so many rows; `away` makes every call fail."""

    def __init__(self) -> None:
        self.epoch, self.head, self.away = "one", 3, False
        self.entered: list[WorkerPresence] = []
        self.looks: list[WorkerPresence] = []

    async def enter(self, presence: WorkerPresence) -> None:
        self._fail()
        self.entered.append(presence)

    async def look(self, seq: int, limit: int, *, presence: WorkerPresence) -> LogLook:
        self._fail()
        self.looks.append(presence)
        at = change(seq) if 0 < seq <= self.head else None
        behind = tuple(change(each) for each in range(seq + 1, self.head + 1))[:limit]
        return LogLook(self.epoch, self.head, at, behind)

    def _fail(self) -> None:
        if self.away:
            raise StoreUnavailable("the store is away")


class Table:
    """A SharedTable: `pulse_is` is what it says, None that it is away; messages are put in by hand."""

    def __init__(self) -> None:
        self.pulse_is: Pulse | None = Pulse("one", 3, complete=True, stamp=Stamp("one", 3, 0.2))
        self.pulses: list[WorkerPresence] = []
        self.messages: asyncio.Queue[tuple[str, Change] | Exception | None] = asyncio.Queue()
        self.subscriptions = 0

    async def pulse(self, presence: WorkerPresence) -> Pulse:
        if self.pulse_is is None:
            raise Unreachable("redis is away")
        self.pulses.append(presence)
        return self.pulse_is

    async def follow(self) -> AsyncGenerator[tuple[str, Change] | None, None]:
        self.subscriptions += 1
        yield None
        while True:
            message = await self.messages.get()
            if isinstance(message, Exception):
                raise message
            yield message

    def says(self, head: int, *, epoch: str = "one", stamp_head: int | None = None, age: float = 0.2) -> None:
        stamp = Stamp(epoch, head if stamp_head is None else stamp_head, age)
        self.pulse_is = Pulse(epoch, head, complete=True, stamp=stamp)


class Worker:
    """A feed, its two sources, and what came of it."""

    def __init__(self, *, redis: bool = True) -> None:
        self.store, self.table = Store(), Table()
        self.told: list[int | str] = []
        self.proofs: list[float] = []
        self.now = 100.0
        self.applier = Applier(self, lambda _: self.feed.applied())
        self.feed = SharedFeed(
            self.applier,
            self.store,
            self.table if redis else None,
            presence=self.presence,
            proven=self.proofs.append,
            clock=lambda: self.now,
            poll_seconds=0.001,
        )

    def presence(self, position: LogPosition | None) -> WorkerPresence:
        return WorkerPresence("node:worker-0:7", "node", "host", "worker-0", 7, 60.0, position)

    def apply(self, change: Change) -> None:
        self.told.append(change.seq)

    def forget_everything(self) -> None:
        self.told.append("forget")

    def proven(self, now: float) -> None:
        raise AssertionError(now)

    @property
    def at(self) -> tuple[str, int] | None:
        position = self.applier.position
        return None if position is None else (position.epoch, position.seq)

    async def prove(self) -> tuple[str, float | None]:
        """Let it prove itself once; from what, and as of when."""
        self.proofs.clear()
        self.told.clear()
        await self.feed._prove()
        return self.feed.source, self.proofs[-1] if self.proofs else None


@pytest.fixture
async def worker() -> Worker:
    started = Worker()
    await started.feed.start()
    return started


async def test_a_worker_is_in_the_list_before_it_believes_anything_and_begins_where_the_store_is() -> None:
    """What Redis says may be older than the entry: a change that did not wait for this worker would be missed."""
    worker = Worker()
    worker.store.head = 4
    await worker.feed.start()
    assert [each.position for each in worker.store.entered] == [None]
    assert (worker.at, worker.proofs, worker.table.pulses) == (("one", 4), [100.0], [])


async def test_it_does_not_start_without_a_store() -> None:
    worker = Worker()
    worker.store.away = True
    with pytest.raises(StoreUnavailable):
        await worker.feed.start()
    assert not worker.feed.entered


async def test_a_worker_that_could_not_enter_proves_nothing_by_redis_alone_and_enters_when_it_can() -> None:
    worker = Worker()
    worker.store.away = True
    assert await worker.prove() == ("none", None)
    assert not worker.feed.entered
    worker.store.away = False
    assert await worker.prove() == ("store", 100.0)
    assert worker.feed.entered


async def test_a_worker_without_a_proof_for_as_long_as_it_may_believe_enters_anew_before_it_goes_on(
    worker: Worker,
) -> None:
    """It was stopped, or cut off, and may have been dropped from the list since."""
    worker.now += 59
    assert worker.feed.entered
    worker.now += 1
    assert not worker.feed.entered, "so nothing is looked up either"
    worker.store.away = True
    assert await worker.prove() == ("none", None)
    assert not worker.feed.entered
    worker.store.away = False
    assert await worker.prove() == ("store", 160.0), "Redis may be behind what was committed before"
    assert worker.feed.entered
    assert len(worker.store.entered) == 2


async def test_a_fresh_stamp_is_a_proof_as_of_its_own_time(worker: Worker) -> None:
    assert await worker.prove() == ("redis", 100.0 - 0.2)
    assert worker.table.pulses[-1].position == LogPosition("one", 3)
    assert worker.told == []


@pytest.mark.parametrize(
    "pulse",
    [
        None,
        Pulse(None, None, complete=False, stamp=None),
        Pulse(None, None, complete=False, stamp=Stamp("one", 3, 0.1)),
        Pulse("one", 3, complete=True, stamp=None),
        Pulse("one", 3, complete=True, stamp=Stamp("one", 3, 3.0)),
        Pulse("one", 3, complete=True, stamp=Stamp("two", 3, 0.1)),
        Pulse("one", 2, complete=True, stamp=Stamp("one", 3, 0.1)),
    ],
    ids=["away", "flushed", "flushed but stamped", "no stamp", "old", "of another epoch", "lagging"],
)
async def test_what_cannot_be_believed_makes_it_ask_the_store(worker: Worker, pulse: Pulse | None) -> None:
    """And costs nobody what is cached: the positions show that nothing was missed."""
    worker.table.pulse_is = pulse
    assert await worker.prove() == ("store", 100.0)
    assert (worker.told, worker.at) == ([], ("one", 3))
    worker.store.head = 5
    assert await worker.prove() == ("store", 100.0)
    assert (worker.told, worker.at) == ([4, 5], ("one", 5))


async def test_what_the_store_told_meanwhile_is_nothing_new_when_redis_is_back(worker: Worker) -> None:
    worker.table.pulse_is = None
    worker.store.head = 5
    await worker.prove()
    worker.table.says(5)
    assert await worker.prove() == ("redis", 99.8)
    assert worker.told == []


async def test_a_worker_that_is_further_than_the_table_asks_the_store(worker: Worker) -> None:
    """Either the store has told it more, or what was announced to it was not of this log."""
    worker.store.head = 5
    worker.table.pulse_is = None
    await worker.prove()
    worker.table.says(4)
    assert await worker.prove() == ("store", 100.0)
    assert (worker.told, worker.at) == ([], ("one", 5))


async def test_changes_that_were_announced_and_are_none_of_this_log_are_found_out(worker: Worker) -> None:
    worker.feed._take("one", change(4))
    worker.feed._take("one", change(900))
    assert await worker.prove() == ("store", 100.0)
    assert (worker.told, worker.at) == (["forget"], ("one", 3))


async def test_with_both_away_nothing_is_proven_and_it_is_told_once(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    worker.table.pulse_is, worker.store.away = None, True
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert await worker.prove() == ("none", None)
        assert worker.told == [], "what is cached is served until its time is over"
        worker.table.says(3)
        assert (await worker.prove())[0] == "redis"
    assert [each.levelno for each in caplog.records] == [logging.ERROR, logging.WARNING]


async def test_while_no_control_process_reaches_the_store_redis_is_believed_if_we_do_not_either(
    worker: Worker,
) -> None:
    worker.table.pulse_is = Pulse("one", 3, complete=True, stamp=Stamp("one", None, 0.5))
    assert await worker.prove() == ("store", 100.0)
    worker.store.away = True
    assert await worker.prove() == ("redis", 99.5)


async def test_a_head_that_no_message_told_of_makes_everything_be_forgotten(worker: Worker) -> None:
    """The message was lost; what it was about is unknown."""
    worker.table.says(5)
    assert (await worker.prove())[0] == "redis"
    assert (worker.told, worker.at) == (["forget"], ("one", 5))


async def test_a_message_that_is_still_on_its_way_is_waited_for(worker: Worker) -> None:
    worker.table.says(5)
    proving = asyncio.get_running_loop().create_task(worker.prove())
    await asyncio.sleep(0)
    for seq in (4, 5):
        await asyncio.sleep(0)
        worker.feed._take("one", change(seq))
    assert (await proving)[0] == "redis"
    assert (worker.told, worker.at) == ([4, 5], ("one", 5))


async def test_another_epoch_is_believed_when_the_store_says_so(worker: Worker) -> None:
    """A table that has not been rebuilt yet, or one that is ahead of what this worker has read: the store decides."""
    worker.table.says(9, epoch="two")
    assert await worker.prove() == ("store", 100.0)
    assert (worker.told, worker.at) == ([], ("one", 3))
    worker.store.epoch, worker.store.head = "two", 9
    assert await worker.prove() == ("store", 100.0)
    assert (worker.told, worker.at) == (["forget"], ("two", 9))


async def test_a_younger_epoch_is_taken_from_redis_only_where_the_store_cannot_be_asked(worker: Worker) -> None:
    worker.table.says(2, epoch="1.two")
    worker.store.away = True
    assert await worker.prove() == ("redis", 99.8)
    assert (worker.told, worker.at) == (["forget"], ("1.two", 2))


async def test_an_epoch_that_is_over_is_never_taken_from_redis(worker: Worker) -> None:
    """A Redis that came back with an old copy: what it says of keys was taken back since."""
    worker.table.says(9, epoch="two")
    worker.store.away = True
    assert await worker.prove() == ("none", None)
    assert (worker.told, worker.at) == ([], ("one", 3))


async def test_while_redis_proves_everything_the_entry_in_the_store_is_renewed_now_and_then(worker: Worker) -> None:
    """Whoever reads the list there may have another Redis, or none."""
    looks = len(worker.store.looks)
    async with running(worker):
        for _ in range(30):
            await proven_a_second_later(worker)
        assert len(worker.store.looks) == looks + 3
        worker.store.away = True
        worker.now += 9
        await proven_a_second_later(worker)
        assert worker.feed.source == "redis", "a store that is away is no reason to stop"


async def test_signs_of_life_do_not_wait_for_the_entry_in_the_store(worker: Worker) -> None:
    """Its commit may take long, and changes wait for this worker."""
    answer = asyncio.Event()
    look = worker.store.look

    async def slowly(seq: int, limit: int, *, presence: WorkerPresence) -> LogLook:
        await answer.wait()
        return await look(seq, limit, presence=presence)

    worker.store.look = slowly  # type: ignore[method-assign]
    worker.now += 20
    async with running(worker):
        await proven_a_second_later(worker)
        worker.table.says(4)
        worker.table.messages.put_nowait(("one", change(4)))
        while worker.table.pulses[-1].position != LogPosition("one", 4):
            await asyncio.sleep(0.001)
        answer.set()
        await proven_a_second_later(worker)
    assert worker.at == ("one", 4)
    assert worker.proofs == sorted(worker.proofs), "a proof that was asked for earlier takes nothing back"


async def proven_a_second_later(worker: Worker) -> None:
    """Let a feed that runs prove itself once more, with what goes on beside that."""
    worker.now += 1
    proofs = len(worker.proofs)
    worker.feed.look()
    while len(worker.proofs) == proofs:
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_message_of_another_epoch_is_never_applied(worker: Worker) -> None:
    worker.told.clear()
    worker.feed._take("two", change(4))
    assert (worker.told, worker.at) == ([], ("one", 3))


async def test_what_was_read_while_messages_came_is_not_mixed_with_them(worker: Worker) -> None:
    """The look is behind what is applied by then; the next one is made at once."""
    worker.table.pulse_is = None
    look = worker.store.look

    async def slowly(seq: int, limit: int, *, presence: WorkerPresence) -> LogLook:
        found = await look(seq, limit, presence=presence)
        worker.feed._take("one", change(4))
        return found

    worker.store.look = slowly  # type: ignore[method-assign]
    assert (await worker.prove())[1] is None
    assert (worker.told, worker.at) == ([4], ("one", 4))
    assert worker.feed._wanted.is_set()


@contextlib.asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[None]:
    """The feed, followed until the end of the block."""
    task = asyncio.get_running_loop().create_task(worker.feed.run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_messages_count_when_they_come_and_a_lost_subscription_is_made_again(worker: Worker) -> None:
    worker.told.clear()
    async with running(worker):
        for seq in (4, 5):
            worker.table.says(seq)
            worker.table.messages.put_nowait(("one", change(seq)))
            while worker.at != ("one", seq):
                await asyncio.sleep(0.001)
        worker.table.messages.put_nowait(Unreachable("cut"))
        while worker.table.subscriptions < 2:
            await asyncio.sleep(0.001)
    assert worker.told == [4, 5]


@pytest.mark.parametrize("redis", [True, False])
async def test_who_waits_for_a_change_hears_of_it_at_once_by_the_next_sign_of_life(redis: bool) -> None:  # noqa: FBT001
    worker = Worker(redis=redis)
    await worker.feed.start()
    signs = worker.table.pulses if redis else worker.store.looks
    async with running(worker):
        if redis:
            worker.table.says(4)
            worker.table.messages.put_nowait(("one", change(4)))
        else:
            worker.store.head = 4
        while not signs or signs[-1].position != LogPosition("one", 4):
            await asyncio.sleep(0.001)


async def test_without_redis_the_store_is_asked_again_and_again_and_at_once_when_told_to() -> None:
    worker = Worker(redis=False)
    await worker.feed.start()
    async with running(worker):
        for head in (4, 5):
            worker.store.head = head
            worker.feed.look()
            while worker.at != ("one", head):
                await asyncio.sleep(0.001)


async def test_a_store_of_this_machine_is_looked_at_where_it_is_now() -> None:
    """Its reader opens a file anew when it is asked for the version."""
    steps: list[object] = []

    class Reader:
        def data_version(self) -> int:
            steps.append("version")
            return 1

        def look(self, seq: int, limit: int) -> LogLook:
            steps.append((seq, limit))
            return LogLook("one", 0, None, ())

    presence = Worker().presence(None)
    log = LocalLog(Reader())
    await log.enter(replace(presence, pid=8))
    await log.look(4, 10, presence=presence)
    assert steps == ["version", (4, 10)]
