"""How long the answer to a change waits, and what it says of workers that do not follow."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gateway.control import following
from gateway.control.following import Following
from gateway.errors import StoreUnavailable

if TYPE_CHECKING:
    import pytest


def following_of(*workers: tuple[int, int]) -> dict[str, Any]:
    """A "workers" message: pid and the change applied last."""
    return {
        "command": "workers",
        "following": [{"name": f"worker-{pid}", "pid": pid, "applied": applied} for pid, applied in workers],
    }


class Site:
    """A Following with a log and an ear for announcements."""

    def __init__(self, *workers: tuple[int, int], newest: int = 0) -> None:
        self.newest = newest
        self.unreadable = False
        self.announced = 0
        self.following = Following(announce=self._announce, newest_change=self._newest, believes_for_seconds=60)
        self.following.update(following_of(*workers))

    def _announce(self) -> None:
        self.announced += 1

    async def _newest(self) -> int:
        if self.unreadable:
            raise StoreUnavailable("The store is away.")
        return self.newest

    def applied(self, pid: int, seq: int) -> None:
        """A worker reports."""
        self.following.applied({"command": "applied", "pid": pid, "seq": seq})


async def test_the_answer_waits_for_the_last_worker() -> None:
    site = Site((1, 4), (2, 4))
    waiting = asyncio.create_task(site.following.wait(5))
    await asyncio.sleep(0)
    assert site.announced == 1
    site.applied(1, 5)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    site.applied(2, 6)
    answer = await waiting
    assert (answer.seq, answer.applied, answer.of, answer.silent) == (5, 2, 2, ())


async def test_a_worker_that_follows_already_is_not_waited_for() -> None:
    answer = await Site((1, 5)).following.wait(5)
    assert (answer.applied, answer.of) == (1, 1)


async def test_a_silent_worker_is_named_with_the_end_of_what_it_believes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PATIENCE_SECONDS", 0.05)
    before = datetime.now(UTC)
    answer = await Site((1, 5), (2, 4)).following.wait(5)
    assert (answer.applied, answer.of) == (1, 2)
    assert [each.name for each in answer.silent] == ["worker-2"]
    assert timedelta(seconds=60) <= answer.silent[0].until - before < timedelta(seconds=90)


async def test_a_worker_that_has_ended_is_no_longer_waited_for() -> None:
    site = Site((1, 5), (2, 4))
    waiting = asyncio.create_task(site.following.wait(5))
    await asyncio.sleep(0)
    site.following.update(following_of((1, 5)))
    answer = await waiting
    assert (answer.applied, answer.of) == (1, 1)


async def test_a_worker_that_starts_meanwhile_is_waited_for_too() -> None:
    """It may have read the store before the change, and serve before its first report is here."""
    site = Site((1, 4))
    waiting = asyncio.create_task(site.following.wait(5))
    await asyncio.sleep(0)
    site.following.update(following_of((1, 4), (2, -1)))
    site.applied(1, 5)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    site.applied(2, 5)
    assert (await waiting).of == 2


async def test_where_no_worker_is_nobody_counts_as_all() -> None:
    answer = await Site().following.wait(5)
    assert (answer.applied, answer.of) == (0, 0)


async def test_a_repeated_call_waits_for_what_the_first_one_changed() -> None:
    site = Site((1, 4), newest=5)
    waiting = asyncio.create_task(site.following.wait(None))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    site.applied(1, 5)
    answer = await waiting
    assert (answer.seq, answer.applied, answer.of) == (None, 1, 1)


async def test_with_an_unreadable_log_nobody_is_said_to_have_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PATIENCE_SECONDS", 0.05)
    site = Site((1, 4))
    site.unreadable = True
    assert (await site.following.wait(None)).applied == 0


async def test_a_late_list_does_not_take_back_what_a_worker_said() -> None:
    site = Site((1, 4))
    site.applied(1, 7)
    site.following.update(following_of((1, 4)))
    assert (await site.following.wait(7)).applied == 1


async def test_a_report_of_a_worker_that_is_gone_is_nobodys() -> None:
    site = Site((1, 4))
    site.applied(9, 7)
    assert (await site.following.wait(4)).of == 1
