"""Which upstream a request goes to, with which path, and where its redirects lead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.recording_upstream import RecordingUpstream, response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.site import Site
    from tests.e2e.wire import Message


def _name(name: str) -> Callable[[Message], bytes]:
    return lambda request: response(f"{name} {request.method} {request.target}".encode())


@pytest.fixture(scope="module")
def others() -> Iterator[dict[str, RecordingUpstream]]:
    with RecordingUpstream(_name("one")) as one, RecordingUpstream(_name("two")) as two:
        yield {"one": one, "two": two}


@pytest.fixture(scope="module")
def site(serve_module: Callable[..., Site], others: dict[str, RecordingUpstream]) -> Site:
    return serve_module(
        [{"name": name, "targets": [upstream.url]} for name, upstream in others.items()],
        [
            {"name": "base"},
            {"name": "api", "path": "/api", "upstream": "two"},
            {"name": "api-v2", "path": "/api/v2"},
            {"name": "stripped", "path": "/stripped/deep", "strip_prefix": True},
            {"name": "any-case", "path": "/AnyCase", "case_insensitive": True, "upstream": "two"},
            {"name": "writing", "path": "/split", "methods": ["POST", "PUT"], "upstream": "two"},
            {"name": "reading", "path": "/split"},
            {"name": "raw", "path": "/raw", "normalize_path": False},
            {"name": "odd", "path": "/odd", "allow_encoded_slash": True, "allow_semicolon": True},
            {"name": "left", "path": "/left", "rewrite_location": False},
            {"name": "host", "hosts": ["api.example.com"], "upstream": "two"},
            {"name": "hosts", "hosts": ["*.example.com"], "path": "/sub", "upstream": "two"},
        ],
    )


@pytest.mark.parametrize(
    ("asked", "host", "answer"),
    [
        ("GET /", "any.test", "one GET /"),
        ("GET /?a=1&b=%2F..//", "any.test", "one GET /?a=1&b=%2F..//"),
        ("GET /api", "any.test", "two GET /api"),
        ("GET /api/", "any.test", "two GET /api/"),
        ("GET /api/v1/x", "any.test", "two GET /api/v1/x"),
        ("GET /api/v2", "any.test", "one GET /api/v2"),
        ("GET /api/v22", "any.test", "two GET /api/v22"),
        ("GET /apis", "any.test", "one GET /apis"),
        ("GET /API", "any.test", "one GET /API"),
        ("GET /%61pi/v1", "any.test", "two GET /api/v1"),
        ("GET //api//v1", "any.test", "two GET /api/v1"),
        ("GET /anycase/X", "any.test", "two GET /anycase/X"),
        ("POST /split", "any.test", "two POST /split"),
        ("GET /split", "any.test", "one GET /split"),
        ("GET /stripped/deep", "any.test", "one GET /"),
        ("GET /stripped/deep?q", "any.test", "one GET /?q"),
        ("GET /stripped/deep/x/y", "any.test", "one GET /x/y"),
        ("GET /stripped/deeper", "any.test", "one GET /stripped/deeper"),
        ("GET /raw/%7Ea//b", "any.test", "one GET /raw/%7Ea//b"),
        ("GET /odd/a%2fb;c=1", "any.test", "one GET /odd/a%2Fb;c=1"),
        ("GET /", "api.example.com", "two GET /"),
        ("GET /", "API.Example.com:8080", "two GET /"),
        ("GET /sub", "x.example.com", "two GET /sub"),
        ("GET /sub", "x.y.example.com", "two GET /sub"),
        ("GET /sub", "example.com", "one GET /sub"),
        ("GET /sub", "notexample.com", "one GET /sub"),
        ("GET /other", "x.example.com", "one GET /other"),
        ("GET http://api.example.com/abs", "api.example.com", "two GET /abs"),
        ("OPTIONS *", "api.example.com", "two OPTIONS *"),
        ("PROPFIND /", "any.test", "one PROPFIND /"),
    ],
)
def test_host_then_longest_path_then_method(site: Site, asked: str, host: str, answer: str) -> None:
    """Paths count by whole segments, in their plain spelling, which is also what the upstream gets."""
    reply = site.ask(f"{asked} HTTP/1.1", f"Host: {host}", f"X-API-KEY: {site.secret}")
    assert (reply.status, reply.body.decode()) == (200, answer)


@pytest.mark.parametrize(
    "target",
    [
        *("/a/../b", "/a/%2e%2e/b", "/a/%2E./b", "/./a"),
        *("/a%2fb", "/a%5cb", "/a\\b", "/a;b", "/a%00", "/a%zz", "/a%", "/a#b"),
    ],
)
def test_a_path_that_can_be_read_in_two_ways_is_refused(
    site: Site, others: dict[str, RecordingUpstream], target: str
) -> None:
    for upstream in others.values():
        upstream.requests.clear()
    assert site.ask(f"GET {target} HTTP/1.1", f"X-API-KEY: {site.secret}").status == 400
    assert not any(upstream.requests for upstream in others.values())


@pytest.mark.parametrize(
    ("path", "location", "expected"),
    [
        ("/", "{own}/next?x=1#y", "/next?x=1#y"),
        ("/", "{own}", "/"),
        ("/", "{own}?x", "/?x"),
        ("/stripped/deep/a", "{own}/next", "/stripped/deep/next"),
        ("/left", "{own}/next", "{own}/next"),
        ("/", "/next", "/next"),
        ("/", "next", "next"),
        ("/", "https://elsewhere.test/next", "https://elsewhere.test/next"),
        ("/", "{own}0/next", "{own}0/next"),
        ("/", "{own}.evil.test/", "{own}.evil.test/"),
        ("/", "{own}//evil.test/", "{own}//evil.test/"),
    ],
)
def test_a_location_at_the_target_leads_back_to_the_gateway(
    site: Site, others: dict[str, RecordingUpstream], path: str, location: str, expected: str
) -> None:
    """One that leads elsewhere is nobody's to change, and none is changed into another host."""
    upstream = others["one"]
    sent = location.format(own=upstream.url)
    upstream.answer = lambda _: response(b"", f"Location: {sent}", status="302 Found")
    try:
        assert site.get(path).one("Location") == expected.format(own=upstream.url)
    finally:
        upstream.answer = _name("one")
