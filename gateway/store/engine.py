"""The engine that services read and write through: SQLAlchemy's async engine, the same for SQLite and PostgreSQL.

Invariants: nothing is committed between the beginning of a write transaction and its end by anybody else, in this or
another process; so a write never fails half way, or overwrites what it has not seen, because another one came between
its read and its write. A read transaction sees one moment. A commit survives a kill and a power cut when it returns.

Within a process, writers queue in order on an asyncio lock: SQLite's own waiting is a sleeping retry without an order,
in which one of many writers can starve past its time-out; and of PostgreSQL, waiting writers would take every
connection. Between processes the store's own waiting serves (5 s). How each store does it: `sqlite_engine`,
`postgres_engine`. Workers do not come here; they have readers of their own.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.store.backend import Backend
from gateway.store.location import is_postgres

_write_locks: WeakKeyDictionary[AsyncEngine, asyncio.Lock] = WeakKeyDictionary()
_backends: Final[WeakKeyDictionary[AsyncEngine, Backend]] = WeakKeyDictionary()


def create_engine(url: str) -> AsyncEngine:
    """Return an engine for a store that `migrate` has prepared. Connects on first use; `engine.dispose()` ends it.

    An engine belongs to the event loop it is first used in. Raises GatewayError where the store's driver is missing.
    """
    backend = _backend(url)
    engine = backend.engine()
    _backends[engine] = backend
    return engine


@asynccontextmanager
async def read_transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a transaction in which all reads see one moment of the store."""
    backend = _backends[engine]
    with _store_errors(backend):
        async with engine.connect() as connection:
            yield await connection.execution_options(**backend.reading)


@asynccontextmanager
async def single_reads(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Lend a connection for statements that read and have nothing to do with each other; one answer is all each costs.

    Each statement sees one moment; two of them may see different ones.
    """
    backend = _backends[engine]
    with _store_errors(backend):
        async with engine.connect() as connection:
            yield await connection.execution_options(**backend.asking)


@asynccontextmanager
async def write_transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a transaction that holds the write lock from the start; commit at the end, roll back on any exception."""
    backend = _backends[engine]
    with _store_errors(backend):
        async with _turn(engine, backend):
            held = repeated = False
            while not held:
                try:
                    async with engine.connect() as connection:
                        writing = await connection.execution_options(**backend.writing)
                        async with writing.begin():
                            await backend.take_lock(writing)
                            held = True
                            yield writing
                except DBAPIError as error:
                    # A server that was restarted meanwhile: nothing was done yet, and there are new connections now.
                    if held or repeated or not error.connection_invalidated:
                        raise
                    repeated = True


@asynccontextmanager
async def _turn(engine: AsyncEngine, backend: Backend) -> AsyncIterator[None]:
    lock = _write_locks.setdefault(engine, asyncio.Lock())
    try:
        async with asyncio.timeout(backend.turn_timeout_seconds):
            await lock.acquire()
    except TimeoutError as error:
        raise backend.crowded(error) from error
    try:
        yield
    finally:
        lock.release()


def _backend(url: str) -> Backend:
    if is_postgres(url):
        from gateway.store.postgres_engine import PostgresBackend  # noqa: PLC0415 - asyncpg is an extra

        return PostgresBackend(url)
    from gateway.store.sqlite_engine import SqliteBackend  # noqa: PLC0415 - the other one's driver is not needed

    return SqliteBackend(url)


@contextmanager
def _store_errors(backend: Backend) -> Iterator[None]:
    """Turn the driver's failures into ours. Integrity errors pass: they are answers, and services read them."""
    failures: tuple[type[Exception], ...] = (DBAPIError, *backend.failures)
    try:
        yield
    except IntegrityError:
        raise
    except PoolTimeoutError as error:
        raise backend.crowded(error) from error
    except failures as error:
        raise backend.translated(error) from error
