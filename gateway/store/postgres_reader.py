"""What proxy workers read of PostgreSQL: keys by digest, and the change log, with their own row in the list of workers.

Invariants: nothing here waits longer than it was told to, and an outage is an error, never "no such key"
(`postgres_connections`). A look is one statement: what it finds is of one moment, and this worker's sign of life is
committed when it is answered, so whoever is proven current by a look is in the list. A worker that was dropped from the
list enters it again and looks once more: what was committed between did not wait for it.

Turned down: SQLAlchemy, which costs several times the read itself; writing a sign of life with each look, since a log
that is polled 20 times a second would make 20 commits of it. Within `RENEW_SECONDS` only a new position is written.
"""

import asyncio
import contextlib
from math import ceil
from typing import Final

from gateway.errors import StoreUnavailable
from gateway.keys.projection import LogLook, LogPosition, WorkerPresence
from gateway.keys.record import CredentialRecord
from gateway.store.location import postgres_name
from gateway.store.log_rows import LOG_COLUMNS, LOG_TABLES, look_of
from gateway.store.postgres_connections import Connection, PostgresConnections
from gateway.store.record_rows import SELECT_RECORD, record_from_row

RENEW_SECONDS: Final = 0.25
"""By how much `heard_at` may lag behind a look. Whoever drops silent workers has to allow for it."""
LEAVE_SECONDS: Final = 1.0

_NOW: Final = "(extract(epoch FROM now()) * 1000000)::bigint"
_READ: Final = SELECT_RECORD + "$1"
_LOG: Final = LOG_TABLES.format(seq="$1::bigint", rows="$2::bigint")
_LOOK: Final = "SELECT " + LOG_COLUMNS + _LOG
# A row that was there and fresh, or is now: one that somebody deletes at this moment is neither.
_LOOK_AND_RENEW: Final = (
    f"""
WITH renewed AS (
    UPDATE workers SET epoch = $4, applied = $5::bigint, believes_for = $6::integer, heard_at = {_NOW}
     WHERE id = $3 AND (heard_at < {_NOW} - {RENEW_SECONDS * 1e6:.0f}
                        OR (epoch, applied, believes_for) IS DISTINCT FROM ($4, $5::bigint, $6::integer))
    RETURNING id
)
SELECT """  # noqa: S608 - of constants
    + LOG_COLUMNS
    + f", EXISTS (SELECT FROM renewed UNION ALL SELECT FROM workers"  # noqa: S608 - of constants
    f" WHERE id = $3 AND heard_at >= {_NOW} - {RENEW_SECONDS * 1e6:.0f})" + _LOG
)
_ENTER: Final = f"""
INSERT INTO workers (id, node, host, name, pid, epoch, applied, believes_for, entered_at, heard_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, {_NOW}, {_NOW})
    ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, applied = excluded.applied,
                                   believes_for = excluded.believes_for, heard_at = excluded.heard_at
"""  # noqa: S608 - of constants
_LEAVE: Final = "DELETE FROM workers WHERE id = $1"


class PostgresReader:
    """One worker's reader. All but `leave` and `close` raise StoreUnavailable, and nothing else."""

    __slots__ = ("_connections", "_name")

    def __init__(self, url: str, *, connections: int = 4, timeout_seconds: float = 2.0) -> None:
        """Connect to nothing yet; raises GatewayError where the driver is missing."""
        self._name = postgres_name(url)
        self._connections = PostgresConnections(url, connections=connections, timeout_seconds=timeout_seconds)

    def __repr__(self) -> str:
        """Name the server, for diagnostics."""
        return f"<PostgresReader {self._connections!r}>"

    async def open(self) -> None:
        """Connect, and prove by one look that this is a migrated store. Needed by nobody who may meet an outage."""
        await self._look(0, 0, None, insist=True)

    async def close(self) -> None:
        """Let all connections go; whoever asks later is refused."""
        await self._connections.close()

    async def read(self, digest: bytes) -> CredentialRecord | None:
        """Return what the secret with this digest means, None where no such secret exists."""
        row = await self._connections.use(lambda connection: connection.fetchrow(_READ, digest))
        return None if row is None else record_from_row(digest, row)

    async def look(self, seq: int, limit: int = 1000, *, presence: WorkerPresence | None = None) -> LogLook:
        """Return epoch and head of the log, the change at `seq`, and those that follow it, all of one moment.

        With `presence`, this worker is in the list of workers by then, with what that says.
        """
        look = await self._look(seq, limit, presence)
        while look is None and presence is not None:
            await self.enter(presence)
            look = await self._look(seq, limit, presence)
        assert look is not None  # noqa: S101 - only a worker with a presence can be missing
        return look

    async def enter(self, presence: WorkerPresence) -> None:
        """Put this worker in the list, or renew what is there."""
        values = (presence.id, presence.node, presence.host, presence.name, presence.pid, *_state(presence))

        async def insert(connection: Connection) -> None:
            await connection.execute(_ENTER, *values)

        await self._connections.use(insert)

    async def leave(self, worker_id: str) -> None:
        """Take a worker off the list if that is quick; never raises. The list forgets it anyway after a while."""

        async def delete(connection: Connection) -> None:
            await connection.execute(_LEAVE, worker_id)

        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._connections.use(delete)

    async def _look(
        self, seq: int, limit: int, presence: WorkerPresence | None, *, insist: bool = False
    ) -> LogLook | None:
        """None where the worker is not in the list."""
        statement, values = _LOOK, tuple[object, ...]((seq, limit + 1))
        if presence is not None:
            statement, values = _LOOK_AND_RENEW, (seq, limit + 1, presence.id, *_state(presence))
        rows = await self._connections.use(lambda connection: connection.fetch(statement, *values), insist=insist)
        if not rows:
            detail = f"The key store {self._name} has no identity. Run the gateway's migrations on it."
            raise StoreUnavailable(detail, internal="store_identity is empty")
        if presence is not None and not rows[0][-1]:
            return None
        return look_of(seq, limit, rows)


def _state(presence: WorkerPresence) -> tuple[str | None, int | None, int]:
    """Epoch, applied and believes_for of a worker's row; the last in milliseconds, rather too many than too few."""
    at: LogPosition | None = presence.position
    believes_for = ceil(presence.believes_for_seconds * 1000)
    return None if at is None else at.epoch, None if at is None else at.seq, believes_for
