"""The rows that say how far each segment of a spool was read, how many entries were found in it, and which runs last.

Invariant: a row moves on only from where the reader began. So of two that have read the same bytes one advances it, and
what goes with that in the same transaction (counts, last uses) happens once. A row outlives its segment's file, for as
long as entries are kept: what it says is held against the audit store. A run is listed from its first segment on until
the audit store knows that it is over, so that whatever happens in between, it will.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, and_, case, delete, exists, insert, literal, or_, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.recording.records import DroppedSegment
from gateway.recording.spool_reader import FIRST_OFFSET, Checkpoint, SegmentPart
from gateway.store.schema import audit_runs, audit_segments

Run = tuple[str, int]
"""Of a worker: its spool, and its number."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LIST_RUN: Final = text("INSERT INTO audit_runs (spool, run) VALUES (:spool, :run) ON CONFLICT DO NOTHING")
_NO_RUN: Final = 0
_C: Final = audit_segments.c


class Overtaken(Exception):
    """Somebody else has recorded this, or the store has gone back: look anew how far each segment was read."""


async def checkpoints(
    connection: AsyncConnection, spools: Collection[str], since: int
) -> dict[tuple[str, int], Checkpoint]:
    """Return how far segments of these spools were read: those from number `since` on, and all unfinished ones."""
    query = select(_C.spool, _C.segment, _C.run, _C.read_to, _C.finished).where(
        _C.spool.in_(spools), or_(_C.segment >= since, _C.finished.is_(False))
    )
    rows = (await connection.execute(query)).all()
    return {(row.spool, row.segment): Checkpoint(row.run, row.read_to, row.finished) for row in rows}


async def unsettled_runs(connection: AsyncConnection, spools: Collection[str]) -> set[Run]:
    """Return the runs of these spools of which the audit store does not know that they are over."""
    query = select(audit_runs.c.spool, audit_runs.c.run).where(audit_runs.c.spool.in_(spools))
    return {(row.spool, row.run) for row in (await connection.execute(query)).all()}


async def settle_runs(connection: AsyncConnection, runs: Iterable[Run]) -> None:
    """The audit store knows that these are over."""
    for spool, run in runs:
        await connection.execute(delete(audit_runs).where(audit_runs.c.spool == spool, audit_runs.c.run == run))


async def advance(connection: AsyncConnection, parts: Collection[SegmentPart], now: datetime) -> None:
    """Note what was read. Raises Overtaken, after which nothing of the transaction may be kept."""
    for part in parts:
        moments = [entry.at for entry in part.entries]
        first, last = (_moment(min(moments)), _moment(max(moments))) if moments else (None, None)
        if part.read_from == FIRST_OFFSET:
            await _begin(connection, part, first, last, now)
        else:
            await _go_on(connection, part, first, last, now)
    for part in parts:
        for dropped in part.dropped:
            await _note_dropped(connection, part.spool, dropped, now)


async def forget(connection: AsyncConnection, before: datetime) -> None:
    """Remove the rows of segments that have nothing in the audit store any more."""
    over = or_(_C.last_at < before, _C.last_at.is_(None))
    await connection.execute(delete(audit_segments).where(_C.finished, over, _C.noted_at < before))
    runs = audit_runs.c
    its_segments = exists().where(and_(_C.spool == runs.spool, _C.segment >= runs.run, _C.run == runs.run))
    await connection.execute(delete(audit_runs).where(~its_segments))


async def _begin(
    connection: AsyncConnection, part: SegmentPart, first: datetime | None, last: datetime | None, now: datetime
) -> None:
    row = insert(audit_segments).values(
        spool=part.spool,
        segment=part.segment,
        run=part.run,
        read_to=part.read_to,
        entries=part.counted,
        sealed_entries=part.sealed_entries,
        damaged_bytes=part.damaged_bytes,
        first_at=first,
        last_at=last,
        finished=part.finished,
        noted_at=now,
    )
    try:
        await connection.execute(row)
    except IntegrityError as error:
        raise Overtaken from error
    await connection.execute(_LIST_RUN, {"spool": part.spool, "run": part.run})


async def _go_on(
    connection: AsyncConnection, part: SegmentPart, first: datetime | None, last: datetime | None, now: datetime
) -> None:
    row = (
        update(audit_segments)
        .where(_C.spool == part.spool, _C.segment == part.segment)
        .where(_C.read_to == part.read_from, _C.finished.is_(False))
        .values(
            read_to=part.read_to,
            entries=_C.entries + part.counted,
            damaged_bytes=_C.damaged_bytes + part.damaged_bytes,
            finished=part.finished,
            noted_at=now,
        )
    )
    if part.sealed_entries is not None:
        row = row.values(sealed_entries=part.sealed_entries)
    if first is not None and last is not None:
        row = row.values(
            first_at=_either(_C.first_at, first, _C.first_at > first),
            last_at=_either(_C.last_at, last, _C.last_at < last),
        )
    if (await connection.execute(row)).rowcount != 1:
        raise Overtaken


async def _note_dropped(connection: AsyncConnection, spool: str, dropped: DroppedSegment, now: datetime) -> None:
    """Call damaged what was not read of a segment when it was dropped. How many entries that were, nobody knows."""
    its_own = and_(_C.spool == spool, _C.segment == dropped.number)
    known = (await connection.execute(select(_C.read_to, _C.sealed_entries).where(its_own))).one_or_none()
    if known is None:
        row = insert(audit_segments).values(
            spool=spool,
            segment=dropped.number,
            run=_NO_RUN,
            read_to=FIRST_OFFSET,
            entries=0,
            damaged_bytes=dropped.size,
            finished=True,
            noted_at=now,
        )
        await connection.execute(row)
    elif known.sealed_entries is None and known.read_to < dropped.size:
        lost = _C.damaged_bytes + dropped.size - known.read_to
        await connection.execute(update(audit_segments).where(its_own).values(damaged_bytes=lost))


def _either(column: Column[Any], value: datetime, beyond: ColumnElement[bool]) -> ColumnElement[datetime]:
    return case((or_(column.is_(None), beyond), literal(value, column.type)), else_=column)


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
