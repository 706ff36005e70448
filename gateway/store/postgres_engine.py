"""PostgreSQL through SQLAlchemy: asyncpg, with what makes writers of all nodes take turns.

Invariants: a write transaction holds one lock of the whole database from its first statement to its commit. At READ
COMMITTED each later statement sees all that was committed before the lock was got, so what a service reads is still so
when it writes, and the change log has one writer at a time. A commit is in the server's log when it returns, even where
the server is set not to wait for that. A read transaction sees one moment, and can change nothing.

A control process that is stopped, or cut off, in the middle of a transaction holds the lock for
`IDLE_LIMIT_SECONDS` at the most: the server then ends its session. All limits are set within the transaction and not
for the session, as PgBouncer hands sessions around.

Turned down: SERIALIZABLE, whose failures every service would have to repeat; LOCK TABLE, for which an autovacuum of
that table is a writer too. Workers do not come here; they have `postgres_reader`.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.errors import StoreUnavailable, Unreachable
from gateway.store import postgres_driver

LOCK_TIMEOUT_SECONDS: Final = 5.0
IDLE_LIMIT_SECONDS: Final = 10.0
COMMAND_TIMEOUT_SECONDS: Final = 15.0  # longer than any wait for a lock; a server that is stopped says nothing
POOL_TIMEOUT_SECONDS: Final = 5.0
WRITERS_LOCK: Final = 0x6B65_7967_6174_6501
"""The number of the advisory lock. Any other program that takes it, holds up writers alone."""

_TAKE_LOCK: Final = text(
    "SELECT set_config('lock_timeout', :lock_timeout, true),"
    " set_config('idle_in_transaction_session_timeout', :idle_limit, true),"
    " CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END,"
    " pg_advisory_xact_lock(:number)"
)


class PostgresBackend:
    """A database that `migrate` has prepared, shared by nodes."""

    reading: Mapping[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    writing: Mapping[str, Any] = {"isolation_level": "READ COMMITTED"}
    turn_timeout_seconds: float | None = LOCK_TIMEOUT_SECONDS  # a server that is stopped must not make a queue

    def __init__(self, url: str) -> None:
        self._url = url
        self.failures = postgres_driver.failures()

    def engine(self) -> AsyncEngine:
        """Make the engine; nothing connects yet."""

        async def connect() -> object:
            return await postgres_driver.connect(self._url, command_timeout_seconds=COMMAND_TIMEOUT_SECONDS)

        engine = create_async_engine(
            "postgresql+asyncpg://",  # all else is in the URL that asyncpg itself reads, as it does in workers
            async_creator=connect,
            pool_size=4,
            max_overflow=4,
            pool_timeout=POOL_TIMEOUT_SECONDS,
        )
        event.listen(engine.sync_engine, "checkout", _refuse_closed)
        return engine

    async def take_lock(self, connection: AsyncConnection) -> None:
        """Wait for the other writers, of this and of all other nodes."""
        limits = {
            "lock_timeout": f"{LOCK_TIMEOUT_SECONDS * 1000:.0f}",
            "idle_limit": f"{IDLE_LIMIT_SECONDS * 1000:.0f}",
            "number": WRITERS_LOCK,
        }
        await connection.execute(_TAKE_LOCK, limits)

    def translated(self, error: BaseException) -> Unreachable:
        """Say what a failure of asyncpg, or of SQLAlchemy around it, means."""
        original: BaseException | None = error
        while isinstance(original, DBAPIError) or (
            original is not None and not isinstance(original, self.failures) and original.__cause__ is not None
        ):
            original = original.orig if isinstance(original, DBAPIError) else original.__cause__
        if original is None:
            return StoreUnavailable("The key store cannot be used just now.", internal=type(error).__name__)
        return postgres_driver.translated(self._url, original)


def _refuse_closed(connection: DBAPIConnection, _entry: ConnectionPoolEntry, _fairy: object) -> None:
    """Let the pool replace what the server has closed since: a restart then costs nobody a failed call.

    asyncpg knows without asking. SQLAlchemy's own ping would cost every call three answers of the server.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError
