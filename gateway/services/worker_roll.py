"""Who may serve from memory, on all nodes, and how far each of them is: the list in the store, and the signs in Redis.

A worker enters the list before it serves, and gives a sign of life on the way by which it proves that it is current:
in its row, or in Redis. The newer of the two is its word. It is dropped from the list when it is certain that it has
stopped believing what it remembers, and never sooner:
- its word is older than it may believe (and `MARGIN_SECONDS`), by the clock of the database and by that of Redis, never
  by this machine's; a row that was renewed meanwhile stays;
- and this process has seen it silent for as long as that, in one reading after the other, all with Redis: one that was
  emptied, or came back with what it held an hour ago, makes everybody look silent until their next sign.

Invariants: `present` is the list, read after it was called; what cannot be read is an error or `certain=False`, never
"nobody". A worker's row is in the list for as long as it may believe, also where its signs go through Redis alone, so
a list without Redis misses nobody; it only knows less of how far they are.

Turned down: leases that workers hold by their own clocks, which would make clocks of many machines decide who serves.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf
from time import monotonic
from typing import Any, Final, Protocol

from sqlalchemy import BigInteger, ColumnElement, delete, select, true, type_coerce
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import Unreachable
from gateway.keys.projection import LogPosition, WorkerPresence, generation
from gateway.store.clock import StoreNow
from gateway.store.engine import single_reads, write_transaction
from gateway.store.schema import store_identity, workers

MARGIN_SECONDS: Final = 3.0
"""Rows are renewed a little later than the proofs that they stand for, and a call to the store may take 2 seconds."""
SILENT_SECONDS: Final = 2.0
"""Proofs are half a second or a second apart. Whoever says nothing for longer is watched."""

LIST_SECONDS: Final = 0.1
"""How long a list is good enough for waiting on: whoever has left it meanwhile is waited for that much longer."""
WATCH_GAP_SECONDS: Final = 10.0
"""Readings that are further apart say nothing of the time between them."""


@dataclass(frozen=True, slots=True)
class HeardWorker:
    """A worker's last word, and how long ago it was said, by the clock of where it was said."""

    presence: WorkerPresence
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class Roll:
    """All who may serve from memory, by id. Not `certain`: Redis, where the newest signs may be, cannot be read."""

    epoch: str
    members: dict[str, HeardWorker]
    certain: bool
    epoch_seconds: float = inf
    """How long ago the log had gone back, if it ever did: workers that had entered since are missing for a moment."""
    listed_at: float = 0.0
    """When the list itself was read, by the monotonic clock."""
    read_at: float = 0.0
    """When the words were, from which silence is counted."""


class Presences(Protocol):
    """The signs of life in Redis."""

    async def presences(self) -> dict[str, tuple[WorkerPresence, float]]:
        """By id: presence, and seconds since it was heard, by Redis' clock; raises Unreachable."""

    async def remove_presences(self, ids: Iterable[str]) -> None:
        """Forget some; raises Unreachable."""


class WorkerRoll:
    """The roll of one control process. Methods raise StoreBusy, StoreUnavailable; `remove` also RedisUnavailable."""

    def __init__(self, engine: AsyncEngine, table: Presences | None) -> None:
        self._engine = engine
        self._table = table
        self._silent_since: dict[str, float] = {}
        """Since when this process has seen them silent, by its own monotonic clock, in each of its readings."""
        self._watched_at = -inf

    async def present(self) -> Roll:
        """Read who is there. What was committed before this call, was committed before the list is read."""
        signs, (epoch, age, members) = await asyncio.gather(self._signs(), self._rows())
        now = monotonic()
        roll = Roll(epoch, members, certain=signs is not None, epoch_seconds=age, listed_at=now, read_at=now)
        return self._put_together(roll, signs)

    async def heard(self, roll: Roll) -> Roll:
        """Return the same list with newer words, by Redis alone; all of it anew where it is old or Redis is silent.

        For whoever asks again and again: a list tells who has to be waited for, and whoever enters later has read the
        store after that.
        """
        old = self._table is None or monotonic() - roll.listed_at > LIST_SECONDS
        signs = None if old else await self._signs()
        if signs is None:
            return await self.present()
        now = monotonic()
        members = {
            id_: HeardWorker(each.presence, each.silent_seconds + now - roll.read_at)
            for id_, each in roll.members.items()
        }
        return self._put_together(replace(roll, members=members, certain=True, read_at=now), signs)

    def _put_together(self, roll: Roll, signs: Mapping[str, tuple[WorkerPresence, float]] | None) -> Roll:
        """Whoever was heard of later than in the list, is as was heard."""
        for id_, (presence, silent_seconds) in (signs or {}).items():
            row = roll.members.get(id_)
            if row is None or silent_seconds < row.silent_seconds:
                roll.members[id_] = HeardWorker(presence, max(0.0, silent_seconds))
        self._watch(roll)
        return roll

    async def remove(self, ids: Iterable[str]) -> None:
        """Take workers off whose processes have ended. Doing it twice is harmless."""
        gone = list(ids)
        async with write_transaction(self._engine) as connection:
            await connection.execute(delete(workers).where(workers.c.id.in_(gone)))
        if self._table is not None:
            await self._table.remove_presences(gone)

    async def expire(self) -> list[str]:
        """Take off who has certainly stopped serving from memory; their ids."""
        roll = await self.present()
        now = monotonic()
        silent = [
            id_
            for id_, heard in roll.members.items()
            if heard.silent_seconds > (limit := heard.presence.believes_for_seconds + MARGIN_SECONDS)
            and now - self._silent_since.get(id_, inf) > limit
        ]
        if not silent:
            return []
        limit_microseconds = workers.c.believes_for * 1000 + round(MARGIN_SECONDS * 1e6)
        over = _heard_at() < StoreNow() - limit_microseconds
        async with write_transaction(self._engine) as connection:
            await connection.execute(delete(workers).where(workers.c.id.in_(silent), over))
            left = set((await connection.execute(select(workers.c.id).where(workers.c.id.in_(silent)))).scalars())
        gone = [id_ for id_ in silent if id_ not in left]
        # Not the row's equal: a worker that wakes up writes its row before its next sign, so no sign counts alone.
        if self._table is not None:
            await self._table.remove_presences(gone)
        return gone

    async def _signs(self) -> dict[str, tuple[WorkerPresence, float]] | None:
        """What Redis knows; nothing where there is none, None where it cannot be asked."""
        if self._table is None:
            return {}
        try:
            return await self._table.presences()
        except Unreachable:
            return None

    async def _rows(self) -> tuple[str, float, dict[str, HeardWorker]]:
        """The epoch of the log, its age if it is not the first, and the list, of one moment of the store."""
        since = type_coerce(store_identity.c.created_at, BigInteger)
        listed = select(
            store_identity.c.epoch.label("log"),
            (StoreNow() - since).label("age"),
            (StoreNow() - _heard_at()).label("silent"),
            workers,
        )
        query = listed.select_from(store_identity.outerjoin(workers, true()))
        async with single_reads(self._engine) as connection:
            rows = (await connection.execute(query)).all()
        epoch = rows[0].log if rows else ""  # without an identity nobody's epoch is the log's
        age = rows[0].age / 1e6 if generation(epoch) > 0 else inf
        return epoch, age, {row.id: HeardWorker(_presence(row), max(0, row.silent) / 1e6) for row in rows if row.id}

    def _watch(self, roll: Roll) -> None:
        """Note who is silent. Whoever was not watched for a while may have spoken."""
        now = monotonic()
        if not roll.certain or now - self._watched_at > WATCH_GAP_SECONDS:
            self._silent_since = {}
        self._watched_at = now
        if roll.certain:
            silent = [id_ for id_, heard in roll.members.items() if heard.silent_seconds > SILENT_SECONDS]
            self._silent_since = {id_: self._silent_since.get(id_, now) for id_ in silent}


def _presence(row: Any) -> WorkerPresence:  # noqa: ANN401 - SQLAlchemy cannot type a row of a whole table
    at = None if row.epoch is None or row.applied is None else LogPosition(row.epoch, row.applied)
    return WorkerPresence(row.id, row.node, row.host, row.name, row.pid, row.believes_for / 1000, at)


def _heard_at() -> ColumnElement[int]:
    """As it is stored: microseconds since 1970."""
    return type_coerce(workers.c.heard_at, BigInteger)
