"""The one host of a request: Host, and the authority of an absolute-form target (RFC 9112 section 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import KEY_FIELD
from tests.wire.cases import MALFORMED, TARGET, Forwarded, Refused, fields, hosts, path
from tests.wire.cases_battery import try_case

if TYPE_CHECKING:
    from tests.wire.cases import Case
    from tests.wire.conftest import Tried


def old(target: bytes, lines: bytes = b"") -> bytes:
    """A keyed GET of HTTP/1.0 with these fields."""
    return b"GET " + target + b" HTTP/1.0\r\n" + lines + KEY_FIELD + b"\r\n"


REPEATED: list[Case] = [
    Refused("none", hosts(b""), MALFORMED),
    Refused("two", hosts(b"Host: h\r\nHost: h\r\n"), MALFORMED),
    Refused("two different ones", hosts(b"Host: h\r\nHost: evil\r\n"), MALFORMED),
    Refused("two in different case", hosts(b"Host: h\r\nhOST: evil\r\n"), MALFORMED),
    Refused("two apart", fields(b"Host: evil"), MALFORMED),
    Refused("two, the second empty", fields(b"Host:"), MALFORMED),
    Refused("two in HTTP/1.0", old(b"/", b"Host: h\r\nHost: evil\r\n"), MALFORMED),
    Refused("two, the first folded", hosts(b"Host:\r\n h\r\nHost: evil\r\n"), MALFORMED),
    Refused("two as a list", hosts(b"Host: h, evil\r\n"), MALFORMED),
    Refused("two as a list without a space", hosts(b"Host: h,evil\r\n"), MALFORMED),
    Refused("one that is only like it", hosts(b"Hos_t: h\r\n"), MALFORMED),
    Refused("one with a space before its colon", hosts(b"Host : h\r\n"), MALFORMED),
    Refused("one and one with a space before its colon", hosts(b"Host: h\r\nHost : evil\r\n"), MALFORMED),
    Refused("one with a space before its name", hosts(b" Host: h\r\n"), MALFORMED),
    Refused("one and a folded one", hosts(b"Host: h\r\n Host: evil\r\n"), MALFORMED),
]
MALFORMED_HOSTS: list[Case] = [
    Refused(f"Host: {value!r}", hosts(b"Host: " + value + b"\r\n"), MALFORMED)
    for value in (
        *(b"", b"\t ", b"h h", b"h\th", b"h/a", b"h?a", b"h#a", b"h\\evil", b"u@h", b"u:p@h:80", b"http://h"),
        *(b"h:", b"h:65536", b"h:99999", b"h:100000", b"h:http", b"h:80:80", b"h:-1", b"h:+80", b"h: 80", b":80", b":"),
        *(b"[::1", b"::1", b"[::1]x", b"[]", b"[::1%25lo]", b"[g::1]", b"[v1.a]", b"h]", b"[h]", b"[::1]:x"),
        *(b"a%2eb", b"h%00", b"h\xc3\xa4", b"h\xad", b'"h"', b"<h>", b"{h}", b"h|h", b"h^", b"h`", b"h" * 260),
    )
]
ABSOLUTE: list[Case] = [
    Refused("absolute form of another host", path(b"http://evil/"), MALFORMED),
    Refused("absolute form of a host below", path(b"http://h.evil/"), MALFORMED),
    Refused("absolute form of another port", path(b"http://h:81/"), MALFORMED),
    Refused("absolute form of the port that is meant", path(b"http://h:80/"), MALFORMED),
    Refused("absolute form with a user", path(b"http://u@h/"), TARGET),
    Refused("absolute form with a host for a user", path(b"http://h@evil/"), TARGET),
    Refused("absolute form without a host", path(b"http:///a"), TARGET),
    Refused("absolute form with one slash", path(b"http:/h/a"), TARGET),
    Refused("absolute form with no slash", path(b"http:h/a"), TARGET),
    Refused("absolute form with backslashes", path(b"http:\\\\h\\a"), TARGET),
    Refused("absolute form with a backslash after the host", path(b"http://h\\evil/"), TARGET),
    Refused("absolute form with a fragment", path(b"http://h/#a"), TARGET),
    Refused("absolute form with a list of hosts", path(b"http://h,evil/"), TARGET),
    *(
        Refused(f"absolute form, {scheme.decode()}", path(scheme + b"://h/"), TARGET)
        for scheme in (b"ftp", b"file", b"ws", b"wss", b"unix", b"httpx", b"xhttp", b"")
    ),
    Refused("absolute form without Host", b"GET http://h/ HTTP/1.1\r\n" + KEY_FIELD + b"\r\n", MALFORMED),
    Refused("absolute form of HTTP/1.0, another host", old(b"http://evil/", b"Host: h\r\n"), MALFORMED),
    Forwarded("absolute form", path(b"http://h/a?b"), b"GET /a?b"),
    Forwarded("absolute form, https", path(b"https://h/a"), b"GET /a"),
    Forwarded("absolute form in upper case", path(b"HTTP://H/A"), b"GET /A"),
    Forwarded("absolute form without a path", path(b"http://h"), b"GET /"),
    Forwarded("absolute form with a query alone", path(b"http://h?a=/b"), b"GET /?a=/b"),
    Forwarded("absolute form that merges slashes", path(b"http://h//a"), b"GET /a"),
    Forwarded("a path like an absolute form", path(b"/http://h/a"), b"GET /http:/h/a"),
    Forwarded("absolute form of HTTP/1.0 without Host", old(b"http://H:8/a"), b"GET /a", host=b"h:8", ends=True),
]
HOSTS: list[Case] = [
    Forwarded(f"Host: {value.decode()}", hosts(b"Host: " + value + b"\r\n"), host=value.lower())
    for value in (
        *(b"EXAMPLE.com", b"example.com.", b"h:0", b"h:65535", b"1.2.3.4:80", b"[::1]", b"[2001:DB8::1]:8080"),
        *(b"a_b.c-d~e", b"h;a", b"h" * 250, b"xn--pi-zia.test"),
    )
]
CASES: list[Case] = [*REPEATED, *MALFORMED_HOSTS, *ABSOLUTE, *HOSTS]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_host(case: Case, tried: Tried) -> None:
    tried("hosts", try_case(case))


def test_the_host_that_goes_on_is_the_clients_where_the_route_says_so(tried: Tried) -> None:
    case = Forwarded("kept", hosts(b"Host: Public.Test:8\r\n"), host=b"public.test:8", host_field=b"public.test:8")
    tried("hosts", try_case(case, routes=[{"preserve_host": True}]))
    case = Forwarded("none", old(b"/"), host=b"", ends=True)
    tried("hosts", try_case(case, routes=[{"preserve_host": True}]))
