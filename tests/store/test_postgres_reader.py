"""The workers' reader of PostgreSQL on real servers: killed, stopped, restarted; and the worker's own row there.

What it reads: `test_reader_conformance`.
"""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from gateway.errors import StoreUnavailable
from gateway.keys.projection import LogPosition, WorkerPresence
from gateway.services.worker_roll import MARGIN_SECONDS
from gateway.store import postgres_connections, postgres_driver
from gateway.store.migrate import migrate
from gateway.store.postgres_reader import RENEW_SECONDS, PostgresReader
from tests.servers.postgres import postgres_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from tests.servers.postgres import PostgresServer

    Run = Callable[[Coroutine[Any, Any, None]], None]

DIGEST = hashlib.sha256(b"CI").digest()
KEY = f"""
INSERT INTO organizations (id, name, version, default_expiry, keys_create_requires_admin, keys_revoke_requires_admin,
                           created_at) VALUES ('org_1', 'Acme', 1, '1y', false, false, 1);
INSERT INTO owners (id, organization_id, kind, name, permissions, version, created_at)
VALUES ('mem_1', 'org_1', 'member', 'ada@example.com', '', 1, 1);
INSERT INTO keys (id, organization_id, owner_id, name, name_search, description, version, created_at, created_by_text)
VALUES ('key_1', 'org_1', 'mem_1', 'CI', 'ci', '', 1, 1, 'System');
INSERT INTO key_secrets (digest, id, key_id, slot, created_at)
VALUES ('\\x{DIGEST.hex()}', 'sec_1', 'key_1', 0, 1);
"""  # noqa: S608 - made up here


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a coroutine as each kind of process does: control processes on asyncio, workers on uvloop."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@pytest.fixture(scope="module")
def module_postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def own_postgres(module_postgres: PostgresServer) -> Iterator[PostgresServer]:
    """For tests that kill or stop it: each gets it running, and a database of its own, which is quicker than initdb."""
    yield module_postgres
    module_postgres.process.resume()
    if module_postgres.process.has_ended():
        module_postgres.restart()


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """A migrated database with one key."""
    return prepared(postgres)


@pytest.fixture
def connects(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each attempt to connect that the reader makes."""
    made: list[str] = []
    real = postgres_driver.connect

    async def connect(url: str, **options: Any) -> Any:  # noqa: ANN401 - as asyncpg has it
        made.append(url)
        return await real(url, **options)

    monkeypatch.setattr(postgres_driver, "connect", connect)
    return made


def prepared(server: PostgresServer) -> str:
    url = server.url(server.new_database())
    migrate(url)
    ask(server, url, KEY)
    return url


def ask(server: PostgresServer, url: str, statement: str) -> str:
    return server.execute(statement, url.rpartition("/")[2])


@asynccontextmanager
async def reading(url: str, *, timeout_seconds: float = 60.0, connections: int = 4) -> AsyncIterator[PostgresReader]:
    """A reader, closed at the end. Its patience is long unless a test is about it."""
    reader = PostgresReader(url, timeout_seconds=timeout_seconds, connections=connections)
    try:
        yield reader
    finally:
        await reader.close()


async def recovered(reader: PostgresReader) -> None:
    """Ask as requests do until there is an answer."""
    while True:
        try:
            assert await reader.read(DIGEST) is not None
        except StoreUnavailable:
            await asyncio.sleep(0.01)
        else:
            return


def presence(position: LogPosition | None = None, *, believes_for_seconds: float = 60.0) -> WorkerPresence:
    return WorkerPresence("n:worker-0:7", "n", "host", "worker-0", 7, believes_for_seconds, position)


# --- outages ----------------------------------------------------------------------------------------------------------


def test_a_server_that_was_killed_is_an_outage_and_no_bad_key_and_is_read_again_when_it_is_back(
    own_postgres: PostgresServer, run: Run
) -> None:
    url = prepared(own_postgres)

    async def scene() -> None:
        async with reading(url) as reader:
            await reader.open()
            own_postgres.process.kill()
            for call in (reader.read(DIGEST), reader.look(0), reader.enter(presence()), reader.open()):
                with pytest.raises(StoreUnavailable):
                    await call
            own_postgres.restart()
            await recovered(reader)
            assert (await reader.look(0)).head == 0

    run(scene())


def test_a_server_that_was_stopped_costs_each_call_its_time_and_no_more_and_is_read_again_when_it_goes_on(
    own_postgres: PostgresServer, run: Run
) -> None:
    url = prepared(own_postgres)

    async def scene() -> None:
        async with reading(url, timeout_seconds=0.3) as reader:
            await asyncio.gather(*(reader.read(DIGEST) for _ in range(3)))
            own_postgres.process.pause()
            try:
                calls = [reader.read(DIGEST) for _ in range(20)]
                found = await asyncio.gather(*calls, reader.look(0), return_exceptions=True)
                assert {type(each) for each in found} == {StoreUnavailable}
                with pytest.raises(StoreUnavailable, match="does not answer"):
                    await reader.open()
                await reader.leave("n:worker-0:7")
            finally:
                own_postgres.process.resume()
            await recovered(reader)

    run(scene())


def test_connections_that_hung_are_thrown_away(own_postgres: PostgresServer, run: Run) -> None:
    url = prepared(own_postgres)
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

    async def scene() -> None:
        async with reading(url, timeout_seconds=0.3) as reader:
            await asyncio.gather(*(reader.read(DIGEST) for _ in range(4)))
            own_postgres.process.pause()
            try:
                with pytest.raises(StoreUnavailable):
                    await reader.read(DIGEST)
            finally:
                own_postgres.process.resume()
            await recovered(reader)
            while ask(own_postgres, url, count) != "1":
                await asyncio.sleep(0.01)

    run(scene())


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_a_server_that_was_restarted_between_two_calls_costs_no_call(
    own_postgres: PostgresServer, run: Run, end: str
) -> None:
    url = prepared(own_postgres)

    async def scene() -> None:
        async with reading(url) as reader:
            await asyncio.gather(*(reader.read(DIGEST) for _ in range(4)))
            own_postgres.stop_fast() if end == "stopped" else own_postgres.process.kill()
            own_postgres.restart()
            # The loop has not run since: no connection has noticed yet.
            found = await asyncio.gather(*(reader.read(DIGEST) for _ in range(8)), reader.look(0))
            assert all(found)

    run(scene())


def test_a_server_that_is_away_is_asked_by_one_call_at_a_time_and_not_at_once_again(
    own_postgres: PostgresServer, run: Run, connects: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = prepared(own_postgres)

    async def scene() -> None:
        async with reading(url) as reader:
            own_postgres.process.kill()
            connects.clear()
            monkeypatch.setattr(postgres_connections, "PAUSE_SECONDS", 3600.0)
            for _ in range(2):
                await asyncio.gather(*(reader.read(DIGEST) for _ in range(50)), return_exceptions=True)
            asked = len(connects)
            assert asked <= 4  # those that were under way when it was found away
            reader._connections._ask_again_at = 0.0
            await asyncio.gather(*(reader.read(DIGEST) for _ in range(50)), return_exceptions=True)
            assert len(connects) == asked + 1
            own_postgres.restart()
            await reader.open()  # insists
            assert await reader.read(DIGEST) is not None

    run(scene())


def test_more_calls_than_may_wait_fail_at_once(
    own_postgres: PostgresServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = prepared(own_postgres)
    monkeypatch.setattr(postgres_connections, "WAITING_LIMIT", 3)

    async def scene() -> None:
        async with reading(url, connections=2) as reader:
            await reader.open()
            own_postgres.process.pause()
            try:
                waiting = [asyncio.create_task(reader.read(DIGEST)) for _ in range(5)]
                await asyncio.sleep(0)
                with pytest.raises(StoreUnavailable, match="more than it answers"):
                    await reader.read(DIGEST)
            finally:
                own_postgres.process.resume()
            assert all(await asyncio.gather(*waiting))

    run(scene())


def test_a_call_that_is_cancelled_spoils_no_other(own_postgres: PostgresServer, run: Run) -> None:
    url = prepared(own_postgres)

    async def scene() -> None:
        async with reading(url, connections=1) as reader:
            await reader.open()
            own_postgres.process.pause()
            try:
                cancelled, waiting = (asyncio.create_task(reader.read(DIGEST)) for _ in range(2))
                await asyncio.sleep(0.05)
                cancelled.cancel()
                await asyncio.wait([cancelled])
            finally:
                own_postgres.process.resume()
            assert await waiting is not None

    run(scene())


def test_what_is_wrong_with_the_store_itself_is_said_and_is_no_outage(postgres: PostgresServer, run: Run) -> None:
    url = postgres.url(postgres.new_database())

    async def scene() -> None:
        async with reading(url) as reader:
            with pytest.raises(StoreUnavailable, match="lacks tables"):
                await reader.read(DIGEST)
            migrate(url)
            assert await reader.read(DIGEST) is None

    run(scene())


def test_the_password_is_in_no_error(run: Run) -> None:
    async def scene() -> None:
        async with reading("postgresql://ada:hunter2@127.0.0.1:1/gateway") as reader:
            with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/gateway") as caught:
                await reader.open()
            assert "hunter2" not in f"{caught.value.detail} {caught.value.internal} {reader!r}"

    run(scene())


@pytest.fixture
def standby(own_postgres: PostgresServer) -> Iterator[PostgresServer]:
    """Until the end of the test."""
    signal_file = own_postgres._data / "standby.signal"
    own_postgres.stop_fast()
    signal_file.touch()
    own_postgres.restart()
    yield own_postgres
    own_postgres.stop_fast()
    signal_file.unlink()
    own_postgres.restart()


def test_a_standby_is_no_store(standby: PostgresServer, run: Run) -> None:
    """It may be behind, and no worker can enter its list there."""
    url = standby.url()

    async def scene() -> None:
        async with reading(url) as reader:
            with pytest.raises(StoreUnavailable, match="standby"):
                await reader.read(DIGEST)

    run(scene())


def test_a_reader_that_was_closed_refuses_and_ends_what_was_under_way(url: str, run: Run) -> None:
    async def scene() -> None:
        async with reading(url) as reader:
            under_way = asyncio.create_task(reader.read(DIGEST))
            await asyncio.sleep(0)
            await reader.close()
            assert await under_way is not None
            assert reader._connections._idle == []
            with pytest.raises(StoreUnavailable):
                await reader.read(DIGEST)
            await reader.leave("n:worker-0:7")

    run(scene())


# --- the worker's own row ---------------------------------------------------------------------------------------------

ROW = "SELECT node, host, name, pid, believes_for, epoch, applied FROM workers"


def test_a_worker_enters_the_list_with_all_that_it_says_of_itself(postgres: PostgresServer, url: str, run: Run) -> None:
    async def scene() -> None:
        async with reading(url) as reader:
            await reader.enter(presence(believes_for_seconds=1.0004))
            assert ask(postgres, url, ROW) == "n|host|worker-0|7|1001||"
            await reader.enter(presence(LogPosition("e", 4)))
            assert ask(postgres, url, ROW) == "n|host|worker-0|7|60000|e|4"
            assert ask(postgres, url, "SELECT heard_at >= entered_at FROM workers") == "t"
            await reader.leave("n:worker-0:7")
            assert ask(postgres, url, ROW) == ""

    run(scene())


def test_a_look_takes_the_sign_of_life_along(postgres: PostgresServer, url: str, run: Run) -> None:
    """How far the worker is at once, and that it lives when the last sign is not quite new."""

    async def scene() -> None:
        async with reading(url) as reader:
            await reader.enter(presence())
            await reader.look(0, presence=presence(LogPosition("e", 4)))
            assert ask(postgres, url, ROW) == "n|host|worker-0|7|60000|e|4"
            ask(postgres, url, "UPDATE workers SET heard_at = heard_at - 1000000")
            before = ask(postgres, url, "SELECT heard_at FROM workers")
            await reader.look(0, presence=presence(LogPosition("e", 4)))
            assert int(ask(postgres, url, "SELECT heard_at FROM workers")) > int(before) + 1_000_000

    run(scene())


def test_a_look_that_has_nothing_new_to_say_writes_nothing(postgres: PostgresServer, url: str, run: Run) -> None:
    async def scene() -> None:
        async with reading(url) as reader:
            await reader.enter(presence(LogPosition("e", 4)))
            ask(postgres, url, "UPDATE workers SET heard_at = heard_at + 3600000000")  # so that it stays new
            before = ask(postgres, url, "SELECT xmin FROM workers")
            await reader.look(0, presence=presence(LogPosition("e", 4)))
            assert ask(postgres, url, "SELECT xmin FROM workers") == before

    run(scene())


def test_who_was_dropped_from_the_list_enters_it_again_before_it_is_told_of_the_log(
    postgres: PostgresServer, url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was committed while it was not in the list did not wait for it, so it must be in what it is told."""
    enter = PostgresReader.enter

    async def enter_late(self: PostgresReader, own: WorkerPresence) -> None:
        ask(postgres, url, "INSERT INTO key_changes VALUES (1, 'key', 'key_1', 2)")
        await enter(self, own)

    monkeypatch.setattr(PostgresReader, "enter", enter_late)

    async def scene() -> None:
        async with reading(url) as reader:
            look = await reader.look(0, presence=presence(LogPosition("e", 0)))
            assert (look.head, [each.subject_id for each in look.changes]) == (1, ["key_1"])
            assert ask(postgres, url, "SELECT id, applied FROM workers") == "n:worker-0:7|0"

    run(scene())


def test_a_look_without_a_presence_writes_nothing(postgres: PostgresServer, url: str, run: Run) -> None:
    async def scene() -> None:
        async with reading(url) as reader:
            await reader.look(0)
            assert ask(postgres, url, ROW) == ""

    run(scene())


def test_whoever_drops_silent_workers_allows_for_the_lag_of_their_sign_of_life() -> None:
    assert MARGIN_SECONDS > 2 * RENEW_SECONDS


def test_importing_it_imports_neither_sqlalchemy_nor_pydantic_nor_the_driver_itself() -> None:
    program = (
        "import sys, gateway.store.postgres_reader\n"
        "print(sorted({'sqlalchemy', 'pydantic', 'alembic', 'aiosqlite', 'asyncpg'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
