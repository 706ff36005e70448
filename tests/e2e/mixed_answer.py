"""The strict reader of the mixed load's clients: answers as they come, and whatever could be read in two ways is wrong.

Invariant: an answer is whole by its own framing alone, never by the end of its connection. It is `wire_reader` again,
but takes bytes as they arrive, and cheaply enough for thousands of answers a second.
"""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEAD: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) ([\t -~]*)\r\n((?:" + _TOKEN + rb": [\t -~]*\r\n)*)\r\n")
_LISTS: Final = frozenset({b"www-authenticate"})
_LENGTH: Final = re.compile(rb"0|[1-9][0-9]{0,15}")
_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,16})\r\n")
_HEAD_LIMIT: Final = 16_384
_SIZE_LIMIT: Final = 18


class NotHttp(Exception):
    """The bytes are no answer."""


class Answer:
    """One, as far as it has come."""

    __slots__ = ("_at", "_buffer", "_head_only", "_left", "_pieces", "begun", "fields", "interim", "rest", "status")

    def __init__(self, *, head_only: bool) -> None:
        self._head_only = head_only
        self._buffer = b""
        self._at = 0
        self._left = -1
        """Of a body with a length; -1: it comes in chunks."""
        self._pieces: list[bytes] = []
        self.begun = False
        self.interim: list[int] = []
        """Statuses of the 1xx before it."""
        self.status = 0
        self.fields: dict[bytes, bytes] = {}
        self.rest = b""
        """What came behind it, once it is whole."""

    @property
    def has_bytes(self) -> bool:
        """Whether anything has come."""
        return self.begun or bool(self._buffer)

    @property
    def body(self) -> bytes:
        """As much as has come."""
        return b"".join(self._pieces)

    @property
    def raw(self) -> bytes:
        """For complaints."""
        return b"%d %r %b + %b" % (self.status, self.fields, self.body[:300], self._buffer[:300])

    @property
    def closes(self) -> bool:
        return self.fields.get(b"connection") == b"close"

    def received(self) -> int:
        """How much of the body has come."""
        return sum(map(len, self._pieces))

    def take(self, data: bytes) -> bool:
        """Tell whether it is whole with this."""
        self._buffer = self._buffer + data if self._buffer else data
        while not self.begun:
            if not self._read_head():
                return False
        return self._read_chunks() if self._left < 0 else self._read_length()

    def _read_head(self) -> bool:
        match = _HEAD.match(self._buffer)
        if match is None:
            if b"\r\n\r\n" in self._buffer or len(self._buffer) > _HEAD_LIMIT:
                raise NotHttp("no head of an answer")
            return False
        self._buffer = self._buffer[match.end() :]
        self.status = int(match[1])
        fields: dict[bytes, bytes] = {}
        for line in match[3].split(b"\r\n")[:-1]:
            name, _, value = line.partition(b": ")
            name = name.lower()
            if name in fields and name not in _LISTS:
                raise NotHttp(f"a field that stands twice: {name!r}")
            fields[name] = value
        if self.status < 200 and self.status != 101:
            self.interim.append(self.status)
            return bool(self._buffer)
        self.fields = fields
        self.begun = True
        self._frame()
        return True

    def _frame(self) -> None:
        length, coding = self.fields.get(b"content-length"), self.fields.get(b"transfer-encoding")
        if self.status in {101, 204}:
            if length is not None or coding is not None:
                raise NotHttp("a framing where no body can be")
            self._left = 0
        elif (length is None) == (coding is None) and not self._head_only and self.status != 304:
            raise NotHttp("not exactly one framing")
        elif length is not None and not _LENGTH.fullmatch(length):
            raise NotHttp("Content-Length")
        elif coding is not None and coding != b"chunked":
            raise NotHttp("Transfer-Encoding")
        elif self._head_only or self.status == 304:
            self._left = 0
        elif length is not None:
            self._left = int(length)

    def _read_length(self) -> bool:
        piece = self._buffer[: self._left] if len(self._buffer) > self._left else self._buffer
        if piece:
            self._pieces.append(piece)
            self._left -= len(piece)
        if self._left:
            self._buffer = b""
            return False
        self.rest, self._buffer = self._buffer[len(piece) :], b""
        return True

    def _read_chunks(self) -> bool:
        """Whole chunks are taken out of the data; the last one, which has no trailers behind it, ends the body."""
        at, data = 0, self._buffer
        while match := _SIZE.match(data, at):
            size, begin = int(match[1], 16), match.end()
            end = begin + size
            if len(data) < end + 2:
                break
            if data[end : end + 2] != b"\r\n":
                raise NotHttp("a chunk that does not end")
            at = end + 2
            if not size:
                self.rest, self._buffer = data[at:], b""
                return True
            self._pieces.append(data[begin:end])
        else:
            if len(data) - at > _SIZE_LIMIT:
                raise NotHttp("no chunk")
        self._buffer = data[at:]
        return False
