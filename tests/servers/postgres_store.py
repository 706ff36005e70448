"""A migrated database for tests that need a store each, emptied or filled again for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg

from gateway.store.migrate import migrate
from gateway.store.schema import metadata

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

# One after the other in any order, without the checks of foreign keys; faster than TRUNCATE, which makes new files.
_ANY_ORDER: Final = "SET LOCAL session_replication_role = replica;"
_TABLES: Final = [table for table in metadata.tables.values() if table.name != "store_identity"]
_EMPTY: Final = ";".join(f"DELETE FROM {table.name}" for table in _TABLES)  # noqa: S608 - our own tables
_SAVE: Final = ";".join(f"CREATE TABLE saved.{table.name} AS SELECT * FROM {table.name}" for table in _TABLES)  # noqa: S608


def _fill() -> str:
    """Statements that copy what was saved, but for what the database computes."""
    statements = []
    for table in _TABLES:
        columns = ", ".join(f'"{column.name}"' for column in table.columns if column.computed is None)
        statements.append(f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM saved.{table.name}")  # noqa: S608
    return ";".join(statements)


class PostgresStore:
    """One database, which tests use one after the other."""

    def __init__(self, server: PostgresServer, template: str | None = None) -> None:
        self.server = server
        self.name = server.new_database(template or "template0")
        self.url = server.url(self.name)
        if template is None:
            migrate(self.url)

    def copied(self) -> PostgresStore:
        """One with the same in it; nobody may be connected to this one."""
        return PostgresStore(self.server, self.name)

    async def empty(self) -> None:
        """Leave the schema and its identity alone."""
        await self._execute(_ANY_ORDER + _EMPTY)

    async def save(self) -> None:
        """Remember what is in it, beside the tables."""
        await self._execute("CREATE SCHEMA saved;" + _SAVE)

    async def restore(self) -> None:
        """Bring back what was saved."""
        await self._execute(f"{_ANY_ORDER}{_EMPTY};{_fill()}")

    async def _execute(self, statements: str) -> None:
        """In one transaction; fails where another connection holds a row for long."""
        connection = await asyncpg.connect(self.url, command_timeout=10)
        try:
            async with connection.transaction():
                await connection.execute(statements)
        finally:
            await connection.close()
