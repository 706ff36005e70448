"""Each limit at its value and one above it, by settings and by default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.proxy.harness import KEY_FIELD
from tests.wire.cases import HOST, TOO_LARGE, Forwarded, Refused, framed, line
from tests.wire.cases_battery import try_case

if TYPE_CHECKING:
    from tests.wire.cases import Case
    from tests.wire.conftest import Tried

SMALL: dict[str, Any] = {"request_line_limit_bytes": 300, "header_section_limit_bytes": 1024, "header_count_limit": 8}
LONG_LINE = (414, "uri_too_long")
LONG_SECTION = (431, "header_section_too_large")
MANY_FIELDS = (431, "too_many_fields")
CHUNKED = b"Transfer-Encoding: chunked"


def long_line(size: int) -> bytes:
    """A target that makes a request line of this many bytes."""
    return b"/" + b"a" * (size - len(b"GET / HTTP/1.1"))


def long_value(size: int) -> bytes:
    """A value that makes a field section of this many bytes, with the end of each line."""
    return b"b" * (size - len(HOST + KEY_FIELD + b"A: \r\n"))


def section(size: int) -> bytes:
    return b"GET / HTTP/1.1\r\n" + HOST + KEY_FIELD + b"A: " + long_value(size) + b"\r\n\r\n"


def many(count: int) -> bytes:
    """A request with this many fields."""
    return b"GET / HTTP/1.1\r\n" + HOST + KEY_FIELD + b"A: b\r\n" * (count - 2) + b"\r\n"


def sized(size: int) -> bytes:
    return framed(b"Content-Length: %d" % size, b"a" * size)


def chunks(*sizes: int) -> bytes:
    return framed(CHUNKED, b"".join(b"%x\r\n%b\r\n" % (size, b"a" * size) for size in sizes) + b"0\r\n\r\n")


def heads(line_limit: int, section_limit: int, count_limit: int) -> list[Case]:
    """What is within these limits of a head, and what is one byte or one field above them."""
    at = long_line(line_limit)
    return [
        Forwarded(f"a line of {line_limit}", line(b"GET " + at + b" HTTP/1.1"), b"GET " + at),
        Refused(f"a line of {line_limit + 1}", line(b"GET " + at + b"a HTTP/1.1"), LONG_LINE),
        Refused(f"a line of {line_limit + 1} in its query", line(b"GET /?" + at[1:] + b" HTTP/1.1"), LONG_LINE),
        Refused(f"a line of {2 * line_limit} without an end", b"GET " + at + at, LONG_LINE),
        Forwarded(
            f"fields of {section_limit}", section(section_limit), fields=b"A: " + long_value(section_limit) + b"\r\n"
        ),
        Refused(f"fields of {section_limit + 1}", section(section_limit + 1), LONG_SECTION),
        Refused(f"fields of {section_limit + 4} without an end", section(section_limit + 4)[:-4], LONG_SECTION),
        Forwarded(f"{count_limit} fields", many(count_limit), fields=b"A: b\r\n" * (count_limit - 2)),
        Refused(f"{count_limit + 1} fields", many(count_limit + 1), MANY_FIELDS),
    ]


@pytest.mark.parametrize("case", heads(300, 1024, 8), ids=lambda case: case.name)
def test_heads_by_settings(case: Case, tried: Tried) -> None:
    tried("limits", try_case(case, server=SMALL))


@pytest.mark.parametrize("case", heads(8192, 32_768, 100), ids=lambda case: case.name)
def test_heads_by_default(case: Case, tried: Tried) -> None:
    tried("limits", try_case(case))


BODIES: list[Case] = [
    Forwarded("a length of 10", sized(10), b"POST /", b"Content-Length: 10\r\n", b"a" * 10),
    Refused("a length of 11", sized(11), TOO_LARGE),
    Refused("a length of 18 digits", framed(b"Content-Length: 999999999999999999"), TOO_LARGE),
    Refused("a length of 11 that is announced", framed(b"Expect: 100-continue\r\nContent-Length: 11", b""), TOO_LARGE),
    Refused("a length of 11 and no key", sized(11).replace(KEY_FIELD, b""), TOO_LARGE),
    Refused("a length of 11 of GET", framed(b"Content-Length: 11", b"a" * 11, method=b"GET"), TOO_LARGE),
    Forwarded("chunks of 10", chunks(10), b"POST /", CHUNKED + b"\r\n", b"a" * 10),
    Forwarded("ten chunks of 1", chunks(*[1] * 10), b"POST /", CHUNKED + b"\r\n", b"a" * 10),
    Refused("a chunk of 11", chunks(11), TOO_LARGE, begins=True),
    Refused("eleven chunks of 1", chunks(*[1] * 11), TOO_LARGE, begins=True),
    Refused("a chunk of 16 digits", framed(CHUNKED, b"ffffffffffffffff\r\n" + b"a" * 11), TOO_LARGE, begins=True),
]


@pytest.mark.parametrize("case", BODIES, ids=lambda case: case.name)
def test_bodies_by_route(case: Case, tried: Tried) -> None:
    tried("limits", try_case(case, routes=[{"max_body_bytes": 10}]))


def test_no_body_at_all(tried: Tried) -> None:
    routes = [{"max_body_bytes": 0}]
    tried("limits", try_case(Refused("a byte", sized(1), TOO_LARGE), routes=routes))
    tried("limits", try_case(Refused("a chunk", chunks(1), TOO_LARGE, begins=True), routes=routes))
    empty = Forwarded("an empty one", framed(CHUNKED, b"0\r\n\r\n"), b"POST /", CHUNKED + b"\r\n")
    tried("limits", try_case(empty, routes=routes))
