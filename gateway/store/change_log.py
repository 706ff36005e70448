"""Appending to `key_changes`, the one place where a `seq` is given out.

Invariant: `seq` is dense and in commit order. It is the highest so far plus one, taken inside a write transaction; as
SQLite has one writer at a time, no other transaction can take a number in between, and one that rolls back takes its
number with it. A sequence or AUTOINCREMENT was turned down: both leave gaps, and followers could not tell a gap from a
message they have missed.
"""

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.keys.change import SubjectKind
from gateway.store.schema import key_changes


async def append(connection: AsyncConnection, kind: SubjectKind, subject_id: str, version: int) -> int:
    """Log that the subject is at `version` now; return the change's seq. Only within a write transaction."""
    following = select(func.coalesce(func.max(key_changes.c.seq), 0) + 1).scalar_subquery()
    values = {"seq": following, "subject_kind": kind, "subject_id": subject_id, "version": version}
    seq: int = (await connection.execute(insert(key_changes).values(values).returning(key_changes.c.seq))).scalar_one()
    return seq
