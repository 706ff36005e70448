"""Responses as the ABNF has them (RFC 9112), each as a list of its productions, for `fuzz_mutations` to break.

The first byte of an input is no part of the response: it says to which request it is sent (`CONTEXTS`), and how the
upstream ends (`ENDINGS`). Invariant: every message of `responses()` is valid beyond doubt, as an answer to any request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from tests.proxy.harness import KEY_FIELD

if TYPE_CHECKING:
    from tests.wire.fuzz_mutations import Piece

UPSTREAM: Final = b"http://10.0.0.1:9000"
ENDINGS: Final = ("ends", "is reset", "is silent")


@dataclass(frozen=True)
class Context:
    """A request that waits for its response."""

    method: bytes
    request: bytes
    minor: int = 1
    expects: bool = False
    websocket: bool = False
    unfinished: bool = False
    """Its body has not been sent whole."""
    keeps: bool = True


def _context(method: bytes, fields: bytes = b"", body: bytes = b"", minor: int = 1, **traits: bool) -> Context:
    head = b"%b /first HTTP/1.%d\r\nHost: h\r\n" % (method, minor) + KEY_FIELD + fields
    return Context(method, head + b"\r\n" + body, minor, **traits)


CONTEXTS: Final = [
    *(_context(b"GET"), _context(b"HEAD"), _context(b"POST", b"Content-Length: 5\r\n", b"hello")),
    _context(b"GET", minor=0, keeps=False),
    _context(b"GET", b"Connection: keep-alive\r\n", minor=0),
    _context(b"POST", b"Expect: 100-continue\r\nContent-Length: 5\r\n", b"hello", expects=True),
    _context(b"POST", b"Expect: 100-continue\r\nContent-Length: 5\r\n", expects=True, unfinished=True, keeps=False),
    _context(b"GET", b"Connection: Upgrade\r\nUpgrade: websocket\r\n", websocket=True),
    _context(b"POST", b"Content-Length: 5\r\n", b"he", unfinished=True, keeps=False),
    _context(b"POST", b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    _context(b"GET", b"Connection: close\r\n", keeps=False),
    _context(b"OPTIONS"),
]

LINES: Final = [
    *(b"Content-Length: 5", b"Content-Length: 0", b"content-length:5", b"Content-Length: +5", b"Content-Length : 5"),
    *(b"Content_Length: 5", b"Content-Length: 5,5", b"Content-Length: 05", b"Content-Length:", b"Content-Length: 1000"),
    *(b"Content-Length: 4\r\nContent-Length: 5", b"Content-Length: 5\r\n ", b"Transfer-Encoding: chunked"),
    *(b"transfer-encoding:CHUNKED", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked, identity"),
    *(b"Transfer-Encoding:\tchunked ", b"Transfer-Encoding : chunked", b"Transfer_Encoding: chunked"),
    *(b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked", b"X: y\r\n Transfer-Encoding: chunked"),
    *(b"Transfer-Encoding:", b"Connection: close", b"Connection: keep-alive", b"Connection: Content-Length, x-a"),
    *(b"Connection: Transfer-Encoding", b"Connection: x-b, Location, Date", b"Connection: upgrade"),
    b"\r\nHTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    *(b"Keep-Alive: timeout=5", b"Keep-Alive: timeout=0", b"Keep-Alive: timeout=99999999999", b"Upgrade: websocket"),
    *(b"Connection: Upgrade\r\nUpgrade: websocket", b"Trailer: A", b"Location: /a", b"Location: //evil"),
    *(b"Location: " + UPSTREAM + b"/a", b"Location: " + UPSTREAM + b"//evil", b"Location: " + UPSTREAM + b"@evil"),
    *(b"location: HTTP://10.0.0.1:9000?a", b"Location: http://other/", b"Location: /a\r\nLocation: /b", b"Location:"),
    *(b"Date: Sun, 06 Nov 1994 08:49:37 GMT", b"Date: a\r\nDate: b", b"X-Request-ID: forged", b"X_Request_ID: forged"),
    *(b"Set-Cookie: a=b", b"X-A: b\rSet-Cookie: forged", b"X-A: b\nSet-Cookie: forged", b" folded", b"\tfolded: x"),
    *(b": c", b"X-A", b"X-\xe4: b", b"Proxy-Connection: keep-alive", b"Proxy-Authenticate: Basic", b"x-empty:"),
]

_NAMES = st.one_of(
    st.text("abcXYZ019!#$&'*+.^_`|~-", min_size=1, max_size=8).map(lambda name: b"x-t-" + name.encode()),
    st.sampled_from([b"Content-Type", b"Set-Cookie", b"ETag", b"x-a", b"x-b", b"Server", b"WWW-Authenticate", b"Vary"]),
)
_VALUES = st.one_of(
    st.text("abc019 \t!\"#$%&'()*+,-./:;<=>?@[\\]{|}~", max_size=16).map(lambda text: text.strip(" \t").encode()),
    st.sampled_from([b"", b"a", b"\x80\xff", b"a \t b", b"chunked", b"5"]),
)
_BLANKS = st.sampled_from([b" ", b" ", b"", b"\t", b" \t "])
_REASONS = st.sampled_from([b"OK", b"Not Found", b"", b"\xe4\xf6", b"a \t b", b"200 OK"])
_STATUSES = st.sampled_from([200, 200, 200, 200, 201, 204, 205, 206, 301, 304, 400, 404, 416, 500, 503, 599])


def _field(draw: st.DrawFn, name: bytes, value: bytes, kind: str = "value") -> list[Piece]:
    after = draw(st.sampled_from([b"", b"", b"", b" ", b"\t"]))
    pieces = [("name", name), ("colon", b":"), ("space", draw(_BLANKS)), (kind, value), ("space", after)]
    return [*pieces, ("end", b"\r\n")]


def _line(draw: st.DrawFn, version: bytes, status: int) -> list[Piece]:
    pieces = [("version", version), ("space", b" "), ("number", b"%d" % status), ("space", b" ")]
    return [*pieces, ("value", draw(_REASONS)), ("end", b"\r\n")]


@st.composite
def _interims(draw: st.DrawFn) -> list[Piece]:
    pieces: list[Piece] = []
    for status in draw(st.lists(st.sampled_from([100, 100, 103, 102]), min_size=1, max_size=2)):
        pieces += _line(draw, b"HTTP/1.1", status)
        if draw(st.booleans()):
            pieces += _field(draw, b"Link", draw(_VALUES))
        pieces.append(("end", b"\r\n"))
    return pieces


@st.composite
def responses(draw: st.DrawFn) -> list[Piece]:
    """The byte of the context, interim responses, and a final one, which is whole when the connection ends."""
    number = draw(st.integers(0, (1 << 64) - 1)) % (len(CONTEXTS) * len(ENDINGS))
    asked, _ = context(number)
    if asked.websocket and draw(st.booleans()):
        return [("context", bytes([number])), *draw(_switches())]
    method = asked.method
    status = draw(_STATUSES)
    framing = draw(st.sampled_from(["length"] * 3 + ["chunks"] * 3 + ["end", "none"]))
    if framing == "end":
        number -= number // len(CONTEXTS) * len(CONTEXTS)  # it ends properly
    version = draw(st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0"])) if framing != "chunks" else b"HTTP/1.1"
    pieces: list[Piece] = [("context", bytes([number]))]
    if draw(st.integers(0, 4)) == 0:
        pieces += draw(_interims())
    pieces += _line(draw, version, status)
    fields = [_field(draw, draw(_NAMES), draw(_VALUES)) for _ in range(draw(st.integers(0, 3)))]
    body: list[Piece] = []
    payload = draw(st.binary(max_size=24))
    if framing == "length" or (framing == "none" and status not in {204, 304} and method != b"HEAD"):
        fields.append(_field(draw, b"Content-Length", b"%d" % len(payload), "number"))
        body = [("data", payload)]
    elif framing == "chunks":
        fields.append(_field(draw, b"Transfer-Encoding", draw(st.sampled_from([b"chunked", b"Chunked"]))))
        body = draw(_chunks())
    elif framing == "end":
        body = [("data", payload)]
    if draw(st.integers(0, 5)) == 0:
        fields.append(_field(draw, b"Connection", draw(st.sampled_from([b"close", b"keep-alive", b"x-a, x-b"]))))
    if draw(st.integers(0, 9)) == 0:
        fields.append(_field(draw, b"Location", draw(st.sampled_from([b"/a", UPSTREAM + b"/b", b"https://else/"]))))
    for each in draw(st.permutations(fields)):
        pieces += each
    bodiless = method == b"HEAD" or status in {204, 304}
    return [*pieces, ("end", b"\r\n"), *([] if bodiless else body)]


@st.composite
def _switches(draw: st.DrawFn) -> list[Piece]:
    """An agreement to a WebSocket (RFC 6455 section 4.2.2), and its first bytes."""
    pieces = draw(_interims()) if draw(st.integers(0, 4)) == 0 else []
    pieces += _line(draw, b"HTTP/1.1", 101)
    fields = [_field(draw, b"Connection", b"Upgrade"), _field(draw, b"Upgrade", b"websocket")]
    for each in draw(st.permutations([*fields, _field(draw, draw(_NAMES), draw(_VALUES))])):
        pieces += each
    return [*pieces, ("end", b"\r\n"), ("data", draw(st.binary(max_size=12)))]


@st.composite
def _chunks(draw: st.DrawFn) -> list[Piece]:
    pieces: list[Piece] = []
    for payload in draw(st.lists(st.binary(min_size=1, max_size=12), max_size=3)):
        size = draw(st.sampled_from([b"%x", b"%X", b"0%x", b"%016x"])) % len(payload)
        extension = draw(st.sampled_from([b"", b"", b"", b";a", b";a=b", b';a="b;c"']))
        pieces += [("hex", size), ("extension", extension), ("end", b"\r\n"), ("data", payload), ("end", b"\r\n")]
    pieces += [("hex", b"0"), ("extension", b""), ("end", b"\r\n")]
    if draw(st.integers(0, 4)) == 0:
        pieces += _field(draw, b"X-Trailer", b"forged")
    return [*pieces, ("end", b"\r\n")]


def context(number: int) -> tuple[Context, str]:
    """What the first byte of an input says."""
    return CONTEXTS[number % len(CONTEXTS)], ENDINGS[number // len(CONTEXTS) % len(ENDINGS)]
