"""What the upstream gets to see: never the credential, never a client's word for who it is, always the gateway's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.recording_upstream import RecordingUpstream
    from tests.e2e.site import Site
    from tests.e2e.wire import Message

ADMIN: Final = "jörg@exämple.com"
IDENTITY: Final = (
    "X-Consumer-ID",
    "X-Consumer-Username",
    "X-Consumer-Custom-ID",
    "X-Credential-Identifier",
    "X-Organization-ID",
    "X-Anonymous-Consumer",
)
OVERRIDES: Final = ("X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method", "X-Method-Override")


@pytest.fixture(scope="module")
def site(serve_module: Callable[..., Site], upstream_module: RecordingUpstream) -> Site:
    routes = [
        {"name": "required"},
        {"name": "optional", "path": "/optional", "auth": "optional"},
        {"name": "none", "path": "/none", "auth": "none"},
        {"name": "told", "path": "/told", "forward_credential": True},
        {"name": "overriding", "path": "/overriding", "allow_method_override": True},
        {"name": "hosted", "path": "/hosted", "preserve_host": True},
    ]
    return serve_module(upstream_module.url, routes, admin=ADMIN)


@pytest.fixture
def upstream(upstream_module: RecordingUpstream) -> RecordingUpstream:
    upstream_module.reset()
    return upstream_module


def _only(upstream: RecordingUpstream) -> Message:
    (seen,) = upstream.requests
    return seen


def _spellings(name: str) -> list[str]:
    """Names that some server or other takes for the same."""
    return [name, name.lower(), name.upper(), name.replace("-", "_"), name.lower().replace("-", "_"), name.swapcase()]


@pytest.mark.parametrize(
    "field",
    [
        "X-API-KEY: {}",
        "x-api-key: {}",
        "X-Api-Key:{}",
        "X-API-KEY: \t {} \t",
        "Authorization: Bearer {}",
        "authorization: bearer {}",
        "AUTHORIZATION: BEARER {}",
        "Authorization: bEaReR   {}",
    ],
)
def test_the_credential_is_accepted_and_goes_no_further(site: Site, upstream: RecordingUpstream, field: str) -> None:
    """In any case of name and scheme, with any blanks around it."""
    assert site.ask("GET / HTTP/1.1", field.format(site.secret)).status == 200
    seen = _only(upstream)
    assert site.secret.encode() not in seen.raw
    assert not seen.all("X-API-KEY")
    assert not seen.all("Authorization")


@pytest.mark.parametrize("path", ["/", "/optional", "/none"])
@pytest.mark.parametrize(
    "also",
    [
        ("Authorization: Bearer {}",),
        ("X_API_KEY: {}",),
        ("x_api_key: {}", "X-API_KEY: {}"),
        ("Connection: X-API-KEY",),
        ("Connection: close, x-api-key, authorization",),
    ],
)
def test_a_credential_said_twice_or_nominated_goes_no_further(
    site: Site, upstream: RecordingUpstream, path: str, also: tuple[str, ...]
) -> None:
    """Underscores for hyphens (WSGI and CGI cannot tell them apart), both fields at once, and names in Connection."""
    lines = [line.format(site.secret) for line in also]
    assert site.ask(f"GET {path} HTTP/1.1", f"X-API-KEY: {site.secret}", *lines).status == 200
    assert site.secret.encode() not in _only(upstream).raw


@pytest.mark.parametrize("field", ["X-API-KEY: {}", "X_API_KEY: {}", "Authorization: Bearer {}"])
def test_a_route_that_asks_for_no_key_strips_it_all_the_same(
    site: Site, upstream: RecordingUpstream, field: str
) -> None:
    assert site.ask("GET /none HTTP/1.1", field.format(site.secret)).status == 200
    assert site.secret.encode() not in _only(upstream).raw


def test_the_underscore_spelling_is_no_credential(site: Site, upstream: RecordingUpstream) -> None:
    assert site.ask("GET / HTTP/1.1", f"X_API_KEY: {site.secret}").json()["code"] == "missing_api_key"
    assert not upstream.requests


def test_an_authorization_that_is_no_key_of_ours_travels_on(site: Site, upstream: RecordingUpstream) -> None:
    """The upstream's own authentication, beside the gateway's."""
    for path, secret in (("/", site.secret), ("/none", None)):
        for value in ("Basic dXNlcjpwYXNz", "Bearer somebody.elses.token", "Digest username=x"):
            upstream.requests.clear()
            key = [f"X-API-KEY: {secret}"] if secret else []
            assert site.ask(f"GET {path} HTTP/1.1", f"Authorization: {value}", *key).status == 200
            assert _only(upstream).all("Authorization") == [value]


def test_two_different_keys_are_refused(site: Site, upstream: RecordingUpstream) -> None:
    other = site.issue().secret
    both = site.ask("GET / HTTP/1.1", f"X-API-KEY: {site.secret}", f"Authorization: Bearer {other}")
    assert both.status == 400
    twice = site.ask("GET / HTTP/1.1", f"X-API-KEY: {site.secret}", f"X-API-KEY: {site.secret}")
    assert twice.status == 400
    assert not upstream.requests


def test_a_route_may_let_the_upstream_see_the_key(site: Site, upstream: RecordingUpstream) -> None:
    assert site.ask("GET /told HTTP/1.1", f"X-API-KEY: {site.secret}").status == 200
    assert _only(upstream).all("X-API-KEY") == [site.secret]


@pytest.mark.parametrize("name", IDENTITY)
@pytest.mark.parametrize("path", ["/", "/optional", "/none"])
def test_forged_identity_never_reaches_the_upstream(
    site: Site, upstream: RecordingUpstream, path: str, name: str
) -> None:
    """In any spelling, repeated, and nominated in Connection; with a key and, where that is allowed, without."""
    keys = [[f"X-API-KEY: {site.secret}"], *([[]] if path != "/" else [])]
    for key in keys:
        for spelling in _spellings(name):
            for also in ([], [f"Connection: {name}"], [f"Connection: close, {spelling}"]):
                upstream.requests.clear()
                forged = [f"{spelling}: forged", f"{spelling}:forged"]
                assert site.ask(f"GET {path} HTTP/1.1", *forged, *also, *key).status == 200
                assert b"forged" not in _only(upstream).raw


def test_the_upstream_is_told_whose_key_it_was(site: Site, upstream: RecordingUpstream) -> None:
    """Each field once, whatever the client nominates in Connection; names are percent-encoded UTF-8."""
    made = site.made
    nominated = "Connection: " + ", ".join([*IDENTITY, "X-Request-ID", "X-Forwarded-For", "Host", "Content-Length"])
    for also in ((), (nominated,)):
        upstream.requests.clear()
        assert site.ask("GET / HTTP/1.1", f"X-API-KEY: {site.secret}", *also).status == 200
        seen = _only(upstream)
        assert seen.one("X-Consumer-ID") == made.member.id
        username = seen.one("X-Consumer-Username")
        assert username is not None
        assert username.isascii()
        assert unquote(username) == ADMIN
        assert username == quote(ADMIN, safe="@")
        assert seen.one("X-Credential-Identifier") == made.key.id
        assert seen.one("X-Organization-ID") == made.organization.id
        assert seen.one("X-Anonymous-Consumer") is None
        assert seen.one("Host") == upstream.authority
        assert seen.one("X-Request-ID")
        assert seen.one("X-Forwarded-For")


def test_nominating_the_length_does_not_change_the_framing(site: Site, upstream: RecordingUpstream) -> None:
    key = f"X-API-KEY: {site.secret}"
    nominated = "Connection: content-length, transfer-encoding, host"
    assert site.ask("POST / HTTP/1.1", key, nominated, "Content-Length: 5", body=b"hello").status == 200
    chunked = b"5\r\nhello\r\n0\r\n\r\n"
    assert site.ask("POST / HTTP/1.1", key, nominated, "Transfer-Encoding: chunked", body=chunked).status == 200
    assert [seen.body for seen in upstream.requests] == [b"hello", b"hello"]


def test_an_anonymous_request_is_marked_where_a_key_is_optional(site: Site, upstream: RecordingUpstream) -> None:
    assert site.ask("GET /optional HTTP/1.1").status == 200
    seen = _only(upstream)
    assert seen.one("X-Anonymous-Consumer") == "true"
    assert seen.one("X-Consumer-ID") is None
    upstream.requests.clear()
    assert site.get("/optional").status == 200
    assert _only(upstream).one("X-Anonymous-Consumer") is None
    assert _only(upstream).one("X-Consumer-ID") == site.made.member.id


@pytest.mark.parametrize("name", OVERRIDES)
def test_fields_that_change_the_request_behind_the_route_are_dropped(
    site: Site, upstream: RecordingUpstream, name: str
) -> None:
    for spelling in _spellings(name):
        upstream.requests.clear()
        assert site.ask("GET / HTTP/1.1", f"{spelling}: /admin", f"X-API-KEY: {site.secret}").status == 200
        assert b"/admin" not in _only(upstream).raw


def test_a_route_may_allow_method_overrides(site: Site, upstream: RecordingUpstream) -> None:
    asked = ("POST /overriding HTTP/1.1", "X-HTTP-Method-Override: PATCH", "Content-Length: 0")
    assert site.ask(*asked, f"X-API-KEY: {site.secret}").status == 200
    assert _only(upstream).all("X-HTTP-Method-Override") == ["PATCH"]


def test_what_a_client_says_of_its_way_here_is_overwritten(site: Site, upstream: RecordingUpstream) -> None:
    said = [
        *("X-Forwarded-For: 1.2.3.4", "X_Forwarded_For: 1.2.3.4", "X-Forwarded-For: 5.6.7.8"),
        *("X-Forwarded-Proto: gopher", "X-Forwarded-Host: evil.test", "Forwarded: for=1.2.3.4;host=evil.test"),
        *("X-Real-IP: 1.2.3.4", "X-Request-ID: mine", "X-Forwarded-Port: 1", "x_real_ip: 1.2.3.4"),
    ]
    answer = site.ask("GET / HTTP/1.1", "Host: Public.test:8080", *said, f"X-API-KEY: {site.secret}")
    seen = _only(upstream)
    assert seen.one("X-Forwarded-For") == "127.0.0.1"
    assert seen.one("X-Forwarded-Proto") == "http"
    assert (seen.one("X-Forwarded-Host") or "").lower() == "public.test:8080"
    assert (seen.one("Forwarded") or "").lower() == 'for=127.0.0.1;host="public.test:8080";proto=http'
    for lie in (b"1.2.3.4", b"5.6.7.8", b"evil.test", b"gopher", b"mine"):
        assert lie not in seen.raw
    assert seen.one("X-Request-ID") == answer.one("X-Request-ID")


def test_the_host_is_the_target_s_unless_the_route_keeps_the_client_s(site: Site, upstream: RecordingUpstream) -> None:
    for path, host in (("/", upstream.authority), ("/hosted", "public.test")):
        upstream.requests.clear()
        assert site.ask(f"GET {path} HTTP/1.1", "Host: public.test", f"X-API-KEY: {site.secret}").status == 200
        assert _only(upstream).one("Host") == host


def test_hop_by_hop_fields_go_no_further_in_either_direction(site: Site, upstream: RecordingUpstream) -> None:
    upstream.answer = lambda _: (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive, X-Inside\r\nX-Inside: 1\r\n"
        b"Keep-Alive: timeout=9\r\nProxy-Authenticate: Basic\r\nTrailer: X\r\nX-Kept: 1\r\n\r\n"
    )
    lines = [
        *("Connection: keep-alive, X-Only-Here", "X-Only-Here: 1", "Keep-Alive: 5", "TE: trailers"),
        *("Proxy-Authorization: Basic x", "Proxy-Connection: keep-alive", "Trailer: X", "X-Kept: 1"),
    ]
    answer = site.ask("GET / HTTP/1.1", *lines, f"X-API-KEY: {site.secret}")
    seen = _only(upstream)
    for message in (seen, answer):
        assert message.one("X-Kept") == "1"
        for name in ("X-Only-Here", "X-Inside", "Keep-Alive", "TE", "Trailer", "Proxy-Connection"):
            assert not message.all(name)
    assert not seen.all("Proxy-Authorization")
    assert not answer.all("Proxy-Authenticate")


def test_trailers_are_dropped(site: Site, upstream: RecordingUpstream) -> None:
    """They come after the checks, so they could say what fields may not."""
    upstream.answer = lambda _: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: from upstream\r\n\r\n"
    )
    with site.wire() as connection:
        chunked = b"5\r\nhello\r\n0\r\nX-Consumer-ID: forged\r\n\r\n"
        connection.send(
            *("POST / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}", "Connection: close"),
            *("Transfer-Encoding: chunked",),
            body=chunked,
        )
        answer = connection.read_rest()
    assert answer.endswith(b"\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    seen = _only(upstream)
    assert seen.body == b"hello"
    assert b"forged" not in seen.raw


@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.0", "websocket, h2c", "foo"])
def test_other_upgrades_are_dropped_and_the_request_goes_on(
    site: Site, upstream: RecordingUpstream, upgrade: str
) -> None:
    """Java's client offers h2c with every first request."""
    fields = (f"Upgrade: {upgrade}", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    assert site.ask("GET / HTTP/1.1", *fields, f"X-API-KEY: {site.secret}").status == 200
    seen = _only(upstream)
    for name in ("Upgrade", "Connection", "HTTP2-Settings"):
        assert not seen.all(name)


def test_every_answer_has_a_request_id_of_its_own(site: Site, upstream: RecordingUpstream) -> None:
    """Relayed ones the id that the upstream saw; the gateway's own one that its body repeats."""
    ids = []
    with site.wire() as connection:
        for _ in range(3):
            answer = connection.ask("GET / HTTP/1.1", f"X-API-KEY: {site.secret}")
            assert answer.one("X-Request-ID") == upstream.requests[-1].one("X-Request-ID")
            ids.append(answer.one("X-Request-ID"))
        refused = connection.ask("GET / HTTP/1.1")
        assert refused.one("X-Request-ID") == refused.json()["request_id"]
        ids.append(refused.one("X-Request-ID"))
    malformed = site.ask("GET / HTTP/1.1", "bad field: x")
    assert malformed.one("X-Request-ID") == malformed.json()["request_id"]
    ids.append(malformed.one("X-Request-ID"))
    assert len({*ids}) == 5
    assert all(re.fullmatch(r"[0-9a-f]{16,64}", each or "") for each in ids)


def test_an_upstream_s_request_id_does_not_replace_ours(site: Site, upstream: RecordingUpstream) -> None:
    upstream.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Request-ID: theirs\r\n\r\n"
    assert site.get().one("X-Request-ID") == _only(upstream).one("X-Request-ID")


def test_a_trusted_proxy_is_believed_and_appended_to(
    serve: Callable[..., Site], upstreams: Callable[..., RecordingUpstream]
) -> None:
    """And identity and credentials are its business no more than anybody else's."""
    upstream = upstreams()
    site = serve(upstream.url, SERVER__TRUSTED_PROXIES="127.0.0.0/8", SERVER__VIA="true")
    said = [
        *("X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Host: public.test"),
        *("Forwarded: for=1.2.3.4;proto=https", "X-Request-ID: from-the-edge", "Via: 1.1 edge"),
        "X-Consumer-ID: forged",
    ]
    answer = site.ask("GET / HTTP/1.1", *said, f"X-API-KEY: {site.secret}")
    seen = _only(upstream)
    assert seen.one("X-Forwarded-For") == "1.2.3.4, 127.0.0.1"
    assert seen.one("X-Forwarded-Proto") == "https"
    assert seen.one("X-Forwarded-Host") == "public.test"
    assert (seen.one("Forwarded") or "").startswith("for=1.2.3.4;proto=https, for=127.0.0.1;")
    assert seen.one("Via") == "1.1 edge, 1.1 keygate"
    assert seen.one("X-Request-ID") == answer.one("X-Request-ID") == "from-the-edge"
    assert b"forged" not in seen.raw


def test_no_log_and_no_refusal_repeats_a_secret(site: Site, upstream: RecordingUpstream) -> None:
    """Not even of the request that made the gateway complain."""
    upstream.answer = lambda _: b"nonsense\r\n\r\n"
    answers = [site.get(), site.get("/../" + site.secret), site.ask("GET / HTTP/1.1", f"X API KEY: {site.secret}")]
    assert [answer.status for answer in answers] == [502, 400, 400]
    assert all(site.secret.encode() not in answer.raw + answer.body for answer in answers)
    assert site.secret not in repr(site.running.records())
