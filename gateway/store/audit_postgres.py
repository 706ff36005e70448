"""Requests on record in PostgreSQL: one table, a partition of it for each UTC day, shared by nodes.

Invariants: a batch is one transaction, and in the server's log when it returns, even where the server is set not to
wait for that. `(spool, position, at)` is one row: whichever node writes a batch again changes nothing. Partitions are
made when the first entry of a day comes, and dropped whole; both under the lock of the store's writers, so that nodes
do not get in each other's way, and neither waits long for, or holds up, whoever reads or writes.

An index for each way of asking, by key, owner and organization, within a slot: what comes in one goes to a small part
of each, as in `audit_day`. So whoever looks for a key's entries by hand names the slots, or waits.

A batch is copied into a table of the session alone, and inserted from there. As measured in docs/audit-store.md: arrays
for `unnest` cost this process three times as much; copying straight into the table saves a fifth, and cannot be done
again. Turned down as well: numbers for texts, as in SQLite. The table of texts would belong to all days, so that
addresses would stay when their day goes, and whoever reads the table by hand could not.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import StoreBusy
from gateway.keys.request_entry import OFFSET_BITS, Outcome, RequestEntry
from gateway.store.audit_query import DAY_MICROSECONDS, EntryQuery, day_of, first_kept_day, first_moment, slot_of
from gateway.store.audit_store import StoredEntry
from gateway.store.engine import write_transaction
from gateway.store.postgres_connections import Connection, PostgresConnections, Work

WRITE_SECONDS: Final = 30.0
READ_SECONDS: Final = 30.0  # what hardly any entry fits may be looked for in all days
READERS: Final = 2
DROP_WAIT_MILLISECONDS: Final = 500

_TABLE: Final = "audit_entries"
_NO_TABLE: Final = "42P01"
_NO_PARTITION: Final = "23514"  # the one check that can fail is that of the days
_SPOOL_OFFSET: Final = 1 << 63
"""A spool's 64 bits are kept as a signed number, whose order is that of the 16 digits."""

_NUMBERS: Final = "bigint NOT NULL"
_SMALL: Final = "smallint NOT NULL"
_TEXT: Final = 'text COLLATE "C" NOT NULL'  # compared byte by byte, as the ids in them are
_COLUMNS: Final = {
    "spool": _NUMBERS, "position": _NUMBERS, "at": _NUMBERS, "duration": _NUMBERS, "outcome": _SMALL,
    "status": _SMALL, "bytes_in": _NUMBERS, "bytes_out": _NUMBERS, "request_id": _TEXT, "method": _TEXT,
    "path": _TEXT, "route": _TEXT, "upstream": _TEXT, "address": _TEXT, "user_agent": _TEXT, "code": _TEXT,
    "key_id": _TEXT, "key_name": _TEXT, "secret_id": _TEXT, "organization_id": _TEXT, "owner_id": _TEXT,
    "run": _NUMBERS, "slot": _SMALL,
}  # fmt: skip
_IDENTITY: Final = ("spool", "position", "at")
_NAMES: Final = ", ".join(_COLUMNS)
_DEFINITIONS: Final = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
_STAGING: Final = "audit_staging_1"  # a session that is handed around may have one of an older version

_SCHEMA: Final = (
    f"CREATE TABLE IF NOT EXISTS {_TABLE} ({_DEFINITIONS}, PRIMARY KEY (spool, position, at)) PARTITION BY RANGE (at)",
    *(
        f"CREATE INDEX IF NOT EXISTS {_TABLE}_by_{name} ON {_TABLE} (slot, {name}_id, at, status, outcome, code)"
        for name in ("key", "owner", "organization")
    ),
    f"CREATE INDEX IF NOT EXISTS {_TABLE}_open ON {_TABLE} (run) WHERE outcome = {Outcome.OPEN:d}",
)
_EXISTS: Final = "SELECT to_regclass($1) IS NOT NULL"
_PARTITIONS: Final = """
SELECT c.relname FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = to_regclass($1)
"""
_DURABLE: Final = """
SELECT CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END
"""
_STAGE: Final = f"CREATE TEMPORARY TABLE IF NOT EXISTS {_STAGING} ({_DEFINITIONS}) ON COMMIT DELETE ROWS"
_INSERT: Final = f"""
INSERT INTO {_TABLE} AS kept ({_NAMES}) SELECT {_NAMES} FROM pg_temp.{_STAGING}
    ON CONFLICT ({", ".join(_IDENTITY)}) DO UPDATE
   SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in _IDENTITY)}
 WHERE kept.outcome IN ({Outcome.OPEN:d}, {Outcome.INTERRUPTED:d}) AND excluded.outcome <> {Outcome.OPEN:d}
"""  # noqa: S608 - names and numbers of our own
_INTERRUPT: Final = f"""
UPDATE {_TABLE} SET outcome = {Outcome.INTERRUPTED:d} WHERE outcome = {Outcome.OPEN:d} AND spool = $1 AND run = $2
"""  # noqa: S608 - the same
_COUNT: Final = f"SELECT count(*) FROM {_TABLE} WHERE spool = $1 AND position BETWEEN $2 AND $3"  # noqa: S608 - the same
# `entry_id`, in SQL.
_NAME: Final = f"""
('req_' || lpad(to_hex(spool # '{-_SPOOL_OFFSET}'::bigint), 16, '0') || lpad(to_hex(position), 16, '0')) COLLATE "C"
"""
_FIELDS: Final = ", ".join(name for name in _COLUMNS if name != "slot")
# Slot by slot from the newest on, until there are enough: each takes its turn in the order of the series.
_WALK: Final = f"""
SELECT found.* FROM generate_series($1::int, $2::int, -1) AS slots (number) CROSS JOIN LATERAL
       (SELECT {_FIELDS} FROM {{table}} WHERE slot = slots.number {{conditions}}
         ORDER BY at DESC, spool DESC, position DESC LIMIT $3::bigint) AS found
 LIMIT $3::bigint
"""  # noqa: S608 - names of our own, and marks

_Result = TypeVar("_Result")


class PostgresAuditStore:
    """A table of the database that keys are in."""

    def __init__(self, url: str, engine: AsyncEngine) -> None:
        """`engine`: the one whose write transactions all writers of the database share."""
        self._engine = engine
        self._writing = PostgresConnections(url, connections=1, timeout_seconds=WRITE_SECONDS)
        self._reading = PostgresConnections(url, connections=READERS, timeout_seconds=READ_SECONDS)
        self._days: frozenset[str] = frozenset()
        """Those that have a partition, as far as is known here."""

    def __repr__(self) -> str:
        """Name the connections, for diagnostics."""
        return f"<PostgresAuditStore writing={self._writing} reading={self._reading}>"

    async def write(self, spool: str, entries: Sequence[RequestEntry]) -> None:
        """Keep entries of one spool, in one transaction."""
        if not entries:
            return
        rows = await asyncio.to_thread(_rows, spool, entries)
        days = {day_of(number * DAY_MICROSECONDS) for number in {each.at // DAY_MICROSECONDS for each in entries}}

        async def insert(connection: Connection) -> bool:
            try:
                async with connection.transaction():
                    await connection.execute(_DURABLE)
                    await connection.execute(_STAGE)
                    await connection.copy_records_to_table(
                        _STAGING, schema_name="pg_temp", columns=list(_COLUMNS), records=rows
                    )
                    await connection.execute(_INSERT)
            except Exception as error:
                if getattr(error, "sqlstate", None) not in {_NO_PARTITION, _NO_TABLE}:
                    raise
                return False  # somebody else has dropped it
            return True

        if not days <= self._days:
            await self._make(days)
        if not await self._writing.use(insert):
            await self._make(days)
            if not await self._writing.use(insert):
                raise StoreBusy("The day's part of the record of requests is dropped as often as it is made.")

    async def interrupt(self, spool: str, run: int) -> int:
        """Note that a run is over: what it left open was interrupted. Return how many there were."""

        async def update(connection: Connection) -> str:
            async with connection.transaction():
                await connection.execute(_DURABLE)
                done: str = await connection.execute(_INTERRUPT, _spool_number(spool), run)
            return done

        done = await self._writing.use(_unless_missing(update, ""))
        return int(done.rpartition(" ")[2] or 0)

    async def find(self, wanted: EntryQuery) -> list[StoredEntry]:
        """Return the newest entries that fit, newest first by (`at`, id)."""
        first, last = wanted.days()

        async def ask(connection: Connection) -> list[StoredEntry]:
            found: list[StoredEntry] = []
            nothing: list[StoredEntry] = []
            for day in reversed(await _days(connection)):
                if first <= day <= last:
                    found += await _unless_missing(partial(_of_day, day, wanted), nothing)(connection)
                if len(found) >= wanted.limit:
                    break
            return found[: wanted.limit]

        return await self._reading.use(ask)

    async def count(self, spool: str, segment: int) -> int:
        """Return how many entries there are whose position lies in this segment."""
        span = segment << OFFSET_BITS, (segment + 1 << OFFSET_BITS) - 1

        async def ask(connection: Connection) -> int:
            found: int = await connection.fetchval(_COUNT, _spool_number(spool), *span)
            return found

        return await self._reading.use(_unless_missing(ask, 0))

    async def retain(self, days: int, now: int) -> list[str]:
        """Drop the partitions of days that are over; return the days."""
        kept = first_kept_day(days, now)

        over = [day for day in await self._reading.use(_days) if day < kept]
        dropped = []
        for day in over:
            try:
                async with write_transaction(self._engine) as transaction:
                    await transaction.exec_driver_sql(f"SET LOCAL lock_timeout = {DROP_WAIT_MILLISECONDS}")
                    await transaction.exec_driver_sql(f"DROP TABLE IF EXISTS {_partition(day)}")
            except StoreBusy:
                break  # somebody reads or writes for long; all others wait behind us meanwhile
            dropped.append(day)
        self._days -= set(dropped)
        return dropped

    async def close(self) -> None:
        """End the connections; doing it twice is harmless."""
        await self._writing.close()
        await self._reading.close()

    async def _make(self, days: Iterable[str]) -> None:
        """Make what is missing of the table, and of its partitions for these days."""
        async with write_transaction(self._engine) as transaction:
            if not (await transaction.exec_driver_sql(_EXISTS, (_TABLE,))).scalar_one():
                for statement in _SCHEMA:
                    await transaction.exec_driver_sql(statement)
            rows = await transaction.exec_driver_sql(_PARTITIONS, (_TABLE,))
            there = {day for day in map(_day_of_partition, rows.scalars()) if day is not None}
            for day in sorted(set(days) - there):
                first, last = first_moment(day), first_moment(day) + DAY_MICROSECONDS
                # Made by itself and attached: `PARTITION OF` would lock out whoever reads or writes the table.
                await transaction.exec_driver_sql(f"CREATE TABLE {_partition(day)} (LIKE {_TABLE} INCLUDING ALL)")
                await transaction.exec_driver_sql(
                    f"ALTER TABLE {_TABLE} ATTACH PARTITION {_partition(day)} FOR VALUES FROM ({first}) TO ({last})"
                )
        self._days = frozenset(there.union(days))


def _unless_missing(work: Work[_Result], nothing: _Result) -> Work[_Result]:
    """Do the work; where there is no table, as nothing was ever written or a day just went, that is the answer."""

    async def tried(connection: Connection) -> _Result:
        try:
            return await work(connection)
        except Exception as error:
            if getattr(error, "sqlstate", None) != _NO_TABLE:
                raise
            return nothing

    return tried


def _rows(spool: str, entries: Iterable[RequestEntry]) -> list[tuple[int | str, ...]]:
    """Return a row for each position, as one statement must not touch a row twice; an end goes before its beginning."""
    number = _spool_number(spool)
    rows: dict[int, tuple[int | str, ...]] = {}
    for entry in entries:
        if entry.outcome is not Outcome.OPEN or entry.position not in rows:
            rows[entry.position] = (number, *entry, slot_of(entry.at))
    return list(rows.values())


async def _days(connection: Connection) -> list[str]:
    """Return the days that have a partition, the oldest first."""
    names: list[Any] = await connection.fetch(_PARTITIONS, _TABLE)
    return sorted(day for day in (_day_of_partition(str(name)) for (name,) in names) if day is not None)


async def _of_day(day: str, wanted: EntryQuery, connection: Connection) -> list[StoredEntry]:
    """Return the newest entries of a day that fit, newest first."""
    walks = []
    for organization in wanted.organizations():
        query, values = _question(day, wanted, organization)
        walks.append([_stored(row) for row in await connection.fetch(query, *values)])
    found = [each for walk in walks for each in walk]
    if len(walks) > 1:
        found.sort(key=lambda stored: (stored.entry.at, stored.id), reverse=True)
    return found


def _question(day: str, wanted: EntryQuery, organization: str | None) -> tuple[str, list[int | str]]:
    """Return the statement, and its values."""
    first, last = wanted.slots(day)
    values: list[int | str] = [last, first, wanted.limit]
    conditions = []
    walked = True  # the first of these: a key's index entries are the fewest, an organization's the most
    for name, value in (("key_id", wanted.key_id), ("owner_id", wanted.owner_id), ("organization_id", organization)):
        if value is not None:
            conditions.append(_equals(name, _mark(values, value, "text"), walked=walked))
            walked = False
    for name, value in (("code", wanted.code), ("request_id", wanted.request_id)):
        if value is not None:
            conditions.append(f"{name} = {_mark(values, value, 'text')}")
    low, high = wanted.statuses or (None, None)
    bounds = (
        ("at >=", wanted.since), ("at <", wanted.until), ("outcome =", wanted.outcome), ("status >=", low),
        ("status <=", high),
    )  # fmt: skip
    conditions += [f"{what} {_mark(values, value, 'bigint')}" for what, value in bounds if value is not None]
    if wanted.before is not None:
        at, name = _mark(values, wanted.before[0], "bigint"), _mark(values, wanted.before[1], "text")
        conditions += [f"at <= {at}", f"(at < {at} OR {_NAME} < {name})"]
    return _WALK.format(table=_partition(day), conditions="".join(f" AND {each}" for each in conditions)), values


def _equals(column: str, value: str, *, walked: bool) -> str:
    """Compare a column that has an index; one that is not walked along so that a planner cannot use that index.

    It may know nothing yet of a day that has begun, and take a wider one.
    """
    return f"{column} = {value}" if walked else f"{column} || '' = {value}"


def _mark(values: list[int | str], value: int | str, kind: str) -> str:
    values.append(value)
    return f"${len(values)}::{kind}"


def _stored(row: Sequence[Any]) -> StoredEntry:  # Any: asyncpg's row
    spool, position, at, duration, outcome, *others = row
    digits = f"{spool + _SPOOL_OFFSET:016x}"
    return StoredEntry(digits, RequestEntry(position, at, duration, Outcome(outcome), *others))


def _spool_number(spool: str) -> int:
    return int(spool, 16) - _SPOOL_OFFSET


def _partition(day: str) -> str:
    return f"{_TABLE}_{day.replace('-', '')}"


def _day_of_partition(name: str) -> str | None:
    """Return the day of a partition; None for one that somebody else attached."""
    with suppress(ValueError):
        day = date.fromisoformat(name.removeprefix(f"{_TABLE}_")).isoformat()
        return day if _partition(day) == name else None
    return None
