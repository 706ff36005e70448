"""A worker's end of the spool: takes records without waiting, and keeps room ahead for those that come.

Invariants: `write` makes no system call while there is room in the segment, and what it wrote outlives the process. The
next segment is made in a thread when the present one is half full, so that a request meets no disk; until there is
none, and the present one runs out, which takes a small one on the spot. Where no further segment is to be had (`full`),
`blocked` says so long before the last byte is written: new requests are to be refused then, and those in flight still
end on record. A writer holds the lock of one segment at any time until it closes, so a run is over when none is locked.
Turned down: counting on the limit to be right only in the reader, which may be the part that has failed.
"""

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal

from gateway.recording.open_segment import OpenSegment
from gateway.recording.records import dropped_segment
from gateway.recording.segment import SEGMENT_BYTES
from gateway.recording.spool_directory import SegmentFile, SpoolDirectory, unavailable

_LOG = logging.getLogger(__name__)
_EMERGENCY_BYTES: Final = 1 << 20
"""What is taken beyond the limit at a time, so that what is in flight ends on record."""
_AGAIN_SECONDS: Final = 1.0
"""How soon a worker without a next segment tries again."""
_WARNED_SHARE: Final = 0.8

WhenFull = Literal["refuse", "drop_oldest"]


class SpoolFull(Exception):
    """There is no room for this record, nor any to be had: what it is about must not happen."""


class Spool:
    """See the module. `start` comes first, `keep_room` and `keep_synced` run beside it, `close` comes last."""

    def __init__(
        self,
        directory: SpoolDirectory,
        *,
        limit_bytes: int,
        when_full: WhenFull,
        sync_interval_seconds: float,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._drops_oldest = when_full == "drop_oldest"
        self._sync_interval_seconds = sync_interval_seconds
        self._segment_bytes = segment_bytes
        self._segment: OpenSegment | None = None
        self._next: OpenSegment | None = None
        self._retired: list[OpenSegment] = []
        """Sealed, and not closed yet."""
        self._dropped: list[SegmentFile] = []
        """Of which no record was written yet."""
        self._run = 0
        self._half_reached = False
        self._entries_before = 0
        """In the segments before the present one."""
        self._wanted = asyncio.Event()
        """Set when a next segment is to be made."""
        self._preparing = ThreadPoolExecutor(1, "spool-room")
        self._syncing = ThreadPoolExecutor(1, "spool-sync")
        self._warned = False
        self._sync_failing = False
        self._exhausted = False
        """No segment was to be had in a hurry: until the next attempt beside the requests, none is tried for."""
        self.blocked = False
        """Whether new requests have to be refused."""

    @property
    def run(self) -> int:
        """The number of the first segment."""
        return self._run

    @property
    def entries(self) -> int:
        """How many entries were written since the worker started; an ending is of one that was there already."""
        return self._entries_before + (0 if self._segment is None else self._segment.entries)

    def start(self) -> None:
        """Make the first segment. Blocks; raises SpoolUnavailable, with what to do about it."""
        self._directory.open()
        try:
            first = self._make()
            if first is None:  # the limit: refuse, but have a place to say so
                self._block("its limit is reached")
                self._wanted.set()
                first = self._directory.create(min(_EMERGENCY_BYTES, self._segment_bytes))
        except OSError as error:
            raise unavailable(self._directory.path, error) from error
        assert first is not None  # noqa: S101  it was made without a limit
        self._run = first.number
        self._segment = first
        self._write_dropped()

    # --- on the way of a request --------------------------------------------------------------------------------------

    def write(self, payload: bytes) -> int:
        """Put a record into the spool; returns its position. Raises SpoolFull where there is no room for it."""
        segment = self._segment
        if segment is None:
            message = "the spool is closed"
            raise SpoolFull(message)
        position = segment.append(payload)
        if position < 0:
            segment = self._move_on(segment)
            position = segment.append(payload)
        if not self._half_reached and segment.is_half_full():
            self._half_reached = True
            self._wanted.set()
        return position

    def _move_on(self, full: OpenSegment) -> OpenSegment:
        """Go on in the next segment, or where it is not there in one that is made in a hurry."""
        following, self._next = self._next, None
        if following is None:
            following = self._emergency()
        full.seal()
        self._retired.append(full)
        self._entries_before += full.entries
        self._segment = following
        self._half_reached = False
        return following

    def _emergency(self) -> OpenSegment:
        if self._exhausted:
            message = "there is no further segment"
            raise SpoolFull(message)
        try:
            made = self._directory.create(min(_EMERGENCY_BYTES, self._segment_bytes), run=self._run)
        except OSError as error:
            self._exhausted = True
            self._block(error.strerror or str(error))
            self._wanted.set()
            raise SpoolFull(str(error)) from error
        assert made is not None  # noqa: S101  it was made without a limit
        return made

    # --- beside it ----------------------------------------------------------------------------------------------------

    async def keep_room(self) -> None:
        """Have the next segment ready before it is needed, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while not self._has_next():
                await loop.run_in_executor(self._preparing, self._prepare)
                self._exhausted = False
                self._write_dropped()
                if not self._has_next():
                    await asyncio.sleep(_AGAIN_SECONDS)
            if self.blocked:
                self.blocked = False
                _LOG.warning("the spool %s has room again: requests are served", self._directory.path)

    def _has_next(self) -> bool:
        # A method: that `_next` is None does not stay so over an await, and the compiler believes that it does.
        return self._next is not None

    async def keep_synced(self) -> None:
        """Force to disk what was written, in the interval of the settings, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._sync_interval_seconds)
            await loop.run_in_executor(self._syncing, self._sync)

    def give_back(self) -> None:
        """Give up what was made ready: this worker drains, and another one needs the room."""
        following, self._next = self._next, None
        if following is not None:
            following.seal()
            self._retired.append(following)

    def close(self) -> None:
        """Seal and let go of everything. Blocks; nothing is written after it."""
        self._preparing.shutdown(cancel_futures=True)
        self._syncing.shutdown(cancel_futures=True)
        self._write_dropped()
        for segment in (self._segment, self._next):
            if segment is not None:
                segment.seal()
                self._retired.append(segment)
        self._segment = self._next = None
        self._sync()

    def _prepare(self) -> None:
        """Make the next segment, in a thread. It is in `_next` before this returns, whoever still waits for that."""
        try:
            made = self._make()
            if made is None:
                self._block("its limit is reached")
            else:
                made.prefault()
                self._next = made
        except OSError as error:
            self._block(error.strerror or str(error))

    def _make(self) -> OpenSegment | None:
        """A segment within the limit, None where there is no room. Blocks; raises OSError."""
        while True:
            made, problem = None, None
            try:
                made = self._directory.create(self._segment_bytes, run=self._run, limit_bytes=self._limit_bytes)
            except OSError as error:  # the disk may be full before the limit is reached
                problem = error
            if made is None and self._drops_oldest and (dropped := self._directory.drop_oldest()) is not None:
                self._dropped.append(dropped)
                continue
            if problem is not None:
                raise problem
            if made is None and self._drops_oldest:  # all there is, is being written by other workers
                made = self._directory.create(self._segment_bytes, run=self._run)
            with contextlib.suppress(OSError):  # whatever it is, it is not about this segment
                self._warn()
            return made

    def _warn(self) -> None:
        """Say once that the spool is nearly full, before it is; what is still written to is no sign of that."""
        share = self._directory.left_bytes() / self._limit_bytes
        if share >= _WARNED_SHARE and not self._warned:
            _LOG.warning(
                "the spool %s is %.0f %% full: what is on record here is not taken into the store",
                self._directory.path,
                share * 100,
            )
        self._warned = share >= _WARNED_SHARE

    def _block(self, reason: str) -> None:
        if not self.blocked:
            self.blocked = True
            _LOG.error("the spool %s takes no more (%s): requests are refused", self._directory.path, reason)

    def _write_dropped(self) -> None:
        """Put on record what was dropped for want of room."""
        with contextlib.suppress(SpoolFull):  # later, then
            while self._dropped:
                dropped = self._dropped[0]
                self.write(dropped_segment(dropped.number, dropped.size))
                del self._dropped[0]
                _LOG.error("the spool is full: segment %d, %d bytes, was dropped", dropped.number, dropped.size)

    def _sync(self) -> None:
        """Close what is sealed, and force the rest to disk; in a thread."""
        try:
            while self._retired:
                self._retired.pop(0).close()
            if self._segment is not None:
                self._segment.sync()
        except OSError as error:
            if not self._sync_failing:
                _LOG.error("the spool cannot be forced to disk, a power cut would lose it: %s", error)
            self._sync_failing = True
        else:
            self._sync_failing = False
