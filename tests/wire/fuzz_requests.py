"""Requests as the ABNF has them (RFC 9112), each as a list of its productions, for `fuzz_mutations` to break.

Invariant: every message of `requests()` is valid beyond doubt: it must be accepted, and reach the upstream unchanged in
meaning. `LINES` are the fields of attacks, for mutations to put in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from tests.proxy.harness import OTHER_SECRET, SECRET

if TYPE_CHECKING:
    from tests.wire.fuzz_mutations import Piece

LINES: Final = [
    *(b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 30", b"content-length:5", b"Content-Length: +5"),
    *(b"Content-Length : 5", b"Content_Length: 5", b"Content-Length: 5,5", b"Content-Length: 05", b"Content-Length:"),
    *(b"Content-Length: 5\r\n ", b"Content-Length: 4\r\nContent-Length: 5", b"Content-Length: 1000"),
    *(b"Transfer-Encoding: chunked", b"transfer-encoding:CHUNKED", b"Transfer-Encoding: xchunked"),
    *(b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding:\tchunked ", b"Transfer-Encoding : chunked"),
    *(b"Transfer_Encoding: chunked", b"Transfer-Encoding: identity", b"X: y\r\n Transfer-Encoding: chunked"),
    *(b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding:\x0bchunked", b'Transfer-Encoding: "chunked"'),
    *(b"Transfer-Encoding: \r\n chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x", b"Transfer-Encoding:"),
    *(
        b"Connection: close",
        b"Connection: keep-alive",
        b"Connection: Content-Length",
        b"Connection: x-a, Host, X-API-KEY",
    ),
    *(b"Connection: Transfer-Encoding, close", b"Connection: upgrade", b"Connection: x-consumer-id, via, x-b, accept"),
    *(b"Connection: X-Forwarded-For, Forwarded, X-Request-ID", b"Connection: Authorization, Expect, Connection"),
    *(b"Upgrade: websocket", b"Upgrade: h2c\r\nHTTP2-Settings: AA", b"Connection: Upgrade\r\nUpgrade: websocket"),
    *(b"Expect: 100-continue", b"Expect: 200-ok", b"Host: h", b"Host: other", b"Host:", b"host: h:99999", b"Host: a b"),
    *(
        b"Host: [::1]:80",
        b"Host: h@i",
        b"X-Consumer-ID: forged",
        b"x_consumer_id: forged",
        b"X-Anonymous-Consumer: forged",
    ),
    *(b"X_Forwarded_For: forged", b"X-Forwarded-For: forged", b"Forwarded: for=forged", b"Via: 1.1 before"),
    *(b"X-Request-ID: forged", b"X-Original-URL: /forged", b"X-HTTP-Method-Override: forged", b"Trailer: A"),
    *(b"TE: trailers", b"Keep-Alive: timeout=5", b"Proxy-Connection: forged", b"Proxy-Authorization: forged"),
    *(b"Authorization: Basic YTpi", b"Authorization: Bearer other-token", b"Authorization: Bearer " + SECRET),
    *(b"X-API-KEY: " + SECRET, b"X-API-KEY: forged", b"X_API_KEY: " + SECRET, b"Authorization: Bearer " + OTHER_SECRET),
    *(b"Authorization: " + SECRET, b"Authorization: Basic x" + SECRET, b"authorization:bearer  " + SECRET),
    *(b"X-A: b\rX-Consumer-ID: forged", b"X-A: b\nX-Consumer-ID: forged", b" folded: x", b"\tfolded", b": c", b"X-A"),
    *(b"X-Forwarded-Host: forged", b"X-Real-IP: forged", b"User_Agent: x", b"Cookie: a=b", b"x-empty:", b"X-\xe4: b"),
]
"""What is `forged` must never arrive."""

_NAME = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0189!#$&'*+.^_`|~-", min_size=1, max_size=10)
_NAMES = st.one_of(
    _NAME.map(lambda name: b"x-t-" + name.encode()),
    st.sampled_from([b"Accept", b"User-Agent", b"Cookie", b"Content-Type", b"Origin", b"x-a", b"x-b", b"If-Match"]),
)
_VALUES = st.one_of(
    st.text("abcXYZ019 \t!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", max_size=20).map(lambda text: text.strip(" \t").encode()),
    st.sampled_from([b"", b"a", b"\x80\xff", b"a \t b", b"close", b"chunked", b"5", b"a, b", b'"q\\"d"']),
)
_SEGMENTS = st.one_of(
    st.text("abcXYZ019-_~!$&'()*+,=:@", min_size=1, max_size=6).map(str.encode),
    st.sampled_from([b"%61", b"%7E", b"%20", b"%C3%A4", b"%25", b"%e4", b"a.b", b"...", b".a", b"%2561", b"%3F", b""]),
)
_QUERIES = st.one_of(
    st.just(b""), st.text("abc019=&%/?:@.;-", max_size=12).map(lambda text: b"?" + text.encode()), st.just(b"?a=%2f..;")
)
_METHODS = st.sampled_from(
    [b"GET", b"GET", b"POST", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"M-SEARCH", b"PATCH"]
)
_HOSTS = st.sampled_from([b"h", b"api.test", b"API.test:8080", b"127.0.0.1", b"[::1]:80", b"a-b.c."])
_BLANKS = st.sampled_from([b" ", b" ", b"", b"\t", b" \t "])
_CREDENTIALS = st.sampled_from(
    [
        *[[(b"X-API-KEY", SECRET)]] * 5,
        *([(b"x-api-key", SECRET)], [(b"Authorization", b"Bearer " + SECRET)]),
        *([(b"Authorization", b"Basic YTpi"), (b"X-API-KEY", SECRET)], [], [(b"X-API-KEY", OTHER_SECRET)]),
    ]
)


def _field(draw: st.DrawFn, name: bytes, value: bytes, kind: str = "value") -> list[Piece]:
    after = draw(st.sampled_from([b"", b"", b"", b" ", b"\t"]))
    pieces = [("name", name), ("colon", b":"), ("space", draw(_BLANKS)), (kind, value), ("space", after)]
    return [*pieces, ("end", b"\r\n")]


@st.composite
def requests(draw: st.DrawFn) -> list[Piece]:
    """One valid request; its key may be missing or unknown, and its path is one that is forwarded."""
    segments = draw(st.lists(_SEGMENTS, max_size=4))
    path = b"/" + b"/".join(segments)
    host = draw(_HOSTS)
    version = draw(st.sampled_from([b"HTTP/1.1"] * 7 + [b"HTTP/1.0"]))
    absolute = b"http://" + host if draw(st.integers(0, 9)) == 0 else b""
    pieces: list[Piece] = [("method", draw(_METHODS)), ("space", b" "), ("authority", absolute)]
    pieces += [("path", path), ("query", draw(_QUERIES)), ("space", b" "), ("version", version), ("end", b"\r\n")]
    fields = [_field(draw, b"Host", host)]
    fields += [_field(draw, name, value) for name, value in draw(_CREDENTIALS)]
    fields += [_field(draw, draw(_NAMES), draw(_VALUES)) for _ in range(draw(st.integers(0, 3)))]
    body: list[Piece] = []
    framing = draw(st.sampled_from(["none", "none", "length", "length", "chunks"]))
    if framing == "length":
        payload = draw(st.binary(max_size=24))
        fields.append(_field(draw, b"Content-Length", b"%d" % len(payload), "number"))
        body = [("data", payload)]
    elif framing == "chunks" and version == b"HTTP/1.1":
        fields.append(_field(draw, b"Transfer-Encoding", draw(st.sampled_from([b"chunked", b"Chunked"]))))
        body = draw(chunks())
    if body and draw(st.integers(0, 7)) == 0:
        fields.append(_field(draw, b"Expect", b"100-continue"))
    if draw(st.integers(0, 9)) == 0:
        fields.append(_field(draw, b"Connection", draw(st.sampled_from([b"close", b"keep-alive", b"x-a, x-b", b"TE"]))))
    for each in draw(st.permutations(fields)):
        pieces += each
    return [*pieces, ("end", b"\r\n"), *body]


@st.composite
def chunks(draw: st.DrawFn) -> list[Piece]:
    """A chunked body (RFC 9112 section 7.1)."""
    pieces: list[Piece] = []
    for payload in draw(st.lists(st.binary(min_size=1, max_size=12), max_size=3)):
        size = draw(st.sampled_from([b"%x", b"%X", b"0%x", b"%016x"])) % len(payload)
        extension = draw(st.sampled_from([b"", b"", b"", b";a", b";a=b", b';a="b;c"', b" ; a = b"]))
        pieces += [("hex", size), ("extension", extension), ("end", b"\r\n"), ("data", payload), ("end", b"\r\n")]
    pieces += [("hex", b"0"), ("extension", b""), ("end", b"\r\n")]
    if draw(st.integers(0, 4)) == 0:
        pieces += _field(draw, b"X-Trailer", b"forged")
    return [*pieces, ("end", b"\r\n")]
