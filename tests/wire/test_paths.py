"""Paths: those that two servers could read in two ways are refused, all others have one spelling on the way on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.wire.cases import LESSER, TARGET, Denied, Forwarded, Refused, line, path, unkeyed
from tests.wire.cases_battery import try_case

if TYPE_CHECKING:
    from tests.wire.cases import Case
    from tests.wire.conftest import Tried

ROUTES: list[dict[str, Any]] = [
    {},
    {"path": "/slash", "allow_encoded_slash": True},
    {"path": "/semi", "allow_semicolon": True},
    {"path": "/raw", "normalize_path": False},
    {"path": "/Case", "case_insensitive": True, "auth": "none"},
    {"path": "/cut", "strip_prefix": True},
    {"path": "/rawcut", "strip_prefix": True, "normalize_path": False},
    {"path": "/admin", "permissions": ["admin:use"]},
    {"path": "/get", "methods": ["GET"]},
]
FORBIDDEN = (403, "insufficient_permissions")
NOT_SERVED = (405, "method_not_allowed")

EVERYWHERE: list[Case] = [
    Refused(f"{target!r}", path(target), TARGET)
    for target in (
        *(
            b"/a#b",
            b"/#",
            b"/a?b#c",
            b"/a\x01",
            b"/a\x00b",
            b"/a\x1f",
            b"/a\x7f",
            b"/a\tb",
            b"/?\x00",
            b"/?\x7f",
            b"/\xc3\xa4",
            b"/?\xff",
            b"/\x80",
        ),
        *(
            b"/.",
            b"/..",
            b"/./",
            b"/../",
            b"/a/./b",
            b"/a/../b",
            b"/a/.",
            b"/a/..",
            b"//../a",
            b"/a//..",
            b"/.//",
            b"/../../etc/passwd",
        ),
        *(
            b"/%2e",
            b"/%2E%2e/a",
            b"/a/.%2e/b",
            b"/a/%2e./b",
            b"/a/%2e",
            b"/a//%2e%2e//b",
            b"/%2e%2e%2fa",
            b"/..%2fa",
            b"/a%2f..%2fb",
            b"/a%2f%2e%2e",
        ),
        *(b"/..;/a", b"/a/..;x=y/b", b"/.;/a", b"/..%3b/a", b"/a/%2e%2e;/b", b"/%2e%3Bx/a"),
        *(b"/\\", b"/a\\b", b"/..\\a", b"/a/..\\..\\b", b"/%5c", b"/a%5Cb", b"/..%5c..", b"/%5c%2e%2e"),
        *(b"/%00", b"/a%00.png", b"/%0a", b"/%0D%0a", b"/a%0d%0aX:%20y", b"/%09", b"/%1f", b"/%7f", b"/%7F"),
        *(b"/%", b"/%2", b"/%zz", b"/%2g", b"/%u002e", b"/%%32%65", b"/a%2%35", b"/%%", b"/%-1", b"/% 41"),
    )
    if b" " not in target
]
BY_ROUTE: list[Case] = [
    Refused(f"{target!r}", path(target), TARGET)
    for target in (
        *(
            b"/a%2fb",
            b"/a%2Fb",
            b"/%2f",
            b"/%2fadmin",
            b"/a;b",
            b"/;",
            b"/a;jsessionid=1/b",
            b"/semi/a%2fb",
            b"/slash/a;b",
            b"/a%3bb",
            b"/slash/a%3Bb",
            b"/semi%3Ba/b",
        ),
        *(
            b"/slash%2fa",
            b"/semi;a/b",
            b"/SLASH/a%2fb",
            b"/Semi/a;b",
            b"/raw/a%2fb",
            b"/raw/a;b",
            b"/raw/%2e%2e/a",
            b"/raw/..%2f",
        ),
        *(
            b"/slash/..%2fadmin",
            b"/slash/%2e%2e%2fadmin",
            b"/slash/a%2f..%2fb",
            b"/slash/a%2f.",
            b"/slash/%2f..",
            b"/semi/..;/admin",
        ),
        *(b"/semi/.;a", b"/cut/..%2fadmin", b"/cut/..;/admin", b"/cut/%2e%2e/admin", b"/CASE/../admin", b"/Case/%2f"),
    )
]
SPELT: list[Case] = [
    *(
        Forwarded(f"{target!r}", path(target), b"GET " + to)
        for target, to in (
            (b"/%61%62", b"/ab"),
            (b"/%7Euser", b"/~user"),
            (b"/%7e%2d%5F%2E", b"/~-_."),
            (b"/a%20b", b"/a%20b"),
            (b"/a%c3%a4", b"/a%C3%A4"),
            (b"//a", b"/a"),
            (b"/a///b//", b"/a/b/"),
            (b"////", b"/"),
            (b"//h/a", b"/h/a"),
            (b"/a/", b"/a/"),
            (b"/a%25b", b"/a%25b"),
            (b"/%252e%252E", b"/%252e%252E"),
            (b"/%252fa", b"/%252fa"),
            (b"/a..b", b"/a..b"),
            (b"/...", b"/..."),
            (b"/..a/.b", b"/..a/.b"),
            (b"/a.", b"/a."),
            (b"/%3fa%23", b"/%3Fa%23"),
            (b"/a?../b", b"/a?../b"),
            (b"/a?%2f%5c%00;%zz", b"/a?%2f%5c%00;%zz"),
            (b"/a?//b", b"/a?//b"),
            (b"/?a?b", b"/?a?b"),
            (b"/!$&'()*+,=:@-._~", b"/!$&'()*+,=:@-._~"),
            (b"/slash/a%2fb", b"/slash/a%2Fb"),
            (b"/slash/%2F%2f", b"/slash/%2F%2F"),
            (b"//slash//a%2f", b"/slash/a%2F"),
            (b"/semi/a;b=c;d", b"/semi/a;b=c;d"),
            (b"/semi/a%3bb", b"/semi/a%3Bb"),
            (b"/%73emi/;", b"/semi/;"),
            (b"/raw//%61", b"/raw//%61"),
            (b"//raw/a", b"//raw/a"),
            (b"/%72aw/%7e?%61", b"/%72aw/%7e?%61"),
            (b"http://h//raw//%c3", b"//raw//%c3"),
            (b"/cut/a", b"/a"),
            (b"/cut", b"/"),
            (b"/cut/", b"/"),
            (b"/cut?a", b"/?a"),
            (b"//cut//a", b"/a"),
            (b"/%63ut/%61", b"/a"),
            (b"/cuta", b"/cuta"),
            (b"/rawcut/%61", b"/a"),
        )
    ),
    *(
        Forwarded(f"{target!r} without a key", unkeyed(target=target), b"GET " + target, who=b"")
        for target in (b"/Case", b"/CASE/A", b"/case/a/")
    ),
]
BEHIND_RULES: list[Case] = [
    *(
        Denied(f"{target!r} is not for this key", unkeyed(b"X-API-KEY: " + LESSER + b"\r\n", target), FORBIDDEN)
        for target in (
            b"/admin",
            b"/admin/",
            b"/admin/a",
            b"/admin?a",
            b"//admin",
            b"/%61dmin",
            b"/%61%64%6d%69%6e/a",
            b"/admin//",
            b"http://h/admin",
            b"http://h//%61dmin",
        )
    ),
    *(
        Refused(f"{target!r} is no way around", unkeyed(b"X-API-KEY: " + LESSER + b"\r\n", target), TARGET)
        for target in (
            b"/x/../admin",
            b"/./admin",
            b"/x/%2e%2e/admin",
            b"/admin;a",
            b"/admin%3Ba/b",
            b"/admin%2fa",
            b"/slash/..%2f..%2fadmin",
            b"/\\admin",
            b"/admin\\",
            b"/%2fadmin",
            b"/x/..;/admin",
        )
    ),
    Denied("a method that its path does not serve", line(b"POST /get/a HTTP/1.1"), NOT_SERVED),
    Denied("HEAD of such a path", line(b"HEAD //get HTTP/1.1"), NOT_SERVED),
    Denied("a method of its own there", line(b"GETS /get HTTP/1.1"), NOT_SERVED),
]
CASES: list[Case] = [*EVERYWHERE, *BY_ROUTE, *SPELT, *BEHIND_RULES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_paths(case: Case, tried: Tried) -> None:
    tried("paths", try_case(case, routes=ROUTES))


@pytest.mark.parametrize("target", [b"/b", b"/", b"/aa", b"/A", b"/b//a"])
def test_no_route(target: bytes, tried: Tried) -> None:
    case = Denied("no route", path(target), (404, "no_route"))
    tried("paths", try_case(case, routes=[{"path": "/a"}, {"path": "/2"}]))
