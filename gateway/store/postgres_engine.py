"""PostgreSQL through SQLAlchemy: asyncpg, with what makes writers of all nodes take turns.

Invariants: a write transaction holds one lock of the whole database from its first statement to its commit. At READ
COMMITTED each later statement sees all that was committed before the lock was got, so what a service reads is still so
when it writes, and the change log has one writer at a time. A commit is in the server's log when it returns, even where
the server is set not to wait for that. A read transaction sees one moment, and can change nothing.

A control process that is stopped, or cut off, in the middle of a transaction holds the lock for
`IDLE_LIMIT_SECONDS` at the most: the server then ends its session. All limits are set within the transaction and not
for the session, as PgBouncer hands sessions around.

A server that is stopped, or behind a network that swallows everything, keeps its connections open and says nothing. So
BEGIN and ROLLBACK, which cost a server no work, are waited for `ANSWER_SECONDS`, anything else for
`COMMAND_TIMEOUT_SECONDS`; and a connection on which something was given up is ended right there. asyncpg would ask the
server to cancel the command, and wait for that; then SQLAlchemy would roll back, and close; each waits as long again.

Turned down: SERIALIZABLE, whose failures every service would have to repeat; LOCK TABLE, for which an autovacuum of
that table is a writer too. Workers do not come here; they have `postgres_reader`.
"""

import asyncio
from collections.abc import Mapping
from functools import cache
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.errors import StoreUnavailable, Unreachable
from gateway.store import postgres_driver
from gateway.store.backend import busy

if TYPE_CHECKING:
    import asyncpg

LOCK_TIMEOUT_SECONDS: Final = 5.0
IDLE_LIMIT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 4.0
COMMAND_TIMEOUT_SECONDS: Final = 10.0  # longer than any wait for a lock
POOL_TIMEOUT_SECONDS: Final = 3.0  # less than what those wait who have all connections of a server that is stopped
SILENCE_SECONDS: Final = 15.0
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
    asking: Mapping[str, Any] = {"isolation_level": "AUTOCOMMIT"}  # BEGIN and ROLLBACK would be two more answers
    writing: Mapping[str, Any] = {"isolation_level": "READ COMMITTED"}
    turn_timeout_seconds: float | None = LOCK_TIMEOUT_SECONDS  # a server that is stopped must not make a queue

    def __init__(self, url: str) -> None:
        self._url = url
        self.failures = postgres_driver.failures()
        self._silent_at = -inf
        """When the server last left somebody without an answer."""

    def engine(self) -> AsyncEngine:
        """Make the engine; nothing connects yet."""

        async def connect() -> object:
            return await postgres_driver.connect(
                self._url, command_timeout_seconds=COMMAND_TIMEOUT_SECONDS, kind=_impatient()
            )

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
        if isinstance(original, TimeoutError):
            self._silent_at = monotonic()
        return postgres_driver.translated(self._url, original)

    def crowded(self, error: BaseException) -> Unreachable:
        """Say that it does not answer where that is why so many wait."""
        if monotonic() - self._silent_at < SILENCE_SECONDS:
            return postgres_driver.translated(self._url, TimeoutError(str(error)))
        return busy(error)


@cache
def _impatient() -> "type[asyncpg.Connection]":
    """Make the kind of connection that ends itself where asyncpg would ask the server to cancel a command."""

    class Impatient(postgres_driver.asyncpg_module().Connection):  # type: ignore[misc]  # imported where it is used
        __slots__ = ()

        async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:  # noqa: ASYNC109
            """Of SQLAlchemy, only BEGIN, COMMIT and ROLLBACK come here; a COMMIT may have to wait for standbys."""
            limit = timeout if query.startswith("COMMIT") else ANSWER_SECONDS
            done: str = await super().execute(query, *args, timeout=limit)
            return done

        def _cancel_current_command(self, *_waiters: object) -> None:
            # Of a time-out or a cancellation, called in the middle of asyncpg's own work; the test on a stopped server
            # notices where asyncpg has come to do this otherwise.
            asyncio.get_running_loop().call_soon(self.terminate)

    return Impatient


def _refuse_closed(connection: DBAPIConnection, _entry: ConnectionPoolEntry, _fairy: object) -> None:
    """Let the pool replace what the server has closed since: a restart then costs nobody a failed call.

    asyncpg knows without asking. SQLAlchemy's own ping would cost every call three answers of the server.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError
