"""Reads the head of an upstream's response (RFC 9112 section 4): bytes in, a judged `ResponseHead` out.

Invariants: pure, no I/O. An upstream is trusted no more than a client: what breaks the grammar is an error of the
upstream (502), never forwarded. `forwarded` holds only end-to-end fields, each written anew.
"""

import re
from typing import Final

from gateway.proxy.body import BodyReader, ChunkedBody, ConnectionBody, LengthBody
from gateway.proxy.grammar import FieldLines, RepeatedField, Special, decimal, list_tokens

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t -~\x80-\xff]*))?")
_KEEP_ALIVE_TIMEOUT: Final = re.compile(rb"timeout=([0-9]{1,6})", re.IGNORECASE)

SWITCHING_PROTOCOLS: Final = 101
_BODILESS: Final = frozenset({204, 304})
_SUCCESS: Final = 200


# What to do with a field; 0 is every other field, which travels on. Plain numbers for speed, as in `request_head`.
DROPPED: Final = 1
CONTENT_LENGTH: Final = 2
TRANSFER_ENCODING: Final = 3
CONNECTION: Final = 4
KEEP_ALIVE: Final = 5
UPGRADE: Final = 6
LOCATION: Final = 7
DATE: Final = 8

_NOMINABLE: Final = {b"location": LOCATION, b"date": DATE}
"""Fields that are judged here and may be named by `Connection` all the same; naming the framing changes nothing."""
_LINES: Final = FieldLines(
    {
        **dict.fromkeys(
            # Hop-by-hop, trailers' announcement, and X-Request-ID, of which the gateway sends its own.
            (b"proxy-connection", b"proxy-authenticate", b"te", b"trailer", b"x-request-id", b"http2-settings"),
            DROPPED,
        ),
        b"content-length": CONTENT_LENGTH,
        b"transfer-encoding": TRANSFER_ENCODING,
        b"connection": CONNECTION,
        b"keep-alive": KEEP_ALIVE,
        b"upgrade": UPGRADE,
        b"location": LOCATION,
        b"date": DATE,
    },
    {CONTENT_LENGTH: "Content-Length", TRANSFER_ENCODING: "Transfer-Encoding", LOCATION: "Location"},
    dropped=DROPPED,
)


class MalformedResponse(Exception):
    """The bytes are no response; the connection that they came on is of no more use."""


class ResponseHead:
    """One judged response head."""

    __slots__ = (
        "chunked",
        "forwarded",
        "keep_alive",
        "keep_alive_seconds",
        "length",
        "special",
        "status",
        "status_line",
    )

    chunked: bool
    """The body that follows is chunked."""
    forwarded: list[bytes]
    """`name: value` each."""
    keep_alive: bool
    keep_alive_seconds: int
    """From `Keep-Alive: timeout=`; -1 where the upstream does not say."""
    length: int
    """Bytes of the body that follows, 0 when none does; -1: chunked, or until the connection ends."""
    special: Special
    status: int
    status_line: bytes
    """As the gateway sends it, without CRLF."""

    def __repr__(self) -> str:
        """Name the response."""
        return f"<ResponseHead {self.status} length={self.length}>"

    def body_reader(self) -> BodyReader:
        """What reads the body that follows."""
        if self.chunked:
            return ChunkedBody()
        return LengthBody(self.length) if self.length >= 0 else ConnectionBody()


def read_response_head(section: bytes, method: bytes) -> ResponseHead:
    """Read one head without its last empty line; raises MalformedResponse. `method` is the request's."""
    # A CR or LF that is no part of a CRLF stays in its line, where nothing that judges lines accepts it.
    lines = section.split(b"\r\n")
    head = ResponseHead()
    head.status, head.status_line, head.keep_alive = _STATUS_LINES.get(lines[0]) or _read_status_line(lines[0])
    if head.status == SWITCHING_PROTOCOLS and not _is_http_1_1(lines[0]):
        message = "a 101 stands in HTTP/1.0, which knows no other protocols to switch to"
        raise MalformedResponse(message)
    try:
        head.forwarded, head.special = _LINES.read(lines)
    except RepeatedField as error:
        message = f"the response has more than one {error} field"
        raise MalformedResponse(message) from None
    except ValueError:
        message = "a field line of the response is no `name: value`, or has a bare CR, LF or control byte in it"
        raise MalformedResponse(message) from None
    special = head.special
    head.keep_alive_seconds = -1
    connection = special[CONNECTION]
    if connection is not None:
        _read_connection(head, connection)
    keep_alive = special[KEEP_ALIVE]
    if keep_alive is not None:
        _read_keep_alive(head, keep_alive)
    _read_framing(head, lines[0], special, method)
    return head


_STATUS_LINES: Final[dict[bytes, tuple[int, bytes, bool]]] = {}
"""Status lines seen and judged: status, the line as it goes on, whether the version keeps connections; bounded."""
_STATUS_LINES_LIMIT: Final = 1024
_STATUS_LINE_MEMO_BYTES: Final = 80


def _read_status_line(line: bytes) -> tuple[int, bytes, bool]:
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        message = "the status line is malformed"
        raise MalformedResponse(message)
    minor, status, reason = match.groups(b"")
    judged = int(status), b"HTTP/1.1 %b %b" % (status, reason), minor == b"1"
    if len(_STATUS_LINES) < _STATUS_LINES_LIMIT and len(line) <= _STATUS_LINE_MEMO_BYTES:
        _STATUS_LINES[line] = judged
    return judged


def _is_http_1_1(status_line: bytes) -> bool:
    return status_line[:8] == b"HTTP/1.1"


def _read_connection(head: ResponseHead, value: bytes) -> None:
    """Whether the upstream keeps the connection; nominated fields are dropped (RFC 9110 section 7.6.1)."""
    if value == b"keep-alive":
        head.keep_alive = True
        return
    options = list_tokens(value)
    head.keep_alive = b"close" not in options and (head.keep_alive or b"keep-alive" in options)
    nominated = {option for option in options if option not in {b"close", b"keep-alive", b"upgrade"}}
    if nominated:
        head.forwarded = [line for line in head.forwarded if line.partition(b":")[0].lower() not in nominated]
        for name, kind in _NOMINABLE.items():
            if name in nominated:
                head.special[kind] = None


def _read_keep_alive(head: ResponseHead, value: bytes) -> None:
    match = _KEEP_ALIVE_TIMEOUT.search(value)
    if match is not None:
        head.keep_alive_seconds = int(match.group(1))


def _read_framing(head: ResponseHead, status_line: bytes, special: Special, method: bytes) -> None:
    """RFC 9112 section 6.3, in its strictest reading."""
    coding = special[TRANSFER_ENCODING]
    length = special[CONTENT_LENGTH]
    size = -1
    if length is not None:
        size = decimal(length)
        if size < 0 or coding is not None:
            message = "Content-Length is no plain decimal number, or stands beside Transfer-Encoding"
            raise MalformedResponse(message)
    # HTTP/1.0 knows no codings: who sends one has its framing wrong (RFC 9112 section 6.1).
    if coding is not None and (coding.lower() != b"chunked" or not _is_http_1_1(status_line)):
        message = "Transfer-Encoding of the response is not exactly `chunked`, or stands in HTTP/1.0"
        raise MalformedResponse(message)
    status = head.status
    if method == b"HEAD" or status < _SUCCESS or status in _BODILESS:
        size = 0
        coding = None
    head.length = size
    head.chunked = coding is not None
    if size < 0 and coding is None:
        head.keep_alive = False
