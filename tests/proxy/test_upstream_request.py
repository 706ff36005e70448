"""What goes upstream: the client's end-to-end fields as they were, and of everything else the gateway's word alone."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import KEY_FIELD, OK, OTHER_SECRET, SECRET, Gate, error_of, get, post

if TYPE_CHECKING:
    from tests.proxy.wire_reader import Message

IDENTITY = [
    *("X-Consumer-ID", "X-Consumer-Username", "X-Consumer-Custom-ID", "X-Credential-Identifier", "X-Organization-ID"),
    *("X-Anonymous-Consumer", "X-Consumer-Groups"),
]
OVERRIDES = [
    *("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL"),
    *("X-Original-Method", "X-Original-URI", "X-Forwarded-Uri"),
]


def forwarded(
    fields: bytes, *, route: dict[str, object] | None = None, server: dict[str, object] | None = None
) -> Message:
    """The request that goes upstream for a GET with these fields."""
    gate = Gate(routes=[route or {}], server=server)
    gate.ask(get(fields=fields))
    assert b"forged" not in gate.upstream.received
    return gate.upstream.request


def spellings(name: str) -> list[str]:
    """A name as it might be smuggled past a comparison."""
    return [
        name,
        name.lower(),
        name.upper(),
        name.replace("-", "_"),
        name.lower().replace("-", "_", 1),
        name.swapcase(),
    ]


# --- identity and credential ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["required", "optional", "none"])
@pytest.mark.parametrize("name", IDENTITY)
def test_a_clients_identity_fields_never_reach_the_upstream(name: str, auth: str) -> None:
    for spelt in spellings(name):
        key = KEY_FIELD if auth == "required" else b""
        forwarded(key + f"{spelt}: forged\r\n".encode(), route={"auth": auth})


def test_the_keys_identity_is_told() -> None:
    gate = Gate()
    gate.store.put(
        SECRET,
        key_id="key_9",
        owner_id="mem_7",
        owner_name="Zoë, 50% off\r\n",
        owner_external_id="crm 1",
        organization_id="org_3",
    )
    gate.ask(get())
    request = gate.upstream.request
    assert request.all("x-consumer-id") == ["mem_7"]
    assert request.all("x-consumer-username") == ["Zo%C3%AB, 50%25 off%0D%0A"]
    assert request.all("x-consumer-custom-id") == ["crm 1"]
    assert request.all("x-credential-identifier") == ["key_9"]
    assert request.all("x-organization-id") == ["org_3"]
    assert request.all("x-anonymous-consumer") == []


def test_an_anonymous_request_is_called_so() -> None:
    request = forwarded(b"", route={"auth": "optional"})
    assert request.all("x-anonymous-consumer") == ["true"]
    assert request.all("x-consumer-id") == []
    assert forwarded(b"", route={"auth": "none"}).all("x-anonymous-consumer") == []


CREDENTIALS = [
    b"X-API-KEY: %b",
    b"x-api-key:%b",
    b"X_API_KEY: %b",
    b"X-API_KEY: %b",
    b"Authorization: Bearer %b",
    b"authorization: bEARER   %b",
    b"Authorization: Bearer\t%b",
    b"Authorization: Bearer \t %b",
    b"Authorization: %b",
    b"Proxy-Authorization: Bearer %b",
]


@pytest.mark.parametrize("auth", ["required", "optional", "none"])
@pytest.mark.parametrize("way", CREDENTIALS)
def test_the_credential_never_reaches_the_upstream(way: bytes, auth: str) -> None:
    """However it was sent: alone, or beside the key that counts."""
    for beside in (b"", KEY_FIELD):
        gate = Gate(routes=[{"auth": auth}])
        gate.ask(get(fields=beside + way % SECRET + b"\r\n"))
        for upstream in gate.upstreams:
            assert SECRET not in upstream.received
            assert upstream.request.all("x-api-key") == []


def test_only_a_route_that_says_so_forwards_the_credential() -> None:
    route: dict[str, object] = {"forward_credential": True}
    assert forwarded(KEY_FIELD, route=route).all("x-api-key") == [SECRET.decode()]
    bearer = forwarded(b"Authorization: Bearer " + SECRET + b"\r\n", route=route)
    assert bearer.all("authorization") == [f"Bearer {SECRET.decode()}"]


@pytest.mark.parametrize(
    "value", [b"Basic " + base64.b64encode(b"user:pass"), b"Bearer eyJhbGciOi.J9.x", b"AWS4-HMAC-SHA256 a=b"]
)
def test_an_authorization_that_is_none_of_ours_travels_on_untouched(value: bytes) -> None:
    request = forwarded(KEY_FIELD + b"Authorization: " + value + b"\r\n")
    assert request.all("authorization") == [value.decode()]
    assert forwarded(b"Authorization: Basic abc\r\n", route={"auth": "none"}).all("authorization") == ["Basic abc"]


def test_a_key_that_another_gateway_of_ours_issued_is_a_conflict_not_a_passenger() -> None:
    gate = Gate()
    client = gate.ask(get(fields=KEY_FIELD + b"Authorization: Bearer " + OTHER_SECRET + b"\r\n"))
    assert client.answer.status == 400
    assert not gate.upstreams


# --- hop by hop -------------------------------------------------------------------------------------------------------


def test_hop_by_hop_fields_and_what_connection_names_go_no_further() -> None:
    request = forwarded(
        KEY_FIELD + b"Connection: X-Private, keep-alive\r\nX-Private: forged\r\nx-private: forged\r\n"
        b"Keep-Alive: forged\r\nTE: trailers\r\n"
        b"Trailer: forged\r\nProxy-Connection: forged\r\nProxy-Authenticate: forged\r\n"
        b"HTTP2-Settings: forged\r\nX-Public: a\r\n"
    )
    assert request.all("connection") == []
    assert request.all("te") == []
    assert request.all("x-public") == ["a"]


@pytest.mark.parametrize(
    "named",
    [
        "Host",
        "X-Consumer-ID",
        "X-Credential-Identifier",
        "X-Forwarded-For",
        "Forwarded",
        "X-Request-ID",
        "X-API-KEY",
        "Authorization",
    ],
)
def test_naming_the_gateways_own_fields_in_connection_changes_nothing(named: str) -> None:
    request = forwarded(KEY_FIELD + f"Connection: {named}, close\r\n".encode())
    for name in ("host", "x-consumer-id", "x-credential-identifier", "x-forwarded-for", "forwarded", "x-request-id"):
        assert len(request.all(name)) == 1, name


@pytest.mark.parametrize("named", [b"Content-Length", b"content-length, close"])
def test_naming_the_framing_in_connection_changes_nothing(named: bytes) -> None:
    gate = Gate()
    gate.ask(post(b"hello", fields=KEY_FIELD + b"Connection: " + named + b"\r\n"))
    assert gate.upstream.request.body == b"hello"
    gate = Gate()
    gate.ask(
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n"
        + KEY_FIELD
        + b"\r\n1\r\na\r\n0\r\n\r\n"
    )
    assert gate.upstream.request.body == b"a"


@pytest.mark.parametrize("name", ["Content_Length", "Transfer_Encoding", "HOST_", "Content-length_"])
def test_framing_spelt_with_underscores_steers_nobody(name: str) -> None:
    gate = Gate()
    value = "chunked" if "ransfer" in name else "5"
    gate.ask(get(fields=KEY_FIELD + f"{name}: {value}\r\n".encode()) + get(b"/second"))
    assert gate.upstream.request.target == b"/"
    if not name.endswith("_"):
        assert gate.upstream.request.all(name) == []


@pytest.mark.parametrize("value", [b"h2c", b"TLS/1.0", b"websocket, h2c", b"WebSocket/13"])
def test_an_upgrade_to_anything_but_a_websocket_is_dropped_and_the_request_goes_on(value: bytes) -> None:
    request = forwarded(
        KEY_FIELD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + value + b"\r\nHTTP2-Settings: forged\r\n"
    )
    assert request.all("upgrade") == []
    assert request.all("connection") == []


def test_a_websocket_with_a_body_or_of_another_method_is_an_ordinary_request() -> None:
    fields = KEY_FIELD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    gate = Gate()
    gate.ask(post(b"hello", fields=fields))
    assert gate.upstream.request.all("upgrade") == []
    gate = Gate()
    gate.ask(get(fields=fields + b"Content-Length: 5\r\n") + b"hello")
    assert gate.upstream.request.all("upgrade") == []
    assert gate.upstream.request.body == b"hello"


def test_a_websocket_is_asked_for_anew() -> None:
    request = forwarded(
        KEY_FIELD + b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: a\r\n"
    )
    assert request.all("upgrade") == ["websocket"]
    assert request.all("connection") == ["Upgrade"]
    assert request.all("sec-websocket-key") == ["a"]


# --- other fields -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OVERRIDES)
def test_overrides_of_method_and_url_are_dropped_unless_the_route_allows_them(name: str) -> None:
    for spelt in spellings(name):
        forwarded(KEY_FIELD + f"{spelt}: forged\r\n".encode())
    request = forwarded(KEY_FIELD + f"{name}: DELETE\r\n".encode(), route={"allow_method_override": True})
    assert request.all(name) == ["DELETE"]


def test_ordinary_fields_travel_on_as_they_are_and_in_order() -> None:
    fields = b"Accept: */*\r\nCookie: a=b; c=d\r\nx_custom: 1\r\nX-Dup: 1\r\nX-Dup: 2\r\n"
    fields += b"User-Agent: t\xe9st/1\r\nRange: bytes=0-\r\n"
    request = forwarded(fields + KEY_FIELD)
    assert b"".join(b"%b: %b\r\n" % each for each in request.fields[1:8]) == fields


def test_host_is_the_targets_unless_the_route_preserves_it() -> None:
    assert forwarded(KEY_FIELD).all("host") == ["10.0.0.1:9000"]
    assert forwarded(KEY_FIELD, route={"preserve_host": True}).all("host") == ["api.test"]


def test_a_prefix_is_stripped_on_whole_segments() -> None:
    for path, expected in {
        b"/api": b"/",
        b"/api/": b"/",
        b"/api/a?b": b"/a?b",
        b"/%61pi/a": b"/a",
        b"//api//a": b"/a",
    }.items():
        gate = Gate(routes=[{"path": "/api", "strip_prefix": True}])
        gate.ask(get(path))
        assert gate.upstream.request.target == expected
    gate = Gate(routes=[{"path": "/api", "strip_prefix": True}])
    assert gate.ask(get(b"/apix")).answer.status == 404


def test_http_1_0_goes_on_as_1_1() -> None:
    gate = Gate()
    gate.ask(b"GET /a HTTP/1.0\r\n" + KEY_FIELD + b"\r\n")
    assert gate.upstream.request.target == b"/a"


# --- what is said of the client ---------------------------------------------------------------------------------------


def test_a_clients_forwarding_fields_are_overwritten() -> None:
    for name in (
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "Forwarded",
        "X-Real-IP",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
    ):
        for spelt in spellings(name):
            forwarded(KEY_FIELD + f"{spelt}: forged\r\n".encode())
    request = forwarded(KEY_FIELD)
    assert request.all("x-forwarded-for") == ["192.0.2.7"]
    assert request.all("x-forwarded-proto") == ["http"]
    assert request.all("x-forwarded-host") == ["api.test"]
    assert request.all("forwarded") == ['for=192.0.2.7;host="api.test";proto=http']


def test_a_trusted_proxys_forwarding_fields_are_appended_to() -> None:
    request = forwarded(
        KEY_FIELD + b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: shop.test\r\nForwarded: for=203.0.113.9;proto=https\r\n",
        server={"trusted_proxies": ["192.0.2.0/24"]},
    )
    assert request.all("x-forwarded-for") == ["203.0.113.9, 198.51.100.1, 192.0.2.7"]
    assert request.all("x-forwarded-proto") == ["https"]
    assert request.all("x-forwarded-host") == ["shop.test"]
    assert request.all("forwarded") == ['for=203.0.113.9;proto=https, for=192.0.2.7;host="api.test";proto=http']


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("2001:db8::7", 'for="[2001:db8::7]"'),
        ("::ffff:192.0.2.7", "for=192.0.2.7"),
        ("fe80::1%eth0", 'for="[fe80::1]"'),
    ],
)
def test_addresses_are_written_as_the_standard_has_them(address: str, expected: str) -> None:
    gate = Gate(server={"trusted_proxies": ["2001:db8::/32"]})
    gate.client(address).send(get())
    forwarded_element = gate.upstream.request.one("forwarded")
    assert forwarded_element is not None
    assert forwarded_element.startswith(expected + ";")


def test_the_host_told_is_each_requests_own() -> None:
    gate = Gate()
    client = gate.client()
    for name in (b"a.test", b"b.test", b"a.test", b"B.test:8080"):
        client.send(b"GET / HTTP/1.1\r\nHost: " + name + b"\r\n" + KEY_FIELD + b"\r\n")
        gate.upstream.send(OK)
        assert gate.upstream.requests[-1].all("x-forwarded-host") == [name.lower().decode()]


def test_a_request_id_is_new_for_each_request_and_the_same_on_both_sides() -> None:
    gate = Gate()
    client = gate.client()
    seen = set()
    for _ in range(5):
        client.send(get(fields=KEY_FIELD + b"X-Request-ID: forged\r\n"))
        gate.upstream.send(b"HTTP/1.1 200 OK\r\nX-Request-ID: forged\r\nContent-Length: 0\r\n\r\n")
        upstream_id = gate.upstream.requests[-1].one("x-request-id")
        client.methods.append(b"GET")
        assert client.answers[-1].one("x-request-id") == upstream_id
        seen.add(upstream_id)
    assert len(seen) == 5
    assert b"forged" not in gate.upstream.received + client.received


@pytest.mark.parametrize(
    ("sent", "kept"), [(b"abc-1", True), (b"a" * 128, True), (b"a" * 129, False), (b"\xe9", False), (b"", False)]
)
def test_a_trusted_proxys_request_id_is_kept_where_it_is_reasonable(sent: bytes, *, kept: bool) -> None:
    request = forwarded(KEY_FIELD + b"X-Request-ID: " + sent + b"\r\n", server={"trusted_proxies": ["192.0.2.7"]})
    (received,) = request.all("x-request-id")
    assert (received == sent.decode("latin-1")) is kept
    assert kept or re.fullmatch("[0-9a-f]{28}", received)


@pytest.mark.parametrize(
    ("sent", "also"),
    [
        (SECRET, KEY_FIELD),
        (b"trace-" + SECRET + b".1", KEY_FIELD),
        (OTHER_SECRET, KEY_FIELD),
        (b"token-of-theirs", b"Authorization: Basic token-of-theirs\r\n" + KEY_FIELD),
        (b"id=imported-secret", b"X-API-KEY: imported-secret\r\n"),
    ],
)
def test_a_request_id_with_a_key_in_it_is_not_kept_nor_logged(
    caplog: pytest.LogCaptureFixture, sent: bytes, also: bytes
) -> None:
    """Proxies hand on the X-Request-ID of their clients."""
    gate = Gate(server={"trusted_proxies": ["192.0.2.7"]})
    gate.store.put(b"imported-secret")
    client = gate.ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + also + b"X-Request-ID: " + sent + b"\r\n\r\n")
    (received,) = gate.upstream.request.all("x-request-id")
    assert re.fullmatch("[0-9a-f]{28}", received)
    gate.upstream.send(b"BROKEN\r\n\r\n")
    assert error_of(client.answer) == (502, "upstream_invalid_response")
    assert received in caplog.text
    assert sent.decode() not in caplog.text
    assert sent not in client.received + gate.upstream.received.replace(b"Basic token-of-theirs", b"")


def test_via_only_where_asked_for() -> None:
    assert forwarded(KEY_FIELD).all("via") == []
    assert forwarded(KEY_FIELD + b"Via: 1.1 edge\r\n").all("via") == ["1.1 edge"]
    assert forwarded(KEY_FIELD + b"Via: 1.1 edge\r\n", server={"via": True}).all("via") == ["1.1 edge, 1.1 keygate"]


def test_connection_may_name_via() -> None:
    assert forwarded(KEY_FIELD + b"Connection: via\r\nVia: 1.1 forged\r\n").all("via") == []
