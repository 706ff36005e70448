"""The rows that say how far each segment of a spool was read, and how many entries were found in it.

Invariant: a row moves on only from where the reader began. So of two that have read the same bytes one advances it, and
what goes with that in the same transaction (counts, last uses) happens once. A row outlives its segment's file, for as
long as entries are kept: what it says is held against the audit store.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, case, delete, insert, literal, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.recording.spool_reader import FIRST_OFFSET, Checkpoint, SegmentPart
from gateway.store.schema import audit_segments

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
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


async def advance(connection: AsyncConnection, parts: Iterable[SegmentPart], now: datetime) -> None:
    """Note what was read. Raises Overtaken, after which nothing of the transaction may be kept."""
    for part in parts:
        moments = [entry.at for entry in part.entries]
        first, last = (_moment(min(moments)), _moment(max(moments))) if moments else (None, None)
        if part.read_from == FIRST_OFFSET:
            await _begin(connection, part, first, last, now)
        else:
            await _go_on(connection, part, first, last, now)


async def forget(connection: AsyncConnection, before: datetime) -> None:
    """Remove the rows of segments that have nothing in the audit store any more."""
    over = or_(_C.last_at < before, _C.last_at.is_(None))
    await connection.execute(delete(audit_segments).where(_C.finished, over, _C.noted_at < before))


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


def _either(column: Column[Any], value: datetime, beyond: ColumnElement[bool]) -> ColumnElement[datetime]:
    return case((or_(column.is_(None), beyond), literal(value, column.type)), else_=column)


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
