"""From the spool into the stores: everything once, whatever fails in between, and what follows from it as often."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, insert, select, update

from gateway.errors import StoreUnavailable
from gateway.keys.request_entry import Outcome
from gateway.recording.records import dropped_segment, unrecorded_refusals
from gateway.recording.spool_directory import SpoolDirectory
from gateway.services import recorder as recorder_module
from gateway.services.ndjson_sink import NdjsonSink
from gateway.services.recorder import Found, Recorder
from gateway.services.retention import keep_to
from gateway.store.engine import create_engine
from gateway.store.schema import audit_counts, audit_runs, audit_segments, key_changes, key_secrets
from tests.memory_audit_store import MemoryAuditStore
from tests.recording.spool_writer import NOON, Worker, entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from gateway.keys.request_entry import RequestEntry
    from tests.services.conftest import World

HOUR = datetime(2026, 11, 21, 12, tzinfo=UTC)


class FaultyAuditStore(MemoryAuditStore):
    """Fails as often as it is told, before or after it has kept what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Exception] = []
        self.fails_late = False
        self.interrupted: list[tuple[str, int]] = []
        self.interrupt_fails: Exception | None = None
        self.on_write: Callable[[], None] | None = None
        self.counting: asyncio.Event | None = None
        self.counted = 0

    async def write(self, spool: str, entries: Sequence[RequestEntry]) -> None:
        if self.failures and not self.fails_late:
            raise self.failures.pop(0)
        await super().write(spool, entries)
        if self.on_write is not None:
            self.on_write()
        if self.failures:
            raise self.failures.pop(0)

    async def count(self, spool: str, segment: int) -> int:
        self.counted += 1
        if self.counting is not None:
            await self.counting.wait()
        return await super().count(spool, segment)

    async def interrupt(self, spool: str, run: int) -> int:
        if self.interrupt_fails is not None:
            raise self.interrupt_fails
        self.interrupted.append((spool, run))
        return await super().interrupt(spool, run)

    @property
    def request_ids(self) -> list[str]:
        return sorted(each.request_id for each in self.entries.values())


@pytest.fixture
def directory(tmp_path: Path) -> SpoolDirectory:
    made = SpoolDirectory(tmp_path / "spool")
    made.open()
    return made


@pytest.fixture
def kept() -> FaultyAuditStore:
    return FaultyAuditStore()


@pytest.fixture
async def make(
    world: World, directory: SpoolDirectory, kept: FaultyAuditStore
) -> AsyncIterator[Callable[..., Recorder]]:
    """Make recorders; each stands for one life of a control process."""
    made: list[Recorder] = []

    def build(**given: Any) -> Recorder:  # noqa: ANN401 - whatever a recorder is given
        plain: dict[str, Any] = {"retention_days": 90, "limit_bytes": 1 << 30}
        made.append(Recorder(world.engine, kept, directory.path, **plain | given))
        return made[-1]

    yield build
    for each in made:
        each._close()
        each._thread.shutdown()


async def settle(recorder: Recorder) -> None:
    while await recorder.step() is not Found.NOTHING:
        pass


async def counts(world: World) -> dict[tuple[str, str], int]:
    """Requests by key and outcome."""
    rows = await world.rows(select(audit_counts))
    assert {row.hour for row in rows} <= {HOUR}
    return {(row.key_id, row.outcome): row.requests for row in rows}


async def segments(world: World) -> list[Any]:
    return await world.rows(select(audit_segments).order_by(audit_segments.c.segment))


# --- the way of an entry ----------------------------------------------------------------------------------------------


async def test_what_workers_write_is_kept_counted_and_removed(
    world: World, directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder]
) -> None:
    recorder = make()
    first, second = Worker(directory), Worker(directory)
    first.write(entry(1))
    second.write(entry(2, key_id="key_2", status=404))
    await settle(recorder)
    first.write(entry(3))
    first.drain()
    await settle(recorder)
    assert kept.request_ids == ["r1", "r2", "r3"]
    assert await counts(world) == {("key_1", "2xx"): 2, ("key_2", "4xx"): 1}
    assert [each.number for each in directory.segments()] == [second.segment.number]
    over, present = await segments(world)
    assert (over.finished, over.entries, over.sealed_entries) == (True, 2, 2)
    assert (present.finished, present.entries, present.sealed_entries) == (False, 1, None)
    assert over.first_at == HOUR + timedelta(milliseconds=1)
    assert over.last_at == HOUR + timedelta(milliseconds=3)
    assert (recorder.entries, recorder.lag_seconds, recorder.store_away_seconds) == (3, 0.0, 0.0)
    assert recorder.spool_bytes > 0
    second.drain()


async def test_requests_are_counted_by_what_became_of_them(
    world: World, directory: SpoolDirectory, make: Callable[..., Recorder]
) -> None:
    worker = Worker(directory)
    worker.write(entry(1, status=101))
    worker.write(entry(2, outcome=Outcome.ABORTED, status=200))
    worker.write(entry(3, outcome=Outcome.REFUSED, status=403, code="missing_permission"))
    opened = worker.write(entry(4, outcome=Outcome.OPEN))
    worker.write(unrecorded_refusals(NOON, b"missing_api_key", 1000))
    recorder = make()
    await settle(recorder)
    expected = {("key_1", "1xx"): 1, ("key_1", "aborted"): 1, ("key_1", "refused:missing_permission"): 1}
    expected |= {("", "refused:missing_api_key"): 1000}
    assert await counts(world) == expected
    worker.write(entry(4, status=503), opened=opened)
    worker.write(unrecorded_refusals(NOON + 1_000_000, b"missing_api_key", 5))
    worker.write(dropped_segment(4, 100))
    worker.drain()
    await settle(recorder)
    assert await counts(world) == {**expected, ("key_1", "5xx"): 1, ("", "refused:missing_api_key"): 1005}
    assert (recorder.unrecorded_refusals, recorder.dropped_segments) == (1005, 1)


async def test_a_request_that_lasts_ends_in_its_place_and_what_a_dead_worker_left_open_is_interrupted(
    directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder]
) -> None:
    recorder = make()
    worker, other = Worker(directory), Worker(directory)
    ended = worker.write(entry(1, outcome=Outcome.OPEN))
    left = worker.write(entry(2, outcome=Outcome.OPEN))
    theirs = other.write(entry(3, outcome=Outcome.OPEN))
    worker.move_on()
    worker.write(entry(1), opened=ended)
    await settle(recorder)
    assert kept.interrupted == []
    worker.die()
    await settle(recorder)
    outcomes = {position: each.outcome for (_, position), each in kept.entries.items()}
    assert outcomes == {ended: Outcome.ANSWERED, left: Outcome.INTERRUPTED, theirs: Outcome.OPEN}
    assert kept.interrupted == [(directory.id, worker.run)]
    other.drain()


async def test_a_run_is_over_also_where_its_last_segment_was_dropped(
    directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder]
) -> None:
    recorder = make()
    worker = Worker(directory)
    worker.write(entry(1, outcome=Outcome.OPEN))
    await settle(recorder)
    worker.die()
    assert directory.drop_oldest() is not None
    await settle(recorder)
    assert [each.outcome for each in kept.entries.values()] == [Outcome.INTERRUPTED]


@pytest.mark.parametrize("anew", [False, True])
async def test_a_run_is_over_also_where_its_last_segment_went_before_any_of_it_was_read(
    world: World, directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder], *, anew: bool
) -> None:
    """Dropped for want of room, or removed by hand, while the recorder was at work or while there was none."""
    recorder, worker = make(), Worker(directory)
    worker.write(entry(1, outcome=Outcome.OPEN))
    await settle(recorder)
    worker.move_on()
    await settle(recorder)
    assert [each.number for each in directory.segments()] == [worker.segment.number]
    if anew:
        recorder._close()
        recorder = make()
    worker.die()
    worker.segment.path.unlink()
    await settle(recorder)
    assert [each.outcome for each in kept.entries.values()] == [Outcome.INTERRUPTED]
    assert await world.rows(select(audit_runs)) == []


async def test_a_run_is_settled_by_the_next_life_where_the_one_before_ended_after_it_had_noted_and_removed_all(
    world: World, directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder]
) -> None:
    first, worker = make(), Worker(directory)
    worker.write(entry(1, outcome=Outcome.OPEN))
    await settle(first)
    worker.die()
    assert await first.step() is Found.SOME
    assert directory.segments() == []
    first._close()
    assert [each.outcome for each in kept.entries.values()] == [Outcome.OPEN]
    await settle(make())
    assert [each.outcome for each in kept.entries.values()] == [Outcome.INTERRUPTED]
    assert await world.rows(select(audit_runs)) == []


async def test_other_nodes_runs_are_not_settled_here(
    world: World, directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder]
) -> None:
    theirs = {"spool": "0123456789abcdef", "run": 7}
    await world.execute(insert(audit_runs).values(**theirs))
    worker = Worker(directory)
    worker.write(entry(1))
    worker.drain()
    await settle(make())
    assert kept.interrupted == [(directory.id, worker.run)]
    assert [row._asdict() for row in await world.rows(select(audit_runs))] == [theirs]


# --- last uses --------------------------------------------------------------------------------------------------------


async def used(world: World, key_id: str) -> Any:  # noqa: ANN401 - a key as it is shown
    return await world.keys.show(world.admin, key_id)


async def test_a_use_shows_with_its_time_address_and_program_and_moves_forward_only(
    world: World, directory: SpoolDirectory, make: Callable[..., Recorder]
) -> None:
    key = (await world.keys.create(world.admin, {"name": "CI"})).resource
    [row] = await world.rows(select(key_secrets.c.id).where(key_secrets.c.key_id == key.id))
    whose = {"key_id": key.id, "secret_id": row.id}
    log = await world.rows(select(key_changes))
    assert (await used(world, key.id)).last_used is None
    recorder, worker = make(), Worker(directory)
    worker.write(entry(10, **whose, address="198.51.100.4", user_agent="newer"))
    worker.write(entry(5, **whose, address="198.51.100.5", user_agent="older"))
    worker.write(entry(20, **whose, outcome=Outcome.REFUSED, code="missing_permission", user_agent="refused"))
    worker.write(entry(7, key_id="key_gone", secret_id="sec_gone"))
    await settle(recorder)
    shown = await used(world, key.id)
    for use in (shown.last_used, shown.secret_last_used):
        assert use.at == HOUR + timedelta(microseconds=10_500)
        assert (use.address, use.user_agent) == ("198.51.100.4", "newer")
    worker.write(entry(9, **whose, user_agent="late"))
    await settle(recorder)
    assert (await used(world, key.id)).last_used.user_agent == "newer"
    worker.write(entry(30, **whose, outcome=Outcome.OPEN, duration=1_000_000, user_agent=""))
    worker.drain()
    await settle(recorder)
    shown = await used(world, key.id)
    assert shown.last_used.at == shown.secret_last_used.at == HOUR + timedelta(microseconds=1_030_000)
    assert shown.last_used.user_agent is None
    assert shown.version == key.version
    assert await world.rows(select(key_changes)) == log


async def test_a_use_before_the_creation_of_its_key_is_a_use_all_the_same(
    world: World, directory: SpoolDirectory, make: Callable[..., Recorder]
) -> None:
    """Clocks of two machines differ."""
    key = (await world.keys.create(world.admin, {"name": "CI"})).resource
    worker = Worker(directory)
    worker.write(entry(at=1_000_000, key_id=key.id, secret_id=""))
    worker.drain()
    await settle(make())
    shown = await used(world, key.id)
    assert shown.last_used.at == key.created_at
    assert shown.last_used.user_agent == "curl/8"


async def test_thousands_of_keys_are_noted_in_one_batch(
    world: World, directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder]
) -> None:
    worker = Worker(directory, 1 << 22)
    for number in range(4000):
        worker.write(entry(number, key_id=f"key_{number}", secret_id=f"sec_{number}"))
    worker.drain()
    await settle(make())
    assert len(kept.entries) == len(await counts(world)) == 4000


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
async def test_while_the_audit_store_is_away_nothing_is_lost_and_nothing_counted_twice(
    world: World, directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder], *, late: bool
) -> None:
    recorder, worker = make(), Worker(directory)
    kept.fails_late = late
    kept.failures = [StoreUnavailable("The audit store is away.") for _ in range(3)]
    worker.write(entry(1))
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await recorder.step()
        assert recorder.lag_seconds is not None
        assert recorder.lag_seconds >= 0
        assert await counts(world) == {}
        worker.write(entry(2))
    worker.drain()
    await settle(recorder)
    assert len(kept.entries) == 4
    assert await counts(world) == {("key_1", "2xx"): 4}
    assert directory.segments() == []


async def test_a_life_that_ended_between_the_stores_is_made_up_for_by_the_next(
    world: World, directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder]
) -> None:
    worker = Worker(directory)
    worker.write(entry(1))
    kept.fails_late, kept.failures = True, [StoreUnavailable("gone")]
    first = make()
    with pytest.raises(StoreUnavailable):
        await first.step()
    first._close()
    worker.write(entry(2))
    worker.drain()
    await settle(make())
    assert kept.request_ids == ["r1", "r2"]
    assert await counts(world) == {("key_1", "2xx"): 2}


async def test_a_file_that_outlived_its_checkpoint_is_removed_by_the_next_life(
    world: World, directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder]
) -> None:
    worker = Worker(directory)
    worker.write(entry(1, outcome=Outcome.OPEN))
    worker.die()
    first = make()
    first._tidy_from = float("inf")
    await settle(first)
    first._close()
    assert (len(directory.segments()), kept.interrupted) == (1, [])
    await settle(make())
    assert directory.segments() == []
    assert kept.interrupted == [(directory.id, worker.run)]
    assert await counts(world) == {}
    assert [row.entries for row in await segments(world)] == [1]


async def test_what_another_has_recorded_is_not_counted_again(
    world: World, directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder]
) -> None:
    """Two that do not see each other's lock, as on some network file systems."""
    worker = Worker(directory)
    worker.write(entry(1))
    slow, fast = make(), make()
    assert await slow.step() is Found.SOME
    worker.write(entry(2))
    slow._batch = await slow._in_thread(slow._read)
    fast._lock_fd = 1 << 20  # it thinks that it has it
    await settle(fast)
    fast._lock_fd = -1
    worker.write(entry(3))
    await slow.step()
    await settle(slow)
    assert kept.request_ids == ["r1", "r2", "r3"]
    assert await counts(world) == {("key_1", "2xx"): 3}
    worker.drain()


async def test_a_store_that_has_gone_back_gets_again_what_is_still_there(
    world: World, directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder]
) -> None:
    recorder, worker = make(), Worker(directory)
    worker.write(entry(1))
    await settle(recorder)
    await world.execute(delete(audit_segments))
    await world.execute(delete(audit_counts))
    worker.write(entry(2))
    await settle(recorder)
    await settle(recorder)
    assert kept.request_ids == ["r1", "r2"]
    assert await counts(world) == {("key_1", "2xx"): 2}
    worker.drain()


async def test_of_two_recorders_one_works_and_the_other_takes_over(
    directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder]
) -> None:
    worker, first, second = Worker(directory), make(), make()
    await settle(first)
    worker.write(entry(1))
    worker.drain()
    await settle(second)
    assert (first.active, second.active, second.lag_seconds) == (True, False, None)
    assert kept.entries == {}
    first._close()
    await settle(second)
    assert kept.request_ids == ["r1"]


async def test_it_runs_until_it_is_drained_and_a_defect_or_an_outage_does_not_end_it(
    directory: SpoolDirectory,
    kept: FaultyAuditStore,
    make: Callable[..., Recorder],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(recorder_module, "DEFECT_SECONDS", 0.01)
    monkeypatch.setattr(recorder_module, "STEP_SECONDS", 0.01)
    away = StoreUnavailable("The audit store is away.")
    kept.failures = [ZeroDivisionError("a defect"), away, away, away]
    recorder, worker = make(), Worker(directory)
    worker.write(entry(1))
    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(recorder.run())
        while not kept.entries:
            await asyncio.sleep(0.01)
        worker.write(entry(2))
        worker.drain()
        recorder.drain()
        await running
    assert kept.request_ids == ["r1", "r2"]
    assert directory.segments() == []
    told = [record.getMessage() for record in caplog.records if record.name == recorder_module.__name__]
    assert ["not foreseen" in text for text in told].count(True) == 1
    assert ["wait in the spool: The audit store is away." in text for text in told].count(True) == 1
    assert told[-1] == "requests are taken into the record again"


async def test_a_run_that_cannot_be_settled_holds_up_neither_entries_nor_files(
    world: World,
    directory: SpoolDirectory,
    kept: FaultyAuditStore,
    make: Callable[..., Recorder],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As because of one daily file that cannot be read."""
    monkeypatch.setattr(recorder_module, "TIDY_AGAIN_SECONDS", 0.0)
    kept.interrupt_fails = StoreUnavailable("A file cannot be read.")
    recorder, worker = make(), Worker(directory)
    worker.write(entry(0, outcome=Outcome.OPEN))
    worker.die()
    for number in (1, 2, 3):
        await settle(recorder)
        worker = Worker(directory)
        worker.write(entry(number))
        worker.drain()
    await settle(recorder)
    assert kept.request_ids == ["r0", "r1", "r2", "r3"]
    assert await counts(world) == {("key_1", "2xx"): 3}
    assert directory.segments() == []
    assert recorder.store_away_seconds == 0
    assert [each.getMessage() for each in caplog.records] == [
        "requests are taken into the record, but what comes after that is not done for now: A file cannot be read."
    ]
    kept.interrupt_fails = None
    await settle(recorder)
    assert kept.entries[min(kept.entries)].outcome is Outcome.INTERRUPTED


async def test_a_file_that_cannot_be_removed_holds_up_no_entry(
    directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "TIDY_AGAIN_SECONDS", 0.0)
    recorder = make()

    def refuse(_: object) -> None:
        raise PermissionError

    for number in (1, 2):
        worker = Worker(directory)
        worker.write(entry(number))
        worker.drain()
        with monkeypatch.context() as patched:
            patched.setattr(recorder._reader, "remove", refuse)
            await settle(recorder)
    assert kept.request_ids == ["r1", "r2"]
    assert (len(directory.segments()), recorder.waiting_bytes) == (2, 0)
    await settle(recorder)
    assert directory.segments() == []


async def test_how_late_it_is_is_not_known_before_the_store_has_said_how_far_it_was(
    directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder]
) -> None:
    """An outage that was there at the start is none of 0 seconds."""
    worker, recorder = Worker(directory), make()
    worker.write(entry(1))
    away = make()
    away._engine = create_engine("sqlite:////nonexistent/gateway.db")
    with pytest.raises(StoreUnavailable):
        await away.step()
    assert (away.active, away.lag_seconds) == (True, None)
    assert 0 < away.waiting_bytes < away.spool_bytes
    away._close()
    await settle(recorder)
    assert recorder.lag_seconds == 0
    assert kept.request_ids == ["r1"]
    worker.drain()


async def test_what_waits_is_looked_at_while_a_store_is_away(
    directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder]
) -> None:
    recorder, worker = make(), Worker(directory)
    kept.failures = [StoreUnavailable("away") for _ in range(2)]
    waiting = []
    for _ in range(2):
        for number in range(100):
            worker.write(entry(number))
        with pytest.raises(StoreUnavailable):
            await recorder.step()
        waiting.append(recorder.waiting_bytes)
    assert 0 < waiting[0] < waiting[1]
    worker.drain()
    await settle(recorder)
    assert recorder.waiting_bytes == 0


async def test_a_defect_shows_as_an_outage_and_is_told_once(
    directory: SpoolDirectory,
    kept: FaultyAuditStore,
    make: Callable[..., Recorder],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(recorder_module, "DEFECT_SECONDS", 0.01)
    monkeypatch.setattr(recorder_module, "STEP_SECONDS", 0.01)
    kept.failures = [ZeroDivisionError("a defect") for _ in range(100)]
    recorder, worker = make(), Worker(directory)
    worker.write(entry(1))
    worker.drain()
    running = asyncio.create_task(recorder.run())
    while len(kept.failures) > 90:
        await asyncio.sleep(0.01)
    assert recorder.store_away_seconds > 0
    kept.failures.clear()
    recorder.drain()
    await running
    assert kept.request_ids == ["r1"]
    assert recorder.store_away_seconds == 0
    told = [record for record in caplog.records if record.name == recorder_module.__name__]
    assert [record.exc_info is not None for record in told] == [True, False]
    assert told[1].getMessage() == "requests are taken into the record again"


async def test_a_recorder_that_waits_opens_the_spool_once(
    make: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening it takes the lock under which workers make their segments."""
    first, second = make(), make()
    await settle(first)
    opened, really = 0, second._directory.open

    def counted() -> None:
        nonlocal opened
        opened += 1
        really()

    monkeypatch.setattr(second._directory, "open", counted)
    for _ in range(3):
        await settle(second)
    assert (second.active, opened) == (False, 1)


# --- copies, retention, verification ----------------------------------------------------------------------------------


async def test_what_is_recorded_is_copied_to_a_file(
    directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder], tmp_path: Path
) -> None:
    recorder = make(sink=NdjsonSink(str(tmp_path / "requests.ndjson")))
    worker = Worker(directory)
    worker.write(entry(1))
    kept.failures = [StoreUnavailable("away")]
    with pytest.raises(StoreUnavailable):
        await recorder.step()
    await settle(recorder)
    worker.write(entry(2))
    worker.drain()
    await settle(recorder)
    lines = [json.loads(line) for line in (tmp_path / "requests.ndjson").read_text().splitlines()]
    assert [line["request_id"] for line in lines] == ["r1", "r2"]
    assert recorder.sink_failures == 0


async def test_counts_and_rows_of_segments_go_with_the_entries(
    world: World, directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder]
) -> None:
    days = timedelta(days=1)
    now = HOUR + 100 * days
    recorder = make()
    for number, back in enumerate((100, 91, 89, 0)):
        worker = Worker(directory)
        worker.write(entry(number, at=NOON + int((100 - back) * days / timedelta(microseconds=1))))
        worker.drain()
        await settle(recorder)
        await world.execute(
            update(audit_segments)
            .where(audit_segments.c.segment == worker.segment.number)
            .values(noted_at=now - back * days)
        )
    retaining = asyncio.create_task(keep_to(90, world.engine, kept, clock=lambda: now))
    while len(await segments(world)) > 2:
        await asyncio.sleep(0.01)
    retaining.cancel()
    hours = {row.hour for row in await world.rows(select(audit_counts))}
    assert hours == {HOUR + 11 * days, HOUR + 100 * days}
    assert {row.last_at.replace(microsecond=0) for row in await segments(world)} == hours


async def test_a_run_without_any_segment_is_forgotten_with_the_last_one(
    world: World, directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder]
) -> None:
    """As of a node that is no more, whose recorder would have settled it."""
    kept.interrupt_fails = StoreUnavailable("A file cannot be read.")
    worker, present = Worker(directory), Worker(directory)
    worker.write(entry(1))
    present.write(entry(2))
    worker.drain()
    await settle(make())
    assert len(await world.rows(select(audit_runs))) == 2
    later = datetime.now(UTC) + timedelta(days=2000)
    retaining = asyncio.create_task(keep_to(90, world.engine, kept, clock=lambda: later))
    while len(left := await world.rows(select(audit_runs))) > 1:
        await asyncio.sleep(0.01)
    retaining.cancel()
    assert left[0].run == present.run
    present.drain()


async def test_verification_tells_of_each_segment_what_is_missing_and_what_is_too_much(
    directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "utc_now", lambda: HOUR + timedelta(days=1))
    recorder, worker, present = make(), Worker(directory), Worker(directory)
    lasting = worker.write(entry(0, outcome=Outcome.OPEN))
    for number in range(1, 10):
        worker.write(entry(number))
    present.write(entry(10))
    worker.move_on()
    worker.write(entry(0), opened=lasting)
    await settle(recorder)
    found = await recorder.verify()
    assert (found.complete, found.expected, found.found, found.differences) == (True, 11, 11, ())
    assert found.segments == 3

    spool, gone = directory.id, lasting
    del kept.entries[spool, gone]
    kept.entries[spool, lasting + 1] = kept.entries[spool, lasting + 2] = entry(77)
    kept.entries = {key: each for key, each in kept.entries.items() if each.request_id != "r10"}
    found = await recorder.verify()
    assert (found.complete, found.missing, found.surplus) == (False, 1, 1)
    assert [(each.segment, each.missing, each.surplus) for each in found.differences] == [
        (worker.run, 0, 1),
        (present.run, 1, 0),
    ]
    worker.drain()
    present.drain()


async def test_verification_counts_what_its_writer_says_it_wrote(
    directory: SpoolDirectory, make: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "utc_now", lambda: HOUR + timedelta(days=1))
    worker = Worker(directory)
    worker.write(entry(1))
    spoiled = worker.write(entry(2)) & 0xFFFFFF
    worker.write(entry(3))
    worker.drain()
    with worker.segment.path.open("r+b") as file:
        file.seek(spoiled + 40)
        file.write(b"\0\0\0\0")
    recorder = make()
    await settle(recorder)
    [difference] = (await recorder.verify()).differences
    assert (difference.expected, difference.found, difference.missing) == (3, 2, 1)
    assert difference.damaged_bytes == recorder.damaged_bytes > 0


async def test_a_segment_that_was_dropped_is_damaged_and_never_surplus(
    directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "utc_now", lambda: HOUR + timedelta(days=1))
    recorder, worker, unread, writer = make(), Worker(directory), Worker(directory), Worker(directory)
    for number in range(3):
        worker.write(entry(number))
    await settle(recorder)
    read_to = worker.segment.offset
    worker.write(entry(3))
    kept.fails_late, kept.failures = True, [StoreUnavailable("gone")]
    with pytest.raises(StoreUnavailable):  # the entry is stored, and that is not noted
        await recorder.step()
    recorder._close()
    unread.write(entry(4))
    for each in (worker, unread):
        each.drain()
        dropped = directory.drop_oldest()
        assert dropped is not None
        assert dropped.number == each.run
        writer.write(dropped_segment(dropped.number, dropped.size))
    recorder = make()
    await settle(recorder)
    found = await recorder.verify()
    assert (found.complete, found.missing, found.surplus) == (False, 0, 0)
    assert [(each.segment, each.damaged_bytes, each.expected) for each in found.differences] == [
        (worker.run, worker.segment.offset - read_to, 3),
        (unread.run, unread.segment.offset, 0),
    ]
    writer.drain()


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_segment_that_was_dropped_when_all_of_it_was_recorded_is_whole(
    directory: SpoolDirectory, make: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch, *, sealed: bool
) -> None:
    monkeypatch.setattr(recorder_module, "utc_now", lambda: HOUR + timedelta(days=1))
    recorder, worker, writer = make(), Worker(directory), Worker(directory)
    worker.write(entry(1))
    if sealed:
        worker.drain()
    else:
        worker.die()
    size = worker.segment.path.stat().st_size
    await settle(recorder)
    writer.write(dropped_segment(worker.run, size))
    await settle(recorder)
    found = await recorder.verify()
    assert (found.complete, found.segments, found.expected) == (True, 2, 1)
    writer.drain()


async def test_who_asks_for_a_verification_while_one_is_made_gets_its_answer(
    directory: SpoolDirectory, kept: FaultyAuditStore, make: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "utc_now", lambda: HOUR + timedelta(days=1))
    recorder, worker = make(), Worker(directory)
    worker.write(entry(1))
    worker.drain()
    await settle(recorder)
    kept.counting = asyncio.Event()
    asked = [asyncio.create_task(recorder.verify()) for _ in range(3)]
    while not kept.counted:
        await asyncio.sleep(0.01)
    asked.pop().cancel()  # whoever goes away takes it from nobody
    kept.counting.set()
    assert {(await each).found for each in asked} == {1}
    assert kept.counted == 1
    await recorder.verify()
    assert kept.counted == 2


@pytest.mark.parametrize("backlog", [1, 9])
async def test_a_drain_ends_though_a_worker_goes_on_writing(
    directory: SpoolDirectory,
    kept: FaultyAuditStore,
    make: Callable[..., Recorder],
    monkeypatch: pytest.MonkeyPatch,
    backlog: int,
) -> None:
    """As at a reload, which replaces the control process while workers live: the successor takes up the rest."""
    monkeypatch.setattr(recorder_module, "BATCH_ENTRIES", 2)
    recorder, worker = make(), Worker(directory)
    for number in range(backlog):
        worker.write(entry(number))

    def write_more() -> None:
        worker.write(entry(backlog + len(kept.entries)))

    kept.on_write = write_more
    recorder.drain()
    async with asyncio.timeout(60):
        await recorder.run()
    kept.on_write = None
    taken = len(kept.entries)
    assert taken >= backlog
    worker.drain()
    await settle(make())
    assert len(kept.entries) > taken


async def test_an_engine_of_its_own_is_all_that_it_takes(store_url: str, directory: SpoolDirectory) -> None:
    """A store without any organization, as on a first start."""
    engine, worker, kept = create_engine(store_url), Worker(directory), MemoryAuditStore()
    worker.write(entry(1))
    worker.drain()
    recorder = Recorder(engine, kept, directory.path, retention_days=1, limit_bytes=1)
    recorder.drain()
    await recorder.run()
    assert len(kept.entries) == 1
    await engine.dispose()
