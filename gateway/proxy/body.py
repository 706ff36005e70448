"""Where a message body ends (RFC 9112 sections 6 and 7): one small reader per framing, pure, fed as bytes come.

Invariants: a reader never hands on a byte that is not payload, never reads past the end of the body (what is left over
is reported, not kept), and holds no more than one partial line. Each `feed` returns the payload in it as a few pieces,
however many chunks it came in: each piece that waits for a slow peer costs more memory than a byte. Large ones share
the caller's buffer: large bodies are not copied.
"""

import re
from enum import Enum
from typing import Final, Protocol

from gateway.proxy.grammar import is_line, is_token

Piece = bytes | memoryview
"""A run of payload."""

_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;.*)?", re.DOTALL)
_EXTENSION_LIMIT: Final = 256
_TRAILER_LIMIT: Final = 8192
_SIZE_LINE_LIMIT: Final = 16 + _EXTENSION_LIMIT + 2
_LARGE_CHUNK: Final = 4096
_SMALL_CHUNKS: Final = {b"%x" % size: size for size in range(1, _LARGE_CHUNK)}
"""Sizes as most senders write them."""
_SMALL_LINE: Final = 3 + 2
_CHUNK_BEGIN: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]{0,255})?\r\n")
"""A whole line of size and extension that breaks no rule; what breaks one is read again, to say which."""
_FEW_PIECES: Final = 16
_MANY_CHUNKS: Final = 64
_FINE_BYTES: Final = 512
"""Chunks of fewer bytes each, on the average, cost more than what they carry."""


class MalformedBody(Exception):
    """The framing of a body is broken; the connection is of no more use."""


class BodyReader(Protocol):
    """What the two directions ask of a body."""

    done: bool
    fine_grained: bool
    """Whether its bytes cost so much to read that fewer at once should be, for the sake of other connections."""

    def feed(self, data: bytes) -> tuple[list[Piece], int]:
        """Take in bytes; returns the payload in them and how many bytes belonged to this body."""

    def ends_with_connection(self) -> bool:
        """Whether the end of the connection is a proper end of this body."""


class LengthBody:
    """A body of Content-Length bytes."""

    __slots__ = ("done", "fine_grained", "remaining")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = length == 0
        self.fine_grained = False

    def feed(self, data: bytes) -> tuple[list[Piece], int]:
        """See BodyReader."""
        size = len(data)
        if size < self.remaining:
            self.remaining -= size
            return [data], size
        taken = self.remaining
        self.remaining = 0
        self.done = True
        return [data if taken == size else memoryview(data)[:taken]], taken

    def ends_with_connection(self) -> bool:
        """See BodyReader."""
        return False


class ConnectionBody:
    """A response body that ends with its connection (RFC 9112 section 6.3, case 8)."""

    __slots__ = ("done", "fine_grained")

    def __init__(self) -> None:
        self.done = False
        self.fine_grained = False

    def feed(self, data: bytes) -> tuple[list[Piece], int]:
        """See BodyReader."""
        return [data], len(data)

    def ends_with_connection(self) -> bool:
        """See BodyReader."""
        return True


class _ChunkState(Enum):
    SIZE = 0
    DATA = 1
    DATA_END = 2
    TRAILER = 3


class ChunkedBody:
    """A chunked body: CRLF alone ends a line, sizes have up to 16 hex digits, extensions and trailers are dropped."""

    __slots__ = ("_line", "_remaining", "_state", "_trailer_size", "done", "fine_grained")

    def __init__(self) -> None:
        self._state = _ChunkState.SIZE
        self._line = b""
        self._remaining = 0
        self._trailer_size = 0
        self.done = False
        self.fine_grained = False

    def feed(self, data: bytes) -> tuple[list[Piece], int]:
        """See BodyReader; raises MalformedBody."""
        pieces: list[Piece] = []
        view = memoryview(data)
        at, size = 0, len(data)
        while at < size and not self.done:
            if self._state is _ChunkState.DATA:
                end = min(size, at + self._remaining)
                pieces.append(view[at:end])
                self._remaining -= end - at
                at = end
                if not self._remaining:
                    self._state = _ChunkState.DATA_END
                continue
            if self._state is _ChunkState.SIZE and not self._line:
                at = _take_small_chunks(data, at, pieces)
                if at == size:
                    break
            line, at = self._take_line(data, at)
            if line is not None:
                self._read_line(line)
        count = len(pieces)
        if count > _FEW_PIECES:
            if count > _MANY_CHUNKS and at < count * _FINE_BYTES:
                self.fine_grained = True
            pieces = [b"".join(pieces)]
        return pieces, at

    def ends_with_connection(self) -> bool:
        """See BodyReader."""
        return False

    def _take_line(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        """The next whole line without its CRLF, or None; and where to go on."""
        limit = _TRAILER_LIMIT if self._state is _ChunkState.TRAILER else _SIZE_LINE_LIMIT
        newline = data.find(b"\n", at)
        end = len(data) if newline < 0 else newline + 1
        line = self._line + data[at:end]
        if self._state is _ChunkState.DATA_END and not b"\r\n".startswith(line):
            message = "a chunk is longer than its size"
            raise MalformedBody(message)
        if len(line) > limit:
            message = "a line of the chunked body is too long"
            raise MalformedBody(message)
        if newline < 0:
            self._line = line
            return None, end
        self._line = b""
        if line[-2:] != b"\r\n" or not is_line(line[:-2]):
            message = "a line of the chunked body does not end in CRLF or has a control byte"
            raise MalformedBody(message)
        return line[:-2], end

    def _read_line(self, line: bytes) -> None:
        if self._state is _ChunkState.SIZE:
            match = _CHUNK_LINE.fullmatch(line)
            if match is None or len(match.group(2) or b"") > _EXTENSION_LIMIT:
                message = "a chunk size is malformed or its extension too long"
                raise MalformedBody(message)
            self._remaining = int(match.group(1), 16)
            self._state = _ChunkState.DATA if self._remaining else _ChunkState.TRAILER
        elif self._state is _ChunkState.DATA_END:
            self._state = _ChunkState.SIZE
        elif line:
            self._trailer_size += len(line)
            name, colon, _ = line.partition(b":")
            if self._trailer_size > _TRAILER_LIMIT or not colon or not is_token(name):
                message = "a trailer is malformed or too long"
                raise MalformedBody(message)
        else:
            self.done = True


def _take_small_chunks(data: bytes, at: int, pieces: list[Piece]) -> int:
    """Take the whole small chunks that stand at `at`; returns where something else begins, or the end."""
    while True:
        line_end = data.find(b"\r\n", at, at + _SMALL_LINE)
        size = _SMALL_CHUNKS.get(data[at:line_end], 0) if line_end >= 0 else 0
        begin = line_end + 2
        if not size:
            match = _CHUNK_BEGIN.match(data, at, at + _SIZE_LINE_LIMIT)
            if match is None:
                return at
            begin = match.end()
            size = int(match.group(1), 16)
        end = begin + size
        if not 0 < size < _LARGE_CHUNK or data[end : end + 2] != b"\r\n":
            return at
        pieces.append(data[begin:end])
        at = end + 2


def chunk(pieces: list[Piece]) -> list[Piece]:
    """Frame payload as one chunk, for `writelines`; empty payload gives no chunk, since that would end the body."""
    size = sum(map(len, pieces))
    return [b"%x\r\n" % size, *pieces, b"\r\n"] if size else []


LAST_CHUNK: Final = b"0\r\n\r\n"
