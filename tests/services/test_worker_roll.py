"""Who is on the roll, whose word counts, and that nobody is dropped who might still serve from memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from gateway.errors import RedisUnavailable, StoreUnavailable
from gateway.keys.projection import LogPosition, WorkerPresence
from gateway.services import worker_roll
from gateway.services.worker_roll import Roll, WorkerRoll
from gateway.store.engine import create_engine, write_transaction
from gateway.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.servers.postgres import PostgresServer

BELIEVES: float = 60.0
NOW = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
    "postgresql": "(extract(epoch FROM now()) * 1000000)::bigint",
}


@dataclass
class Signs:
    """The signs of life in Redis."""

    heard: dict[str, tuple[WorkerPresence, float]] = field(default_factory=dict)
    away: bool = False

    async def presences(self) -> dict[str, tuple[WorkerPresence, float]]:
        if self.away:
            raise RedisUnavailable("Redis is away.")
        return dict(self.heard)

    async def remove_presences(self, ids: Iterable[str]) -> None:
        if self.away:
            raise RedisUnavailable("Redis is away.")
        for each in ids:
            self.heard.pop(each, None)

    def hear(self, number: int, silent_seconds: float, seq: int | None = None) -> None:
        self.heard[f"n:worker-{number}:7"] = (presence(number, seq), silent_seconds)


class Clock:
    """The monotonic clock of this process."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def presence(number: int, seq: int | None = None) -> WorkerPresence:
    at = None if seq is None else LogPosition("e", seq)
    return WorkerPresence(f"n:worker-{number}:7", "n", "host", f"worker-{number}", 7, BELIEVES, at)


@pytest.fixture(params=["sqlite", "postgres"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'gateway.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.url(server.new_database())
    migrate(url)
    made = create_engine(url)
    yield made
    await made.dispose()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(worker_roll, "monotonic", made)
    return made


async def enter(engine: AsyncEngine, number: int, silent_seconds: float, seq: int | None = None) -> None:
    now = NOW[engine.dialect.name]
    at = "NULL, NULL" if seq is None else f"'e', {seq}"
    heard_at = f"{now} - {round(silent_seconds * 1e6)}"
    async with write_transaction(engine) as connection:
        await connection.exec_driver_sql("DELETE FROM workers WHERE id = 'n:worker-%d:7'" % number)  # noqa: S608, UP031
        await connection.exec_driver_sql(
            "INSERT INTO workers (id, node, host, name, pid, believes_for, epoch, applied, entered_at, heard_at)"  # noqa: S608
            f" VALUES ('n:worker-{number}:7', 'n', 'host', 'worker-{number}', 7, {BELIEVES * 1000:.0f}, {at}, {now},"
            f" {heard_at})"
        )


async def watch(roll: WorkerRoll, clock: Clock, seconds: float) -> list[str]:
    """Read again and again for so long; who was dropped."""
    dropped = await roll.expire()
    until = clock.now + seconds
    while clock.now < until:
        clock.now += 1.0
        dropped += await roll.expire()
    return dropped


async def test_the_list_says_who_is_there_and_how_far(engine: AsyncEngine) -> None:
    await enter(engine, 0, 0.5, 7)
    await enter(engine, 1, 5.0)
    roll = await WorkerRoll(engine, None).present()
    assert len(roll.epoch) == 32
    assert roll.certain
    assert {id_: heard.presence for id_, heard in roll.members.items()} == {
        "n:worker-0:7": presence(0, 7),
        "n:worker-1:7": presence(1),
    }
    assert 0.4 < roll.members["n:worker-0:7"].silent_seconds < 5 <= roll.members["n:worker-1:7"].silent_seconds + 0.01


async def test_nobody_is_there_is_an_answer(engine: AsyncEngine) -> None:
    roll = await WorkerRoll(engine, Signs()).present()
    assert (roll.members, roll.certain) == ({}, True)


async def test_the_newer_word_counts_whichever_way_it_came(engine: AsyncEngine) -> None:
    """The older one may be of a log that has gone back since, so the higher number is not the better one."""
    signs = Signs()
    await enter(engine, 0, 30.0, 9)
    await enter(engine, 1, 0.0, 9)
    signs.hear(0, 0.2, 8)
    signs.hear(1, 30.0, 10)
    signs.hear(2, 0.1, 9)
    members = (await WorkerRoll(engine, signs).present()).members
    assert [each.presence.position and each.presence.position.seq for each in members.values()] == [8, 9, 9]
    assert all(each.silent_seconds < 5 for each in members.values())


async def test_without_redis_the_list_is_whole_but_not_certain(engine: AsyncEngine) -> None:
    await enter(engine, 0, 3.0, 7)
    roll = await WorkerRoll(engine, Signs(away=True)).present()
    assert (list(roll.members), roll.certain) == (["n:worker-0:7"], False)


def heard_from(roll: Roll) -> dict[str, int | None]:
    positions = {id_[2:10]: each.presence.position for id_, each in roll.members.items()}
    return {name: None if at is None else at.seq for name, at in positions.items()}


async def test_whoever_goes_on_waiting_is_told_of_newer_words_without_the_list(
    engine: AsyncEngine, clock: Clock
) -> None:
    signs = Signs()
    await enter(engine, 0, 0.0, 7)
    await enter(engine, 1, 30.0, 7)
    roll = WorkerRoll(engine, signs)
    first = await roll.present()
    await enter(engine, 2, 0.0, 7)
    signs.hear(1, 0.01, 8)
    later = await roll.heard(first)
    assert heard_from(later) == {"worker-0": 7, "worker-1": 8}, "who enters later has read the store after that"
    clock.now += worker_roll.LIST_SECONDS / 2
    signs.hear(0, 20.0, 9)
    signs.hear(1, 0.01, 9)
    later = await roll.heard(later)
    assert heard_from(later) == {"worker-0": 7, "worker-1": 9}, "a word does not beat a newer one by being read later"
    clock.now += worker_roll.LIST_SECONDS
    assert set(heard_from(await roll.heard(later))) == {"worker-0", "worker-1", "worker-2"}


async def test_a_word_grows_old_from_one_reading_to_the_next(engine: AsyncEngine, clock: Clock) -> None:
    await enter(engine, 0, 0.0, 7)
    roll = WorkerRoll(engine, Signs())
    now = await roll.present()
    for _ in range(3):
        clock.now += worker_roll.LIST_SECONDS / 4
        now = await roll.heard(now)
    assert now.members["n:worker-0:7"].silent_seconds == pytest.approx(worker_roll.LIST_SECONDS * 3 / 4, abs=0.05)


async def test_without_redis_everything_is_read_again(engine: AsyncEngine, clock: Clock) -> None:
    del clock
    for signs in (None, Signs(away=True)):
        await enter(engine, 0, 0.0, 7)
        roll = WorkerRoll(engine, signs)
        first = await roll.present()
        await enter(engine, 0, 0.0, 8)
        later = await roll.heard(first)
        assert (heard_from(later), later.certain) == ({"worker-0": 8}, signs is None)


async def test_a_store_that_cannot_be_read_is_not_an_empty_roll(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    migrate(f"sqlite:///{path}")
    engine = create_engine(f"sqlite:///{path}")
    path.unlink()
    with pytest.raises(StoreUnavailable):
        await WorkerRoll(engine, Signs()).present()
    await engine.dispose()


async def test_who_is_removed_is_gone_everywhere(engine: AsyncEngine) -> None:
    signs = Signs()
    for number in (0, 1):
        await enter(engine, number, 0.0)
        signs.hear(number, 0.0)
    roll = WorkerRoll(engine, signs)
    for _ in range(2):
        await roll.remove(["n:worker-0:7"])
        assert list((await roll.present()).members) == ["n:worker-1:7"]


async def test_to_remove_needs_both_or_fails(engine: AsyncEngine) -> None:
    with pytest.raises(RedisUnavailable):
        await WorkerRoll(engine, Signs(away=True)).remove(["n:worker-0:7"])


async def test_who_has_been_silent_for_longer_than_it_believes_is_dropped(engine: AsyncEngine, clock: Clock) -> None:
    signs = Signs()
    await enter(engine, 0, 64.0)
    await enter(engine, 1, 64.0)
    await enter(engine, 2, 55.0)
    signs.hear(0, 64.0)
    signs.hear(1, 1.0)
    signs.hear(3, 64.0)
    roll = WorkerRoll(engine, signs)
    assert sorted(await watch(roll, clock, 64)) == ["n:worker-0:7", "n:worker-3:7"]
    assert list((await roll.present()).members) == ["n:worker-1:7", "n:worker-2:7"]
    assert list(signs.heard) == ["n:worker-1:7"]


async def test_nobody_is_dropped_who_was_not_seen_silent_for_as_long(engine: AsyncEngine, clock: Clock) -> None:
    """A Redis that was emptied makes a worker look as if it had said nothing since it entered the list."""
    signs = Signs()
    await enter(engine, 0, 3600.0)
    signs.hear(0, 0.3)
    roll = WorkerRoll(engine, signs)
    assert await watch(roll, clock, 600) == []
    signs.heard.clear()
    assert await watch(roll, clock, 60) == []
    signs.hear(0, 0.3)
    assert await watch(roll, clock, 5) == []
    signs.heard.clear()
    assert await watch(roll, clock, 60) == []
    assert await watch(roll, clock, 4) == ["n:worker-0:7"]


async def test_nobody_is_dropped_while_redis_cannot_be_asked_nor_for_what_was_not_seen_then(
    engine: AsyncEngine, clock: Clock
) -> None:
    signs = Signs(away=True)
    await enter(engine, 0, 3600.0)
    roll = WorkerRoll(engine, signs)
    assert await watch(roll, clock, 600) == []
    signs.away = False
    assert await watch(roll, clock, 60) == []
    assert await watch(roll, clock, 4) == ["n:worker-0:7"]


async def test_readings_with_a_gap_between_them_are_no_watch(engine: AsyncEngine, clock: Clock) -> None:
    await enter(engine, 0, 3600.0)
    roll = WorkerRoll(engine, Signs())
    for _ in range(20):
        clock.now += worker_roll.WATCH_GAP_SECONDS + 1
        assert await roll.expire() == []


async def test_a_row_that_is_renewed_at_the_last_moment_stays(
    engine: AsyncEngine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs = Signs()
    await enter(engine, 0, 3600.0)
    signs.hear(0, 3600.0)
    roll = WorkerRoll(engine, signs)
    assert await watch(roll, clock, 61) == []
    present = roll.present

    async def then_renewed() -> worker_roll.Roll:
        read = await present()
        await enter(engine, 0, 0.0)
        return read

    monkeypatch.setattr(roll, "present", then_renewed)
    clock.now += 1
    assert await roll.expire() == []
    assert list(signs.heard) == ["n:worker-0:7"]
