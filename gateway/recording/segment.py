"""One segment of the spool: a file of fixed size, a header, and framed records behind each other.

    header   64 bytes: magic, version, process id, spool, number, run, moment, CRC32
    frame    marker, length of the payload, CRC32 of the payload, payload, zeros up to a multiple of 8
    …        zeros: nothing was written here yet

Invariants: a frame counts when its marker, length and checksum are right, whatever stands around it, so a reader finds
its way again behind any damage; no text of a request can look like a frame, since a length has a zero byte in it, and
no text has. The position of a record, `number << 24 | offset of its frame`, never changes and names it for ever.
Whoever writes to the file holds an exclusive flock on it: when the lock can be had, the writer is gone. A sealed file
is cut to its length, so read it with `read`, never through a mapping. Turned down: a separate index, and one file for
all workers, which would need a lock for each record.
"""

import fcntl
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from gateway.keys.request_entry import OFFSET_BITS

SEGMENT_BYTES: Final = 1 << OFFSET_BITS
SUFFIX: Final = ".segment"
HEADER_BYTES: Final = 64
FRAME_BYTES: Final = 12
"""Of marker, length and checksum, before the payload."""
MARKER: Final = b"\xf5KG\xfa"
"""No valid UTF-8, and no zero: it stands neither in texts nor in unwritten space."""
_MARKER_NUMBER: Final = int.from_bytes(MARKER, "little")
_ALIGNMENT: Final = 8
_MAGIC: Final = b"KEYGATE\n"
_VERSION: Final = 1
_HEADER: Final = Struct("<8sHHI16sQQQ")
_HEADER_CHECKSUM: Final = Struct("<I")
_FRAME: Final = Struct("<III")
_UNPACK_FRAME: Final[Callable[[bytes, int], tuple[int, int, int]]] = _FRAME.unpack_from


class SegmentHeader(NamedTuple):
    """What the first bytes of a segment say."""

    spool: str
    """16 hexadecimal digits."""
    number: int
    run: int
    """The number of the first segment of the worker that wrote it."""
    pid: int
    created_at: int
    """Microseconds since 1970."""


class Frame(NamedTuple):
    """One record as it lies in the file."""

    offset: int
    """In the file, of the frame: its position is `number << OFFSET_BITS | offset`."""
    payload: bytes


def encode_header(header: SegmentHeader) -> bytes:
    """The header as it is written."""
    spool, number, run, pid, created_at = header
    content = _HEADER.pack(_MAGIC, _VERSION, 0, pid, spool.encode(), number, run, created_at)
    return (content + _HEADER_CHECKSUM.pack(zlib.crc32(content))).ljust(HEADER_BYTES, b"\0")


def decode_header(data: bytes) -> SegmentHeader | None:
    """None where this is no header, or one of another version."""
    content = data[: _HEADER.size]
    if len(data) < HEADER_BYTES or _HEADER_CHECKSUM.unpack_from(data, _HEADER.size) != (zlib.crc32(content),):
        return None
    magic, version, _, pid, spool, number, run, created_at = _HEADER.unpack(content)
    if magic != _MAGIC or version != _VERSION:
        return None
    return SegmentHeader(spool.decode("ascii", "replace"), number, run, pid, created_at)


def read_header(path: Path) -> SegmentHeader | None:
    """The header of a file; None where it has none that can be read. Raises OSError."""
    with path.open("rb") as file:
        return decode_header(file.read(HEADER_BYTES))


# --- reading --------------------------------------------------------------------------------------------------------


def scan(data: bytes, offset: int, base: int = 0) -> tuple[list[Frame], int]:
    """All whole frames behind each other from `offset` on, and where they end: the first byte that is not of one.

    `data` is a part of the file from its byte `base` on; offsets are those in the file.
    """
    frames: list[Frame] = []
    at = offset - base
    while True:
        payload = _payload_at(data, at)
        if payload is None:
            return frames, at + base
        frames.append(Frame(at + base, payload))
        at = _aligned(at + FRAME_BYTES + len(payload))


def find_frame(data: bytes, offset: int, base: int = 0) -> int | None:
    """Where the next whole frame is, at `offset` or behind it: the way on where `scan` found damage."""
    at = data.find(MARKER, max(0, offset - base))
    while at >= 0:
        if (at + base) % _ALIGNMENT == 0 and _payload_at(data, at) is not None:
            return at + base
        at = data.find(MARKER, at + 1)
    return None


def is_abandoned(path: Path) -> bool:
    """Whether nobody writes to this file any more. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Shared, so that two who ask at a time do not take each other for the writer.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _payload_at(data: bytes, at: int) -> bytes | None:
    """The payload of the frame that begins here; None where none does, or not all of it is there."""
    if at < 0 or at + FRAME_BYTES > len(data):
        return None
    marker, length, checksum = _UNPACK_FRAME(data, at)
    begin = at + FRAME_BYTES
    if marker != _MARKER_NUMBER or not length or begin + length > len(data):
        return None
    payload = data[begin : begin + length]
    return payload if zlib.crc32(payload) == checksum else None


def _aligned(offset: int) -> int:
    return (offset + _ALIGNMENT - 1) & -_ALIGNMENT


def frame_bytes(payload_bytes: int) -> int:
    """How much of a segment a payload of this length takes."""
    return _aligned(FRAME_BYTES + payload_bytes)
