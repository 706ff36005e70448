"""Where a message body ends (RFC 9112 sections 6 and 7): one small reader per framing, pure, fed as bytes come.

Invariants: a reader never hands on a byte that is not payload, never reads past the end of the body (what is left over
is reported, not kept), and holds no more than one partial line. Each `feed` returns the payload in it as pieces that
share the caller's buffer: large bodies are not copied.
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


class MalformedBody(Exception):
    """The framing of a body is broken; the connection is of no more use."""


class BodyReader(Protocol):
    """What the two directions ask of a body."""

    done: bool

    def feed(self, data: bytes) -> tuple[list[Piece], int]:
        """Take in bytes; returns the payload in them and how many bytes belonged to this body."""

    def ends_with_connection(self) -> bool:
        """Whether the end of the connection is a proper end of this body."""


class LengthBody:
    """A body of Content-Length bytes."""

    __slots__ = ("done", "remaining")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = length == 0

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

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

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

    __slots__ = ("_line", "_remaining", "_state", "_trailer_size", "done")

    def __init__(self) -> None:
        self._state = _ChunkState.SIZE
        self._line = b""
        self._remaining = 0
        self._trailer_size = 0
        self.done = False

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
            line, at = self._take_line(data, at)
            if line is not None:
                self._read_line(line)
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


def chunk(pieces: list[Piece]) -> list[Piece]:
    """Frame payload as one chunk, for `writelines`; empty payload gives no chunk, since that would end the body."""
    size = sum(map(len, pieces))
    return [b"%x\r\n" % size, *pieces, b"\r\n"] if size else []


LAST_CHUNK: Final = b"0\r\n\r\n"
