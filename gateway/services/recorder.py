"""Takes what workers wrote to the spool into the stores: the entries, and what follows from them.

One per node at a time, by a lock in the spool; another one waits for it. A batch goes to the sink, then into the audit
store, and then one transaction of the main store notes how far was read, counts, and moves last uses on. After that
the segments that are over go.

Invariants: nothing is noted as read before it is in the audit store for good, and no file goes before that is noted.
Dying anywhere in between repeats the batch: entries are known by their position, and what is not so known happens in
the one transaction that only one reader of the same bytes can make. What workers do never waits for any of this: while
a store is away, the spool grows.

What takes long is done in threads, the event loop is this process' own: it answers health checks. Turned down: telling
the recorder of each record over the supervisor's channel, which is a system call per request, and a store per worker.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import GatewayError, Unreachable
from gateway.recording.spool_directory import SpoolDirectory
from gateway.recording.spool_reader import FinishedSegment, SegmentPart, SpoolReader
from gateway.services import last_uses, request_counts, segment_rows
from gateway.services.audit import VerificationResult
from gateway.services.clock import utc_now
from gateway.services.last_uses import LastUses
from gateway.services.ndjson_sink import NdjsonSink
from gateway.services.recording_check import compare
from gateway.services.segment_rows import Overtaken
from gateway.store.audit_store import AuditStore
from gateway.store.engine import read_transaction, write_transaction

STEP_SECONDS: Final = 0.25
DEFECT_SECONDS: Final = 5.0
"""After what was not foreseen, which would only happen again right away."""
BATCH_ENTRIES: Final = 5000
RETENTION_SECONDS: Final = 3600.0
WAITING_IS_TOLD_SECONDS: Final = 15.0
"""During a reload there are two for a moment, which is nothing to tell."""
_LOCK: Final = "recorder.lock"
_LOG: Final = logging.getLogger(__name__)
T = TypeVar("T")


class Found(Enum):
    """What a step has found in the spool."""

    NOTHING = "nothing"
    SOME = "some"
    MORE = "more"
    """More than it took."""


@dataclass(slots=True)
class _Batch:
    """What was read and is not recorded yet."""

    parts: list[SegmentPart]
    more: bool
    uses: LastUses
    counts: bytes | None
    oldest: float | None
    """When the oldest of its entries was written, in seconds since 1970."""
    stored: set[str] = field(default_factory=set)
    """The spools whose entries are in the audit store."""


class Recorder:
    """The recorder of one control process."""

    def __init__(
        self,
        engine: AsyncEngine,
        audit_store: AuditStore,
        directory: Path,
        *,
        retention_days: int,
        limit_bytes: int,
        sink: NdjsonSink | None = None,
    ) -> None:
        """`directory` is the spool's, `limit_bytes` what workers keep to there. No I/O."""
        self._engine = engine
        self._audit_store = audit_store
        self._directory = SpoolDirectory(directory)
        self._reader = SpoolReader(self._directory)
        self._retention = timedelta(days=retention_days)
        self._sink = sink
        self._draining = asyncio.Event()
        self._lock_fd = -1
        self._waiting_since: float | None = None
        self._waiting_told = False
        self._thread = ThreadPoolExecutor(1, "recorder")
        self._begun = False
        self._batch: _Batch | None = None
        self._over: list[FinishedSegment] = []
        """Segments whose files may go."""
        self._away_since: float | None = None
        self._outage_told = False
        self._oldest: float | None = None
        self.limit_bytes = limit_bytes
        self.entries = 0
        """Recorded by this process, as are the next three."""
        self.damaged_bytes = 0
        self.unrecorded_refusals = 0
        self.dropped_segments = 0

    # --- how it is doing ----------------------------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether this process is the one that records for its node."""
        return self._lock_fd >= 0

    @property
    def spool_bytes(self) -> int:
        """What the spool takes, as of the last look."""
        return self._reader.used_bytes

    @property
    def lag_seconds(self) -> float | None:
        """How old the oldest entry is that was read and is not recorded yet, 0 without any; None where not active."""
        if not self.active:
            return None
        return 0.0 if self._oldest is None else max(0.0, time.time() - self._oldest)

    @property
    def store_away_seconds(self) -> float:
        """For how long no batch could be recorded; 0 while they can."""
        return 0.0 if self._away_since is None else time.monotonic() - self._away_since

    @property
    def sink_failures(self) -> int:
        """Entries that could not be copied to the sink."""
        return 0 if self._sink is None else self._sink.failures

    async def verify(self) -> VerificationResult:
        """Hold what was read against what is in the audit store. Raises StoreBusy, StoreUnavailable."""
        return await compare(self._engine, self._audit_store, self._directory.path, utc_now() - self._retention)

    # --- running ------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Let `run` return as soon as it has found nothing more, or a store is away: the workers are gone."""
        self._draining.set()

    async def run(self) -> None:
        """Record until cancelled or drained. Outages are told once, and their end once."""
        try:
            async with asyncio.TaskGroup() as group:
                retaining = group.create_task(self._retain())
                await self._record()
                retaining.cancel()
        finally:
            await self._in_thread(self._close)
            self._thread.shutdown()

    async def _record(self) -> None:
        while True:
            last, pause = self._draining.is_set(), STEP_SECONDS
            try:
                found = await self.step()
                if found is Found.MORE or (last and found is Found.SOME):
                    last, pause = False, 0.0
            except (GatewayError, OSError) as error:
                self._tell_outage(error)
            except Exception:  # noqa: BLE001 - whatever it is
                # Without a recorder the spool would fill up, and then requests are refused.
                _LOG.exception("requests cannot be taken into the record, in a way that was not foreseen; it goes on")
                if self._batch is None:  # reading failed; a batch is kept, for the sink has it already
                    self._forget()
                pause = DEFECT_SECONDS
            else:
                self._tell_end()
            if last:
                return
            if pause:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._draining.wait()

    async def step(self) -> Found:
        """Record what there is, up to a batch. Raises StoreBusy, StoreUnavailable, OSError."""
        if not self.active and not await self._in_thread(self._take_lock):
            self._tell_waiting()
            return Found.NOTHING
        if not self._begun:
            await self._begin()
        await self._remove_finished()
        if self._batch is None:
            self._batch = await self._in_thread(self._read)
        batch = self._batch
        self._oldest = batch.oldest
        if not batch.parts:
            self._batch = None
            return Found.NOTHING
        try:
            await self._store(batch)
            await self._note(batch)
        except Overtaken:
            _LOG.warning("how far the spool was read was noted by another, or the store has gone back; it looks anew")
            self._forget()
            return Found.SOME
        self._settle(batch)
        await self._remove_finished()
        return Found.MORE if batch.more else Found.SOME

    # --- the parts of a step ------------------------------------------------------------------------------------------

    def _take_lock(self) -> bool:
        """Be the one who records for this spool; the lock goes with the process."""
        self._directory.open()
        fd = os.open(self._directory.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if isinstance(error, BlockingIOError):
                return False
            raise
        self._lock_fd = fd
        return True

    async def _begin(self) -> None:
        """Find out how far each segment was read."""
        spools, lowest = await self._in_thread(self._reader.present)
        async with read_transaction(self._engine) as connection:
            known = await segment_rows.checkpoints(connection, spools, lowest)
        self._over = await self._in_thread(partial(self._reader.begin, known))
        self._begun = True

    def _read(self) -> _Batch:
        """Read on, and work out all that can be before a store is asked; in a thread."""
        parts = self._reader.read(BATCH_ENTRIES)
        entries = [entry for part in parts for entry in part.entries]
        if self._sink is not None:
            for part in parts:
                self._sink.write(part.spool, part.entries)
        refusals = [(each.at, each.code, each.count) for part in parts for each in part.unrecorded]
        return _Batch(
            parts,
            more=len(entries) >= BATCH_ENTRIES,
            uses=last_uses.newest(entries),
            counts=request_counts.counted(entries, refusals),
            oldest=min(((entry.at + entry.duration) / 1e6 for entry in entries), default=None),
        )

    async def _store(self, batch: _Batch) -> None:
        for spool in {part.spool for part in batch.parts} - batch.stored:
            entries = [entry for part in batch.parts if part.spool == spool for entry in part.entries]
            if entries:
                await self._audit_store.write(spool, entries)
            batch.stored.add(spool)

    async def _note(self, batch: _Batch) -> None:
        """All that only one reader may do, together."""
        async with write_transaction(self._engine) as connection:
            await segment_rows.advance(connection, batch.parts, utc_now())
            await last_uses.note(connection, batch.uses)
            await request_counts.add(connection, batch.counts)

    def _settle(self, batch: _Batch) -> None:
        """The batch is recorded."""
        self._batch = None
        self._over += self._reader.recorded(batch.parts)
        if not batch.more:
            self._oldest = None
        for part in batch.parts:
            self.entries += len(part.entries)
            self.damaged_bytes += part.damaged_bytes
            self.unrecorded_refusals += sum(each.count for each in part.unrecorded)
            self.dropped_segments += len(part.dropped)
            if part.damaged_bytes:
                _LOG.error(
                    "a part of the spool is damaged, and records that were there are lost",
                    extra={"segment": part.segment, "damaged_bytes": part.damaged_bytes},
                )

    async def _remove_finished(self) -> None:
        """Remove files of which everything is recorded; before the last one of a run, say what that left open."""
        while self._over:
            over = self._over[0]
            if await self._in_thread(partial(self._reader.is_last_of_run, over)):
                await self._audit_store.interrupt(over.spool, over.run)
            await self._in_thread(partial(self._reader.remove, over))
            del self._over[0]

    def _forget(self) -> None:
        """Begin anew with what the store knows."""
        self._batch = None
        self._begun = False

    async def _retain(self) -> None:
        """Let go of what is older than it has to be, every hour."""
        while True:
            now = utc_now()
            try:
                days = await self._audit_store.retain(self._retention.days, int(now.timestamp() * 1e6))
                if days:
                    _LOG.info("requests are no longer on record", extra={"days": " ".join(days)})
                before = now - self._retention
                await request_counts.forget(self._engine, before)
                async with write_transaction(self._engine) as connection:
                    await segment_rows.forget(connection, before)
            except Unreachable as error:
                _LOG.warning("old requests stay on record for now: %s", error.detail, extra={"reason": error.internal})
            except Exception:  # noqa: BLE001 - whatever it is: recording must not end with it
                _LOG.exception("old requests could not be removed, in a way that was not foreseen")
            await asyncio.sleep(RETENTION_SECONDS)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Do what blocks; one thing after the other, also where nobody waits for it any more."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- telling ------------------------------------------------------------------------------------------------------

    def _tell_outage(self, error: GatewayError | OSError) -> None:
        """Say so when it fails the second time: a store that is held for a moment is none."""
        if self._away_since is None:
            self._away_since = time.monotonic()
        elif not self._outage_told:
            self._outage_told = True
            detail, internal = (error.detail, error.internal) if isinstance(error, GatewayError) else (str(error), "")
            _LOG.error(
                "requests cannot be taken into the record, and wait in the spool: %s",
                detail,
                extra={"reason": internal},
            )

    def _tell_end(self) -> None:
        if self._outage_told:
            _LOG.warning("requests are taken into the record again")
        self._away_since, self._outage_told = None, False

    def _tell_waiting(self) -> None:
        now = time.monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
        elif now - self._waiting_since > WAITING_IS_TOLD_SECONDS and not self._waiting_told:
            self._waiting_told = True
            _LOG.warning("another process records what is in this spool", extra={"spool": str(self._directory.path)})

    def _close(self) -> None:
        self._reader.close()
        if self._sink is not None:
            self._sink.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
