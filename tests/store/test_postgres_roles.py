"""The role that docs/store.md gives to workers: enough for all that they do, and for nothing else."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from gateway.keys.projection import LogPosition, WorkerPresence
from gateway.store.migrate import migrate
from gateway.store.postgres_reader import PostgresReader
from gateway.store.schema import metadata

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

PAGE = Path(__file__).parents[2] / "docs/store.md"


async def test_a_worker_needs_no_more_than_the_page_grants(postgres: PostgresServer) -> None:
    name = postgres.new_database()
    role = f"{name}_worker"
    await asyncio.to_thread(migrate, postgres.url(name))
    for statement in re.findall(r"(?:CREATE ROLE|GRANT) [^;]+;", PAGE.read_text(encoding="utf-8")):
        granted = statement.replace("keygate_worker", role).replace("DATABASE keygate", f"DATABASE {name}")
        await asyncio.to_thread(postgres.execute, granted, name)
    url = postgres.url(name).replace("postgres@", f"{role}@")
    position = LogPosition("epoch", 0)
    presence = WorkerPresence("n:worker-0:1", "n", "host", "worker-0", 1, 60.0, position)
    reader = PostgresReader(url, connections=1)
    await reader.open()
    await reader.enter(presence)
    assert (await reader.look(0, presence=presence)).head == 0
    assert await reader.read(bytes(32)) is None
    await reader.leave(presence.id)
    await reader.close()
    assert await asyncio.to_thread(postgres.execute, "SELECT count(*) FROM workers", name) == "0"

    connection = await asyncpg.connect(url)
    for table in metadata.tables:
        if table != "workers":
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our own tables
    for table in ("members", "management_events", "idempotency_keys"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"SELECT * FROM {table}")  # noqa: S608 - the same
    await connection.close()
