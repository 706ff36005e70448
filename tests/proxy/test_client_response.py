"""A Location that points at the target is made to point at the gateway, and at nobody else."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest

from tests.proxy.harness import Gate, get


def location(value: bytes, *, route: dict[str, object] | None = None, target: str = "http://10.0.0.1:9000") -> str:
    """What a client gets for an upstream's Location."""
    gate = Gate(routes=[route or {}], upstream={"targets": [target]})
    client = gate.ask(get(b"/api/a"))
    gate.upstream.send(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + value + b"\r\n\r\n")
    (got,) = client.answer.all("location")
    return got


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"http://10.0.0.1:9000/a?b#c", "/a?b#c"),
        (b"HTTP://10.0.0.1:9000/a", "/a"),
        (b"http://10.0.0.1:9000", "/"),
        (b"http://10.0.0.1:9000/", "/"),
        (b"http://10.0.0.1:9000?a", "/?a"),
        (b"http://10.0.0.1:9000#a", "/#a"),
        (b"/a", "/a"),
        (b"a", "a"),
        (b"http://10.0.0.1/a", "http://10.0.0.1/a"),
        (b"http://10.0.0.1:90001/a", "http://10.0.0.1:90001/a"),
        (b"http://10.0.0.1:9000.evil.test/", "http://10.0.0.1:9000.evil.test/"),
        (b"http://10.0.0.1:9000@evil.test/", "http://10.0.0.1:9000@evil.test/"),
        (b"https://10.0.0.1:9000/a", "https://10.0.0.1:9000/a"),
        (b"http://other.test/a", "http://other.test/a"),
        (b"//10.0.0.1:9000/a", "/a"),
        (b"//10.0.0.1:9000", "/"),
        (b"//10.0.0.1:9000.evil.test/a", "//10.0.0.1:9000.evil.test/a"),
        (b"//other.test/a", "//other.test/a"),
    ],
)
def test_a_location_at_the_target_becomes_a_path(value: bytes, expected: str) -> None:
    assert location(value) == expected


@pytest.mark.parametrize("port", ["", ":80"])
def test_a_default_port_may_be_said_or_not(port: str) -> None:
    assert location(f"http://api.internal{port}/a".encode(), target="http://api.internal") == "/a"
    assert location(f"http://api.internal{port}/a".encode(), target="http://api.internal:80") == "/a"


def test_a_location_at_another_target_of_the_upstream_leads_back_too() -> None:
    gate = Gate(upstream={"targets": ["http://10.0.0.1:9000", "http://10.0.0.2:9000"]})
    client = gate.ask(get())
    gate.upstream.send(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://10.0.0.1:9000/a\r\n\r\n")
    other = gate.ask(get())
    gate.upstreams[1].send(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://10.0.0.1:9000/a\r\n\r\n")
    assert (client.answer.one("location"), other.answer.one("location")) == ("/a", "/a")


def test_a_stripped_prefix_comes_back() -> None:
    route: dict[str, object] = {"path": "/api", "strip_prefix": True}
    assert location(b"http://10.0.0.1:9000/a", route=route) == "/api/a"
    assert location(b"http://10.0.0.1:9000", route=route) == "/api/"
    assert location(b"http://10.0.0.1:9000?a", route=route) == "/api/?a"


def test_a_route_may_leave_locations_alone() -> None:
    assert location(b"http://10.0.0.1:9000/a", route={"rewrite_location": False}) == "http://10.0.0.1:9000/a"


@pytest.mark.parametrize(
    "rest",
    [
        b"//evil.test",
        b"///evil.test",
        b"/\\evil.test",
        b"/\t/evil.test",
        b"\\\\evil.test",
        b"/\\/evil.test",
        b"\t//evil.test",
    ],
)
@pytest.mark.parametrize("prefix", [None, "/api"])
def test_a_rewritten_location_never_leads_to_another_host(rest: bytes, prefix: str | None) -> None:
    """As browsers read it: backslashes are slashes, tabs are nothing (WHATWG URL, section 4.4)."""
    route: dict[str, object] | None = {"path": prefix, "strip_prefix": True} if prefix else None
    got = location(b"http://10.0.0.1:9000" + rest, route=route)
    read = got.replace("\\", "/").replace("\t", "")
    assert urlsplit(urljoin("http://gate.test/x", read)).hostname in {"gate.test", "10.0.0.1"}


def test_two_locations_are_no_response() -> None:
    gate = Gate()
    client = gate.ask(get())
    gate.upstream.send(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /a\r\nLocation: /b\r\n\r\n")
    assert client.answer.status == 502
