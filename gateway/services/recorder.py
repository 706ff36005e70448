"""Takes what workers wrote to the spool into the stores: the entries, and what follows from them.

One per node at a time, by a lock in the spool; another one waits for it. A batch goes to the sink, then into the audit
store, and then one transaction of the main store notes how far was read, counts, and moves last uses on. After that
the segments that are over go, and when the last one of a run is gone, whichever way, what it left open is interrupted.
Whatever becomes of that, recording goes on.

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

from gateway.errors import GatewayError
from gateway.recording.spool_directory import SpoolDirectory
from gateway.recording.spool_reader import FinishedSegment, SegmentPart, SpoolReader
from gateway.services import last_uses, request_counts, segment_rows
from gateway.services.audit import VerificationResult
from gateway.services.clock import utc_now
from gateway.services.last_uses import LastUses
from gateway.services.ndjson_sink import NdjsonSink
from gateway.services.recording_check import compare
from gateway.services.segment_rows import Overtaken, Run
from gateway.store.audit_store import AuditStore
from gateway.store.engine import read_transaction, write_transaction

STEP_SECONDS: Final = 0.25
_LAST_LOOKS: Final = 3
"""After which what is still found is somebody's who lives on."""
DEFECT_SECONDS: Final = 5.0
"""After what was not foreseen, which would only happen again right away."""
BATCH_ENTRIES: Final = 20_000
"""At the most, where much is waiting: what each key of a batch is noted with costs half of what it does with 5,000."""
TIDY_AGAIN_SECONDS: Final = 5.0
"""After a failure in what is not recording."""
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
        self._is_open = False
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
        self._runs: set[Run] = set()
        """Those of which the audit store does not know that they are over, since they may not be."""
        self._tidy_from = 0.0
        self._untidy_told = False
        self._verifying: asyncio.Task[VerificationResult] | None = None
        self._away_since: float | None = None
        self._outage_told = False
        self._defect_told = False
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
        """What the spool takes on the disk, as of the last look."""
        return self._reader.used_bytes

    @property
    def waiting_bytes(self) -> int:
        """What of it is not recorded yet; before it is known how far it was, all that was written."""
        return self._reader.waiting_bytes

    @property
    def lag_seconds(self) -> float | None:
        """How old the oldest entry is that was read and is not recorded yet, 0 without any.

        None where not active, and until it is known how far the spool was recorded before.
        """
        if not self.active or not self._begun:
            return None
        return 0.0 if self._oldest is None else max(0.0, time.time() - self._oldest)

    @property
    def store_away_seconds(self) -> float:
        """For how long no batch could be recorded, for whatever reason; 0 while they can."""
        return 0.0 if self._away_since is None else time.monotonic() - self._away_since

    @property
    def sink_failures(self) -> int:
        """Entries that could not be copied to the sink."""
        return 0 if self._sink is None else self._sink.failures

    async def verify(self) -> VerificationResult:
        """Hold what was read against what is in the audit store. Raises StoreBusy, StoreUnavailable.

        It asks the store for every segment there is. Who comes while that is being done gets the same answer.
        """
        if self._verifying is None or self._verifying.done():
            since = utc_now() - self._retention
            comparing = compare(self._engine, self._audit_store, self._directory.path, since)
            self._verifying = asyncio.create_task(comparing)
        return await asyncio.shield(self._verifying)

    # --- running ------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Let `run` return as soon as it has found nothing more, or a store is away.

        At a stop the workers are gone. At a reload they are not, and under load there is always more: what is there
        after a few looks is the successor's.
        """
        self._draining.set()

    async def run(self) -> None:
        """Record until cancelled or drained. Outages are told once, and their end once."""
        try:
            await self._record()
        finally:
            await self._in_thread(self._close)
            self._thread.shutdown()

    async def _record(self) -> None:
        looks = _LAST_LOOKS
        while True:
            last, pause = self._draining.is_set(), STEP_SECONDS
            looks -= last
            try:
                found = await self.step()
                if found is Found.MORE or (last and looks > 0 and found is Found.SOME):
                    last, pause = False, 0.0
            except (GatewayError, OSError) as error:
                self._tell_outage(error)
            except Exception:  # noqa: BLE001 - whatever it is
                # Without a recorder the spool would fill up, and then requests are refused.
                self._tell_defect()
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
        if self._batch is None:
            self._batch = await self._in_thread(self._read)
        else:
            await self._in_thread(self._reader.look)
        batch = self._batch
        self._oldest = batch.oldest
        try:
            await self._store(batch)
            await self._note(batch)
        except Overtaken:
            _LOG.warning("how far the spool was read was noted by another, or the store has gone back; it looks anew")
            self._forget()
            return Found.SOME
        self._settle(batch)
        left = bool(self._over)
        await self._tidy()
        if not batch.parts:
            # Whether a run is over, the look after the removal of its last file shows.
            return Found.SOME if left and not self._over else Found.NOTHING
        return Found.MORE if batch.more else Found.SOME

    # --- the parts of a step ------------------------------------------------------------------------------------------

    def _take_lock(self) -> bool:
        """Be the one who records for this spool; the lock goes with the process."""
        if not self._is_open:
            self._directory.open()
            self._is_open = True
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
            self._runs = await segment_rows.unsettled_runs(connection, spools)
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
        if not batch.parts:
            return
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
            self._runs.add((part.spool, part.run))
            self.entries += len(part.entries)
            self.damaged_bytes += part.damaged_bytes
            self.unrecorded_refusals += sum(each.count for each in part.unrecorded)
            self.dropped_segments += len(part.dropped)
            if part.damaged_bytes:
                _LOG.error(
                    "a part of the spool is damaged, and records that were there are lost",
                    extra={"segment": part.segment, "damaged_bytes": part.damaged_bytes},
                )

    async def _tidy(self) -> None:
        """Do what comes after recording, and holds it up in no case."""
        if time.monotonic() < self._tidy_from:
            return
        untidy = False
        for work in (self._remove_finished, self._end_runs):
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - whatever it is
                self._tell_untidy(error)
                untidy = True
        self._tidy_from = time.monotonic() + TIDY_AGAIN_SECONDS if untidy else 0.0
        self._untidy_told = untidy

    async def _remove_finished(self) -> None:
        """Remove files of which everything is recorded."""
        while self._over:
            await self._in_thread(partial(self._reader.remove, self._over[0]))
            del self._over[0]

    async def _end_runs(self) -> None:
        """Have interrupted what runs left open that had no file left at the last look: all they wrote is recorded."""
        over = sorted(self._runs - self._reader.runs)
        if not over:
            return
        for spool, run in over:
            await self._audit_store.interrupt(spool, run)
        async with write_transaction(self._engine) as connection:
            await segment_rows.settle_runs(connection, over)
        self._runs.difference_update(over)

    def _forget(self) -> None:
        """Begin anew with what the store knows."""
        self._batch = None
        self._begun = False

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

    def _tell_defect(self) -> None:
        """Say where it was, once; it counts as an outage, for requests wait."""
        if not self._defect_told:
            _LOG.exception("requests cannot be taken into the record, in a way that was not foreseen; it goes on")
        self._defect_told = True
        if self._away_since is None:
            self._away_since = time.monotonic()

    def _tell_untidy(self, error: Exception) -> None:
        if self._untidy_told:
            return
        text = "requests are taken into the record, but what comes after that is not done for now"
        if isinstance(error, GatewayError):
            _LOG.error("%s: %s", text, error.detail, extra={"reason": error.internal})
        elif isinstance(error, OSError):
            _LOG.error("%s: %s", text, error)
        else:
            _LOG.error("%s, in a way that was not foreseen", text, exc_info=error)

    def _tell_end(self) -> None:
        if self._outage_told or self._defect_told:
            _LOG.warning("requests are taken into the record again")
        self._away_since, self._outage_told, self._defect_told = None, False, False

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
