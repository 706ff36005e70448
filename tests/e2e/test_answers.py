"""The gateway's own answers, row by row: each status with its code, its challenge, and a body that says what to do."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.recording_upstream import RecordingUpstream
    from tests.e2e.site import Site
    from tests.e2e.wire import Message

    Eventually = Callable[[Callable[[], object]], None]


@pytest.fixture(scope="module")
def refusing() -> Iterator[str]:
    """An address where nobody listens, and nobody else can."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture(scope="module")
def site(serve_module: Callable[..., Site], upstream_module: RecordingUpstream, refusing: str) -> Site:
    default = {"targets": [upstream_module.url], "ejection_failures": 0}
    return serve_module(
        [
            {"name": "default", **default},
            {"name": "slow", **default, "head_timeout_seconds": 0.3, "body_timeout_seconds": 0.3},
            {"name": "refusing", "targets": [refusing]},
        ],
        [
            {"name": "orders", "path": "/orders", "permissions": ["orders:read", "orders:write"]},
            {"name": "reading", "path": "/reading", "methods": ["GET", "HEAD"]},
            {"name": "optional", "path": "/optional", "auth": "optional"},
            {"name": "small", "path": "/small", "max_body_bytes": 10},
            {"name": "everything", "path": "/some"},
            {"name": "slow", "path": "/slow", "upstream": "slow"},
            {"name": "refusing", "path": "/refusing", "upstream": "refusing"},
        ],
        AUTH__REALM="Acme API",
    )


@pytest.fixture
def upstream(upstream_module: RecordingUpstream) -> RecordingUpstream:
    upstream_module.reset()
    return upstream_module


def _problem(answer: Message, status: int, code: str) -> Message:
    """The shape that every answer of the gateway's own has."""
    body = answer.json()
    assert (answer.status, body["code"]) == (status, code)
    assert answer.one("Content-Type") == "application/problem+json"
    assert body["status"] == status
    assert body["request_id"] == answer.one("X-Request-ID")
    assert body["type"]
    assert body["title"]
    assert body["detail"]
    return answer


def _challenged(answer: Message, error: str) -> None:
    """A Bearer challenge with this error, and an ApiKey one."""
    bearer, api_key = answer.all("WWW-Authenticate")
    assert bearer.startswith('Bearer realm="Acme API"')
    assert api_key.startswith('ApiKey realm="Acme API"')
    assert (f'error="{error}"' in bearer) if error else ("error" not in bearer)


def test_no_key_is_missing(site: Site, upstream: RecordingUpstream) -> None:
    _challenged(_problem(site.ask("GET /some HTTP/1.1"), 401, "missing_api_key"), "")
    _challenged(_problem(site.ask("GET /some HTTP/1.1", "Authorization: Basic eDp5"), 401, "missing_api_key"), "")
    assert not upstream.requests


@pytest.mark.parametrize("path", ["/some", "/optional"])
@pytest.mark.parametrize(
    "key",
    [
        "x",
        "sk_short",
        "sk_" + "0" * 49,
        "sk_" + "0" * 600,
        "'; drop table keys; --",
        "\xff\xfe",
        "sk_SQGQ5vWp6mtkPEbSg7nuSDQY2dFpdzcZNg0q2ArmE4G2R7vqT",  # well-formed, of another gateway
    ],
)
def test_an_unknown_key_is_invalid_whatever_it_looks_like(
    site: Site, upstream: RecordingUpstream, path: str, key: str
) -> None:
    """Where a key is optional a bad one is refused all the same. A well-formed one is told that it is unknown here."""
    for field in ("X-API-KEY: ", "Authorization: Bearer "):
        answer = _problem(site.ask(f"GET {path} HTTP/1.1", field + key), 401, "invalid_api_key")
        _challenged(answer, "invalid_token")
        assert ("another gateway" in answer.json()["detail"]) == key.endswith("2R7vqT")
    assert not upstream.requests


def test_a_dead_key_is_told_why_it_is(site: Site, upstream: RecordingUpstream, eventually: Eventually) -> None:
    """Revoked, disabled and expired, to the holder of the whole secret."""
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    expiring = site.issue("expiring", expires=soon)
    revoked, disabled = site.issue("revoked"), site.issue("disabled")
    site.command.json("keys", "revoke", revoked.id, "--yes")
    site.command.json("keys", "disable", disabled.id)
    for key, code in ((revoked, "revoked_api_key"), (disabled, "disabled_api_key"), (expiring, "expired_api_key")):
        eventually(lambda key=key: site.get("/some", key.secret).status == 401)  # type: ignore[misc]
        upstream.requests.clear()
        _challenged(_problem(site.get("/some", key.secret), 401, code), "invalid_token")
        _challenged(_problem(site.get("/optional", key.secret), 401, code), "invalid_token")
    assert not upstream.requests


def test_a_key_without_every_permission_of_the_route_is_forbidden(site: Site, upstream: RecordingUpstream) -> None:
    for granted in ((), ("orders:read",), ("orders:write", "invoices:*"), ("order:*",)):
        key = site.issue("limited", permissions=granted)
        answer = _problem(site.get("/orders/7", key.secret), 403, "insufficient_permissions")
        _challenged(answer, "insufficient_scope")
    assert not upstream.requests
    for wide in (("orders:read", "orders:write"), ("orders:*",), ("*:read", "*:write"), ("*:*",), None):
        key = site.issue("wide", permissions=wide)
        assert site.get("/orders/7", key.secret).status == 200
    assert site.get("/some", site.issue("none", permissions=()).secret).status == 200


def test_no_route_is_not_found(site: Site) -> None:
    """With a key or without: what there is shows only in what the routes answer."""
    for path in ("/", "/nowhere", "/somewhere"):
        _problem(site.get(path), 404, "no_route")
        _problem(site.ask(f"GET {path} HTTP/1.1"), 404, "no_route")


def test_a_method_that_no_route_serves_is_named_with_those_that_are(site: Site) -> None:
    answer = _problem(site.ask("DELETE /reading HTTP/1.1", f"X-API-KEY: {site.secret}"), 405, "method_not_allowed")
    assert {each.strip() for each in (answer.one("Allow") or "").split(",")} == {"GET", "HEAD"}
    for method in ("TRACE", "CONNECT"):
        assert site.ask(f"{method} /some HTTP/1.1", f"X-API-KEY: {site.secret}").status == 405


def test_a_body_beyond_the_route_s_limit_is_refused(site: Site, upstream: RecordingUpstream) -> None:
    """Announced or chunked; one within it passes."""
    key = f"X-API-KEY: {site.secret}"
    assert site.ask("POST /small HTTP/1.1", key, "Content-Length: 10", body=b"0123456789").status == 200
    upstream.requests.clear()
    _problem(site.ask("POST /small HTTP/1.1", key, "Content-Length: 11", body=b"0123456789a"), 413, "body_too_large")
    chunked = b"b\r\n0123456789a\r\n0\r\n\r\n"
    _problem(site.ask("POST /small HTTP/1.1", key, "Transfer-Encoding: chunked", body=chunked), 413, "body_too_large")
    assert not upstream.requests


def test_a_refused_upload_gets_its_answer(site: Site) -> None:
    """The client is still sending when the answer goes out; a reset must not destroy it."""
    with site.wire() as connection:
        connection.send("POST /some HTTP/1.1", "Host: x", f"Content-Length: {4 << 20}", body=bytes(4 << 20))
        _problem(connection.read_answer(), 401, "missing_api_key")
        assert connection.read_rest() == b""


def test_an_answer_to_head_has_no_body(site: Site) -> None:
    with site.wire() as connection:
        answer = connection.ask("HEAD /some HTTP/1.1")
        assert (answer.status, answer.one("Content-Type")) == (401, "application/problem+json")
        assert connection.ask("GET /some HTTP/1.1").json()["code"] == "missing_api_key"  # the next, unharmed


def test_a_refusal_keeps_the_connection_and_a_malformed_request_ends_it(site: Site) -> None:
    with site.wire() as connection:
        assert connection.ask("GET /some HTTP/1.1").status == 401
        assert connection.ask("GET /nowhere HTTP/1.1").status == 404
        assert connection.ask("POST /some HTTP/1.1", "Content-Length: 3", body=b"abc").status == 401
        assert connection.ask("GET /some HTTP/1.1", f"X-API-KEY: {site.secret}").status == 200
        assert connection.ask("GET /some HTTP/1.1", "Content-Length: +1").status == 400
        assert connection.read_rest() == b""


def test_an_upstream_that_cannot_be_reached_is_a_502(site: Site) -> None:
    _problem(site.get("/refusing"), 502, "upstream_unreachable")


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
def test_an_answer_that_is_no_http_is_a_502_and_reaches_nobody(
    site: Site, upstream: RecordingUpstream, answer: bytes
) -> None:
    """Nor does any byte of it reach the client after."""
    upstream.answer = lambda _: answer
    with site.wire() as connection:
        _problem(connection.ask("GET /some HTTP/1.1", f"X-API-KEY: {site.secret}"), 502, "upstream_invalid_response")
        upstream.reset()
        assert connection.ask("GET /some HTTP/1.1", f"X-API-KEY: {site.secret}").json()["target"] == "/some"


@pytest.mark.parametrize("partial", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_a_connection_that_ends_before_the_answer_is_a_502(
    site: Site, upstream: RecordingUpstream, partial: bytes
) -> None:
    with upstream.by_hand() as take, site.wire() as connection:
        connection.send("POST /some HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}", "Content-Length: 1", body=b"x")
        _, upper = take()
        upper.socket.sendall(partial)
        upper.socket.shutdown(socket.SHUT_RDWR)
        _problem(connection.read_answer(), 502, "upstream_unreachable")


def test_an_upstream_that_says_nothing_is_a_504(site: Site, upstream: RecordingUpstream) -> None:
    with upstream.by_hand(), site.wire() as connection:
        answer = connection.ask("GET /slow HTTP/1.1", f"X-API-KEY: {site.secret}")
        _problem(answer, 504, "upstream_timeout")


def test_a_body_that_breaks_off_is_a_visible_abort(site: Site, upstream: RecordingUpstream) -> None:
    """No last chunk, no proper end: whether the upstream closes, breaks its own framing, or falls silent."""
    framings = {"Content-Length: 10": b"01234", "Transfer-Encoding: chunked": b"5\r\n01234\r\n"}
    for path in ("/some", "/slow"):
        for framing, part in framings.items():
            with upstream.by_hand() as take, site.wire() as connection:
                connection.send(f"GET {path} HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
                _, upper = take()
                upper.send("HTTP/1.1 200 OK", framing, body=part)
                connection.expect_head()
                assert connection.read_exactly(len(part)) == part
                if path == "/some":
                    upper.socket.shutdown(socket.SHUT_RDWR)
                assert connection.read_rest() == b""


def test_a_store_that_cannot_be_asked_is_a_503_and_never_a_401(
    serve: Callable[..., Site], upstreams: Callable[..., RecordingUpstream], eventually: Eventually
) -> None:
    """Known keys live on until their time is over; then they, and unknown ones at once, are told to try again.

    When the store is back, so are they, without a restart.
    """
    site = serve(upstreams().url, CACHE__POSITIVE_TTL_SECONDS="1", CACHE__NEGATIVE_TTL_SECONDS="1")
    assert site.get().status == 200
    away = site.store.with_name("away")
    os.replace(site.store, away)  # noqa: PTH105 - reads better beside its undoing
    site.store.write_bytes(b"this is no database " * 1000)
    try:
        eventually(lambda: site.get().status != 200)
        answer = _problem(site.get(), 503, "key_store_unavailable")
        assert int(answer.one("Retry-After") or 0) > 0
        other = "sk_SQGQ5vWp6mtkPEbSg7nuSDQY2dFpdzcZNg0q2ArmE4G2R7vqT"
        _problem(site.get("/", other), 503, "key_store_unavailable")
        _problem(site.ask("GET / HTTP/1.1"), 401, "missing_api_key")
    finally:
        os.replace(away, site.store)  # noqa: PTH105
    eventually(lambda: site.get().status == 200)
    assert site.get("/", other).json()["code"] == "invalid_api_key"


def test_generic_errors_tell_a_dead_key_from_an_unknown_one_to_nobody(
    serve: Callable[..., Site], upstreams: Callable[..., RecordingUpstream], eventually: Eventually
) -> None:
    site = serve(upstreams().url, AUTH__ERROR_DETAIL="generic")
    key = site.issue()
    site.command.json("keys", "revoke", key.id, "--yes")
    eventually(lambda: site.get("/", key.secret).status == 401)
    answer = _problem(site.get("/", key.secret), 401, "invalid_api_key")
    unknown = site.get("/", "sk_SQGQ5vWp6mtkPEbSg7nuSDQY2dFpdzcZNg0q2ArmE4G2R7vqT")
    same = [{**each.json(), "request_id": ""} for each in (answer, unknown)]
    assert same[0] == same[1]


def test_beyond_the_limits_it_is_a_503_at_once(
    serve: Callable[..., Site], upstreams: Callable[..., RecordingUpstream]
) -> None:
    """Requests in flight, and connections; what was there goes on."""
    upstream = upstreams()
    site = serve(upstream.url, SERVER__MAX_IN_FLIGHT="1", SERVER__MAX_CONNECTIONS="3")
    with upstream.by_hand() as take, site.wire() as first, site.wire() as second, site.wire() as third:
        first.send("GET / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
        _, upper = take()
        answer = _problem(second.ask("GET / HTTP/1.1", f"X-API-KEY: {site.secret}"), 503, "gateway_overloaded")
        assert int(answer.one("Retry-After") or 0) > 0
        assert third.ask("GET / HTTP/1.1").status == 503
        with site.wire() as fourth:
            assert fourth.read_answer().status == 503
        upper.send("HTTP/1.1 200 OK", "Content-Length: 2", body=b"ok")
        assert first.read_answer().body == b"ok"
