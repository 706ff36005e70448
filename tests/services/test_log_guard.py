"""A log that has gone back gets a new epoch without Redis too, before anything that was said of the old one counts."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, select, update

from gateway.errors import StoreUnavailable
from gateway.services import log_guard
from gateway.services.log_guard import LogGuard
from gateway.store.engine import read_transaction
from gateway.store.schema import key_changes, store_identity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.services.conftest import World


async def epoch(world: World) -> str:
    async with read_transaction(world.engine) as connection:
        return str((await connection.execute(select(store_identity.c.epoch))).scalar_one())


async def change(world: World) -> int:
    made = await world.keys.create(world.admin, {"name": "One more"})
    assert made.seq is not None
    return made.seq


async def go_back(world: World, seq: int) -> None:
    """As a backup from before that change would leave the log."""
    await world.execute(delete(key_changes).where(key_changes.c.seq >= seq))


@pytest.fixture
async def guard(world: World) -> AsyncIterator[LogGuard]:
    """It has looked once. The store's name for its log is put back after: of PostgreSQL, other tests use it too."""
    before = await epoch(world)
    await world.execute(update(store_identity).values(epoch="first"))
    made = LogGuard(world.engine)
    await made.verify()
    yield made
    await world.execute(update(store_identity).values(epoch=before))


@contextlib.asynccontextmanager
async def running(guard: LogGuard) -> AsyncIterator[None]:
    task = asyncio.create_task(guard.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_log_that_only_grows_keeps_its_epoch(
    world: World, guard: LogGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_guard, "_AT_ONCE", 2)
    first = await epoch(world)
    for many in (0, 1, 2, 3, 5):
        for _ in range(many):
            last = await change(world)
            guard.applied({"command": "applied", "pid": 7, "seq": last, "epoch": first})
        await asyncio.gather(*(guard.verify() for _ in range(3)))
    assert await epoch(world) == first


@pytest.mark.parametrize("since", [0, 1, 2], ids=["shorter", "as long again", "longer"])
async def test_a_log_that_has_gone_back_gets_a_new_epoch_once(world: World, guard: LogGuard, since: int) -> None:
    """Whoever of several guards notices first, and also where others have written on since."""
    first, last = await epoch(world), await change(world)
    another = LogGuard(world.engine)
    await asyncio.gather(guard.verify(), another.verify())
    await go_back(world, last)
    for _ in range(since):
        await change(world)
    await asyncio.gather(guard.verify(), another.verify())
    given = await epoch(world)
    assert given != first
    assert given.startswith("1.")
    await change(world)
    await asyncio.gather(guard.verify(), another.verify())
    assert await epoch(world) == given


async def test_a_backup_from_before_the_newest_epoch_gets_one_younger_than_all(world: World, guard: LogGuard) -> None:
    first = await epoch(world)
    await world.execute(update(store_identity).values(epoch="3.abc"))
    await guard.verify()
    assert await epoch(world) == "3.abc"
    await world.execute(update(store_identity).values(epoch=first))
    await guard.verify()
    assert (await epoch(world)).startswith("4.")


async def test_what_a_worker_has_applied_was_there_though_the_guard_never_saw_it(world: World, guard: LogGuard) -> None:
    """A standby that lacks the last moment takes over, and goes on with numbers that a worker has said it had."""
    first, last = await epoch(world), await change(world)
    await go_back(world, last)
    guard.applied({"command": "applied", "pid": 7, "seq": last, "epoch": None})
    guard.applied({"command": "applied", "pid": 7, "seq": last, "epoch": "of another log"})
    await guard.verify()
    assert await epoch(world) == first
    guard.applied({"command": "applied", "pid": 7, "seq": last, "epoch": first})
    guard.applied({"command": "applied", "pid": 8, "seq": -1, "epoch": first})
    await guard.verify()
    assert (await epoch(world)).startswith("1.")


async def test_the_guard_looks_by_itself_and_outlives_an_outage_and_what_nobody_foresaw(
    world: World, guard: LogGuard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log_guard, "LOOK_SECONDS", 0.01)
    first, last = await epoch(world), await change(world)
    await guard.verify()
    verify, failures = guard.verify, [StoreUnavailable("Away."), StoreUnavailable("Away."), ZeroDivisionError()]

    async def failing() -> None:
        if failures:
            raise failures.pop(0)
        await verify()

    monkeypatch.setattr(guard, "verify", failing)
    async with running(guard):
        await go_back(world, last)
        while await epoch(world) == first or "can be read again" not in caplog.text:
            await asyncio.sleep(0.01)
    messages = [each.getMessage() for each in caplog.records]
    assert [each for each in messages if "cannot be read" in each] == ["the change log cannot be read: Away."]
    assert len([each for each in messages if "not foreseen" in each]) == 1
    assert len([each for each in messages if "can be read again" in each]) == 1
