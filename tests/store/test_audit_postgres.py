"""Requests on record in PostgreSQL: partitions, outages, and how it is read."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import pytest

from gateway.errors import StoreUnavailable
from gateway.keys.request_entry import Outcome
from gateway.store import audit_postgres
from gateway.store.audit_postgres import PostgresAuditStore
from gateway.store.audit_query import EntryQuery
from gateway.store.engine import create_engine, write_transaction
from tests.store.audit_entries import DAY, NOON, SEGMENT, SPOOL, entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.servers.postgres import PostgresServer

TODAY: Final = "audit_entries_20261121"


@asynccontextmanager
async def store_at(url: str) -> AsyncIterator[PostgresAuditStore]:
    engine = create_engine(url)
    store = PostgresAuditStore(url, engine)
    try:
        yield store
    finally:
        await store.close()
        await engine.dispose()


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    return postgres.new_database()


@pytest.fixture
async def store(postgres: PostgresServer, database: str) -> AsyncIterator[PostgresAuditStore]:
    async with store_at(postgres.url(database)) as opened:
        yield opened


def partitions(postgres: PostgresServer, database: str) -> list[str]:
    query = "SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'audit_entries'::regclass ORDER BY 1"
    return postgres.execute(query, database).split()


# --- partitions -------------------------------------------------------------------------------------------------------


async def test_each_day_is_a_partition(store: PostgresAuditStore, postgres: PostgresServer, database: str) -> None:
    await store.write(SPOOL, [entry(0), entry(1, at=NOON + DAY), entry(2, at=NOON + DAY // 2 - 1)])
    assert partitions(postgres, database) == [TODAY, "audit_entries_20261122"]
    assert postgres.execute("SELECT count(*) FROM audit_entries_20261121", database) == "2"


async def test_nodes_that_begin_a_day_at_once_make_one_partition(postgres: PostgresServer, database: str) -> None:
    async with store_at(postgres.url(database)) as first, store_at(postgres.url(database)) as second:
        await asyncio.gather(
            *(store.write(spool, [entry(0)]) for spool, store in (("a" * 16, first), ("b" * 16, second)))
        )
        assert len(await first.find(EntryQuery())) == 2
    assert partitions(postgres, database) == [TODAY]


async def test_a_partition_that_somebody_dropped_is_made_again(
    store: PostgresAuditStore, postgres: PostgresServer, database: str
) -> None:
    await store.write(SPOOL, [entry(0)])
    postgres.execute(f"DROP TABLE {TODAY}", database)
    assert await store.find(EntryQuery()) == []
    await store.write(SPOOL, [entry(1)])
    assert await store.count(SPOOL, SEGMENT) == 1


async def test_a_table_that_somebody_dropped_is_made_again(
    store: PostgresAuditStore, postgres: PostgresServer, database: str
) -> None:
    """The store was restored to a moment before the first request."""
    await store.write(SPOOL, [entry(0)])
    postgres.execute("DROP TABLE audit_entries", database)
    assert await store.find(EntryQuery()) == []
    assert await store.count(SPOOL, SEGMENT) == 0
    await store.write(SPOOL, [entry(1)])
    assert await store.count(SPOOL, SEGMENT) == 1


async def test_partitions_that_others_attach_are_let_be(
    store: PostgresAuditStore, postgres: PostgresServer, database: str
) -> None:
    await store.write(SPOOL, [entry(0)])
    postgres.execute(
        "CREATE TABLE archive PARTITION OF audit_entries FOR VALUES FROM (0) TO (1000);"
        "CREATE TABLE audit_entries_1970 PARTITION OF audit_entries FOR VALUES FROM (1000) TO (2000)",
        database,
    )
    assert await store.retain(1, NOON + 10 * DAY) == ["2026-11-21"]
    assert partitions(postgres, database) == ["archive", "audit_entries_1970"]


async def test_retention_does_not_wait_for_a_reader(
    store: PostgresAuditStore, postgres: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does anybody wait behind it; what is in use goes the next time."""
    monkeypatch.setattr(audit_postgres, "DROP_WAIT_MILLISECONDS", 10)
    await store.write(SPOOL, [entry(0), entry(1, at=NOON + 10 * DAY)])
    reader = await asyncpg.connect(postgres.url(database))
    try:
        async with reader.transaction():
            await reader.fetch("SELECT * FROM audit_entries_20261121")
            assert await store.retain(1, NOON + 10 * DAY) == []
            await store.write(SPOOL, [entry(2)])
    finally:
        await reader.close()
    assert await store.retain(1, NOON + 10 * DAY) == ["2026-11-21"]
    assert len(await store.find(EntryQuery())) == 1


# --- writing ----------------------------------------------------------------------------------------------------------


async def test_a_change_of_a_key_does_not_wait_for_a_batch(store: PostgresAuditStore) -> None:
    """Only the beginning of a day takes the lock that changes take."""
    await store.write(SPOOL, [entry(0)])
    async with write_transaction(store._engine):
        await store.write(SPOOL, [entry(1)])
    assert await store.count(SPOOL, SEGMENT) == 2


async def test_a_batch_is_durable_where_the_server_does_not_wait_for_the_disk(
    store: PostgresAuditStore, postgres: PostgresServer, database: str
) -> None:
    """What the setting is when the rows go in, a trigger writes down."""
    await store.write(SPOOL, [entry(0)])
    postgres.execute(f"ALTER DATABASE {database} SET synchronous_commit = off", database)
    postgres.execute(
        "CREATE TABLE seen (setting text);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;"
        "CREATE TRIGGER note AFTER INSERT OR UPDATE ON audit_entries FOR EACH STATEMENT EXECUTE FUNCTION note()",
        database,
    )
    async with store_at(postgres.url(database)) as anew:
        await anew.write(SPOOL, [entry(1, run=7, outcome=Outcome.OPEN)])
        assert await anew.interrupt(SPOOL, 7) == 1
    assert postgres.execute("SELECT DISTINCT setting FROM seen", database) == "on"


async def test_a_session_may_be_handed_around(
    store: PostgresAuditStore, postgres: PostgresServer, database: str
) -> None:
    """As PgBouncer does: each batch may come to another session of the server, or to one that was used before."""
    await store.write(SPOOL, [entry(0)])
    for number in (1, 2):
        postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database()",
            database,
        )
        await store.write(SPOOL, [entry(number)])
        await store.write(SPOOL, [entry(number)])
    assert await store.count(SPOOL, SEGMENT) == 3


async def test_an_outage_is_an_error_and_then_everything_is_there(
    own_postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with store_at(own_postgres.url(own_postgres.new_database())) as store:
        await store.write(SPOOL, [entry(0)])
        own_postgres.process.kill()
        for work in (
            store.write(SPOOL, [entry(1)]), store.find(EntryQuery()), store.count(SPOOL, SEGMENT),
            store.interrupt(SPOOL, SEGMENT), store.retain(1, NOON), store.write(SPOOL, [entry(1, at=NOON + DAY)]),
        ):  # fmt: skip
            with pytest.raises(StoreUnavailable):
                await work
        own_postgres.restart()
        while True:
            try:
                await store.write(SPOOL, [entry(0), entry(1)])
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                break
        assert await store.count(SPOOL, SEGMENT) == 2


async def test_a_closed_store_says_so(store: PostgresAuditStore) -> None:
    await store.write(SPOOL, [entry(0)])
    await store.close()
    for work in (store.write(SPOOL, [entry(0)]), store.find(EntryQuery())):
        with pytest.raises(StoreUnavailable):
            await work


# --- how it is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (EntryQuery(key_id="key_1", organization_id="org_1", owner_id="sva_1"), "key_id"),
        (EntryQuery(owner_id="sva_1", organization_id="org_1"), "owner_id"),
        (EntryQuery(organization_id="org_1", before=(NOON, "req_")), "organization_id"),
    ],
)
@pytest.mark.parametrize("analyzed", [False, True])
async def test_a_page_is_read_along_one_index(
    store: PostgresAuditStore,
    postgres: PostgresServer,
    database: str,
    wanted: EntryQuery,
    index: str,
    analyzed: bool,  # noqa: FBT001
) -> None:
    """Whether the planner knows nothing yet of a day that has begun, or all."""
    entries = [
        entry(number, key_id=f"key_{number % 40}", owner_id=f"sva_{number % 20}", organization_id=f"org_{number % 3}")
        for number in range(6000)
    ]
    await store.write(SPOOL, entries)
    if analyzed:
        postgres.execute("ANALYZE", database)
    statement, values = audit_postgres._question("2026-11-21", wanted, wanted.organization_id)
    connection: Any = await asyncpg.connect(postgres.url(database))
    try:
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement}", *values))
    finally:
        await connection.close()
    assert f"Index Cond: ((slot = slots.number) AND ({index} = " in plan, plan
    assert plan.index("Nested Loop") < plan.index("Function Scan on generate_series"), plan
