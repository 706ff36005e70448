"""Reads the segments of a spool: those that workers write to at this moment, and those that were left behind.

Invariants: nothing is passed over for good while its writer may still finish it, and nothing is passed over at all but
what is damaged, which is counted. Whether the writer is gone is asked before what it wrote is read, so that nothing can
come after the end that is found. A segment that is read to its end stays until whoever records says that it may go.

Not for several threads at once, and blocking throughout: call it in a thread. Mapping the files was turned down: a file
that is cut while it is mapped ends the process that reads there.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from gateway.keys.request_entry import RequestEntry
from gateway.recording import records, segment
from gateway.recording.records import DroppedSegment, Seal, UnrecordedRefusals
from gateway.recording.segment import SegmentHeader
from gateway.recording.spool_directory import SegmentFile, SpoolDirectory

FIRST_OFFSET: Final = segment.HEADER_BYTES
DAMAGE_SECONDS: Final = 1.0
"""For so long, what has readable records behind it may still be a record that is being written."""
_FIRST_LOOK_BYTES: Final = 16_384
_CHUNK_BYTES: Final = 262_144  # also the farthest that is looked past damage in a segment that is being written
_LONGEST_FRAME_BYTES: Final = 8192  # of what texts are limited to, amply
_BLANK_CHUNK: Final = bytes(_CHUNK_BYTES)
_PAGE_BYTES: Final = 4096  # longer than any stretch of zeros in what was written
_ALIGNMENT: Final = 8


class Checkpoint(NamedTuple):
    """How far a segment was recorded."""

    run: int
    read_to: int
    finished: bool


class FinishedSegment(NamedTuple):
    """A segment of which everything is recorded."""

    spool: str
    number: int
    run: int


@dataclass(slots=True)
class SegmentPart:
    """What was read of one segment, one time."""

    spool: str
    segment: int
    run: int
    read_from: int
    read_to: int
    entries: list[RequestEntry] = field(default_factory=list)
    counted: int = 0
    """How many of the entries lie in this segment, the others being ends of what began elsewhere."""
    unrecorded: list[UnrecordedRefusals] = field(default_factory=list)
    dropped: list[DroppedSegment] = field(default_factory=list)
    damaged_bytes: int = 0
    sealed_entries: int | None = None
    """How many its writer says lie in it."""
    finished: bool = False
    """Nothing follows, or the file is gone."""


@dataclass(slots=True)
class _Open:
    """A segment that is being read."""

    fd: int
    header: SegmentHeader | None
    doubted: tuple[int, float] | None = None
    """Where there may be damage, and since when that is known."""


class SpoolReader:
    """The reader of one directory."""

    def __init__(self, directory: SpoolDirectory, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: in seconds, for what is being written. No I/O."""
        self._directory = directory
        self._clock = clock
        self._checkpoints: dict[tuple[str, int], Checkpoint] = {}
        self._open: dict[int, _Open] = {}
        self._headers: dict[int, SegmentHeader] = {}
        self._files: list[SegmentFile] = []
        """As of the last look, which is the case of all that follows."""
        self.used_bytes = 0
        """What all segments take."""
        self.waiting_bytes = 0
        """What is not recorded yet: of a segment that is written to, as far as it is; of any other, all of it."""
        self.runs: set[tuple[str, int]] = set()
        """By spool and number, those of which there is a segment.

        A worker has the next one before it seals the last one, so a run is over when it is not among them.
        """

    def close(self) -> None:
        """Let go of all files."""
        for number in list(self._open):
            self._close(number)

    # --- where to begin -----------------------------------------------------------------------------------------------

    def present(self) -> tuple[set[str], int]:
        """Return the spools whose segments are here, and the lowest of their numbers."""
        files = self.look()
        spools = {self._header_of(each).spool for each in files} | {self._directory.id}
        return spools, min((each.number for each in files), default=0)

    def begin(self, checkpoints: Mapping[tuple[str, int], Checkpoint]) -> list[FinishedSegment]:
        """Go on from there; return those that are here although everything in them is recorded."""
        self.close()
        self._checkpoints = dict(checkpoints)
        left = []
        for file in self.look():
            header = self._header_of(file)
            known = self._checkpoints.get((header.spool, file.number))
            if known is not None and known.finished:
                left.append(FinishedSegment(header.spool, file.number, known.run))
        return left

    # --- looking ------------------------------------------------------------------------------------------------------

    def look(self) -> list[SegmentFile]:
        """List the directory, and measure what is there; return the segments, the oldest first. Raises OSError."""
        self._files = files = self._directory.segments()
        self.used_bytes = sum(each.size for each in files)
        self.waiting_bytes = sum(self._waiting(each) for each in files)
        self.runs = {(header.spool, header.run) for header in map(self._header_of, files)}
        return files

    def _waiting(self, file: SegmentFile) -> int:
        """How much of a segment is to be recorded. The room behind it, of one without a writer, is as good as taken."""
        header = self._header_of(file)
        known = self._checkpoints.get((header.spool, file.number))
        if known is not None and known.finished:
            return 0
        begin = FIRST_OFFSET if known is None else known.read_to
        with suppress(FileNotFoundError):
            if segment.is_abandoned(file.path):
                return file.size
            with file.path.open("rb", buffering=0) as opened:
                return _written_end(opened.fileno(), begin, file.size) - begin
        return 0

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, limit: int) -> list[SegmentPart]:
        """Look, and read on in all segments, the oldest first, to some `limit` entries; those without any are left out.

        Reading again without `recorded` gives the same again, and what has come meanwhile. Raises OSError.
        """
        files = self.look()
        parts = list(self._vanished(files))
        for file in files:
            if limit <= 0:
                break
            part = self._read_segment(file, limit)
            if part is not None:
                limit -= len(part.entries)
                parts.append(part)
        return parts

    def recorded(self, parts: Iterable[SegmentPart]) -> list[FinishedSegment]:
        """Go on behind these from now on; return those of them that are over."""
        finished = []
        for part in parts:
            self._checkpoints[part.spool, part.segment] = Checkpoint(part.run, part.read_to, part.finished)
            if part.finished:
                self._close(part.segment)
                finished.append(FinishedSegment(part.spool, part.segment, part.run))
        return finished

    def remove(self, over: FinishedSegment) -> None:
        """Remove the file; it may be gone already. Raises OSError."""
        for file in self._files:
            if file.number == over.number:
                file.path.unlink(missing_ok=True)
        self._headers.pop(over.number, None)
        self._checkpoints.pop((over.spool, over.number), None)

    def _vanished(self, files: list[SegmentFile]) -> Iterator[SegmentPart]:
        """Segments that were there and are not: dropped for want of room, or removed by hand."""
        here = {each.number for each in files}
        for (spool, number), known in self._checkpoints.items():
            if number not in here and not known.finished:
                self._close(number)
                yield SegmentPart(spool, number, known.run, known.read_to, known.read_to, finished=True)

    def _header_of(self, file: SegmentFile) -> SegmentHeader:
        """The header, or what stands for one that cannot be read."""
        header = self._headers.get(file.number)
        if header is None:
            with suppress(FileNotFoundError):
                header = segment.read_header(file.path)
            if header is None or header.number != file.number:
                return SegmentHeader(self._directory.id, file.number, file.number, 0, 0)
            self._headers[file.number] = header
        return header

    def _read_segment(self, file: SegmentFile, limit: int) -> SegmentPart | None:
        header = self._header_of(file)
        known = self._checkpoints.get((header.spool, file.number), Checkpoint(header.run, FIRST_OFFSET, finished=False))
        if known.finished:
            return None
        at = self._open.get(file.number)
        try:
            if at is None:
                fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
                at = self._open[file.number] = _Open(fd, self._headers.get(file.number))
            gone = segment.is_abandoned(file.path)
        except FileNotFoundError:  # dropped since the look; the next one shows it
            return None
        part = SegmentPart(header.spool, file.number, known.run, known.read_to, known.read_to)
        if at.header is None:
            at.header = self._headers.get(file.number)
        if at.header is not None or gone:
            self._read_on(at, part, limit, gone=gone)
        return part if part.finished or part.read_to > part.read_from else None

    def _read_on(self, file: _Open, part: SegmentPart, limit: int, *, gone: bool) -> None:
        """Read frames until the limit, or as far as there are any."""
        size = _FIRST_LOOK_BYTES
        while len(part.entries) < limit and not part.finished:
            begin = part.read_to
            data = os.pread(file.fd, size, begin)
            frames, end = segment.scan(data, begin, begin)
            for frame in frames:
                _take(part, frame)
            if end > begin:
                part.read_to = end
                size = _CHUNK_BYTES
            elif gone:
                _pass_damage(file.fd, part)
            else:
                found = self._behind_doubt(file, data, begin)
                if found is None:
                    return
                part.damaged_bytes += found - begin
                part.read_to = found

    def _behind_doubt(self, file: _Open, data: bytes, at: int) -> int | None:
        """Where records go on behind what has been unreadable for long; None: wait for what is being written here."""
        if _BLANK_CHUNK.startswith(data):
            return None
        found = segment.find_frame(os.pread(file.fd, _CHUNK_BYTES, at), at + _ALIGNMENT, at)
        now = self._clock()
        if found is None:
            return None
        if file.doubted is None or file.doubted[0] != at:
            file.doubted = (at, now)
        return found if now - file.doubted[1] > DAMAGE_SECONDS else None

    def _close(self, number: int) -> None:
        file = self._open.pop(number, None)
        if file is not None:
            os.close(file.fd)


def count_entries(path: Path, read_to: int) -> int | None:
    """Count anew how many entries lie in a segment up to there; None where it is gone."""
    part = SegmentPart("", 0, 0, FIRST_OFFSET, FIRST_OFFSET)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with closing(os.fdopen(fd, "rb", buffering=0)):
        while part.read_to < read_to and not part.finished:
            begin = part.read_to
            frames, end = segment.scan(os.pread(fd, _CHUNK_BYTES, begin), begin, begin)
            part.counted += sum(1 for each in frames if each.offset < read_to and each.payload[0] == records.ENTRY)
            part.read_to = end
            if end == begin:
                _pass_damage(fd, part)
    return part.counted


def _take(part: SegmentPart, frame: segment.Frame) -> None:
    """Add what a frame says."""
    payload = frame.payload
    record = records.decode(payload, part.segment, frame.offset, part.run)
    if isinstance(record, RequestEntry):
        part.entries.append(record)
        part.counted += payload[0] == records.ENTRY
    elif isinstance(record, Seal):
        part.sealed_entries = record.entries
        part.finished = True
    elif isinstance(record, UnrecordedRefusals):
        part.unrecorded.append(record)
    elif isinstance(record, DroppedSegment):
        part.dropped.append(record)
    else:
        part.damaged_bytes += segment.frame_bytes(len(payload))


def _pass_damage(fd: int, part: SegmentPart) -> None:
    """Go to the next record in a segment that nobody writes to; where there is none it is finished."""
    begin = at = end = part.read_to
    while data := os.pread(fd, _CHUNK_BYTES, at):
        if not _BLANK_CHUNK.startswith(data):
            found = segment.find_frame(data, max(at, begin + _ALIGNMENT), at)
            if found is not None:
                part.damaged_bytes += found - begin
                part.read_to = found
                return
            end = at + len(data.rstrip(b"\0"))
        if len(data) < _CHUNK_BYTES:
            break
        at += _CHUNK_BYTES - _LONGEST_FRAME_BYTES
    if not _is_unfinished(fd, begin, end):
        part.damaged_bytes += end - begin
    # The room behind it too, so that a segment that was read to its end is told from one that was dropped before.
    part.read_to = max(end, os.fstat(fd).st_size)
    part.finished = True


def _is_unfinished(fd: int, begin: int, end: int) -> bool:
    """Tell whether this is what a worker was writing when it was killed: its beginning, and zeros for the rest of it.

    Then its response had not gone out, and nothing is missing.
    """
    data = os.pread(fd, _LONGEST_FRAME_BYTES, begin)
    head, rest = data[: segment.FRAME_BYTES], data[segment.FRAME_BYTES :]
    length = int.from_bytes(head[4:8], "little")
    begun = head.startswith(segment.MARKER) and (length > len(rest) or not rest[length - 1])
    return end - begin <= _LONGEST_FRAME_BYTES and (begun or not any(head))


def _written_end(fd: int, begin: int, size: int) -> int:
    """Find how far a segment is written, from what was read on, to a page: behind it are zeros alone."""
    written, blank = begin, size
    at = begin  # nearly always there is nothing new
    while written < blank:
        if _BLANK_CHUNK.startswith(os.pread(fd, _PAGE_BYTES, at)):
            blank = at
        else:
            written = min(at + _PAGE_BYTES, blank)
        at = (written + blank) // 2
    return written
