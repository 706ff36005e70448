"""Request lines: what is none, whatever protocol it may belong to, and what is one in an unusual form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.proxy.harness import KEY_FIELD, get, problem
from tests.wire.cases import HOST, KEYED, MALFORMED, METHOD, TARGET, VERSION, Forwarded, Refused, line, path
from tests.wire.cases_battery import try_case
from tests.wire.live import live, run

if TYPE_CHECKING:
    from tests.wire.cases import Case
    from tests.wire.conftest import Tried

REST: Final = HOST + KEY_FIELD + b"\r\n"
HELLO: Final = b"\x16\x03\x01\x00\x2e\x01\x00\x00\x2a\x03\x03" + bytes(range(32)) + b"\x00\x00\x02\x13\x01\x01\x00"
"""The beginning of a TLS handshake; the random bytes have line endings of all kinds in them."""

SHAPES: list[Case] = [
    Refused("two spaces after the method", line(b"GET  / HTTP/1.1"), MALFORMED),
    Refused("two spaces before the version", line(b"GET /  HTTP/1.1"), MALFORMED),
    Refused("a tab after the method", line(b"GET\t/ HTTP/1.1"), MALFORMED),
    Refused("a tab before the version", line(b"GET /\tHTTP/1.1"), MALFORMED),
    Refused("a vertical tab for a space", line(b"GET\x0b/ HTTP/1.1"), MALFORMED),
    Refused("a form feed for a space", line(b"GET /\x0cHTTP/1.1"), MALFORMED),
    Refused("a no-break space", line(b"GET\xa0/ HTTP/1.1"), MALFORMED),
    Refused("a space at the end", line(b"GET / HTTP/1.1 "), MALFORMED),
    Refused("a tab at the end", line(b"GET / HTTP/1.1\t"), MALFORMED),
    Refused("a space at the beginning", line(b" GET / HTTP/1.1"), MALFORMED),
    Refused("a tab at the beginning", line(b"\tGET / HTTP/1.1"), MALFORMED),
    Refused("a byte order mark", line(b"\xef\xbb\xbfGET / HTTP/1.1"), MALFORMED),
    Refused("no version", line(b"GET /"), MALFORMED),
    Refused("no version and a space", line(b"GET / "), MALFORMED),
    Refused("no target", line(b"GET HTTP/1.1"), MALFORMED),
    Refused("an empty target", line(b"GET  HTTP/1.1"), TARGET),
    Refused("a method alone", line(b"GET"), MALFORMED),
    Refused("two targets", line(b"GET / /2 HTTP/1.1"), MALFORMED),
    Refused("two versions", line(b"GET / HTTP/1.1 HTTP/1.0"), MALFORMED),
    Refused("a request of HTTP/0.9", b"GET /\r\n\r\n", MALFORMED),
    Refused("HTTP/0.9 in words", line(b"GET / HTTP/0.9"), VERSION),
    Refused("a field line for a request line", HOST + line(b"GET / HTTP/1.1"), MALFORMED),
    Refused("a response", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", MALFORMED),
    Refused("a request line that is folded", b"GET /\r\n HTTP/1.1\r\n" + REST, MALFORMED),
]
VERSIONS: list[Case] = [
    Refused("the version in lower case", line(b"GET / http/1.1"), MALFORMED),
    Refused("the version cut short", line(b"GET / HTTP/1"), MALFORMED),
    Refused("the version without digits", line(b"GET / HTTP/"), MALFORMED),
    Refused("the version with a third digit", line(b"GET / HTTP/1.10"), MALFORMED),
    Refused("the version with a leading digit", line(b"GET / HTTP/01.1"), MALFORMED),
    Refused("the version with a third number", line(b"GET / HTTP/1.1.1"), MALFORMED),
    Refused("the version with a comma", line(b"GET / HTTP/1,1"), MALFORMED),
    Refused("the version with a plus", line(b"GET / HTTP/+1.1"), MALFORMED),
    Refused("the version with a NUL", line(b"GET / HTTP/1.1\0"), MALFORMED),
    Refused("the version in other digits", line("GET / HTTP/1.\u0661".encode()), MALFORMED),
    Refused("HTTP/1.2", line(b"GET / HTTP/1.2"), VERSION),
    Refused("HTTP/1.9", line(b"GET / HTTP/1.9"), VERSION),
    Refused("HTTP/0.1", line(b"GET / HTTP/0.1"), VERSION),
    Refused("HTTP/2.0", line(b"GET / HTTP/2.0"), VERSION),
    Refused("HTTP/2", line(b"GET / HTTP/2"), MALFORMED),
    Refused("HTTP/3.0", line(b"GET / HTTP/3.0"), VERSION),
]
METHODS: list[Case] = [
    Refused("CONNECT", b"CONNECT h:443 HTTP/1.1\r\n" + REST, METHOD),
    Refused("CONNECT of a path", line(b"CONNECT / HTTP/1.1"), METHOD),
    Refused("TRACE", line(b"TRACE / HTTP/1.1"), METHOD),
    Refused("TRACE of everything", line(b"TRACE * HTTP/1.1"), METHOD),
    Refused("a method that is no token", line(b"G@T / HTTP/1.1"), MALFORMED),
    Refused("a method in quotes", line(b'"GET" / HTTP/1.1'), MALFORMED),
    Refused("a method in parentheses", line(b"(GET) / HTTP/1.1"), MALFORMED),
    Refused("a method with a colon", line(b"GET: / HTTP/1.1"), MALFORMED),
    Refused("a method with a NUL", line(b"GET\0 / HTTP/1.1"), MALFORMED),
    Refused("a method above 7F", line(b"G\xc8T / HTTP/1.1"), MALFORMED),
    *(
        # Some servers write methods in upper case before they look at them (Werkzeug); the routes here do not.
        Refused(f"{method} in lower or mixed case", line(method.encode() + b" / HTTP/1.1"), MALFORMED)
        for method in ("get", "Get", "head", "dELETE", "patch", "options", "connect", "Trace")
    ),
]
LINE_ENDINGS: list[Case] = [
    Refused("LF after the request line", b"GET / HTTP/1.1\n" + REST, MALFORMED),
    Refused("CR after the request line", b"GET / HTTP/1.1\r" + REST, MALFORMED),
    Refused("CR CR LF after the request line", b"GET / HTTP/1.1\r\r\n" + REST, MALFORMED),
    Refused("LF CR after the request line", b"GET / HTTP/1.1\n\r" + REST, MALFORMED),
    Refused("LF at all ends of lines", get().replace(b"\r\n", b"\n"), MALFORMED),
    Refused("CR at all ends of lines", get().replace(b"\r\n", b"\r"), MALFORMED),
    Refused("LF in the target", line(b"GET /\n2 HTTP/1.1"), MALFORMED),
    Refused("CR in the target", line(b"GET /\r2 HTTP/1.1"), MALFORMED),
    Refused("a request in the target", line(b"GET / HTTP/1.1\nHost: h\n\nGET /2 HTTP/1.1"), MALFORMED),
    Refused("LF first", b"\n" + get(), MALFORMED),
    Refused("CR first", b"\r" + get(), MALFORMED),
    Refused("an empty line and LF first", b"\r\n\n" + get(), MALFORMED),
    Refused("two empty lines first", b"\r\n\r\n" + get(), MALFORMED),
    Refused("NUL first", b"\0" + get(), MALFORMED),
]
PROTOCOLS: list[Case] = [
    Refused("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VERSION),
    Refused("a TLS handshake", HELLO, MALFORMED),
    Refused("a TLS handshake of SSLv2's form", b"\x80\x2e\x01\x03\x01" + HELLO[11:], MALFORMED),
    Refused("PROXY, version 1", b"PROXY TCP4 1.2.3.4 5.6.7.8 99 80\r\n" + get(), MALFORMED),
    Refused("PROXY UNKNOWN", b"PROXY UNKNOWN\r\n" + get(), MALFORMED),
    Refused("PROXY, version 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + get(), MALFORMED),
    Refused("a banner of SSH", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", MALFORMED),
    Refused("RTSP", line(b"OPTIONS * RTSP/1.0"), MALFORMED),
    Refused("SIP", line(b"OPTIONS sip:h SIP/2.0"), MALFORMED),
    Refused("ICAP", line(b"REQMOD icap://h/ ICAP/1.0"), MALFORMED),
    Refused("SMTP", b"EHLO h\r\n\r\n", MALFORMED),
    Refused("Redis", b"*1\r\n$4\r\nPING\r\n\r\n", MALFORMED),
    Refused("FastCGI", b"\x01\x01\0\x01\0\x08\0\0" + bytes(8), MALFORMED),
]
FORMS: list[Case] = [
    Refused("asterisk form of GET", path(b"*"), TARGET),
    Refused("asterisk and more", line(b"OPTIONS *a HTTP/1.1"), TARGET),
    Refused("asterisk and a query", line(b"OPTIONS *?a HTTP/1.1"), TARGET),
    Refused("authority form", path(b"h:80"), TARGET),
    Refused("a path without its slash", path(b"a/b"), TARGET),
    Refused("a query alone", path(b"?a"), TARGET),
    Refused("a URL without a scheme", path(b"://h/"), TARGET),
    Forwarded("plain", line(b"GET / HTTP/1.1")),
    Forwarded("a path and a query", path(b"/a/b?c=d&e"), b"GET /a/b?c=d&e"),
    Forwarded("an empty query", path(b"/?"), b"GET /?"),
    Forwarded(
        "all bytes of a query", path(b"/?!\"$%&'()*+,-./:;<=>?@[\\]^_`{|}~"), b"GET /?!\"$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    ),
    Forwarded("a path that says HTTP/1.1", path(b"/HTTP/1.1"), b"GET /HTTP/1.1"),
    Forwarded("HEAD", line(b"HEAD /a HTTP/1.1"), b"HEAD /a"),
    Forwarded("OPTIONS", line(b"OPTIONS /a HTTP/1.1"), b"OPTIONS /a"),
    Forwarded("OPTIONS of everything", line(b"OPTIONS * HTTP/1.1"), b"OPTIONS *"),
    Forwarded("DELETE", line(b"DELETE /a HTTP/1.1"), b"DELETE /a"),
    Forwarded("POST without a body", line(b"POST /a HTTP/1.1"), b"POST /a"),
    Forwarded("a method of its own", line(b"M-SEARCH /a HTTP/1.1"), b"M-SEARCH /a"),
    Forwarded("a method of its own in lower case", line(b"purge-all /a HTTP/1.1"), b"purge-all /a"),
    Forwarded("a method of all signs", line(b"!#$%&'*+.^_`|~ / HTTP/1.1"), b"!#$%&'*+.^_`|~ /"),
    Forwarded("one empty line first", b"\r\n" + get(fields=KEY_FIELD), host=b"api.test"),
    Forwarded("HTTP/1.0", line(b"GET / HTTP/1.0"), ends=True),
    Forwarded("HTTP/1.0 without a Host", b"GET / HTTP/1.0\r\n" + KEY_FIELD + b"\r\n", host=b"", ends=True),
    Forwarded("HTTP/1.0 that goes on", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n" + REST, who=KEYED),
]
CASES: list[Case] = [*SHAPES, *VERSIONS, *METHODS, *LINE_ENDINGS, *PROTOCOLS, *FORMS]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_request_line(case: Case, tried: Tried) -> None:
    tried("request lines", try_case(case))


@pytest.mark.parametrize(
    "begun", [b"GET / HTTP/1.1\n", b"GET / HT\rT", b"\n", b"\x16\x03\x01\x02\x00\x01", b"\0", b" "]
)
def test_what_can_be_no_request_line_is_refused_before_its_end(begun: bytes, tried: Tried) -> None:
    """Nobody has to wait for the time of a head to be told, TLS on the plain port least of all."""

    async def case() -> None:
        async with live() as gate:
            client = await gate.ask(begun, methods=[b"GET"])
            assert [(each.status, problem(each)["code"]) for each in client.answers] == [MALFORMED]
            assert client.ended

    run(case())
    tried("request lines", 1)
