"""What upstreams may say though few do, and what the client must see of it: the other half of `hostile_responses`.

Invariant: each is a whole answer of the body that its case has; `keeps` says whether its connection serves another one.
"""

from __future__ import annotations

from typing import Final

from tests.wire.hostile_responses import CHUNKED, GOOD, OK_LINE, Case, framed
from tests.wire.hostile_upstream import MARK

_LENGTH: Final = b"Content-Length: 2"
_CHUNKS: Final = CHUNKED + b"1\r\no\r\n1\r\nk\r\n"
_OLD: Final = b"HTTP/1.0 200 OK\r\n"
_LONG: Final = OK_LINE + b"Content-Length: 2\r\nX: "
_LIMIT: Final = 65_536
"""Of a head, in bytes."""
_KEPT: Final = {
    b"timeout=5": True,
    b"timeout=0": False,
    b"timeout=1": False,
    b"timeout=-5": True,
    b"timeout=999999999999": True,
    b"timeout=": True,
    b"timeout=x, max=0": True,
    b"TIMEOUT=60": True,
    b"max=100": True,
    b"": True,
    b"timeout=5\r\nKeep-Alive: timeout=6": True,
}
"""What an upstream says of its connection, and whether it may serve another request then."""
_CONNECTIONS: Final = {
    b"close": False,
    b"CLOSE": False,
    b"close, keep-alive": False,
    b"keep-alive\r\nConnection: close": False,
    b"close\r\nConnection: keep-alive": False,
    b" ,close": False,
    b"keep-alive": True,
    b"Keep-Alive, X-B": True,
    b"": True,
    b"close-not": True,
}

_SAID: Final = [
    *((b"Keep-Alive: " + value, keeps) for value, keeps in _KEPT.items()),
    *((b"Connection: " + value, keeps) for value, keeps in _CONNECTIONS.items()),
]
GOOD_ANSWERS: Final = [
    *(Case(said.decode(), framed(_LENGTH + b"\r\n" + said, b"ok"), GOOD, keeps=keeps) for said, keeps in _SAID),
    Case("a length", framed(_LENGTH, b"ok"), GOOD),
    Case("no reason", b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", GOOD),
    Case("an empty reason", b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", GOOD),
    Case("a reason of many bytes", b"HTTP/1.1 200 \xff\t ~\r\nContent-Length: 2\r\n\r\nok", GOOD),
    Case("599", b"HTTP/1.1 599 Odd\r\nContent-Length: 2\r\n\r\nok", GOOD, status=599),
    Case("no space, and much of it", framed(b"Content-Length:2\r\nX-A: \t b \t", b"ok"), GOOD),
    Case("an empty value", framed(_LENGTH + b"\r\nX-A:", b"ok"), GOOD),
    Case("chunks", _CHUNKS + b"0\r\n\r\n", GOOD),
    Case("chunks with extensions", CHUNKED + b"1;a=b\r\no\r\n1 ; a\r\nk\r\n0;z\r\n\r\n", GOOD),
    Case("chunks with zeros before their sizes", CHUNKED + b"0000000000000002\r\nok\r\n000\r\n\r\n", GOOD),
    Case(
        "chunks in upper case",
        framed(b"TRANSFER-ENCODING: Chunked", b"A\r\n0123456789\r\n0\r\n\r\n"),
        GOOD,
        body=b"0123456789",
    ),
    Case(
        "trailers",
        _CHUNKS + b"0\r\nX-T: " + MARK + b"\r\nContent-Length: 6\r\nSet-Cookie: " + MARK + b"\r\n\r\n",
        GOOD,
    ),
    Case("no body at all in chunks", CHUNKED + b"0\r\n\r\n", GOOD, body=b""),
    Case("until the end", OK_LINE + b"\r\nok", GOOD, ends=True, keeps=False),
    Case("nothing until the end", OK_LINE + b"\r\n", GOOD, body=b"", ends=True, keeps=False),
    Case("until the end, of HTTP/1.0", _OLD + b"\r\nok", GOOD, ends=True, keeps=False),
    Case(
        "until the end, whatever Connection says",
        OK_LINE + b"Connection: keep-alive\r\n\r\nok",
        GOOD,
        ends=True,
        keeps=False,
    ),
    Case(
        "a coding in a name with an underscore",
        OK_LINE + b"Transfer_Encoding: chunked\r\nContent-Length: 2\r\n\r\nok",
        GOOD,
    ),
    Case("a length in a name with an underscore", framed(_LENGTH + b"\r\nContent_Length: 6", b"ok"), GOOD),
    Case("HTTP/1.0 with a length", _OLD + _LENGTH + b"\r\n\r\nok", GOOD, keeps=False),
    Case("HTTP/1.0 that is kept", _OLD + _LENGTH + b"\r\nConnection: keep-alive\r\n\r\nok", GOOD),
    Case("HEAD with a length", framed(b"Content-Length: 6", b""), GOOD, method=b"HEAD", body=b""),
    Case("HEAD with a coding", framed(b"Transfer-Encoding: chunked", b""), GOOD, method=b"HEAD", body=b""),
    Case("HEAD without framing", OK_LINE + b"\r\n", GOOD, method=b"HEAD", body=b""),
    Case("no content", b"HTTP/1.1 204 No Content\r\n\r\n", GOOD, status=204, body=b""),
    Case(
        "no content with a length that it has not",
        b"HTTP/1.1 204 A\r\nContent-Length: 6\r\n\r\n",
        GOOD,
        status=204,
        body=b"",
    ),
    Case(
        "no content with a coding",
        b"HTTP/1.1 204 A\r\nTransfer-Encoding: chunked\r\n\r\n",
        GOOD,
        status=204,
        body=b"",
    ),
    Case("not modified", b"HTTP/1.1 304 A\r\nContent-Length: 6\r\n\r\n", GOOD, status=304, body=b""),
    Case(
        "a head of the greatest size",
        _LONG + b"a" * (_LIMIT - len(_LONG)) + b"\r\n\r\nok",
        GOOD,
    ),
    Case("a thousand fields", framed(_LENGTH + b"\r\nX: b" * 1000, b"ok"), GOOD),
]
