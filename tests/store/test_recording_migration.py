"""A store that recorded before it knew of runs (0004) is brought to one that does (0005), with all that was in it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, create_engine, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.services.segment_rows import checkpoints, unsettled_runs
from gateway.store import engine as stores
from gateway.store.migrate import migrate
from gateway.store.revisions import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.postgres import PostgresServer

SPOOL, OTHER = "00000000000000aa", "00000000000000bb"
SEGMENTS = [
    (SPOOL, 100, 100, 16_000_000, 9, 9, 0, 1, 2, True, 3),
    (SPOOL, 103, 100, 5_000, 4, None, 12, 4, 5, False, 6),
    (SPOOL, 104, 104, 64, 0, None, 0, None, None, False, 7),
    (OTHER, 90, 90, 700, 1, 1, 0, 1, 1, True, 8),
]
COLUMNS = (
    "spool", "segment", "run", "read_to", "entries", "sealed_entries", "damaged_bytes", "first_at", "last_at",
    "finished", "noted_at",
)  # fmt: skip
COUNTS = [("key_1", 3_600, "answered", "org_1", 7), ("", 3_600, "missing_api_key", "", 2)]


def record_as_before(connection: Connection) -> None:
    """Make the store of the version before, and put into it what its recorder did."""
    run(connection, "0004")
    marks = ", ".join(f":{name}" for name in COLUMNS)
    insert = text(f"INSERT INTO audit_segments ({', '.join(COLUMNS)}) VALUES ({marks})")  # noqa: S608 - made up here
    connection.execute(insert, [dict(zip(COLUMNS, each, strict=True)) for each in SEGMENTS])
    names = ("key_id", "hour", "outcome", "organization_id", "requests")
    insert = text("INSERT INTO audit_counts VALUES (:key_id, :hour, :outcome, :organization_id, :requests)")
    connection.execute(insert, [dict(zip(names, each, strict=True)) for each in COUNTS])


def rows(connection: Connection, table: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(each) for each in connection.execute(text(f"SELECT * FROM {table}")))  # noqa: S608 - ours


def hold_all(connection: Connection) -> None:
    """What was there is there, and the runs of all segments are to be settled, each once."""
    query = f"SELECT {', '.join(COLUMNS)} FROM audit_segments ORDER BY spool, segment"  # noqa: S608 - ours
    found = connection.execute(text(query))
    assert [tuple(each) for each in found] == SEGMENTS
    assert rows(connection, "audit_counts") == sorted(COUNTS)
    assert rows(connection, "audit_runs") == [(SPOOL, 100), (SPOOL, 104), (OTHER, 90)]


async def go_on(url: str) -> None:
    """The recorder of this version finds its way in it."""
    engine = stores.create_engine(url)
    try:
        async with stores.read_transaction(engine) as connection:
            assert await unsettled_runs(connection, {SPOOL}) == {(SPOOL, 100), (SPOOL, 104)}
            known = await checkpoints(connection, {SPOOL, OTHER}, 0)
        assert {place: (at.run, at.read_to, at.finished) for place, at in known.items()} == {
            (each[0], each[1]): (each[2], each[3], each[9]) for each in SEGMENTS
        }
    finally:
        await engine.dispose()


def test_a_sqlite_store_is_brought_along(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'gateway.db'}"
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.begin() as connection:
        record_as_before(connection)
    migrate(url)
    with engine.begin() as connection:
        hold_all(connection)
    asyncio.run(go_on(url))


def test_a_postgres_store_is_brought_along(postgres: PostgresServer) -> None:
    url = postgres.url(postgres.new_database())

    async def in_store(work: Any) -> None:  # noqa: ANN401 - a function of a connection
        engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"), poolclass=pool.NullPool)
        async with engine.begin() as connection:
            await connection.run_sync(work)
        await engine.dispose()

    asyncio.run(in_store(record_as_before))
    migrate(url)
    asyncio.run(in_store(hold_all))
    asyncio.run(go_on(url))
