"""What is no request, or one that could be read in two ways, is refused.

Whole, cut in two anywhere, or with another request behind it, which is then neither answered nor forwarded.
"""

from __future__ import annotations

import pytest

from tests.proxy.harness import KEY_FIELD, OK, OTHER_SECRET, SECRET, Gate, error_of, get, post, splits

HOST = b"Host: api.test\r\n"
BEGIN = b"GET / HTTP/1.1\r\n" + HOST + KEY_FIELD
MALFORMED = (400, "malformed_request")
AMBIGUOUS = (400, "ambiguous_target")
VERSION = (505, "unsupported_http_version")
METHOD = (405, "method_not_allowed")
CODING = (501, "transfer_coding_not_supported")


def line(text: bytes) -> bytes:
    """A request with this request line."""
    return text + b"\r\n" + HOST + KEY_FIELD + b"\r\n"


def path(text: bytes) -> bytes:
    """A request for this target."""
    return line(b"GET " + text + b" HTTP/1.1")


def field(text: bytes) -> bytes:
    """A request with these bytes among its fields."""
    return BEGIN + text + b"\r\n" + b"Accept: */*\r\n\r\n"


def host(fields: bytes) -> bytes:
    """A request with these in place of its Host field."""
    return b"GET / HTTP/1.1\r\n" + fields + KEY_FIELD + b"\r\n"


def framed(fields: bytes, body: bytes = b"hello", version: bytes = b"1.1") -> bytes:
    """A request with these framing fields and this body."""
    return b"POST / HTTP/" + version + b"\r\n" + HOST + KEY_FIELD + fields + b"\r\n" + body


REQUEST_LINES = {
    "two spaces after the method": (line(b"GET  / HTTP/1.1"), MALFORMED),
    "two spaces before the version": (line(b"GET /  HTTP/1.1"), MALFORMED),
    "tab for a space": (line(b"GET\t/ HTTP/1.1"), MALFORMED),
    "space at the end": (line(b"GET / HTTP/1.1 "), MALFORMED),
    "space at the beginning": (line(b" GET / HTTP/1.1"), MALFORMED),
    "no version": (line(b"GET /"), MALFORMED),
    "no target": (line(b"GET HTTP/1.1"), MALFORMED),
    "method alone": (line(b"GET"), MALFORMED),
    "version in lower case": (line(b"GET / http/1.1"), MALFORMED),
    "version cut short": (line(b"GET / HTTP/1"), MALFORMED),
    "version too long": (line(b"GET / HTTP/1.10"), MALFORMED),
    "version of two digits": (line(b"GET / HTTP/11.1"), MALFORMED),
    "another protocol": (line(b"GET / RTSP/1.0"), MALFORMED),
    "HTTP/2.0": (line(b"GET / HTTP/2.0"), VERSION),
    "HTTP/1.2": (line(b"GET / HTTP/1.2"), VERSION),
    "HTTP/0.9": (line(b"GET / HTTP/0.9"), VERSION),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VERSION),
    "method that is no token": (line(b"G@T / HTTP/1.1"), MALFORMED),
    "method in parentheses": (line(b"(GET) / HTTP/1.1"), MALFORMED),
    "method with a byte above 7F": (line(b"G\xc8T / HTTP/1.1"), MALFORMED),
    "CONNECT": (b"CONNECT api.test:443 HTTP/1.1\r\n" + HOST + b"\r\n", METHOD),
    "CONNECT of a path": (line(b"CONNECT / HTTP/1.1"), METHOD),
    "TRACE": (line(b"TRACE / HTTP/1.1"), METHOD),
    "empty lines in place of a request": (b"\r\n\r\n" + get(), MALFORMED),
    "NUL bytes first": (b"\0\0" + get(), MALFORMED),
    "a TLS handshake": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", MALFORMED),
    "bare LF after the request line": (b"GET / HTTP/1.1\n" + HOST + KEY_FIELD + b"\r\n", MALFORMED),
    "bare CR after the request line": (b"GET / HTTP/1.1\r" + HOST + KEY_FIELD + b"\r\n", MALFORMED),
    "LF first": (b"\n" + get(), MALFORMED),
}
HOSTS = {
    "no Host": (host(b""), MALFORMED),
    "two Hosts": (host(HOST + HOST), MALFORMED),
    "two Hosts in different case": (host(HOST + b"HOST: other.test\r\n"), MALFORMED),
    "two Hosts apart": (field(HOST[:-2]), MALFORMED),
    "empty Host": (host(b"Host:\r\n"), MALFORMED),
    "Host of spaces": (host(b"Host:  \t \r\n"), MALFORMED),
    "Host with a space": (host(b"Host: api test\r\n"), MALFORMED),
    "Host with a path": (host(b"Host: api.test/a\r\n"), MALFORMED),
    "Host with a user": (host(b"Host: user@api.test\r\n"), MALFORMED),
    "Host with a scheme": (host(b"Host: http://api.test\r\n"), MALFORMED),
    "Host with a port too large": (host(b"Host: api.test:65536\r\n"), MALFORMED),
    "Host with a port of letters": (host(b"Host: api.test:http\r\n"), MALFORMED),
    "Host with two ports": (host(b"Host: api.test:80:80\r\n"), MALFORMED),
    "Host with an open bracket": (host(b"Host: [::1\r\n"), MALFORMED),
    "Host with a backslash": (host(b"Host: api.test\\evil\r\n"), MALFORMED),
    "Host with a fragment": (host(b"Host: api.test#\r\n"), MALFORMED),
    "Host with a percent code": (host(b"Host: api%2etest\r\n"), MALFORMED),
    "Host above 7F": (host(b"Host: \xc3\xa4pi.test\r\n"), MALFORMED),
    "absolute form of another host": (path(b"http://other.test/"), MALFORMED),
    "absolute form of another port": (path(b"http://api.test:8080/"), MALFORMED),
    "absolute form with a user": (path(b"http://user@api.test/"), AMBIGUOUS),
    "absolute form without a host": (path(b"http:///a"), AMBIGUOUS),
    "absolute form of another scheme": (path(b"ftp://api.test/"), AMBIGUOUS),
    "authority form": (path(b"api.test:80"), AMBIGUOUS),
    "asterisk form of GET": (path(b"*"), AMBIGUOUS),
    "asterisk and more": (line(b"OPTIONS *a HTTP/1.1"), AMBIGUOUS),
}
TARGETS = {
    "fragment": (path(b"/a#b"), AMBIGUOUS),
    "fragment in the query": (path(b"/a?b#c"), AMBIGUOUS),
    "control byte": (path(b"/a\x01b"), AMBIGUOUS),
    "control byte in the query": (path(b"/a?\x1f"), AMBIGUOUS),
    "NUL": (path(b"/a\0"), AMBIGUOUS),
    "DEL": (path(b"/a\x7f"), AMBIGUOUS),
    "tab": (path(b"/a\tb"), AMBIGUOUS),
    "space": (path(b"/a b"), MALFORMED),
    "UTF-8": (path("/ä".encode()), AMBIGUOUS),
    "byte above 7F in the query": (path(b"/?\xff"), AMBIGUOUS),
    "no slash first": (path(b"a/b"), AMBIGUOUS),
    "query alone": (path(b"?a"), AMBIGUOUS),
    "dot segment": (path(b"/a/./b"), AMBIGUOUS),
    "double-dot segment": (path(b"/a/../b"), AMBIGUOUS),
    "dot at the end": (path(b"/a/."), AMBIGUOUS),
    "double dot at the end": (path(b"/a/.."), AMBIGUOUS),
    "double dot alone": (path(b"/.."), AMBIGUOUS),
    "coded dot": (path(b"/a/%2e/b"), AMBIGUOUS),
    "coded double dot": (path(b"/a/%2e%2E/b"), AMBIGUOUS),
    "half-coded double dot": (path(b"/a/.%2e"), AMBIGUOUS),
    "double dot after slashes": (path(b"//../a"), AMBIGUOUS),
    "double dot in the absolute form": (path(b"http://api.test/a/../b"), AMBIGUOUS),
    "double dot before a semicolon": (path(b"/a/..;/b"), AMBIGUOUS),
    "coded slash": (path(b"/a%2fb"), AMBIGUOUS),
    "coded slash in upper case": (path(b"/a%2Fb"), AMBIGUOUS),
    "coded backslash": (path(b"/a%5cb"), AMBIGUOUS),
    "backslash": (path(b"/a\\b"), AMBIGUOUS),
    "coded NUL": (path(b"/a%00"), AMBIGUOUS),
    "coded line end": (path(b"/a%0d%0ab"), AMBIGUOUS),
    "coded DEL": (path(b"/a%7f"), AMBIGUOUS),
    "percent code of no digits": (path(b"/a%zz"), AMBIGUOUS),
    "percent code of one digit": (path(b"/a%2"), AMBIGUOUS),
    "percent alone": (path(b"/a%"), AMBIGUOUS),
    "percent code in a percent code": (path(b"/a%2%35"), AMBIGUOUS),
    "semicolon": (path(b"/a;b"), AMBIGUOUS),
    "semicolon with a value": (path(b"/a;jsessionid=1/b"), AMBIGUOUS),
}
FIELD_LINES = {
    "bare LF between fields": (field(b"A: b\nC: d"), MALFORMED),
    "bare CR between fields": (field(b"A: b\rC: d"), MALFORMED),
    "CR CR LF": (field(b"A: b\r"), MALFORMED),
    "LF CR LF": (field(b"A: b\n"), MALFORMED),
    "bare CR in a value": (field(b"A: b\rc"), MALFORMED),
    "bare LF in a name": (field(b"A\nB: c"), MALFORMED),
    "bare CR in the name": (field(b"\rA: c"), MALFORMED),
    "NUL in a value": (field(b"A: b\0c"), MALFORMED),
    "NUL in a name": (field(b"A\0: b"), MALFORMED),
    "control byte in a value": (field(b"A: b\x0bc"), MALFORMED),
    "DEL in a value": (field(b"A: \x7f"), MALFORMED),
    "fold with a space": (field(b"A: b\r\n c"), MALFORMED),
    "fold with a tab": (field(b"A: b\r\n\tc"), MALFORMED),
    "fold of the framing": (field(b"Transfer-Encoding:\r\n chunked"), MALFORMED),
    "fold as the first field": (b"GET / HTTP/1.1\r\n " + HOST + KEY_FIELD + b"\r\n", MALFORMED),
    "space before the colon": (field(b"A : b"), MALFORMED),
    "tab before the colon": (field(b"A\t: b"), MALFORMED),
    "space before the colon of the length": (framed(b"Content-Length : 5\r\n"), MALFORMED),
    "space before the colon of the coding": (framed(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), MALFORMED),
    "empty name": (field(b": b"), MALFORMED),
    "name with a space": (field(b"A B: c"), MALFORMED),
    "name in parentheses": (field(b"(A): b"), MALFORMED),
    "name with a slash": (field(b"A/B: c"), MALFORMED),
    "name above 7F": (field(b"\xc3\xa4: b"), MALFORMED),
    "quoted name": (field(b'"A": b'), MALFORMED),
    "no colon": (field(b"A"), MALFORMED),
    "control byte in a known field": (field(b"Connection: close\x01"), MALFORMED),
    "vertical tab before the coding": (framed(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"), MALFORMED),
}
FRAMING = {
    "length with a plus": (framed(b"Content-Length: +5\r\n"), MALFORMED),
    "length with a minus": (framed(b"Content-Length: -5\r\n"), MALFORMED),
    "length as a list": (framed(b"Content-Length: 5, 5\r\n"), MALFORMED),
    "length with a leading zero": (framed(b"Content-Length: 05\r\n"), MALFORMED),
    "length of two zeros": (framed(b"Content-Length: 00\r\n", b""), MALFORMED),
    "length in hexadecimal": (framed(b"Content-Length: 0x5\r\n"), MALFORMED),
    "length with a fraction": (framed(b"Content-Length: 5.0\r\n"), MALFORMED),
    "length with an underscore": (framed(b"Content-Length: 1_0\r\n"), MALFORMED),
    "length with a space inside": (framed(b"Content-Length: 1 0\r\n"), MALFORMED),
    "length empty": (framed(b"Content-Length:\r\n"), MALFORMED),
    "length in other digits": (framed("Content-Length: \u0665\r\n".encode()), MALFORMED),
    "length above 64 bits": (framed(b"Content-Length: 18446744073709551621\r\n"), MALFORMED),
    "length above 63 bits": (framed(b"Content-Length: 9223372036854775808\r\n"), MALFORMED),
    "two equal lengths": (framed(b"Content-Length: 5\r\nContent-Length: 5\r\n"), MALFORMED),
    "two lengths": (framed(b"Content-Length: 5\r\ncontent-length: 6\r\n"), MALFORMED),
    "length and coding": (framed(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), MALFORMED),
    "coding and length": (framed(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"), MALFORMED),
    "coding and no length": (framed(b"Transfer-Encoding: chunked\r\nContent-Length:\r\n", b"0\r\n\r\n"), MALFORMED),
    "chunked twice": (framed(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), MALFORMED),
    "two codings": (framed(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), MALFORMED),
    "chunked with a comma": (framed(b"Transfer-Encoding: chunked,\r\n", b"0\r\n\r\n"), MALFORMED),
    "chunked with a parameter": (framed(b"Transfer-Encoding: chunked;q=1\r\n", b"0\r\n\r\n"), MALFORMED),
    "chunked in quotes": (framed(b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n"), MALFORMED),
    "no coding": (framed(b"Transfer-Encoding:\r\n", b"0\r\n\r\n"), MALFORMED),
    "identity": (framed(b"Transfer-Encoding: identity\r\n", b"0\r\n\r\n"), CODING),
    "gzip": (framed(b"Transfer-Encoding: gzip\r\n", b"0\r\n\r\n"), CODING),
    "nearly chunked": (framed(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), CODING),
    "chunked in HTTP/1.0": (framed(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"1.0"), MALFORMED),
    "expectation of something else": (field(b"Expect: 200-ok"), (417, "expectation_failed")),
}
CREDENTIALS = {
    "two X-API-KEYs": (field(KEY_FIELD[:-2]), MALFORMED),
    "two X-API-KEYs, the second empty": (field(b"x-api-key:"), MALFORMED),
    "two Authorizations": (field(b"Authorization: Bearer a\r\nauthorization: Basic b"), MALFORMED),
    "two different keys": (field(b"Authorization: Bearer " + OTHER_SECRET), (400, "conflicting_credentials")),
}
REFUSED = {**REQUEST_LINES, **HOSTS, **TARGETS, **FIELD_LINES, **FRAMING, **CREDENTIALS}


@pytest.fixture(scope="module")
def gate() -> Gate:
    """One gate for cases that leave nothing behind."""
    return Gate()


def check_refused(gate: Gate, request: bytes, expected: tuple[int, str], *, split: int = 0) -> None:
    """One answer with a code, the end of the connection, and nothing upstream."""
    before = len(gate.upstreams)
    client = gate.ask(request, split=split)
    answer = client.answer
    assert error_of(answer) == expected, split
    assert answer.one("connection") == "close"
    assert client.ended, split
    client.send(get(b"/later"))
    assert client.answer == answer
    assert len(gate.upstreams) == before
    client.end()
    gate.check_counts()


def check_refused_in_pieces(gate: Gate, request: bytes, expected: tuple[int, str]) -> None:
    """The same for every way to cut the request in two; quicker than `check_refused`, as there are many."""
    before = len(gate.upstreams)
    status, code = b"HTTP/1.1 %d " % expected[0], b'"code":"%b"' % expected[1].encode()
    for split in splits(request):
        client = gate.ask(request, split=split)
        received = client.received
        assert received.startswith(status), split
        assert received.count(b"\r\n\r\n") == 1, split
        assert code in received, split
        assert client.ended, split
        client.end()
    assert len(gate.upstreams) == before
    gate.check_counts()


@pytest.mark.parametrize("name", REFUSED)
def test_refused(gate: Gate, name: str) -> None:
    request, expected = REFUSED[name]
    check_refused(gate, request, expected)
    assert gate.worker.in_flight == 0


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_pieces(gate: Gate, name: str) -> None:
    request, expected = REFUSED[name]
    check_refused_in_pieces(gate, request, expected)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_and_what_stands_behind_it_is_never_read(gate: Gate, name: str) -> None:
    request, expected = REFUSED[name]
    check_refused(gate, request + get(b"/smuggled"), expected)
    check_refused(gate, request + post(b"body", b"/smuggled"), expected, split=len(request))


def test_other_codings_before_chunked_are_refused() -> None:
    client = Gate().ask(framed(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"))
    assert error_of(client.answer) == (501, "transfer_coding_not_supported")
    assert client.ended


# --- limits -----------------------------------------------------------------------------------------------------------

LINE = b"GET /%b HTTP/1.1"
LIMITS = {
    "request_line_limit_bytes": 300,
    "header_section_limit_bytes": 1024,
    "header_count_limit": 8,
}


def request_line_of(size: int) -> bytes:
    """A request whose first line has this many bytes."""
    return line(LINE % (b"a" * (size - len(LINE % b""))))


def section_of(size: int) -> bytes:
    """A request whose fields have this many bytes, with the CRLF of each."""
    fields = HOST + KEY_FIELD + b"A: "
    return b"GET / HTTP/1.1\r\n" + fields + b"b" * (size - len(fields) - 2) + b"\r\n\r\n"


def fields_of(count: int) -> bytes:
    """A request with this many fields."""
    return get(fields=KEY_FIELD + b"A: b\r\n" * (count - 2))


def test_limits_are_kept_exactly() -> None:
    gate = Gate(server=LIMITS)
    for request in (request_line_of(300), section_of(1022), fields_of(8)):
        client = gate.ask(request)
        gate.upstreams[-1].send(OK)
        assert client.answer.status == 200


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (request_line_of(301), (414, "uri_too_long")),
        (request_line_of(5000), (414, "uri_too_long")),
        (section_of(1030), (431, "header_section_too_large")),
        (section_of(5000), (431, "header_section_too_large")),
        (fields_of(9), (431, "too_many_fields")),
    ],
)
def test_above_the_limits(request_: bytes, expected: tuple[int, str]) -> None:
    gate = Gate(server=LIMITS)
    check_refused(gate, request_, expected)
    check_refused(gate, request_ + get(b"/smuggled"), expected)
    check_refused_in_pieces(gate, request_, expected)


@pytest.mark.parametrize("size", range(1018, 1030))
def test_a_limit_is_the_same_however_the_bytes_arrive(size: int) -> None:
    gate = Gate(server=LIMITS)
    request = section_of(size)
    whole = gate.ask(request).received[:12]
    for split in range(len(request) - 8, len(request)):
        assert gate.ask(request, split=split).received[:12] == whole, split


def test_a_head_without_end_is_refused_when_it_passes_the_limit_not_when_it_ends() -> None:
    gate = Gate()
    client = gate.client()
    client.send(b"GET /" + b"a" * 8300)
    assert error_of(client.answer) == (414, "uri_too_long")
    client = gate.client()
    client.send(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 6000)
    assert error_of(client.answer) == (431, "header_section_too_large")


def test_a_body_above_the_routes_limit_by_its_length() -> None:
    gate = Gate(routes=[{"max_body_bytes": 10}])
    check_refused(gate, post(b"01234567890"), (413, "body_too_large"))
    check_refused_in_pieces(gate, post(b"01234567890"), (413, "body_too_large"))
    check_refused(gate, post(b"01234567890") + get(b"/smuggled"), (413, "body_too_large"))
    client = gate.ask(post(b"0123456789"))
    gate.upstream.send(OK)
    assert client.answer.status == 200


def test_a_chunked_body_above_the_routes_limit_never_becomes_a_request() -> None:
    gate = Gate(routes=[{"max_body_bytes": 10}])
    head = b"POST / HTTP/1.1\r\n" + HOST + KEY_FIELD + b"Transfer-Encoding: chunked\r\n\r\n"
    client = gate.ask(head + b"6\r\n012345\r\n")
    client.send(b"6\r\n012345\r\n0\r\n\r\n" + get(b"/smuggled"))
    assert error_of(client.answer) == (413, "body_too_large")
    assert client.ended
    assert gate.upstream.aborted
    assert not gate.upstream.received.endswith(b"0\r\n\r\n")
    gate.check_counts()


# --- accepted ---------------------------------------------------------------------------------------------------------

ACCEPTED = {
    "plain": (get(b"/a"), b"/a"),
    "HTTP/1.0 without a Host": (b"GET /a HTTP/1.0\r\n" + KEY_FIELD + b"\r\n", b"/a"),
    "one empty line first": (b"\r\n" + get(b"/a"), b"/a"),
    "absolute form": (path(b"http://api.test/a"), b"/a"),
    "absolute form in upper case": (path(b"HTTP://API.test/a"), b"/a"),
    "absolute form without a path": (path(b"http://api.test?a=b"), b"/?a=b"),
    "method of its own": (line(b"purge-all /a HTTP/1.1"), b"/a"),
    "no space after the colon": (field(b"A:b"), b"/"),
    "spaces around a value": (field(b"A: \t b \t"), b"/"),
    "empty value": (field(b"A:"), b"/"),
    "tab and bytes above 7F in a value": (field(b"A: b\tc\x80\xff"), b"/"),
    "IPv6 host": (b"GET /a HTTP/1.1\r\nHost: [::1]:8080\r\n" + KEY_FIELD + b"\r\n", b"/a"),
    "all of the query": (path(b"/a?" + bytes(set(range(0x21, 0x7F)) - {0x23})), None),
    "semicolon in the query": (path(b"/a?b;c"), b"/a?b;c"),
    "dots that are no segment": (path(b"/a../..b/...?/../"), b"/a../..b/...?/../"),
    "length of zero": (framed(b"Content-Length: 0\r\n", b""), b"/"),
    "length": (framed(b"Content-Length: 5\r\n"), b"/"),
    "chunked in any case": (framed(b"Transfer-Encoding: CHUNKED\r\n", b"0\r\n\r\n"), b"/"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_whole_and_in_pieces(name: str) -> None:
    request, target = ACCEPTED[name]
    gate = Gate()
    for split in [0, *splits(request)]:
        client = gate.ask(request, split=split)
        upstream = gate.upstreams[-1]
        forwarded = upstream.request
        assert target is None or forwarded.target == target
        upstream.send(OK)
        upstream.reset()
        assert client.answer.status == 200, split


def test_the_credential_of_both_fields_may_be_the_same() -> None:
    gate = Gate()
    gate.ask(field(b"Authorization: Bearer " + SECRET))
    assert SECRET not in gate.upstream.received


def test_empty_lines_before_a_request_are_judged_the_same_however_they_arrive() -> None:
    gate = Gate()
    request = b"\r\n\r\n" + get()
    expected = error_of(gate.ask(request).answer)
    for split in range(1, 6):
        assert error_of(gate.ask(request, split=split).answer) == expected, split


def test_what_the_log_of_a_defect_says_of_a_request_is_nothing_that_it_sent() -> None:
    gate = Gate()
    fields = b"Host: quux.test\r\nX: quux\r\n" + KEY_FIELD
    gate.ask(b"QUUX /quux/" + SECRET + b"?quux HTTP/1.1\r\n" + fields + b"\r\n")
    (connection,) = gate.worker.connections
    assert "<RequestHead another method path=" in repr(connection)
    assert "quux" not in repr(connection).lower()
    assert SECRET.decode() not in repr(connection)
