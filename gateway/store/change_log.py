"""Appending to `key_changes`, the one place where a `seq` is given out.

Invariant: `seq` is dense and in commit order. It is the highest so far plus one, taken inside a write transaction; as
a store has one such transaction at a time (`engine`), no other can take a number in between, one that rolls back takes
its number with it, and whoever sees a number sees all below it. A sequence or AUTOINCREMENT was turned down: both leave
gaps, and on PostgreSQL the higher of two numbers may be committed first; followers could tell neither from a message
they have missed.
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


async def newest(connection: AsyncConnection) -> int:
    """Return the seq of the newest change, 0 where there is none."""
    return int((await connection.execute(select(func.coalesce(func.max(key_changes.c.seq), 0)))).scalar_one())
