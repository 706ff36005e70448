"""What is forwarded is exactly one request, the one that was accepted, to every reader.

Two judges that share no line with the gateway (h11, and the tests' own strict reader) read back the same method, path
and body. And the other way about: on requests that are valid beyond doubt, the gateway reads what h11 and llhttp read.
"""

from __future__ import annotations

import itertools
import re
from urllib.parse import unquote_to_bytes

import h11
import httptools
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.proxy.harness import KEY_FIELD, OK, SECRET, Gate, get, post
from tests.proxy.profiles import scaled
from tests.proxy.wire_reader import Incomplete, Message, read_request

# --- requests that are nearly right: a grammar with mistakes in it ----------------------------------------------------

METHODS = st.sampled_from(
    [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"get", b"M-SEARCH", b"G T", b"", b"GET\t"]
)
TARGETS = st.sampled_from(
    [
        *(
            b"/",
            b"/a",
            b"/a?b=c",
            b"/a%20b",
            b"/%61",
            b"//a",
            b"/a//b/",
            b"*",
            b"http://h/a",
            b"http://x/a",
            b"/a#b",
            b"/../a",
        ),
        *(b"/a%2fb", b"/a;b", b"/a b", b"/\xc3\xa4", b"/a\x00", b"/%zz", b"?a", b"", b"/a HTTP/1.1\r\nX: y"),
    ]
)
VERSIONS = st.sampled_from(
    [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2", b"", b"HTTP/1.1 "]
)
ENDINGS = st.sampled_from(
    [b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\r\n ", b"\r\n\t", b"\0\r\n"]
)
FRAMING = [
    *(
        b"Content-Length: 5",
        b"Content-Length: 5",
        b"Content-Length: 0",
        b"Content-Length: 30",
        b"content-length:5",
        b"Content-Length: +5",
    ),
    *(
        b"Content-Length : 5",
        b"Content_Length: 5",
        b"Content-Length: 5,5",
        b"Content-Length: 05",
        b"Content-Length:\x0b5",
    ),
    *(
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked",
        b"transfer-encoding:CHUNKED",
        b"Transfer-Encoding: xchunked",
    ),
    *(b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding:\tchunked ", b"Transfer-Encoding : chunked"),
    *(b"Transfer_Encoding: chunked", b"Transfer-Encoding: identity", b"X: Transfer-Encoding: chunked"),
]
FIELDS = st.sampled_from(
    [
        *FRAMING,
        *(
            b"Connection: close",
            b"Connection: keep-alive",
            b"Connection: Content-Length",
            b"Connection: Transfer-Encoding, Host",
        ),
        *(
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Upgrade: h2c",
            b"Expect: 100-continue",
            b"Host: h",
            b"Host: other",
            b"host:h",
        ),
        *(
            b"A: b",
            b"A:",
            b"A: \t",
            b"A: b\xff",
            b" A: b",
            b"A b: c",
            b": c",
            b"A",
            b"",
            b"X-Consumer-ID: forged",
            b"x_consumer_id: forged",
        ),
        *(
            b"Trailer: A",
            b"TE: trailers",
            b"Keep-Alive: timeout=5",
            b"X-Original-URL: /admin",
            b"X-Forwarded-For: forged",
        ),
        *(
            b"X-Request-ID: forged",
            b"Authorization: Basic YTpi",
            b"X-API-KEY: forged",
            b"A: b\rC: d",
            b"A: b\nContent-Length: 7",
        ),
    ]
)
BODIES = st.sampled_from(
    [
        *(
            b"",
            b"hello",
            b"5\r\nhello\r\n0\r\n\r\n",
            b"0\r\n\r\n",
            b"5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
            b"5\nhello\n0\n\n",
        ),
        *(
            b"5\r\nhelloXX0\r\n\r\n",
            b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
            b"hello" * 6,
            b"0\r\n\r\nGET /s HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
        *(b"fffffffffffffffff\r\n", b"-1\r\n", b"0\r\nGET / HTTP/1.1\r\n\r\n"),
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request head with a body behind it; one of its parts may be wrong, or several."""
    endings = ENDINGS if draw(st.integers(0, 3)) == 0 else st.just(b"\r\n")
    fields = [KEY_FIELD[:-2], b"Host: h", *draw(st.lists(FIELDS, max_size=5))]
    fields = draw(st.permutations(fields))
    line = b"POST / HTTP/1.1"
    if draw(st.integers(0, 2)) == 0:
        line = draw(METHODS) + b" " + draw(TARGETS) + b" " + draw(VERSIONS)
    lines = b"".join(each + draw(endings) for each in [line, *fields])
    return lines + b"\r\n" + draw(BODIES)


def read_with_h11(data: bytes) -> tuple[h11.Request, bytes]:
    """The one request that h11 finds, whole; asserts that nothing else is there."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(data)
    request = reader.next_event()
    assert isinstance(request, h11.Request), request
    body = b""
    while True:
        event = reader.next_event()
        if not isinstance(event, h11.Data):
            break
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage), event
    assert not event.headers, "trailers are dropped"
    assert reader.trailing_data == (b"", False)
    return request, body


def check_forwarded(forwarded: bytes) -> Message:
    """Both judges read one request, the same one."""
    message, rest = read_request(forwarded)
    assert rest == b""
    request, body = read_with_h11(forwarded)
    assert (request.method, request.target, body) == (message.method, message.target, message.body)
    assert [(name, value) for name, value in request.headers] == [(k.lower(), v) for k, v in message.fields]
    assert SECRET not in forwarded
    assert b"forged" not in forwarded
    return message


def exchanged(gate: Gate, stream: bytes, *cuts: int) -> list[Message]:
    """Send a stream; answer each request that comes out whole; returns what came out."""
    client = gate.client()
    edges = sorted({0, *(cut % len(stream) for cut in cuts), len(stream)})
    before = len(gate.upstreams)
    seen = []
    for start, end in itertools.pairwise(edges):
        client.send(stream[start:end])
        seen += _answer(gate, before)
    client.end()
    for upstream in gate.upstreams[before:]:
        _check_rest(upstream.received)
        upstream.reset()
    gate.check_counts()
    return seen


def _answer(gate: Gate, before: int) -> list[Message]:
    """Answer what is whole, until nothing new comes out."""
    seen = []
    progress = True
    while progress:
        progress = False
        for upstream in gate.upstreams[before:]:
            data = bytes(upstream.transport.sent)
            if upstream.gone or not data:
                continue
            try:
                message, rest = read_request(data)
            except Incomplete:
                continue
            assert rest == b"", "one request at a time"
            seen.append(check_forwarded(data))
            upstream.transport.sent.clear()
            upstream.send(OK if message.method != b"HEAD" else OK[:-2])
            progress = True
    return seen


def _check_rest(data: bytes) -> None:
    """What was left of a request that never became whole is the beginning of one, and no more."""
    if data:
        try:
            _, rest = read_request(data)
        except Incomplete:
            return
        assert rest == b""


@settings(max_examples=scaled(200), deadline=None)
@given(requests(), st.integers(1, 400))
@example(
    b"GET / HTTP/1.1\r\nHost: h\r\n" + KEY_FIELD + b"Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello", 30
)
def test_what_is_forwarded_is_one_request(request: bytes, cut: int) -> None:
    gate = Gate()
    assert len(exchanged(gate, request)) <= 2
    exchanged(gate, request, cut)


@settings(max_examples=scaled(200), deadline=None)
@given(st.lists(requests(), min_size=2, max_size=3), st.lists(st.integers(1, 900), max_size=3))
def test_a_pipeline_is_the_same_requests_however_it_is_cut(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    gate = Gate()
    whole, cut = exchanged(gate, stream), exchanged(gate, stream, *cuts)
    # A refusal is given as soon as it is certain, so a response may overtake a body only by the way it was cut.
    assert [each.start for each in whole] == [each.start for each in cut]
    assert [each.body for each in whole] == [each.body for each in cut]


@settings(max_examples=scaled(200), deadline=None)
@given(
    st.binary(max_size=120),
    st.sampled_from([get(), post(b"hello"), post(b"", fields=KEY_FIELD + b"Accept: a\r\n")]),
    st.data(),
)
def test_bytes_thrown_into_a_request_make_no_second_one(noise: bytes, request: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(request)))
    removed = data.draw(st.integers(0, 3))
    exchanged(Gate(), request[:at] + noise + request[at + removed :])


# --- requests that are right ------------------------------------------------------------------------------------------

TOKENS = st.from_regex(re.compile(r"[A-Za-z][A-Za-z0-9!#$&'*+.^`|~-]{0,12}", re.ASCII), fullmatch=True).map(str.encode)
PLAIN_NAMES = TOKENS.map(lambda name: b"x-t-" + name)
VALUES = st.from_regex(
    re.compile(r"(?:[!-~\x80-\xff](?:[\t !-~\x80-\xff]{0,20}[!-~\x80-\xff])?)?"), fullmatch=True
).map(lambda text: text.encode("latin-1"))
SEGMENT = st.from_regex(re.compile(r"[A-Za-z0-9\-_~!$&'()*+,=:@]{1,8}|%[2-7][0-9]", re.ASCII), fullmatch=True).filter(
    lambda text: text.lower() not in {"%2f", "%5c", "%7f", "%2e"}
)
PATHS = st.lists(SEGMENT, max_size=4).map(lambda segments: ("/" + "/".join(segments)).encode())
QUERIES = st.from_regex(re.compile(r"(?:\?[A-Za-z0-9=&%/?;:@.\-]{0,20})?", re.ASCII), fullmatch=True).map(str.encode)


@st.composite
def valid_requests(draw: st.DrawFn) -> tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]], bytes]:
    """A valid request: its bytes, method, target, fields and body."""
    method = draw(TOKENS.filter(lambda each: each not in {b"CONNECT", b"TRACE"}))
    target = draw(PATHS) + draw(QUERIES)
    fields = draw(st.lists(st.tuples(PLAIN_NAMES, VALUES), max_size=6))
    body = draw(st.binary(max_size=60))
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: h", KEY_FIELD[:-2]]
    lines += [
        b"%b:%b%b%b" % (k, draw(st.sampled_from([b"", b" ", b" \t "])), v, draw(st.sampled_from([b"", b" "])))
        for k, v in fields
    ]
    if draw(st.booleans()):
        size = draw(st.integers(1, 20))
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        coded = b"".join(b"%X\r\n%b\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"
        return b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", coded]), method, target, fields, body
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body]), method, target, fields, body


class Llhttp:
    """What llhttp reads."""

    def __init__(self, data: bytes) -> None:
        self.target, self.body, self.fields, self.whole = b"", b"", list[tuple[bytes, bytes]](), False
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(data)
        self.method: bytes = parser.get_method()

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value.strip(b" \t")))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole = True


@settings(max_examples=scaled(200), deadline=None)
@given(valid_requests(), st.integers(1, 500))
def test_valid_requests_are_read_as_others_read_them(
    request: tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]], bytes], cut: int
) -> None:
    data, method, target, fields, body = request
    judged, judged_body = read_with_h11(data)
    assert (judged.method, judged.target, judged_body) == (method, target, body)
    for forwarded in (*exchanged(Gate(), data), *exchanged(Gate(), data, cut)):
        assert (forwarded.method, forwarded.body) == (method, body)
        assert _decoded(forwarded.target) == _decoded(target)
        assert [each for each in forwarded.fields if each[0].startswith(b"x-t-")] == fields
    assert len(exchanged(Gate(), data)) == 1


def _decoded(target: bytes) -> tuple[bytes, bytes]:
    path, _, query = target.partition(b"?")
    return unquote_to_bytes(path), query


@settings(max_examples=scaled(200), deadline=None)
@given(valid_requests(), st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"]))
def test_valid_requests_are_read_as_llhttp_reads_them(
    request: tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]], bytes], method: bytes
) -> None:
    """Llhttp knows a fixed list of methods."""
    data = method + b" " + request[0].partition(b" ")[2]
    other = Llhttp(data)
    assert other.whole
    (forwarded,) = exchanged(Gate(), data)
    assert (forwarded.method, forwarded.body) == (other.method, other.body)
    assert _decoded(forwarded.target) == _decoded(other.target)
    assert [each for each in forwarded.fields if each[0].startswith(b"x-t-")] == [
        each for each in other.fields if each[0].startswith(b"x-t-")
    ]
