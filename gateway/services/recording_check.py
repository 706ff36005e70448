"""Holds what was read from the spools against what is in the audit store, segment by segment.

Invariant: what a segment has to have is what was read in it, or what its writer says it wrote, or what a new count of
the file finds, whichever is most. So neither a record that was damaged nor one that was passed over is called complete.
Segments that began before the retention are left out: some of their entries may be gone by right.
One that was dropped for want of room has its unread part as damage, and no number of entries to be held to.

While requests are recorded, more may be in the store than was noted; so what is too much is told of finished segments
alone, and what is missing is told of all: it was noted before the store was asked.
"""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Row, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.recording.segment import SUFFIX, read_header
from gateway.recording.spool_reader import count_entries
from gateway.services.audit import SegmentDifference, VerificationResult
from gateway.store.audit_store import AuditStore
from gateway.store.engine import single_reads
from gateway.store.schema import audit_segments

SegmentRow = Row[Any]  # Any: SQLAlchemy cannot type a row of a whole table


async def compare(engine: AsyncEngine, audit_store: AuditStore, directory: Path, since: datetime) -> VerificationResult:
    """Compare segments whose first entry is no older. Raises StoreBusy, StoreUnavailable."""
    began = or_(audit_segments.c.first_at >= since, audit_segments.c.first_at.is_(None))
    query = select(audit_segments).where(began).order_by(audit_segments.c.spool, audit_segments.c.segment)
    async with single_reads(engine) as connection:
        rows = (await connection.execute(query)).all()
    compared = [await _compare(row, audit_store, directory) for row in rows]
    different = [each for each in compared if each.missing or each.surplus or each.damaged_bytes]
    return VerificationResult(
        complete=not different,
        segments=len(compared),
        expected=sum(each.expected for each in compared),
        found=sum(each.found for each in compared),
        missing=sum(each.missing for each in compared),
        surplus=sum(each.surplus for each in compared),
        damaged_bytes=sum(each.damaged_bytes for each in compared),
        differences=tuple(different),
    )


async def _compare(row: SegmentRow, audit_store: AuditStore, directory: Path) -> SegmentDifference:
    expected = max(row.entries, row.sealed_entries or 0)
    if not row.finished:
        expected = max(expected, await asyncio.to_thread(_count_anew, directory, row) or 0)
    found = await audit_store.count(row.spool, row.segment)
    # Of one that was dropped, more may have been stored than was noted in time.
    known_whole = row.finished and (row.sealed_entries is not None or not row.damaged_bytes)
    return SegmentDifference(
        spool=row.spool,
        segment=row.segment,
        first_at=row.first_at,
        last_at=row.last_at,
        expected=expected,
        found=found,
        missing=max(0, expected - found),
        surplus=max(0, found - expected) if known_whole else 0,
        damaged_bytes=row.damaged_bytes,
    )


def _count_anew(directory: Path, row: SegmentRow) -> int | None:
    """Count what lies in the file, as far as it was read; None where it is gone, or another node's."""
    path = directory / f"{row.segment}{SUFFIX}"
    try:
        header = read_header(path)
    except OSError:
        return None
    return count_entries(path, row.read_to) if header is not None and header.spool == row.spool else None
