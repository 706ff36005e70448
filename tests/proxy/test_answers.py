"""The gateway's own answers: one shape, a stable code for each case, and nothing in them that should stay inside."""

from __future__ import annotations

from typing import Any

import pytest

from tests.proxy.harness import KEY_FIELD, OTHER_SECRET, SECRET, Client, Gate, error_of, get, problem

BEARER = b"Authorization: Bearer "
INVALID = 'Bearer realm="gateway", error="invalid_token"'


def refused(
    fields: bytes,
    key: dict[str, Any] | None = None,
    *,
    route: dict[str, Any] | None = None,
    auth: dict[str, Any] | None = None,
) -> Client:
    """The answer to a request that must not get through."""
    gate = Gate(routes=[route or {}], auth=auth)
    gate.store.put(SECRET, **(key or {}))
    client = gate.ask(get(fields=fields))
    assert not gate.upstreams
    text = client.received
    assert SECRET not in text
    assert OTHER_SECRET not in text
    assert client.answer.one("cache-control") == "no-store"
    return client


CASES: dict[str, tuple[bytes, dict[str, Any], tuple[int, str]]] = {
    "no credential": (b"", {}, (401, "missing_api_key")),
    "an empty one": (b"X-API-KEY:\r\n", {}, (401, "missing_api_key")),
    "one of another kind": (b"Authorization: Basic YTpi\r\n", {}, (401, "missing_api_key")),
    "unknown": (b"X-API-KEY: " + OTHER_SECRET + b"\r\n", {}, (401, "invalid_api_key")),
    "unknown as a bearer": (BEARER + OTHER_SECRET + b"\r\n", {}, (401, "invalid_api_key")),
    "mistyped": (b"X-API-KEY: " + SECRET[:-1] + b"x\r\n", {}, (401, "invalid_api_key")),
    "malformed": (b"X-API-KEY: hello\r\n", {}, (401, "invalid_api_key")),
    "far too long": (b"X-API-KEY: " + b"a" * 5000 + b"\r\n", {}, (401, "invalid_api_key")),
    "not ASCII": (b"X-API-KEY: \xff\xfe\r\n", {}, (401, "invalid_api_key")),
    "expired": (KEY_FIELD, {"expires_at": 1.0}, (401, "expired_api_key")),
    "rotated out": (KEY_FIELD, {"secret_valid_until": 1.0}, (401, "expired_api_key")),
    "revoked": (KEY_FIELD, {"revoked_at": 1.0}, (401, "revoked_api_key")),
    "disabled": (KEY_FIELD, {"disabled_at": 1.0}, (401, "disabled_api_key")),
    "revoked, expired and disabled": (
        KEY_FIELD,
        {"revoked_at": 1.0, "expires_at": 1.0, "disabled_at": 1.0},
        (401, "revoked_api_key"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_key_that_is_no_good(name: str) -> None:
    fields, key, expected = CASES[name]
    client = refused(fields, key)
    assert error_of(client.answer) == expected
    challenges = client.answer.all("www-authenticate")
    assert challenges == [
        'Bearer realm="gateway"' if expected[1] == "missing_api_key" else INVALID,
        'ApiKey realm="gateway"',
    ]
    assert client.open, "the next request may carry a good one"


@pytest.mark.parametrize("state", ["expires_at", "revoked_at", "disabled_at"])
def test_generic_errors_make_every_bad_key_look_unknown(state: str) -> None:
    generic = {"error_detail": "generic"}
    known = problem(refused(KEY_FIELD, {state: 1.0}, auth=generic).answer)
    unknown = problem(refused(b"X-API-KEY: " + OTHER_SECRET + b"\r\n", auth=generic).answer)
    assert known | {"request_id": ""} == unknown | {"request_id": ""}


def test_a_well_formed_key_is_told_that_it_may_be_of_another_gateway() -> None:
    detail = problem(refused(b"X-API-KEY: " + OTHER_SECRET + b"\r\n").answer)["detail"]
    assert "unknown here" in detail
    assert "another gateway" in detail


@pytest.mark.parametrize("auth", ["optional", "required"])
def test_a_bad_key_is_refused_where_a_key_is_optional_too(auth: str) -> None:
    client = refused(b"X-API-KEY: " + OTHER_SECRET + b"\r\n", route={"auth": auth})
    assert error_of(client.answer) == (401, "invalid_api_key")


def test_a_missing_permission() -> None:
    client = refused(
        KEY_FIELD, {"owner_permissions": ("orders:read",)}, route={"permissions": ["orders:read", "orders:write"]}
    )
    assert error_of(client.answer) == (403, "insufficient_permissions")
    assert client.answer.all("www-authenticate")[0] == (
        'Bearer realm="gateway", error="insufficient_scope", scope="orders:read orders:write"'
    )
    assert client.open


def test_a_realm_is_named() -> None:
    client = refused(b"", auth={"realm": "Shop, orders"})
    assert client.answer.all("www-authenticate") == ['Bearer realm="Shop, orders"', 'ApiKey realm="Shop, orders"']


def test_no_route_and_no_method() -> None:
    gate = Gate(routes=[{"path": "/a", "methods": ["GET", "PUT"]}])
    assert error_of(gate.ask(get(b"/b")).answer) == (404, "no_route")
    answer = gate.ask(get(b"/a").replace(b"GET", b"POST")).answer
    assert error_of(answer) == (405, "method_not_allowed")
    assert answer.one("allow") == "GET, PUT"
    assert not gate.upstreams


def test_a_store_that_cannot_be_asked_is_never_a_bad_key() -> None:
    for waits in (False, True):
        gate = Gate()
        gate.store.down = True
        gate.store.waits = waits
        for secret in (SECRET, OTHER_SECRET):
            client = gate.ask(get(fields=b"X-API-KEY: " + secret + b"\r\n"))
            gate.answer_lookups()
            assert error_of(client.answer) == (503, "key_store_unavailable")
            assert client.answer.one("retry-after")
            assert client.open
        assert not gate.upstreams


def test_an_answer_to_head_has_no_body() -> None:
    gate = Gate()
    client = gate.client()
    client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + get(b"/second", b""))
    client.methods += [b"HEAD", b"GET"]
    assert [each.status for each in client.answers] == [401, 401]
    assert client.answers[0].body == b""
    assert client.answers[0].one("content-length") != "0"


def test_answers_hold_nothing_that_the_client_sent_and_nothing_of_the_inside() -> None:
    gate = Gate()
    marks = (b"canary-path", b"canary-query", b"canary-field")
    request = b"GET /canary-path?canary-query HTTP/1.1\r\nHost: canary.test\r\nX-A: canary-field\r\n"
    answers = [gate.ask(request + b"\r\n").received, gate.ask(request + b"Bad Name: a\r\n\r\n").received]
    gate.refuses_connections = {"10.0.0.1:9000"}
    answers.append(gate.ask(request + KEY_FIELD + b"\r\n").received)
    for text in answers:
        assert not any(mark in text for mark in (*marks, b"canary.test", b"10.0.0.1"))
