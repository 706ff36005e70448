"""A segment that is being written: mapped into memory, so that a record costs a copy and no system call.

Invariants: a record is in the page cache when `append` returns, and outlives the process from then on, however that
ends; what is not forced to disk yet, a power cut may lose (`sync`). The blocks are allocated before the first record,
so a full disk is met here and not in the middle of a request. Room for the seal is always left. Turned down: write(2)
for each record, which costs more than all else about it, and collecting records to write many at once: those would die
with the process, while their responses have gone out.
"""

import contextlib
import fcntl
import mmap
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import Final

from gateway.keys.request_entry import OFFSET_BITS
from gateway.recording.records import ENTRY, SEAL_BYTES, seal
from gateway.recording.segment import FRAME_BYTES, HEADER_BYTES, MARKER, SegmentHeader, encode_header, frame_bytes

_FRAME_WRITERS: Final[dict[int, Callable[..., None]]] = {}
"""By the length of the payload: one call that copies all of a frame costs less than two."""
_SEAL_FRAME_BYTES: Final = frame_bytes(SEAL_BYTES)
_READ_BYTES: Final = 1 << 20


def _frame_writer(length: int) -> Callable[..., None]:
    """What writes marker, length, checksum and payload to a place in a buffer."""
    known = _FRAME_WRITERS.get(length)
    if known is None:
        known = _FRAME_WRITERS[length] = Struct(f"<4sII{length}s").pack_into
    return known


class OpenSegment:
    """See the module. Made by `SpoolDirectory.create`, locked; not thread-safe but for `sync`."""

    __slots__ = ("_base", "_descriptor", "_map", "_room", "entries", "number", "offset", "path", "synced_to")

    def __init__(self, descriptor: int, path: Path, header: SegmentHeader, size: int) -> None:
        """`descriptor` is of an empty file; it is taken over when this returns. Raises OSError."""
        os.posix_fallocate(descriptor, 0, size)
        self._map = mmap.mmap(descriptor, size)
        self._map[:HEADER_BYTES] = encode_header(header)
        self._descriptor = descriptor
        self._base = header.number << OFFSET_BITS
        self._room = size - _SEAL_FRAME_BYTES
        self.number = header.number
        self.path = path
        self.offset = HEADER_BYTES
        """Where the next frame goes."""
        self.entries = 0
        self.synced_to = 0

    def __repr__(self) -> str:
        """Name the segment and how full it is."""
        return f"<OpenSegment {self.number} at {self.offset}>"

    def prefault(self) -> None:
        """Have the pages in memory before a request needs them. Blocks, without holding up other threads.

        Turned down: MADV_POPULATE_WRITE, which holds the interpreter's lock, and saves what it costs but once: forcing
        the file to disk takes the right to write to a page away again.
        """
        for offset in range(0, self._room, _READ_BYTES):
            os.pread(self._descriptor, _READ_BYTES, offset)

    def append(self, payload: bytes) -> int:
        """Write a record; returns its position, or -1 where there is no room for it."""
        offset = self.offset
        following = (offset + FRAME_BYTES + len(payload) + 7) & -8
        if following > self._room:
            return -1
        _frame_writer(len(payload))(self._map, offset, MARKER, len(payload), zlib.crc32(payload), payload)
        self.offset = following
        if payload[0] == ENTRY:
            self.entries += 1
        return self._base | offset

    def is_half_full(self) -> bool:
        """Whether the next one should be made ready."""
        return self.offset * 2 > self._room

    def seal(self) -> None:
        """Say that nothing follows."""
        self._room += _SEAL_FRAME_BYTES
        self.append(seal(self.entries))
        self._room = 0

    def sync(self) -> None:
        """Force to disk what was written before this call. Blocks; may be called in another thread. Raises OSError."""
        offset = self.offset
        if offset != self.synced_to:
            os.fdatasync(self._descriptor)
            self.synced_to = offset

    def close(self) -> None:
        """Give back the room that was not used, and let go of the file. Blocks; nothing is written after it."""
        self._map.close()
        with contextlib.suppress(OSError):  # the room is not worth more than what is in the file
            os.ftruncate(self._descriptor, self.offset)
        try:
            self.sync()
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
