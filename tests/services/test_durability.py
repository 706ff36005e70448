"""A key store that loses nothing: what was acknowledged is there after a kill -9, whenever it comes."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gateway.keys import secret as secrets
from gateway.store.migrate import migrate
from gateway.store.sqlite_reader import SqliteReader

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.postgres import PostgresServer

# Creates up to 1,000 keys, eight at a time, and prints each secret once its creation has been acknowledged.
CREATOR = """
import asyncio, sys
from gateway.services.authentication import Authenticator
from gateway.services.keys import KeyService
from gateway.services.organizations import OrganizationService
from gateway.store.engine import create_engine

async def create(keys, caller, numbers):
    for number in numbers:
        issued = (await keys.create(caller, {"name": f"key {number}"})).resource
        print(issued.id, issued.secret, flush=True)

async def main():
    engine = create_engine(sys.argv[1])
    made = await OrganizationService(engine).initialise(sys.argv[2], "ada@example.com")
    caller = await Authenticator(engine).authenticate(made.key.secret)
    numbers = iter(range(1000))
    keys = KeyService(engine)
    await asyncio.gather(*(create(keys, caller, numbers) for _ in range(8)))

asyncio.run(main())
"""


def create_until_killed(url: str, organization: str, after: int) -> list[tuple[str, str]]:
    """Kill the creator once it has acknowledged so many keys; return all that it has acknowledged by its death."""
    command = [sys.executable, "-c", CREATOR, url, organization]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as creator:
        assert creator.stdout is not None
        lines = [creator.stdout.readline() for _ in range(after)]
        creator.send_signal(signal.SIGKILL)
        lines += creator.stdout.readlines()
    assert creator.returncode == -signal.SIGKILL
    acknowledged = [tuple(line.split()) for line in lines if line.endswith("\n")]
    return [(key_id, secret) for key_id, secret in acknowledged]


@pytest.mark.parametrize("seed", range(3))
def test_every_acknowledged_key_is_there_after_kill_9_and_the_log_is_whole(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "gateway.db"
    migrate(f"sqlite:///{path}")
    after = random.Random(seed).randrange(5, 60)  # noqa: S311 - another moment in each round, the same each time
    acknowledged = create_until_killed(f"sqlite:///{path}", "Acme", after)
    assert len(acknowledged) >= after

    migrate(f"sqlite:///{path}")  # as the next start does
    with contextlib.closing(SqliteReader(path)) as reader:
        for key_id, secret in acknowledged:
            record = reader.read(secrets.digest(secret.encode()))
            assert record is not None
            assert record.key_id == key_id
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        count, highest = connection.execute("SELECT count(*), max(seq) FROM key_changes").fetchone()
        assert count == highest
        for query in (
            "SELECT subject_id FROM key_changes WHERE subject_kind = 'key'",
            "SELECT key_id FROM key_secrets",
            "SELECT target_id FROM management_events WHERE target_kind = 'key'",
        ):
            found = sorted(row[0] for row in connection.execute(query))
            assert found == sorted(row[0] for row in connection.execute("SELECT id FROM keys"))


def test_a_second_process_goes_on_where_the_killed_one_stopped(tmp_path: Path) -> None:
    """A writer that died in the middle leaves no lock behind."""
    path = tmp_path / "gateway.db"
    migrate(f"sqlite:///{path}")
    first = create_until_killed(f"sqlite:///{path}", "Acme", 8)
    second = create_until_killed(f"sqlite:///{path}", "Other", 8)
    with contextlib.closing(SqliteReader(path)) as reader:
        assert all(reader.read(secrets.digest(secret.encode())) for _, secret in (*first, *second))


def test_in_postgresql_too_nothing_acknowledged_is_lost_and_a_killed_writer_leaves_no_lock(
    postgres: PostgresServer,
) -> None:
    name = postgres.new_database()
    url = postgres.url(name)
    migrate(url)
    acknowledged = [*create_until_killed(url, "Acme", 20), *create_until_killed(url, "Other", 8)]
    found = set(postgres.execute("SELECT id FROM keys", name).split())
    assert {key_id for key_id, _ in acknowledged} <= found
    assert set(postgres.execute("SELECT key_id FROM key_secrets", name).split()) == found
    logged = "SELECT subject_id FROM key_changes WHERE subject_kind = 'key'"
    assert set(postgres.execute(logged, name).split()) == found
    assert postgres.execute("SELECT count(*) = max(seq) FROM key_changes", name) == "t"


def test_two_processes_writing_at_once_lose_nothing_and_number_the_log_densely(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    migrate(f"sqlite:///{path}")
    program = CREATOR.replace("range(1000)", "range(40)")
    command = [sys.executable, "-c", program, f"sqlite:///{path}"]
    creators = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in ("Acme", "Other")]
    printed = [creator.communicate()[0].splitlines() for creator in creators]
    assert [creator.returncode for creator in creators] == [0, 0]
    assert [len(lines) for lines in printed] == [40, 40]
    with contextlib.closing(SqliteReader(path)) as reader:
        assert [change.seq for change in reader.look(0).changes] == list(range(1, 2 * (3 + 40) + 1))
