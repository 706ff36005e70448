"""The writers' engine: one writer at a time, nothing half done, durable commits, errors that are ours."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError

from gateway.errors import StoreBusy, StoreUnavailable
from gateway.store import change_log, sqlite_engine
from gateway.store.engine import create_engine, read_transaction, write_transaction
from gateway.store.schema import key_changes, key_secrets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.store.conftest import StoreFile


@pytest.fixture
async def engine(store: StoreFile) -> AsyncIterator[AsyncEngine]:
    made = create_engine(store.url)
    yield made
    await made.dispose()


async def log_of(engine: AsyncEngine) -> list[int]:
    async with read_transaction(engine) as connection:
        return list((await connection.execute(select(key_changes.c.seq).order_by(key_changes.c.seq))).scalars())


async def test_every_connection_is_durable_and_enforces_foreign_keys(engine: AsyncEngine) -> None:
    async with write_transaction(engine) as one, read_transaction(engine) as two:
        for connection in (one, two):
            assert (await connection.execute(text("PRAGMA synchronous"))).scalar_one() == 2
            assert (await connection.execute(text("PRAGMA foreign_keys"))).scalar_one() == 1
            assert (await connection.execute(text("PRAGMA journal_mode"))).scalar_one() == "wal"


async def test_concurrent_writers_take_turns_and_the_log_stays_dense(engine: AsyncEngine) -> None:
    given: list[int] = []

    async def write(number: int) -> None:
        async with write_transaction(engine) as connection:
            given.append(await change_log.append(connection, "key", f"key_{number}", 1))
            await asyncio.sleep(0)

    await asyncio.gather(*(write(number) for number in range(50)))
    assert given == list(range(1, 51))
    assert await log_of(engine) == given


async def test_a_transaction_that_fails_takes_its_seq_with_it(engine: AsyncEngine) -> None:
    async with write_transaction(engine) as connection:
        await change_log.append(connection, "key", "key_1", 1)

    async def fail() -> None:
        async with write_transaction(engine) as connection:
            assert await change_log.append(connection, "key", "key_2", 1) == 2
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with write_transaction(engine) as connection:
        assert await change_log.append(connection, "key", "key_3", 1) == 2
    assert await log_of(engine) == [1, 2]


async def test_a_cancelled_writer_leaves_nothing_and_blocks_nobody(engine: AsyncEngine) -> None:
    begun = asyncio.Event()

    async def write() -> None:
        async with write_transaction(engine) as connection:
            await change_log.append(connection, "key", "key_1", 1)
            begun.set()
            await asyncio.Event().wait()

    writer = asyncio.create_task(write())
    await begun.wait()
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer
    async with write_transaction(engine) as connection:
        assert await change_log.append(connection, "key", "key_2", 1) == 1


async def test_a_write_transaction_holds_the_lock_before_its_first_statement(
    engine: AsyncEngine, store: StoreFile
) -> None:
    """What it reads cannot change before it writes."""
    store.execute("PRAGMA busy_timeout = 0")
    async with write_transaction(engine):
        with pytest.raises(Exception, match="locked"):
            store.execute("BEGIN IMMEDIATE")


async def test_a_read_transaction_sees_one_moment(engine: AsyncEngine, store: StoreFile) -> None:
    async with read_transaction(engine) as connection:
        count = text("SELECT count(*) FROM key_changes")
        assert (await connection.execute(count)).scalar_one() == 0
        store.log(1)
        assert (await connection.execute(count)).scalar_one() == 0


async def test_a_store_held_by_another_process_is_busy(store: StoreFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_engine, "BUSY_TIMEOUT_SECONDS", 0.0)
    engine = create_engine(store.url)
    store.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy, match="Nothing was changed"):
        async with write_transaction(engine):
            pytest.fail("not reached")
    await engine.dispose()


async def test_a_store_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "gateway.db", tmp_path / "gateway.db"):
        engine = create_engine(f"sqlite:///{path}")
        with pytest.raises(StoreUnavailable, match="cannot be used"):
            async with read_transaction(engine):
                pytest.fail("not reached")
        await engine.dispose()
        assert not path.exists()


async def test_a_key_has_two_secrets_at_most_and_a_digest_exists_once(engine: AsyncEngine, store: StoreFile) -> None:
    """The database holds these itself, whatever code writes to it."""
    digest = store.add_key("CI")
    store.add_secret("old", "key_CI", slot=1)
    row = {"id": "sec_3", "key_id": "key_CI", "created_at": None}
    for values in ({"digest": bytes(32), "slot": 1}, {"digest": bytes(32), "slot": 2}, {"digest": digest, "slot": 0}):
        with pytest.raises(IntegrityError):
            async with write_transaction(engine) as connection:
                await connection.execute(insert(key_secrets).values(**row, **values))


async def test_a_key_cannot_belong_to_an_owner_of_another_organization(store: StoreFile) -> None:
    store.execute(
        "INSERT INTO organizations (id, name, version, default_expiry, keys_create_requires_admin,"
        " keys_revoke_requires_admin, created_at) VALUES ('org_2', 'Other', 1, '1y', 0, 0, 1)"
    )
    with pytest.raises(Exception, match="FOREIGN KEY"):
        store.add_key("CI", organization_id="org_2")
