"""Hit, absent and "cannot know": what the shared table says counts only where it can know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.cache.shared_lookup import SharedLookup
from gateway.errors import StoreUnavailable, Unreachable
from gateway.keys.projection import LogPosition, TableAnswer
from gateway.keys.secret import digest
from tests.proxy.harness import record

if TYPE_CHECKING:
    from gateway.keys.record import CredentialRecord

SECRET = b"sk_one"
KNOWN = record(SECRET)


class World:
    """A lookup, what the table answers (None: it is away), and the store behind."""

    def __init__(self, *, redis: bool = True) -> None:
        self.answer: TableAnswer | None = TableAnswer(KNOWN, "one", 5, complete=True)
        self.stored: CredentialRecord | None = KNOWN
        self.position: LogPosition | None = LogPosition("one", 5)
        self.entered = self.heard = True
        self.now = 0.0
        self.asked: list[str] = []
        self.lookup = SharedLookup(
            self if redis else None,
            self,
            position=lambda: self.position,
            entered=lambda: self.entered,
            heard=lambda: self.heard,
            clock=lambda: self.now,
        )

    async def find(self, digest: bytes) -> TableAnswer:
        assert digest == KNOWN.digest
        self.asked.append("table")
        if self.answer is None:
            raise Unreachable("away")
        return self.answer

    async def read(self, digest: bytes) -> CredentialRecord | None:
        assert digest == KNOWN.digest
        self.asked.append("store")
        return self.stored

    async def look_up(self) -> CredentialRecord | None:
        self.asked.clear()
        return await self.lookup.read(digest(SECRET))


async def test_a_record_of_the_table_is_the_answer() -> None:
    world = World()
    assert await world.look_up() is KNOWN
    assert world.asked == ["table"]


async def test_a_complete_table_without_it_is_final_and_costs_the_store_nothing() -> None:
    world = World()
    world.answer = TableAnswer(None, "one", 5, complete=True)
    assert await world.look_up() is None
    assert world.asked == ["table"]


async def test_a_record_is_good_although_others_are_missing() -> None:
    world = World()
    world.answer = TableAnswer(KNOWN, "one", 6, complete=False)
    assert await world.look_up() is KNOWN
    assert world.asked == ["table"]


@pytest.mark.parametrize("found", [KNOWN, None])
@pytest.mark.parametrize(
    ("epoch", "head", "position"),
    [
        (None, None, LogPosition("one", 5)),
        ("two", 9, LogPosition("one", 5)),
        ("one", 4, LogPosition("one", 5)),
        ("one", None, LogPosition("one", 0)),
        ("one", 5, None),
    ],
    ids=["no table", "another epoch", "behind", "no head", "no position yet"],
)
async def test_a_table_that_cannot_know_is_not_believed_whatever_it_says(
    found: CredentialRecord | None, epoch: str | None, head: int | None, position: LogPosition | None
) -> None:
    world = World()
    world.answer, world.position = TableAnswer(found, epoch, head, complete=True), position
    assert await world.look_up() is KNOWN
    assert world.asked == ["table", "store"]


async def test_an_incomplete_table_without_it_cannot_know() -> None:
    world = World()
    world.answer = TableAnswer(None, "one", 5, complete=False)
    assert await world.look_up() is KNOWN
    assert world.asked == ["table", "store"]


async def test_the_position_is_that_of_after_the_answer() -> None:
    """A change that was applied while the table was asked may not be in what it says."""
    world = World()
    find = world.find

    async def slowly(digest: bytes) -> TableAnswer:
        answer = await find(digest)
        world.position = LogPosition("one", 6)
        return answer

    world.find = slowly  # type: ignore[method-assign]
    await world.look_up()
    assert world.asked == ["table", "store"]


async def test_redis_is_left_alone_for_a_moment_after_it_did_not_answer() -> None:
    """Each attempt may take its whole time-out; the store answers meanwhile."""
    world = World()
    world.answer = None
    assert await world.look_up() is KNOWN
    assert world.asked == ["table", "store"]
    assert await world.look_up() is KNOWN
    assert world.asked == ["store"]
    world.now += 0.5
    await world.look_up()
    assert world.asked == ["table", "store"]


async def test_redis_is_left_alone_while_it_proves_nothing() -> None:
    world = World()
    world.heard = False
    assert await world.look_up() is KNOWN
    assert world.asked == ["store"]


async def test_without_redis_the_store_is_asked() -> None:
    world = World(redis=False)
    assert await world.look_up() is KNOWN
    assert world.asked == ["store"]


async def test_a_worker_that_nobody_would_wait_for_looks_nothing_up() -> None:
    world = World()
    world.entered = False
    with pytest.raises(StoreUnavailable):
        await world.look_up()
    assert world.asked == []
