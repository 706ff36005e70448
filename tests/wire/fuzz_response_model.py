"""Says of any bytes of an upstream which response they are: the model of the back side.

Written from the ABNF and from the contract (`docs/behavior.md`), without a line of the gateway. Invariant: a stream is
of one kind, which says what the client may see, however the stream is cut (`fuzz_response_judge`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.wire.fuzz_abnf import LENGTH, Field, members, read_chunks, read_fields, read_length, real
from tests.wire.fuzz_responses import UPSTREAM

if TYPE_CHECKING:
    from tests.wire.fuzz_responses import Context

# What a stream is.
NO_RESPONSE: Final = "no response"
"""Its head breaks a rule, or it switches protocols unasked."""
NO_HEAD: Final = "no whole head"
BROKEN: Final = "broken body"
SURPLUS: Final = "surplus bytes"
OPEN: Final = "body without its end"
WHOLE: Final = "whole"
TUNNEL: Final = "tunnel"

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])((?: [\t\x20-\x7e\x80-\xff]*)?)")
_STEERS: Final = frozenset(
    b"content-length transfer-encoding connection keep-alive upgrade location date".split()
    + b"proxy-connection proxy-authenticate te trailer x-request-id http2-settings".split()
)
_FRAMES: Final = frozenset({b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"upgrade"})
"""Naming these in Connection changes nothing."""


@dataclass(slots=True)
class Head:
    """One head as it goes on."""

    minor: bytes
    status: int
    reason: bytes
    fields: list[Field]
    travelling: list[tuple[bytes, bytes]]
    options: set[bytes]


@dataclass(slots=True)
class Judged:
    """A response as it must be taken."""

    kind: str = NO_HEAD
    interims: list[Head] = field(default_factory=list)
    head: Head | None = None
    body: bytes = b""
    """As far as it goes."""
    until_end: bool = False
    """The end of the connection ends it."""
    keeps: bool = False
    """The upstream's connection may serve another request."""
    surplus: bytes = b""
    frames_in_trailers: bool = False


def judge(stream: bytes, context: Context) -> Judged:
    """Judge what an upstream says to this request."""
    judged = Judged()
    while True:
        section, ending, stream = stream.partition(b"\r\n\r\n")
        if not ending:
            judged.kind = NO_HEAD if _may_be_head(section) else NO_RESPONSE
            return judged
        head = _read_head(section)
        if head is None:
            judged.kind = NO_RESPONSE
            return judged
        if head.status == 101:
            upgrade = [
                each for each in b",".join(real(head.fields, b"upgrade")).lower().split(b",") if each.strip(b" \t")
            ]
            agreed = [each.strip(b" \t") for each in upgrade] == [b"websocket"]
            asked = agreed and context.websocket and not context.unfinished
            judged.kind, judged.head, judged.body = TUNNEL if asked else NO_RESPONSE, head, stream
            return judged
        if head.status >= 200:
            judged.head = head
            _read_body(judged, head, stream, context)
            return judged
        judged.interims.append(head)


def _may_be_head(begun: bytes) -> bool:
    """Whether more bytes could make a head of it: a wrong first line is known before it has ended."""
    line, ending, _ = begun.partition(b"\n")
    known = min(len(begun), len(b"HTTP/1."))
    return begun[:known] == b"HTTP/1."[:known] and (not ending or line.endswith(b"\r"))


def _read_head(section: bytes) -> Head | None:
    lines = section.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(lines[0])
    fields = read_fields(lines[1:])
    if match is None or fields is None:
        return None
    lengths, codings = real(fields, b"content-length"), real(fields, b"transfer-encoding")
    if len(lengths) + len(codings) > 1 or len(real(fields, b"location")) > 1:
        return None
    if not all(LENGTH.fullmatch(each) for each in lengths) or not all(each.lower() == b"chunked" for each in codings):
        return None
    # Faulty framing (RFC 9112 section 6.1), and a switch that it does not know (RFC 9110 section 15.2.2).
    if match.group(1) == b"0" and (codings or match.group(2) == b"101"):
        return None
    options = members(real(fields, b"connection"))
    nominated = options - {b"close", b"keep-alive", b"upgrade"}
    fields = [each for each in fields if each.key in _FRAMES or each.name.lower() not in nominated]
    travelling = [each.line for each in fields if each.key not in _STEERS]
    minor, status, reason = match.groups()
    return Head(minor, int(status), reason[1:], fields, travelling, options)


def _read_body(judged: Judged, head: Head, data: bytes, context: Context) -> None:
    lengths, codings = real(head.fields, b"content-length"), real(head.fields, b"transfer-encoding")
    judged.keeps = b"close" not in head.options and (head.minor == b"1" or b"keep-alive" in head.options)
    judged.keeps &= not context.unfinished
    if context.method == b"HEAD" or head.status in {204, 304}:
        body = read_length(data, 0)
    elif codings:
        body = read_chunks(data)
    elif lengths:
        body = read_length(data, int(lengths[0]))
    else:
        judged.kind, judged.body, judged.until_end, judged.keeps = OPEN, data, True, False
        return
    judged.body, judged.surplus = body.payload, data[body.used :] if body.whole else b""
    judged.frames_in_trailers = body.frames_in_trailers
    judged.kind = BROKEN if body.broken else SURPLUS if judged.surplus else WHOLE if body.whole else OPEN


def client_fields(judged: Judged, head: Head, context: Context) -> list[tuple[bytes, bytes]]:
    """As the client gets them, but for X-Request-ID, which stands last; a date of the gateway's own is empty."""
    lines = list(head.travelling)
    lengths, codings = real(head.fields, b"content-length"), real(head.fields, b"transfer-encoding")
    chunks = (judged.until_end or bool(codings and _has_body(head, context))) and context.minor == 1
    if lengths and head.status != 204:
        lines.append((b"Content-Length", lengths[0]))
    elif chunks or (codings and context.method == b"HEAD" and context.minor and head.status != 204):
        lines.append((b"Transfer-Encoding", b"chunked"))
    lines += [(b"Location", _location(value)) for value in real(head.fields, b"location")]
    lines.append((b"Date", b", ".join(real(head.fields, b"date"))))
    unbounded = judged.until_end or bool(codings and _has_body(head, context))
    if not context.keeps or (unbounded and not chunks):
        lines.append((b"Connection", b"close"))
    elif not context.minor:
        lines.append((b"Connection", b"keep-alive"))
    return lines


def _has_body(head: Head, context: Context) -> bool:
    return context.method != b"HEAD" and head.status not in {204, 304}


def _location(value: bytes) -> bytes:
    """What points at the target itself is a path."""
    rest = value[len(UPSTREAM) :]
    if not value.lower().startswith(UPSTREAM) or rest[:1] not in {b"", b"/", b"?", b"#"}:
        return value
    if rest[1:2] in {b"/", b"\\", b"\t"}:
        return value
    return rest if rest[:1] == b"/" else b"/" + rest
