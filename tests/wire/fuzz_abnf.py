"""What fields and bodies are, written from the ABNF of RFC 9110 and 9112 and from the contract, for judging input.

It shares no line with the gateway. It says of any bytes what must come of them, where `tests/proxy/wire_reader.py` only
reads what must be right. Invariant: what it leaves open is in `LENIENT`, with the reason; everything else has one
answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

LENIENT: Final = {
    "target characters": '`"<>[]^`{|}` in a target are no URI, but each is one visible byte to every reader',
    "chunk extensions": "any text behind the `;` is taken: it is dropped, and the chunk written anew",
    "blanks behind a chunk size": "taken with no extension behind them, for the same reason (RFC 9112, 7.1.1, has BWS)",
    "trailer values": "any text behind `name:` is taken: trailers are dropped",
    "no reason phrase": "`HTTP/1.1 200` without the space that the ABNF has: common, and read in one way only",
    "bracketed hosts": "`[` hex digits, colons and dots `]` of any number of groups: it is written into fields only",
}
"""Where the gateway takes what the ABNF refuses; all of it is dropped, written anew, or the same to every reader."""

TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_OTHER: Final = rb"(?!chunked(?![!#$%&'*+\-.^_`|~0-9A-Za-z]))" + TOKEN.pattern
OTHER_CODINGS: Final = re.compile(rb"(?i)%b(?:[ \t]*,[ \t]*%b)*(?:[ \t]*,[ \t]*chunked)?" % (_OTHER, _OTHER))
"""Transfer codings of which none is chunked, but for the last."""
FIELD_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
LENGTH: Final = re.compile(rb"0|[1-9][0-9]{0,17}")
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*((?:;[\t\x20-\x7e\x80-\xff]*)?)")
_EXTENSION_LIMIT: Final = 256
_SIZE_LINE_LIMIT: Final = 16 + _EXTENSION_LIMIT
_TRAILER_LIMIT: Final = 8192


@dataclass(slots=True)
class Field:
    """One field line: `name` as it came, `key` in lower case with `-` for `_`."""

    name: bytes
    value: bytes

    @property
    def key(self) -> bytes:
        return self.name.lower().replace(b"_", b"-")

    @property
    def real(self) -> bool:
        """Spelt without `_`."""
        return b"_" not in self.name

    @property
    def line(self) -> tuple[bytes, bytes]:
        return self.name, self.value


def read_fields(lines: list[bytes]) -> list[Field] | None:
    """The fields of a head; None where a line is none (RFC 9112 section 5)."""
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(name) or not FIELD_VALUE.fullmatch(value):
            return None
        fields.append(Field(name, value.strip(b" \t")))
    return fields


def real(fields: list[Field], name: bytes) -> list[bytes]:
    """The values of the fields that are called so in earnest."""
    return [each.value for each in fields if each.real and each.key == name]


def members(values: list[bytes]) -> set[bytes]:
    """Of a comma-separated list, in lower case."""
    return {each.strip(b" \t").lower() for value in values for each in value.split(b",")} - {b""}


@dataclass(slots=True)
class Body:
    """What there is of a body: `whole`, or `broken`, or neither, when more of it has to come."""

    payload: bytes = b""
    used: int = 0
    whole: bool = False
    broken: bool = False
    trailers: list[bytes] = field(default_factory=list)

    @property
    def frames_in_trailers(self) -> bool:
        """Whether trailers speak of framing: they are dropped, as RFC 9110 section 6.5.1 allows; h11 judges them."""
        fields = read_fields(self.trailers) or []
        return any(each.key in {b"content-length", b"transfer-encoding", b"host"} for each in fields)


def read_length(data: bytes, length: int) -> Body:
    """A body of so many bytes."""
    return Body(data[:length], min(length, len(data)), whole=len(data) >= length)


def read_chunks(data: bytes) -> Body:
    """A chunked body (RFC 9112 section 7.1)."""
    body = Body()
    at = 0
    while True:
        line, at = _line(data, at)
        if line is None:
            body.broken = len(data) - at > _SIZE_LINE_LIMIT + len(b"\r\n")
            return body
        match = _SIZE_LINE.fullmatch(line)
        if match is None or len(match.group(2)) > _EXTENSION_LIMIT or len(line) > _SIZE_LINE_LIMIT:
            body.broken = True
            return body
        size = int(match.group(1), 16)
        if not size:
            return _read_trailers(data, at, body)
        body.payload += data[at : at + size]
        at += size
        ending = data[at : at + 2]
        at += 2
        if ending != b"\r\n":
            body.broken = not b"\r\n".startswith(ending)
            return body


def _read_trailers(data: bytes, at: int, body: Body) -> Body:
    while True:
        line, at = _line(data, at)
        if line is None:
            body.broken = len(data) - at > _TRAILER_LIMIT
            return body
        if not line:
            body.used, body.whole = at, True
            return body
        body.trailers.append(line)
        if read_fields([line]) is None or sum(map(len, body.trailers)) > _TRAILER_LIMIT:
            body.broken = True
            return body


def _line(data: bytes, at: int) -> tuple[bytes | None, int]:
    """The line that ends at the next LF, without its CRLF; a bare LF stays in it, where nothing accepts it."""
    end = data.find(b"\n", at)
    if end < 0:
        return None, at
    line = data[at : end + 1]
    return line[:-2] if line[-2:] == b"\r\n" else line, end + 1
