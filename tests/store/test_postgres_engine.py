"""The writers' engine on PostgreSQL: one writer of all processes, a log in commit order, restarts that cost no call."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import IntegrityError

from gateway.errors import GatewayError, StoreBusy, StoreUnavailable
from gateway.store import change_log, postgres_driver, postgres_engine
from gateway.store.engine import create_engine, read_transaction, write_transaction
from gateway.store.migrate import migrate
from gateway.store.schema import key_changes, retired_digests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.servers.postgres import PostgresServer
    from tests.servers.postgres_store import PostgresStore

PROCESSES: Final = 4
WRITERS_EACH: Final = 5
CHANGES_EACH: Final = 20
OWN_SESSIONS: Final = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'keygate'"
# Commits changes from many writers at once, a third of which are rolled back after they got their number.
WRITER: Final = f"""
import asyncio, sys
from gateway.store import change_log
from gateway.store.engine import create_engine, write_transaction

async def change(engine, name):
    for number in range({CHANGES_EACH}):
        try:
            async with write_transaction(engine) as connection:
                seq = await change_log.append(connection, "key", name, number)
                if number % 3 == 2:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        else:
            print(seq, flush=True)

async def main():
    engine = create_engine(sys.argv[1])
    await asyncio.gather(*(change(engine, f"key_{{sys.argv[2]}}_{{each}}") for each in range({WRITERS_EACH})))
    await engine.dispose()

asyncio.run(main())
"""


@pytest.fixture
async def engine(postgres_store: PostgresStore) -> AsyncIterator[AsyncEngine]:
    await postgres_store.empty()
    made = create_engine(postgres_store.url)
    yield made
    await made.dispose()


async def append(engine: AsyncEngine, subject: str = "key_1") -> int:
    async with write_transaction(engine) as connection:
        return await change_log.append(connection, "key", subject, 1)


async def log_of(engine: AsyncEngine) -> list[int]:
    async with read_transaction(engine) as connection:
        return list((await connection.execute(select(key_changes.c.seq).order_by(key_changes.c.seq))).scalars())


def started_writers(url: str) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, "-W", "error", "-c", WRITER, url]
    return [subprocess.Popen([*command, str(each)], stdout=subprocess.PIPE) for each in range(PROCESSES)]


async def test_the_log_of_many_processes_is_dense_and_in_the_order_of_its_commits(
    engine: AsyncEngine, postgres_store: PostgresStore
) -> None:
    """Whoever follows sees each number after the one before it, in every look."""
    writers = started_writers(postgres_store.url)
    ended = asyncio.gather(*(asyncio.to_thread(writer.communicate) for writer in writers))
    looks = 0
    head = 0
    while not ended.done():
        async with read_transaction(engine) as connection:
            found = select(key_changes.c.seq).where(key_changes.c.seq > head).order_by(key_changes.c.seq)
            seen = list((await connection.execute(found)).scalars())
        assert seen == list(range(head + 1, head + 1 + len(seen)))
        head += len(seen)
        looks += bool(seen)
    printed = [int(line) for output, _ in await ended for line in output.splitlines()]
    assert [writer.returncode for writer in writers] == [0] * PROCESSES
    kept = CHANGES_EACH - CHANGES_EACH // 3
    assert sorted(printed) == await log_of(engine) == list(range(1, PROCESSES * WRITERS_EACH * kept + 1))
    assert looks > 10


async def test_concurrent_writers_take_turns_and_leave_connections_to_readers(engine: AsyncEngine) -> None:
    async with write_transaction(engine) as connection:
        waiting = [asyncio.create_task(append(engine)) for _ in range(30)]
        await asyncio.sleep(0)
        assert await log_of(engine) == []
        assert await change_log.append(connection, "key", "key_0", 1) == 1
    assert await asyncio.gather(*waiting) == list(range(2, 32))


async def test_what_a_writer_reads_is_what_was_committed_before_it_got_the_lock(
    engine: AsyncEngine, postgres_store: PostgresStore
) -> None:
    """Of another process as well: the second one begins before the first has committed, and still sees its change."""
    other = create_engine(postgres_store.url)
    begun = asyncio.Event()

    async def second() -> int:
        begun.set()
        async with write_transaction(other) as connection:
            return int((await connection.execute(select(func.count()).select_from(key_changes))).scalar_one())

    async with write_transaction(engine) as connection:
        found = asyncio.create_task(second())
        await begun.wait()
        while not await waiting_writers(engine):
            await asyncio.sleep(0.01)
        await change_log.append(connection, "key", "key_1", 1)
    assert await found == 1
    await other.dispose()


async def waiting_writers(engine: AsyncEngine) -> int:
    async with read_transaction(engine) as connection:
        waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return int((await connection.execute(waiting)).scalar_one())


async def test_a_transaction_that_fails_or_is_cancelled_takes_its_seq_with_it(engine: AsyncEngine) -> None:
    begun = asyncio.Event()

    async def change(*, fail: bool) -> None:
        async with write_transaction(engine) as connection:
            assert await change_log.append(connection, "key", "key_2", 1) == 1
            if fail:
                raise ZeroDivisionError
            begun.set()
            await asyncio.Event().wait()

    with pytest.raises(ZeroDivisionError):
        await change(fail=True)
    writer = asyncio.create_task(change(fail=False))
    await begun.wait()
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer
    assert await append(engine) == 1


async def test_a_read_transaction_sees_one_moment_and_changes_nothing(engine: AsyncEngine) -> None:
    async with read_transaction(engine) as connection:
        count = select(func.count()).select_from(key_changes)
        assert (await connection.execute(count)).scalar_one() == 0
        await append(engine)
        assert (await connection.execute(count)).scalar_one() == 0
    with pytest.raises(StoreUnavailable, match="can only be read"):
        async with read_transaction(engine) as connection:
            await change_log.append(connection, "key", "key_1", 1)


async def test_a_commit_is_waited_for_whatever_the_server_is_set_to(
    engine: AsyncEngine, postgres_store: PostgresStore
) -> None:
    def settings(value: str) -> str:
        return f"ALTER DATABASE {postgres_store.name} {value}"

    try:
        for configured, expected in (("off", "on"), ("remote_apply", "remote_apply")):
            postgres_store.server.execute(settings(f"SET synchronous_commit = {configured}"))
            await engine.dispose()
            async with write_transaction(engine) as connection:
                assert (await connection.execute(text("SHOW synchronous_commit"))).scalar_one() == expected
    finally:
        postgres_store.server.execute(settings("RESET ALL"))


async def test_a_store_held_by_another_process_is_busy(
    engine: AsyncEngine, postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_engine, "LOCK_TIMEOUT_SECONDS", 0.05)
    other = create_engine(postgres_store.url)
    async with write_transaction(other):
        with pytest.raises(StoreBusy, match="Nothing was changed"):
            await append(engine)
    assert await append(engine) == 1
    await other.dispose()


async def test_writers_of_one_process_do_not_queue_for_ever(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind one that gets no answer from the server."""
    monkeypatch.setattr(postgres_engine.PostgresBackend, "turn_timeout_seconds", 0.05)
    async with write_transaction(engine):
        for _ in range(2):
            with pytest.raises(StoreBusy, match="Nothing was changed"):
                await append(engine)
    assert await append(engine) == 1


async def test_a_writer_that_is_stopped_in_the_middle_loses_the_lock_and_its_change(
    engine: AsyncEngine, postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends its session: else all nodes would wait for a process that a machine has put to sleep."""
    monkeypatch.setattr(postgres_engine, "IDLE_LIMIT_SECONDS", 0.2)
    stopped = create_engine(postgres_store.url)

    async def stop_in_the_middle() -> None:
        async with write_transaction(stopped) as connection:
            await change_log.append(connection, "key", "key_lost", 1)
            assert await append(engine, "key_kept") == 1  # waits until the session has been ended

    with pytest.raises(StoreUnavailable):
        await stop_in_the_middle()
    async with read_transaction(engine) as connection:
        assert (await connection.execute(select(key_changes.c.subject_id))).scalars().all() == ["key_kept"]
    await stopped.dispose()


async def test_a_broken_constraint_is_an_answer_and_no_outage(engine: AsyncEngine) -> None:
    row = {"digest": bytes(32), "key_id": "key_1", "retired_at": None}
    with pytest.raises(IntegrityError):
        async with write_transaction(engine) as connection:
            await connection.execute(insert(retired_digests).values(row))


async def test_a_server_that_was_restarted_costs_no_failed_call(own_postgres: PostgresServer) -> None:
    url = own_postgres.url(own_postgres.new_database())
    await asyncio.to_thread(migrate, url)
    engine = create_engine(url)
    async with read_transaction(engine), read_transaction(engine):
        assert await append(engine) == 1  # three connections are in the pool by now
    for end in (own_postgres.stop_fast, lambda: own_postgres.process.kill()):  # noqa: PLW0108 - of that time
        await asyncio.to_thread(end)
        await asyncio.to_thread(own_postgres.restart)
        before = await log_of(engine)
        assert await asyncio.gather(*(append(engine) for _ in range(3))) == [before[-1] + each for each in (1, 2, 3)]
    await engine.dispose()


async def test_a_server_that_is_away_is_unavailable_and_never_waited_for_long(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_engine, "ANSWER_SECONDS", 0.3)
    url = own_postgres.url(own_postgres.new_database())
    await asyncio.to_thread(migrate, url)
    engine = create_engine(url)
    assert await append(engine) == 1
    own_postgres.process.pause()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await append(engine)
    own_postgres.process.resume()
    assert await append(engine) == 2
    own_postgres.process.kill()
    with pytest.raises(StoreUnavailable, match=r"cannot be reached|lost the connection|stopped or started"):
        await append(engine)
    with pytest.raises(StoreUnavailable, match=r"cannot be reached: .*Check that the server runs"):
        await append(engine)
    await engine.dispose()


async def test_a_stopped_server_holds_up_nobody_and_leaves_no_connection_behind(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its connections stay open and say nothing: at the beginning, in the middle, and where a caller gives up first."""
    monkeypatch.setattr(postgres_engine, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(postgres_engine, "COMMAND_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(postgres_driver, "CONNECT_TIMEOUT_SECONDS", 0.3)
    url = own_postgres.url(own_postgres.new_database())
    await asyncio.to_thread(migrate, url)
    engine = create_engine(url)

    async def stopped_in_the_middle() -> None:
        async with write_transaction(engine) as connection:
            own_postgres.process.pause()
            await change_log.append(connection, "key", "key_lost", 1)

    async def stopped_before_the_commit() -> None:
        async with write_transaction(engine) as connection:
            await change_log.append(connection, "key", "key_lost", 1)
            own_postgres.process.pause()

    async def given_up_first() -> None:
        async with read_transaction(engine) as connection:
            own_postgres.process.pause()
            async with asyncio.timeout(0.05):
                await connection.execute(select(key_changes))

    for attempt in (stopped_in_the_middle, stopped_before_the_commit, given_up_first):
        async with read_transaction(engine), read_transaction(engine):
            before = await append(engine)
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await attempt()
        for _ in range(3):  # on connections that are still in the pool, and on new ones
            for call in (append, log_of):
                with pytest.raises(StoreUnavailable, match="does not answer"):
                    await call(engine)
        own_postgres.process.resume()
        # A COMMIT that had been sent may have been done.
        assert before < await append(engine) <= before + 2
    await engine.dispose()
    while own_postgres.execute(OWN_SESSIONS) != "0":
        await asyncio.sleep(0.01)
    assert not caplog.records


async def test_without_the_driver_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    for attempt in (create_engine, migrate):
        with pytest.raises(GatewayError, match=r"keygate\[postgres\]") as caught:
            attempt("postgresql://me:hunter2@db/gateway")
        assert "hunter2" not in caught.value.detail + caught.value.internal
