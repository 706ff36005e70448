"""SQLite through SQLAlchemy: aiosqlite, with what makes its connections durable and its writers take turns.

Invariants: a write transaction takes SQLite's write lock at its beginning (BEGIN IMMEDIATE), so it never fails half
way because another one came between its read and its write; a commit is on the disk when it returns
(`synchronous=FULL`), so what was acknowledged survives a kill and a power cut; foreign keys are enforced on every
connection. Workers do not come here; they have `sqlite_reader`.
"""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Dialect, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.errors import StoreBusy, StoreUnavailable, Unreachable
from gateway.store.backend import busy
from gateway.store.location import sqlite_path

BUSY_TIMEOUT_SECONDS: Final = 5.0
_IMMEDIATE: Final = "begin_immediate"
_PRAGMAS: Final = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",
    "PRAGMA journal_size_limit = 67108864",  # a write-ahead log that once grew is cut back to 64 MiB
    "PRAGMA temp_store = MEMORY",
)


class SqliteBackend:
    """A file of this machine, which `migrate` has prepared."""

    reading: Mapping[str, Any] = {}
    asking: Mapping[str, Any] = {}
    writing: Mapping[str, Any] = {_IMMEDIATE: True}
    failures: tuple[type[Exception], ...] = ()
    turn_timeout_seconds: float | None = None

    def __init__(self, url: str) -> None:
        self._path = sqlite_path(url)

    def engine(self) -> AsyncEngine:
        """Make the engine; nothing connects yet."""
        engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=str(self._path)),
            connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
            pool_size=4,
            max_overflow=4,
        )
        event.listen(engine.sync_engine, "do_connect", _probe)
        event.listen(engine.sync_engine, "connect", _prepare_connection)
        event.listen(engine.sync_engine, "begin", _begin)
        return engine

    async def take_lock(self, connection: AsyncConnection) -> None:
        """Do nothing: BEGIN IMMEDIATE has."""

    def crowded(self, error: BaseException) -> Unreachable:
        """Say that there are too many others."""
        return busy(error)

    def translated(self, error: BaseException) -> Unreachable:
        """Tell a full disk and a held file from one that cannot be used at all."""
        original = error.orig if isinstance(error, DBAPIError) else error
        code = getattr(original, "sqlite_errorcode", 0) & 0xFF
        internal = (
            f"{type(original).__name__}: {original}"  # without the statement: its parameters are nobody's business
        )
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return StoreBusy(
                "The key store is held by another writer. Nothing was changed; try again.", internal=internal
            )
        if code == sqlite3.SQLITE_FULL:
            detail = f"The disk that holds the key store {self._path} is full. Nothing was changed."
            return StoreUnavailable(detail, internal=internal)
        detail = f"The key store {self._path} cannot be used just now. Check the file, its directory and the disk."
        return StoreUnavailable(detail, internal=internal)


def _probe(_dialect: Dialect, _entry: ConnectionPoolEntry, arguments: list[str], _options: dict[str, object]) -> None:
    """Fail here where the file cannot be opened, and never make a new one.

    When aiosqlite itself fails to connect, its thread reports to an event loop that may be closed by then, and prints a
    traceback that no caller can catch.
    """
    sqlite3.connect(f"{Path(arguments[0]).as_uri()}?mode=rw", uri=True).close()


def _prepare_connection(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; `_begin` does
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(_IMMEDIATE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
