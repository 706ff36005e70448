"""The engine that services write and read through: SQLAlchemy's async engine on aiosqlite.

Invariants: a write transaction takes SQLite's write lock at its beginning (BEGIN IMMEDIATE), so it never fails half
way because another one came between its read and its write; a commit is on the disk when it returns
(`synchronous=FULL`), so what was acknowledged survives a kill and a power cut; foreign keys are enforced on every
connection.

Within a process, writers queue in order on an asyncio lock: SQLite's own waiting is a sleeping retry without an order,
in which one of many writers can starve past its time-out. Between processes SQLite's waiting serves (5 s).
Workers do not come here; they have `sqlite_reader`.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import URL, Connection, Dialect, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.errors import StoreBusy, StoreUnavailable, Unreachable
from gateway.store.location import sqlite_path

BUSY_TIMEOUT_SECONDS: Final = 5.0
_IMMEDIATE: Final = "begin_immediate"
_PRAGMAS: Final = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",
    "PRAGMA journal_size_limit = 67108864",  # a write-ahead log that once grew is cut back to 64 MiB
    "PRAGMA temp_store = MEMORY",
)

_write_locks: WeakKeyDictionary[AsyncEngine, asyncio.Lock] = WeakKeyDictionary()


def create_engine(url: str) -> AsyncEngine:
    """Return an engine for a store that `migrate` has prepared. Connects on first use; `engine.dispose()` ends it.

    An engine belongs to the event loop it is first used in.
    """
    path = sqlite_path(url)
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
        pool_size=4,
        max_overflow=4,
    )
    event.listen(engine.sync_engine, "do_connect", _probe)
    event.listen(engine.sync_engine, "connect", _prepare_connection)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


@asynccontextmanager
async def read_transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a transaction in which all reads see one moment of the store."""
    with _store_errors(engine):
        async with engine.connect() as connection:
            yield connection


@asynccontextmanager
async def write_transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a transaction that holds the write lock from the start; commit at the end, roll back on any exception."""
    lock = _write_locks.setdefault(engine, asyncio.Lock())
    with _store_errors(engine):
        async with lock, engine.connect() as connection:
            writing = await connection.execution_options(**{_IMMEDIATE: True})
            async with writing.begin():
                yield writing


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


@contextmanager
def _store_errors(engine: AsyncEngine) -> Iterator[None]:
    """Turn the driver's failures into ours. Integrity errors pass: they are answers, and services read them."""
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        raise _translated(engine, error) from error


def _translated(engine: AsyncEngine, error: DBAPIError) -> Unreachable:
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    internal = (
        f"{type(error.orig).__name__}: {error.orig}"  # without the statement: its parameters are nobody's business
    )
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreBusy("The key store is held by another writer. Nothing was changed; try again.", internal=internal)
    path = engine.url.database
    if code == sqlite3.SQLITE_FULL:
        return StoreUnavailable(
            f"The disk that holds the key store {path} is full. Nothing was changed.", internal=internal
        )
    detail = f"The key store {path} cannot be used just now. Check the file, its directory and the disk."
    return StoreUnavailable(detail, internal=internal)
