"""The route of a request: the most specific host, then the longest path on whole segments, then the method."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policies.refusal import Refusal
from tests.proxy.harness import Gate, get
from tests.proxy.profiles import scaled


def found(routes: list[dict[str, Any]], host: str, path: str, method: str = "GET") -> int | str:
    """The number of the route, or the code of the refusal."""
    match = Gate(routes=routes).worker.routes.match(host.encode(), method.encode(), path.encode())
    return match.code if isinstance(match, Refusal) else int(match.settings.name[1:])


PATHS: list[dict[str, Any]] = [{"path": "/"}, {"path": "/a"}, {"path": "/a/b"}, {"path": "/a/b/c/d"}, {"path": "/x"}]


@pytest.mark.parametrize(
    ("path", "number"),
    [
        *(("/", 0), ("/b", 0), ("/ab", 0), ("/A", 0), ("/a", 1), ("/a/", 1), ("/a/c", 1), ("/a/bc", 1)),
        *(("/a/b", 2), ("/a/b/", 2), ("/a/b/c", 2), ("/a/b/c/", 2), ("/a/b/c/dd", 2)),
        *(("/a/b/c/d", 3), ("/a/b/c/d/e/f/g", 3), ("/x", 4), ("/x/y", 4), ("/xy", 0)),
    ],
)
def test_the_longest_path_on_whole_segments(path: str, number: int) -> None:
    assert found(PATHS, "h", path) == number


HOSTS: list[dict[str, Any]] = [
    {},
    {"hosts": ["example.com"]},
    {"hosts": ["*.example.com"]},
    {"hosts": ["*.api.example.com", "other.test"]},
    {"hosts": ["example.com"], "path": "/a"},
    {"hosts": ["[2001:db8::1]"], "path": "/"},
]


@pytest.mark.parametrize(
    ("host", "path", "number"),
    [
        *(("unknown.test", "/", 0), ("example.com", "/", 1), ("example.com:8080", "/b", 1), ("example.com", "/a/b", 4)),
        *(("a.example.com", "/", 2), ("a.b.example.com", "/", 2), ("api.example.com", "/", 2)),
        *(("x.api.example.com", "/", 3), ("other.test:1", "/", 3), ("notexample.com", "/", 0), ("", "/", 0)),
        *(("[2001:db8::1]:80", "/", 5), ("[2001:db8::2]", "/", 0)),
    ],
)
def test_the_most_specific_host(host: str, path: str, number: int) -> None:
    assert found(HOSTS, host, path) == number


def test_a_host_without_a_fitting_path_leaves_it_to_a_less_specific_one() -> None:
    routes: list[dict[str, Any]] = [
        {"hosts": ["a.test"], "path": "/only"},
        {"hosts": ["*.test"], "path": "/wide"},
        {"path": "/any"},
    ]
    assert found(routes, "a.test", "/only") == 0
    assert found(routes, "a.test", "/wide") == 1
    assert found(routes, "a.test", "/any") == 2
    assert found(routes, "a.test", "/none") == "no_route"


def test_the_host_of_a_request_is_compared_in_any_case_and_without_its_port() -> None:
    gate = Gate(routes=[{"hosts": ["api.test"]}])
    for host in (b"API.Test", b"api.test:8080"):
        gate.ask(get().replace(b"api.test", host))
    assert len(gate.upstreams) == 2


def test_a_trailing_dot_of_a_host_walks_around_no_rule() -> None:
    """`api.test.` is `api.test` to a resolver; a route for it must not be left for one that asks for less."""
    gate = Gate(routes=[{"auth": "none"}, {"hosts": ["api.test"], "auth": "required"}])
    client = gate.ask(b"GET / HTTP/1.1\r\nHost: api.test.\r\n\r\n")
    assert client.answer.status in {400, 401}


def test_a_method_that_the_longest_path_does_not_serve_is_405_never_a_shorter_path() -> None:
    routes: list[dict[str, Any]] = [
        {"path": "/"},
        {"path": "/a", "methods": ["GET"]},
        {"path": "/a", "methods": ["PUT", "GET"]},
    ]
    with pytest.raises(AssertionError):
        assert found(routes, "h", "/a", "DELETE") == 0
    assert found(routes, "h", "/a", "DELETE") == "method_not_allowed"
    assert found(routes, "h", "/a", "get") == "method_not_allowed"


def test_a_route_for_the_method_comes_before_one_for_all() -> None:
    routes: list[dict[str, Any]] = [{"path": "/a"}, {"path": "/a", "methods": ["PUT"]}]
    assert found(routes, "h", "/a", "PUT") == 1
    assert found(routes, "h", "/a", "GET") == 0


def test_case_counts_unless_the_route_says_otherwise() -> None:
    routes: list[dict[str, Any]] = [{"path": "/"}, {"path": "/Admin", "case_insensitive": True}, {"path": "/Case"}]
    assert found(routes, "h", "/aDMIN/x") == 1
    assert found(routes, "h", "/case") == 0
    assert found(routes, "h", "/Case") == 2


SEGMENT = st.sampled_from(["a", "b", "c", "A"])
PATH = st.lists(SEGMENT, max_size=4).map(lambda segments: "/" + "/".join(segments))


@settings(max_examples=scaled(100), deadline=None)
@given(st.lists(PATH, min_size=1, max_size=6, unique=True), PATH)
def test_the_table_finds_what_a_search_through_all_routes_finds(prefixes: list[str], path: str) -> None:
    fitting = [each for each in prefixes if each in {"/", path} or path.startswith(each + "/")]
    expected = prefixes.index(max(fitting, key=len)) if fitting else "no_route"
    assert found([{"path": each} for each in prefixes], "h", path) == expected
