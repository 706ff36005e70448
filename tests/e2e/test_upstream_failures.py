"""What clients see of upstreams that restart, fail or are ill: as little as can be, and nothing done twice."""

from __future__ import annotations

import collections
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.e2e.recording_upstream import RecordingUpstream, response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.site import Site
    from tests.e2e.wire import Message

    Upstreams = Callable[..., RecordingUpstream]
    Eventually = Callable[[Callable[[], object]], None]


@pytest.fixture(scope="module")
def site(serve_module: Callable[..., Site], upstream_module: RecordingUpstream) -> Site:
    settings = {"name": "default", "targets": [upstream_module.url], "idle_timeout_seconds": 60}
    return serve_module([{**settings, "ejection_failures": 0}])


@pytest.fixture
def upstream(upstream_module: RecordingUpstream) -> Iterator[RecordingUpstream]:
    upstream_module.reset()
    yield upstream_module
    upstream_module.cut()


def _named(name: str) -> Callable[[Message], bytes]:
    return lambda _: response(name.encode())


def test_after_a_restart_of_the_upstream_no_request_fails(site: Site, upstream: RecordingUpstream) -> None:
    """Its idle connections are gone; the next request goes out on a new one, which serves the one after that too."""
    body = ("Content-Length: 1",)
    with site.wire() as client:
        for _ in range(20):
            upstream.cut()
            assert client.ask("GET / HTTP/1.1", f"X-API-KEY: {site.secret}").status == 200
            assert client.ask("POST / HTTP/1.1", f"X-API-KEY: {site.secret}", *body, body=b"x").status == 200
    assert len(upstream.requests) == 40


class _DiesOnReuse:
    """Answers the first request of every connection, and closes it when the next one comes."""

    def __init__(self) -> None:
        self.seen: collections.Counter[str] = collections.Counter()
        self._warm = True

    def __call__(self, request: Message) -> bytes:
        self.seen[request.target] += 1
        if request.target == "/warm":
            return response(b"warm")
        if self.seen[request.target] == 1:
            return b""
        return response(b"")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_an_idempotent_request_that_met_a_dying_connection_is_sent_again(
    site: Site, upstream: RecordingUpstream, method: str
) -> None:
    """Once, on a fresh connection, and the client sees nothing of it: the request had no body, the answer no byte."""
    upstream.answer = dies = _DiesOnReuse()
    assert site.get("/warm").status == 200
    connections = upstream.connections
    assert site.ask(f"{method} /x HTTP/1.1", f"X-API-KEY: {site.secret}").status == 200
    assert dies.seen["/x"] == 2
    assert upstream.connections == connections + 1


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("POST /x HTTP/1.1", ("Content-Length: 1",)),
        ("POST /x HTTP/1.1", ("Content-Length: 0",)),
        ("POST /x HTTP/1.1", ()),
        ("PATCH /x HTTP/1.1", ()),
        ("PUT /x HTTP/1.1", ("Content-Length: 1",)),
        ("PUT /x HTTP/1.1", ("Transfer-Encoding: chunked",)),
    ],
)
def test_what_may_have_had_an_effect_is_never_sent_twice(
    site: Site, upstream: RecordingUpstream, line: str, fields: tuple[str, ...]
) -> None:
    """A POST, and anything whose body has left: the client is told, and decides."""
    upstream.answer = dies = _DiesOnReuse()
    body = b"1\r\nx\r\n0\r\n\r\n" if "Transfer-Encoding: chunked" in fields else b"x" * ("Content-Length: 1" in fields)
    assert site.get("/warm").status == 200
    answer = site.ask(line, f"X-API-KEY: {site.secret}", *fields, body=body)
    assert (answer.status, answer.json()["code"]) == (502, "upstream_unreachable")
    assert dies.seen["/x"] == 1


def test_a_request_is_sent_again_only_once_and_never_on_a_fresh_connection(
    site: Site, upstream: RecordingUpstream
) -> None:
    seen = []

    def answer(request: Message) -> bytes:
        seen.append(request.target)
        return response(b"warm") if request.target == "/warm" else b""

    upstream.answer = answer
    assert site.get("/warm").status == 200
    assert site.get("/reused").status == 502
    assert site.get("/fresh").status == 502
    assert seen == ["/warm", "/reused", "/reused", "/fresh"]


def test_a_request_whose_answer_had_begun_is_not_sent_again(site: Site, upstream: RecordingUpstream) -> None:
    assert site.get("/warm").status == 200
    with upstream.by_hand() as take, site.wire() as client:
        # The pooled connection is with the test only from its next request on, so this one may come on either.
        client.send("GET /x HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
        _, upper = take()
        upper.socket.sendall(b"HTTP/1.1 200 OK\r\nContent-")
        upper.socket.shutdown(socket.SHUT_RDWR)
        assert client.read_answer().status == 502


def test_an_idle_connection_that_talks_is_not_used_again(
    site: Site, upstream: RecordingUpstream, eventually: Eventually
) -> None:
    """A late answer must not become that of the next request: the connection is closed as soon as it comes."""
    upstream.answer = lambda _: response(b"mine")
    for _ in range(20):
        assert site.get().body == b"mine"
        upstream.say_unasked(response(b"somebody else's"))
        eventually(lambda: not upstream.open)
        assert site.get().body == b"mine"


@pytest.fixture
def dead() -> Iterator[str]:
    """A target that refuses every connection."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_a_dead_target_costs_no_request_and_is_left_out(
    serve: Callable[..., Site], upstreams: Upstreams, dead: str
) -> None:
    """A POST too: nothing was sent. After five failures in a row the target is not even tried."""
    live = upstreams()
    site = serve([{"name": "pair", "targets": [dead, live.url], "ejection_seconds": 3600}])
    for _ in range(30):
        asked = ("POST / HTTP/1.1", f"X-API-KEY: {site.secret}", "Content-Length: 1")
        assert site.ask(*asked, body=b"x").status == 200
    site.running.logged(f"target {dead.removeprefix('http://')} of upstream pair failed 5 times in a row")
    tried = [record for record in site.running.records() if "upstream pair, target" in record["message"]]
    assert 1 <= len(tried) <= 5  # one a second is told
    assert len(live.requests) == 30


def test_a_target_that_fails_its_requests_is_left_out_for_a_while(
    serve: Callable[..., Site], upstreams: Upstreams, eventually: Eventually
) -> None:
    """As many fail as the settings say, then the others serve all, until it may try again."""
    good, bad = upstreams(_named("good")), upstreams(lambda _: b"nonsense\r\n\r\n")
    settings = {"name": "pair", "targets": [good.url, bad.url], "ejection_failures": 3, "ejection_seconds": 1}
    site = serve([settings])
    statuses = collections.Counter(site.get().status for _ in range(8))
    assert statuses == {200: 5, 502: 3}
    bad.answer = _named("mended")
    eventually(lambda: site.get().body == b"mended")
    assert {site.get().body for _ in range(4)} == {b"good", b"mended"}


def test_round_robin_takes_turns(serve: Callable[..., Site], upstreams: Upstreams) -> None:
    site = serve([{"name": "three", "targets": [upstreams(_named(name)).url for name in "abc"]}])
    names = [site.get().body for _ in range(9)]
    assert {*names} == {b"a", b"b", b"c"}
    assert names[:3] == names[3:6] == names[6:]


def test_least_in_flight_goes_to_whoever_has_least_to_do(serve: Callable[..., Site], upstreams: Upstreams) -> None:
    """Held requests pile up on no target while another is free; none is free: they spread."""
    gate = threading.Event()

    def held(name: str) -> Callable[[Message], bytes]:
        def answer(request: Message) -> bytes:
            if request.target == "/held":
                gate.wait()
            return response(name.encode())

        return answer

    targets = [upstreams(held(name)) for name in "abc"]
    site = serve([{"name": "three", "targets": [each.url for each in targets], "balance": "least_in_flight"}])
    waiting = [site.wire(), site.wire()]
    try:
        for count, client in enumerate(waiting, 1):
            client.send("GET /held HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
            while sum(seen.target == "/held" for each in targets for seen in each.requests) < count:
                pass
        busy = {name for name, each in zip(b"abc", targets, strict=True) if each.requests}
        assert len(busy) == 2
        (free,) = {*b"abc"} - busy
        assert {site.get().body for _ in range(12)} == {bytes([free])}
        gate.set()
        assert {each.read_answer().status for each in waiting} == {200}
    finally:
        gate.set()
        for client in waiting:
            client.close()
    assert {site.get().body for _ in range(12)} == {b"a", b"b", b"c"}


def test_a_target_that_says_it_is_ill_gets_no_requests_until_it_is_well(
    serve: Callable[..., Site], upstreams: Upstreams, eventually: Eventually
) -> None:
    """Asked at its health path, before any client's request fails. All ill: they are used all the same."""
    ill = {"a": False, "b": False}

    def target(name: str) -> Callable[[Message], bytes]:
        def answer(request: Message) -> bytes:
            if request.target == "/health":
                return response(status="503 Service Unavailable" if ill[name] else "200 OK")
            return response(name.encode())

        return answer

    targets = [upstreams(target(name)).url for name in ill]
    health = {"health_path": "/health", "health_interval_seconds": 0.25, "health_timeout_seconds": 0.25}
    site = serve([{"name": "pair", "targets": targets, **health}])

    def seen() -> set[bytes]:
        return {site.get().body for _ in range(6)}

    eventually(lambda: seen() == {b"a", b"b"})
    ill["a"] = True
    eventually(lambda: seen() == {b"b"})
    ill["a"] = False
    eventually(lambda: seen() == {b"a", b"b"})
    ill.update(a=True, b=True)
    eventually(lambda: len([r for r in site.running.records() if "unhealthy" in r["message"]]) >= 3)
    assert site.get().status == 200
