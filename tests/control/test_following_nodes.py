"""Whom the answer to a change waits for where nodes share a store, and what it says of those it cannot count."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gateway.control import following
from gateway.control.following import Following
from gateway.errors import RedisUnavailable, StoreUnavailable
from gateway.keys.projection import LogPosition, WorkerPresence, worker_id
from gateway.services.worker_roll import HeardWorker, Roll, WorkerRoll
from gateway.store.engine import create_engine, write_transaction
from gateway.store.migrate import migrate
from gateway.store.postgres_reader import PostgresReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from tests.servers.postgres import PostgresServer

A, B = "node-a", "node-b"
EPOCH = "now"


def presence(node: str, slot: int, seq: int | None, epoch: str = EPOCH, believes: float = 60.0) -> WorkerPresence:
    at = None if seq is None else LogPosition(epoch, seq)
    return WorkerPresence(
        worker_id(node, f"worker-{slot}", slot), node, f"host of {node}", f"worker-{slot}", slot, believes, at
    )


class ScriptedRoll:
    """A roll that tests write on."""

    def __init__(self, *presences: WorkerPresence) -> None:
        self.members = {each.id: each for each in presences}
        self.readings = 0
        self.reading_now = 0
        self.most_at_once = 0
        self.away = False
        self.held: asyncio.Event | None = None
        """While it is there and not set, a reading does not end."""
        self.removed: list[str] = []
        self.expired: list[list[str]] = []

    async def present(self) -> Roll:
        self.readings += 1
        self.reading_now += 1
        self.most_at_once = max(self.most_at_once, self.reading_now)
        try:
            read = {id_: HeardWorker(each, 0.25) for id_, each in self.members.items()}
            if self.held is not None:
                await self.held.wait()
            else:
                await asyncio.sleep(0)
            if self.away:
                raise StoreUnavailable("The store is away.")
            return Roll(EPOCH, read, certain=True)
        finally:
            self.reading_now -= 1

    async def heard(self, roll: Roll) -> Roll:
        del roll
        return await self.present()

    async def remove(self, ids: Iterable[str]) -> None:
        if self.away:
            raise RedisUnavailable("Redis is away.")
        self.removed += ids

    async def expire(self) -> list[str]:
        return self.expired.pop(0) if self.expired else []

    def write(self, *presences: WorkerPresence) -> None:
        self.members |= {each.id: each for each in presences}


class Site:
    """The Following of node A, its own workers, and the roll."""

    def __init__(self, roll: ScriptedRoll, *own: int, verify: Callable[[], Awaitable[None]] | None = None) -> None:
        self.roll = roll
        self.head = 5
        self.following = Following(
            announce=lambda: None,
            newest_change=self._newest,
            believes_for_seconds=30,
            roll=roll,
            verify=verify,
            node=A,
            host=f"host of {A}",
        )
        self.update(*own)

    async def _newest(self) -> int:
        return self.head

    def update(self, *slots: int, seq: int = -1, epoch: str | None = None) -> None:
        """The supervisor's list."""
        listed = [{"name": f"worker-{slot}", "pid": slot, "applied": seq, "epoch": epoch} for slot in slots]
        self.following.update({"command": "workers", "following": listed})

    def applied(self, slot: int, seq: int, epoch: str = EPOCH) -> None:
        """A worker of this node reports."""
        self.following.applied({"command": "applied", "pid": slot, "seq": seq, "epoch": epoch})

    async def read(self, times: int = 2) -> None:
        """Wait until the roll was read so many times more."""
        until = self.roll.readings + times
        while self.roll.readings < until:
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is."""
    monkeypatch.setattr(following, "PATIENCE_SECONDS", 60.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, patient: None) -> None:
    del patient
    monkeypatch.setattr(following, "PATIENCE_SECONDS", 0.5)


async def test_the_answer_waits_for_workers_of_all_nodes() -> None:
    roll = ScriptedRoll(presence(A, 1, 4), presence(B, 1, 4), presence(B, 2, 5))
    site = Site(roll, 1)
    waiting = asyncio.create_task(site.following.wait(5))
    await site.read()
    roll.write(presence(A, 1, 5))
    await site.read()
    assert not waiting.done()
    roll.write(presence(B, 1, 6))
    answer = await waiting
    assert (answer.applied, answer.of, answer.silent) == (3, 3, ())


async def test_what_own_workers_report_to_the_supervisor_counts_before_it_is_on_the_roll() -> None:
    site = Site(ScriptedRoll(presence(A, 1, 4), presence(A, 2, None)), 1, 2)
    waiting = asyncio.create_task(site.following.wait(5))
    site.applied(1, 5)
    await site.read()
    site.applied(2, 5)
    answer = await waiting
    assert (answer.applied, answer.of) == (2, 2)


@pytest.mark.usefixtures("impatient")
async def test_what_was_applied_in_another_life_of_the_log_does_not_count() -> None:
    roll = ScriptedRoll(presence(A, 1, 9, "before"), presence(B, 1, 9, "before"), presence(B, 2, 5))
    site = Site(roll, 1)
    site.applied(1, 9, "before")
    answer = await site.following.wait(5)
    assert (answer.applied, answer.of) == (1, 3)
    site.applied(1, 5)
    assert (await site.following.wait(5)).applied == 2


@pytest.mark.usefixtures("impatient")
async def test_a_silent_worker_is_named_with_its_host_and_its_own_time() -> None:
    site = Site(ScriptedRoll(presence(A, 1, 4, believes=7.0), presence(B, 2, 4, believes=90.0)), 1)
    before = datetime.now(UTC)
    answer = await site.following.wait(5)
    assert [each.name for each in answer.silent] == ["worker-1", "worker-2 on host of node-b"]
    for each, believes in zip(answer.silent, (7, 90), strict=True):
        assert timedelta(seconds=believes) <= each.until - before < timedelta(seconds=believes + 5)


@pytest.mark.usefixtures("impatient")
async def test_a_roll_that_cannot_be_read_is_one_who_is_silent_and_never_nobody() -> None:
    roll = ScriptedRoll(presence(B, 1, 9))
    roll.away = True
    site = Site(roll, 1)
    site.applied(1, 5)
    answer = await site.following.wait(5)
    assert (answer.applied, answer.of, [each.name for each in answer.silent]) == (1, 2, ["workers of other nodes"])
    site.update()
    assert (await site.following.wait(5)).of == 1


@pytest.mark.usefixtures("impatient")
async def test_a_supervisor_that_has_said_nothing_yet_is_one_who_is_silent() -> None:
    """A control process that has just been started knows nobody; that is not to say that there is nobody."""
    following = Following(announce=lambda: None, newest_change=_four, believes_for_seconds=60)
    answer = await following.wait(4)
    assert (answer.applied, answer.of, len(answer.silent)) == (0, 1, 1)


async def _four() -> int:
    return 4


@pytest.mark.usefixtures("impatient")
async def test_for_a_while_after_the_store_was_restored_there_may_be_workers_that_nobody_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who entered since the backup was made is on no list before they look again."""
    roll = ScriptedRoll(presence(A, 1, 4))
    present = roll.present

    async def restored() -> Roll:
        return replace(await present(), epoch_seconds=5.0)

    monkeypatch.setattr(roll, "present", restored)
    site = Site(roll, 1)
    answer = await site.following.wait(4)
    assert (answer.applied, answer.of) == (1, 2)
    assert [each.name for each in answer.silent] == ["workers of other nodes"]


@pytest.mark.usefixtures("impatient")
async def test_a_roll_that_does_not_answer_is_as_one_that_cannot_be_read() -> None:
    roll = ScriptedRoll(presence(B, 1, 9))
    roll.held = asyncio.Event()
    answer = await Site(roll).following.wait(5)
    assert [each.name for each in answer.silent] == ["workers of other nodes"]
    roll.held.set()


async def test_a_roll_that_can_be_read_again_meanwhile_is_read() -> None:
    roll = ScriptedRoll(presence(B, 1, 9))
    roll.away = True
    site = Site(roll)
    waiting = asyncio.create_task(site.following.wait(5))
    await site.read(3)
    roll.away = False
    assert (await waiting).applied == 1


async def test_a_reading_that_began_before_the_change_says_nothing_of_who_is_there_now() -> None:
    """A worker that entered since then may have read the store before the change."""
    roll = ScriptedRoll(presence(A, 1, 9))
    site = Site(roll, 1)
    roll.held = first = asyncio.Event()
    earlier = asyncio.create_task(site.following.wait(5))
    await site.read(1)
    roll.write(presence(B, 1, 4))
    later = asyncio.create_task(site.following.wait(5))
    await asyncio.sleep(0)
    roll.held = second = asyncio.Event()
    first.set()
    assert (await earlier).of == 1
    await asyncio.sleep(0.01)
    assert not later.done()
    second.set()
    await site.read(1)
    assert not later.done()
    roll.write(presence(B, 1, 5))
    assert (await later).of == 2


async def test_who_leaves_meanwhile_is_no_longer_waited_for() -> None:
    roll = ScriptedRoll(presence(A, 1, 5), presence(B, 1, 4))
    site = Site(roll, 1)
    waiting = asyncio.create_task(site.following.wait(5))
    await site.read()
    del roll.members[worker_id(B, "worker-1", 1)]
    assert (await waiting).of == 1


async def test_who_enters_meanwhile_is_waited_for_too() -> None:
    roll = ScriptedRoll(presence(A, 1, 4))
    site = Site(roll, 1)
    waiting = asyncio.create_task(site.following.wait(5))
    await site.read()
    roll.write(presence(A, 1, 5), presence(B, 1, None))
    await site.read()
    assert not waiting.done()
    roll.write(presence(B, 1, 5))
    assert (await waiting).of == 2


async def test_an_own_worker_that_has_ended_is_not_waited_for_though_it_is_still_on_the_roll() -> None:
    site = Site(ScriptedRoll(presence(A, 1, 5), presence(A, 2, 4), presence(B, 2, 5)), 1, 2)
    waiting = asyncio.create_task(site.following.wait(5))
    await site.read()
    site.update(1)
    answer = await waiting
    assert (answer.applied, answer.of) == (2, 2)


async def test_a_worker_that_was_told_to_start_and_has_not_entered_holds_up_nobody() -> None:
    """It answers 503 until it has entered, and reads the store after that."""
    site = Site(ScriptedRoll(presence(A, 1, 5)), 1, 2)
    assert (await site.following.wait(5)).of == 1


@pytest.mark.usefixtures("impatient")
async def test_an_own_worker_that_served_and_is_missing_on_the_roll_is_waited_for() -> None:
    """A store that was restored to an earlier state has lost its row."""
    site = Site(ScriptedRoll(presence(A, 1, 5)), 1, 2)
    site.applied(2, 4)
    answer = await site.following.wait(5)
    assert (answer.applied, answer.of) == (1, 2)


async def test_all_who_wait_share_the_readings_and_nobody_reads_when_nobody_waits() -> None:
    roll = ScriptedRoll(presence(B, 1, 4))
    site = Site(roll)
    waiting = [asyncio.create_task(site.following.wait(5)) for _ in range(20)]
    await site.read(5)
    roll.write(presence(B, 1, 5))
    await asyncio.gather(*waiting)
    assert roll.most_at_once == 1
    await asyncio.sleep(0.03)
    before = roll.readings
    await asyncio.sleep(0.05)
    assert roll.readings == before
    assert (await site.following.wait(5)).applied == 1


async def test_a_defect_of_the_roll_is_raised_and_not_called_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    roll = ScriptedRoll()
    monkeypatch.setattr(roll, "present", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await Site(roll).following.wait(5)


async def test_who_waits_no_more_leaves_the_others_waiting() -> None:
    roll = ScriptedRoll(presence(B, 1, 4))
    site = Site(roll)
    one, other = (asyncio.create_task(site.following.wait(5)) for _ in range(2))
    await site.read()
    one.cancel()
    await asyncio.wait([one])
    roll.write(presence(B, 1, 5))
    assert (await other).applied == 1


async def test_a_repeated_call_waits_for_what_the_first_one_changed_on_all_nodes() -> None:
    roll = ScriptedRoll(presence(B, 1, 4))
    site = Site(roll)
    waiting = asyncio.create_task(site.following.wait(None))
    await site.read()
    assert not waiting.done()
    roll.write(presence(B, 1, 5))
    answer = await waiting
    assert (answer.seq, answer.applied, answer.of) == (None, 1, 1)


async def test_the_log_is_verified_before_a_reading_counts() -> None:
    """What workers had said of a log that has gone back would else count for a change with the same number."""
    roll = ScriptedRoll(presence(B, 1, 9))
    verified = asyncio.Event()

    async def verify() -> None:
        await verified.wait()
        roll.write(presence(B, 1, 9, "the log as it was"))

    site = Site(roll, verify=verify)
    waiting = asyncio.create_task(site.following.wait(5))
    await asyncio.sleep(0.01)
    assert roll.readings == 0
    verified.set()
    await site.read()
    assert not waiting.done()
    roll.write(presence(B, 1, 5))
    assert (await waiting).applied == 1


@pytest.mark.usefixtures("impatient")
async def test_where_the_log_cannot_be_verified_nobody_has_said_anything_of_this_change() -> None:
    hangs = asyncio.Event()

    async def away() -> None:
        raise StoreUnavailable("The store is away.")

    async def hang() -> None:
        await hangs.wait()

    for verify, silent in ((away, "worker-1 on host of node-b"), (hang, "workers of other nodes")):
        answer = await Site(ScriptedRoll(presence(B, 1, 9)), verify=verify).following.wait(5)
        assert (answer.applied, answer.of) == (0, 1)
        assert [each.name for each in answer.silent] == [silent]


# --- keeping the roll -------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def kept(site: Site) -> AsyncIterator[None]:
    keeping = asyncio.create_task(site.following.run())
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


async def test_who_has_ended_is_taken_off_the_roll_as_soon_as_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_UPKEEP_SECONDS", 0.01)
    roll = ScriptedRoll(presence(A, 1, 5), presence(A, 2, 5))
    site = Site(roll, 1, 2)
    roll.away = True
    async with kept(site):
        site.update(2)
        await asyncio.sleep(0.05)
        roll.away = False
        while not roll.removed:
            await asyncio.sleep(0.001)
        assert roll.removed == [worker_id(A, "worker-1", 1)]
        site.update(2)
        await asyncio.sleep(0.05)
        assert roll.removed == [worker_id(A, "worker-1", 1)]


@pytest.fixture
def ended_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        return process.pid


async def test_who_ended_while_this_process_was_not_there_is_taken_off_too(ended_pid: int) -> None:
    """By its number, which is sure on this node alone: there is no such process any more."""
    here = os.getpid()
    roll = ScriptedRoll(presence(A, ended_pid, 4), presence(A, here, 5), presence(B, ended_pid, 5))
    site = Site(roll)
    async with kept(site):
        while not roll.removed:
            await asyncio.sleep(0.001)
        assert roll.removed == [worker_id(A, f"worker-{ended_pid}", ended_pid)]
        assert (await site.following.wait(5)).applied == 2


async def test_who_was_dropped_is_told_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(following, "_UPKEEP_SECONDS", 0.01)
    roll = ScriptedRoll()
    roll.expired = [[], ["node-b:worker-1:1"]]
    async with kept(Site(roll)):
        while not caplog.records:
            await asyncio.sleep(0.001)
    assert [vars(each)["worker"] for each in caplog.records] == ["node-b:worker-1:1"]


async def test_without_a_roll_there_is_nothing_to_keep() -> None:
    async def newest() -> int:
        return 0

    await Following(announce=lambda: None, newest_change=newest, believes_for_seconds=60).run()


# --- status -----------------------------------------------------------------------------------------------------------


async def test_members_are_listed_with_their_lag_where_it_can_be_known() -> None:
    site = Site(ScriptedRoll(presence(A, 1, 3), presence(B, 1, 9, "before")), 1)
    site.applied(1, 4)
    own, other = await site.following.members()
    assert (own.name, own.node, own.host, own.pid, own.applied, own.lag, own.own) == (
        *("worker-1", A, "host of node-a", 1, 4, 1, True),
    )
    assert (other.host, other.applied, other.lag, other.own, other.silent_seconds) == (
        *("host of node-b", None, None, False, 0.25),
    )


async def test_where_the_roll_cannot_be_read_own_members_are_listed() -> None:
    roll = ScriptedRoll(presence(B, 1, 5))
    roll.away = True
    members: list[Any] = await Site(roll, 1).following.members()
    assert [(each.name, each.applied) for each in members] == [("worker-1", None)]


# --- on a real store --------------------------------------------------------------------------------------------------


async def test_workers_of_two_nodes_on_postgresql_are_waited_for_by_what_they_write_there(
    postgres: PostgresServer,
) -> None:
    url = postgres.url(postgres.new_database())
    migrate(url)
    engine, readers = create_engine(url), [PostgresReader(url), PostgresReader(url)]
    roll = WorkerRoll(engine, None)

    async def newest() -> int:
        return (await readers[0].look(0)).head

    site = Following(
        announce=lambda: None, newest_change=newest, believes_for_seconds=60, roll=roll, node=A, host="host"
    )
    site.update({"following": []})
    try:
        looks = [await reader.look(0, presence=presence(A, slot, None)) for slot, reader in enumerate(readers)]
        epoch = looks[0].epoch
        async with write_transaction(engine) as connection:
            await connection.exec_driver_sql("INSERT INTO key_changes VALUES (1, 'key', 'key_1', 2)")
        waiting = asyncio.create_task(site.wait(1))
        for slot, reader in enumerate(readers):
            assert not waiting.done()
            look = await reader.look(0, presence=presence(A, slot, 0, epoch))
            await reader.look(0, presence=presence(A, slot, look.head, epoch))
        answer = await waiting
        assert (answer.applied, answer.of) == (2, 2)
        await readers[1].leave(presence(A, 1, None).id)
        assert (await site.wait(None)).of == 1
    finally:
        for reader in readers:
            await reader.close()
        await engine.dispose()
