"""Migration on PostgreSQL: whole or not at all, by one of several starters, and clear about what it refuses."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, pool
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.errors import GatewayError, StoreBusy, StoreUnavailable
from gateway.store import postgres_driver, postgres_migration
from gateway.store.migrate import migrate
from gateway.store.revision import REVISIONS
from gateway.store.schema import metadata

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

# Everything that makes a table what it is, in the words of the server.
DESCRIBED = (
    (
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated,"
        " coalesce((SELECT collname FROM pg_collation WHERE oid = a.attcollation), '')"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = 'public'::regnamespace"
        " AND a.attnum > 0 ORDER BY 1, 2"
    ),
    (
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
        " ORDER BY 1"
    ),
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
)


def described(server: PostgresServer, name: str) -> list[list[str]]:
    found = [server.execute(question, name).splitlines() for question in DESCRIBED]
    return [[line for line in lines if "alembic_version" not in line] for lines in found]


def in_database(url: str, work: object) -> object:
    """Call with a plain connection of SQLAlchemy."""

    async def call() -> object:
        engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"), poolclass=pool.NullPool)
        async with engine.begin() as connection:
            found: object = await connection.run_sync(work)  # type: ignore[arg-type] # a function of a connection
        await engine.dispose()
        return found

    return asyncio.run(call())


def test_the_migrations_make_exactly_what_the_code_describes(postgres: PostgresServer) -> None:
    """Tables, generated columns, collations, checks, foreign keys and partial indexes."""
    migrated, made = postgres.new_database(), postgres.new_database()
    migrate(postgres.url(migrated))

    def compared(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    def make(connection: Connection) -> None:
        stored = [column.computed for table in metadata.tables.values() for column in table.columns if column.computed]
        before = [computed.persisted for computed in stored]
        for computed in stored:
            computed.persisted = True
        metadata.create_all(connection)
        for computed, value in zip(stored, before, strict=True):
            computed.persisted = value

    assert in_database(postgres.url(migrated), compared) == []
    in_database(postgres.url(made), make)
    assert described(postgres, migrated) == described(postgres, made)


def test_a_second_migration_changes_nothing_and_imports_no_alembic(postgres: PostgresServer) -> None:
    name = postgres.new_database()
    migrate(postgres.url(name))
    epoch = postgres.execute("SELECT id, epoch FROM store_identity", name)
    program = (
        f"import sys; from gateway.store.migrate import migrate; migrate({postgres.url(name)!r}); "
        "print({'alembic', 'sqlalchemy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
    assert postgres.execute("SELECT id, epoch FROM store_identity", name) == epoch
    identity, _, name_of_run = epoch.partition("|")
    assert (identity, len(name_of_run)) == ("1", 32)


async def test_it_may_be_called_where_an_event_loop_runs(postgres: PostgresServer) -> None:
    migrate(postgres.url(postgres.new_database()))


def test_of_several_processes_starting_at_once_one_migrates_and_each_finds_a_whole_store(
    postgres: PostgresServer,
) -> None:
    name = postgres.new_database()
    program = (
        "import sys, logging; from gateway.store.migrate import migrate; import alembic.command, sqlalchemy, asyncpg\n"
        "logging.basicConfig(level='INFO', stream=sys.stdout, format='%(message)s')\n"
        "logging.getLogger('alembic').setLevel('ERROR')\n"
        "print('here', flush=True); sys.stdin.readline(); migrate(sys.argv[1])\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, postgres.url(name)]
    starters = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for starter in starters:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "here\n"
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    ends = [starter.communicate() for starter in starters]
    assert [(starter.returncode, end[1]) for starter, end in zip(starters, ends, strict=True)] == [(0, "")] * 3
    assert "".join(end[0] for end in ends).count("prepared the key store") == 1
    assert postgres.execute("SELECT version_num FROM alembic_version", name) == REVISIONS[-1]


def test_a_migration_that_fails_half_way_leaves_nothing_behind(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = postgres.new_database()
    monkeypatch.setattr(os, "urandom", lambda _size: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        migrate(postgres.url(name))
    monkeypatch.undo()
    assert described(postgres, name) == [[], [], []]
    migrate(postgres.url(name))


def test_a_migration_that_another_process_makes_is_waited_for_and_not_for_ever(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_migration, "LOCK_TIMEOUT_SECONDS", 0.05)
    name = postgres.new_database()

    async def hold() -> None:
        other = await postgres_driver.connect(postgres.url(name), command_timeout_seconds=None)
        await other.execute(f"SELECT pg_advisory_lock({postgres_migration.MIGRATION_LOCK})")
        try:
            await asyncio.to_thread(migrate, postgres.url(name))
        finally:
            await other.close()

    with pytest.raises(StoreBusy):
        asyncio.run(hold())


def test_a_store_of_a_newer_gateway_is_refused_and_left_alone(postgres: PostgresServer) -> None:
    name = postgres.new_database()
    migrate(postgres.url(name))
    postgres.execute("UPDATE alembic_version SET version_num = '9999'", name)
    with pytest.raises(GatewayError, match="newer gateway") as caught:
        migrate(postgres.url(name))
    assert caught.value.code == "store_newer"


@pytest.mark.parametrize("table", ["cookies (name text)", "alembic_version (version_num text)"])
def test_a_database_of_another_program_is_refused_and_left_alone(postgres: PostgresServer, table: str) -> None:
    name = postgres.new_database()
    postgres.execute(f"CREATE TABLE {table}", name)
    before = described(postgres, name)
    with pytest.raises(GatewayError, match="another program") as caught:
        migrate(postgres.url(name))
    assert caught.value.code == "store_foreign"
    assert described(postgres, name) == before


def test_a_schema_beside_those_of_other_programs_can_be_chosen(postgres: PostgresServer) -> None:
    name = postgres.new_database()
    postgres.execute("CREATE TABLE cookies (name text); CREATE SCHEMA keygate", name)
    migrate(f"{postgres.url(name)}?search_path=keygate")
    assert postgres.execute("SELECT count(*) FROM keygate.store_identity", name) == "1"


def refused(url: str) -> str:
    with pytest.raises(GatewayError) as caught:
        migrate(url)
    error = caught.value
    assert "\n" not in error.detail
    assert "hunter2" not in error.detail + error.internal
    return error.detail


def test_what_is_wrong_with_a_server_is_one_clear_sentence_without_a_password(postgres: PostgresServer) -> None:
    name = postgres.new_database()
    latin = f"{name}_latin"
    postgres.execute(f"CREATE DATABASE {latin} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    postgres.execute(f"CREATE ROLE {name}_nobody LOGIN PASSWORD 'hunter2'")
    host = f"127.0.0.1:{postgres.port}"

    def url(user: str = "postgres", place: str = host, database: str = name) -> str:
        return f"postgresql://{user}:hunter2@{place}/{database}"

    assert "cannot be reached" in refused(url(place="127.0.0.1:1"))
    assert "cannot be reached" in refused(url(place="no-such-host.invalid"))
    assert "has no such database" in refused(url(database="nothing"))
    assert "does not let this user in" in refused(url(user="stranger"))
    assert "Grant its user" in refused(url(user=f"{name}_nobody"))
    assert "LATIN1" in refused(url(database=latin))
    assert "search_path" in refused(f"{url()}?search_path=nowhere")
    assert "rejected SSL upgrade" in refused(f"{url()}?sslmode=require")
    assert "the certificates" in refused(f"{url()}?sslmode=verify-full&sslrootcert=/nowhere/ca.pem")


def test_a_wrong_password_is_called_so_and_not_repeated(own_postgres: PostgresServer) -> None:
    path = own_postgres.execute("SHOW hba_file")
    own_postgres.execute("ALTER USER postgres PASSWORD 'right'")
    own_postgres.execute(f"COPY (SELECT 'host all all all scram-sha-256') TO '{path}'")
    own_postgres.execute("SELECT pg_reload_conf()")
    url = f"postgresql://postgres:hunter2@127.0.0.1:{own_postgres.port}/postgres"
    assert "refuses the password" in refused(url)
    migrate(url.replace("hunter2", "right"))


def test_a_server_that_cannot_be_written_is_called_so(postgres: PostgresServer) -> None:
    name = postgres.new_database()
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(StoreUnavailable, match="can only be read just now"):
        migrate(postgres.url(name))
