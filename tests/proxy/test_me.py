"""The path at which a key's holder is told who they are: by the gateway, from the store, and no API is asked."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.proxy.harness import KEY_FIELD, OK, OTHER_SECRET, SECRET, Client, Gate, error_of, get, post, splits

ME = b"/users/me"
SERVER: dict[str, Any] = {"me_path": ME.decode()}
ORIGIN = b"Origin: https://app.test\r\n"


def gate_with(routes: list[dict[str, Any]] | None = None, **settings: Any) -> Gate:  # noqa: ANN401  tables of settings
    return Gate(routes=routes or [{}], server=SERVER, **settings)


def told(client: Client) -> dict[str, Any]:
    """What the holder reads."""
    answer = client.answer
    assert answer.status == 200
    assert answer.one("content-type") == "application/json"
    assert answer.one("cache-control") == "no-store"
    assert answer.one("x-request-id")
    body: dict[str, Any] = json.loads(answer.body)
    return body


def test_the_holder_is_told_who_they_are() -> None:
    request = get(ME)
    gate = gate_with()
    gate.store.put(
        SECRET,
        key_name="CI/CD Pipeline",
        expires_at=4e9,
        permissions=("orders:*", "users:read"),
        owner_permissions=("*:read", "orders:write"),
        owner_name="Zoë",
        owner_kind="service_account",
        organization_external_id="acme",
    )
    for split in [0, *splits(request)]:
        assert told(gate.ask(request, split=split)) == {
            "key": {
                "id": "key_1",
                "name": "CI/CD Pipeline",
                "expires_at": datetime.fromtimestamp(4e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
            "owner": {"id": "mem_1", "kind": "service_account", "name": "Zoë"},
            "organization": {"id": "org_1", "external_id": "acme"},
            "permissions": ["orders:read", "orders:write", "users:read"],
        }
    assert not gate.upstreams
    gate.check_counts()


def test_a_key_that_inherits_has_its_owners_permissions() -> None:
    gate = gate_with()
    gate.store.put(SECRET, owner_permissions=("*:*", "gateway:keys"))
    body = told(gate.ask(get(ME)))
    assert body["permissions"] == ["*:*", "gateway:keys"]
    assert body["key"]["expires_at"] is None
    assert body["organization"]["external_id"] is None


def test_no_secret_is_in_it() -> None:
    gate = gate_with()
    gate.store.put(SECRET, secret_id="sec_77")
    client = gate.ask(get(ME))
    body = told(client)
    assert SECRET not in client.received
    assert SECRET[-6:] not in client.received
    assert gate.store.records.popitem()[0].hex().encode() not in client.received
    assert b"sec_77" not in client.received
    assert set(body) == {"key", "owner", "organization", "permissions"}
    assert set(body["key"]) == {"id", "name", "expires_at"}


@pytest.mark.parametrize("credential", [KEY_FIELD, b"Authorization: Bearer " + SECRET + b"\r\n"])
def test_however_the_key_is_sent(credential: bytes) -> None:
    assert told(gate_with().ask(get(ME, credential)))["key"]["id"] == "key_1"


def test_for_every_host_and_before_every_route() -> None:
    gate = gate_with([{"path": "/users/me", "auth": "none"}, {"hosts": ["api.test"], "path": "/users"}])
    for host in (b"api.test", b"other.test:8080"):
        told(gate.ask(get(ME).replace(b"api.test", host)))
    told(gate.ask(b"GET /users/me HTTP/1.0\r\n" + KEY_FIELD + b"\r\n"))
    assert not gate.upstreams


@pytest.mark.parametrize("path", [b"/users/me?a=b", b"/users//me", b"/users/%6De", b"http://api.test/users/me"])
def test_every_spelling_of_the_path_is_the_path(path: bytes) -> None:
    told(gate_with().ask(get(path)))


@pytest.mark.parametrize(
    "path", [b"/users/me/", b"/users/me/keys", b"/users/Me", b"/users", b"/users/mee", b"/v1/users/me"]
)
def test_no_other_path_is(path: bytes) -> None:
    gate = gate_with()
    gate.ask(get(path))
    assert gate.upstream.request.target == path


@pytest.mark.parametrize("path", [b"/users%2Fme", b"/users/me;v=1"])
def test_nor_one_that_could_be_read_as_it(path: bytes) -> None:
    gate = gate_with()
    assert error_of(gate.ask(get(path)).answer) == (400, "ambiguous_target")


def test_without_the_setting_the_path_is_like_any_other() -> None:
    gate = Gate()
    gate.ask(get(ME))
    assert gate.upstream.request.target == ME


def test_head_gets_the_same_head() -> None:
    gate = gate_with()
    client = gate.client()
    client.methods += [b"HEAD", b"GET"]
    client.send(get(ME).replace(b"GET", b"HEAD") + get(ME))
    head, whole = client.answers
    assert (head.status, head.body) == (200, b"")
    assert head.one("content-length") == str(len(whole.body))
    assert head.one("content-type") == "application/json"


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"])
def test_it_can_only_be_read(method: bytes) -> None:
    gate = gate_with()
    client = gate.ask(get(ME).replace(b"GET", method))
    assert error_of(client.answer) == (405, "method_not_allowed")
    assert client.answer.one("allow") == "GET, HEAD"
    assert client.open
    assert not gate.upstreams


@pytest.mark.parametrize("request_", [post(b"hello", ME), get(ME, KEY_FIELD + b"Content-Length: 5\r\n") + b"hello"])
def test_a_body_is_nobodys(request_: bytes) -> None:
    """It is passed over where it came with the head; where it still comes, the connection ends with the answer."""
    status = 405 if request_.startswith(b"POST") else 200
    gate = gate_with()
    client = gate.client()
    client.send(request_ + get(b"/second"))
    assert client.answers[0].status == status
    assert gate.upstream.request.target == b"/second"
    for split in splits(request_):
        client = gate.client()
        client.send(request_[:split], request_[split:])
        assert client.answers[0].status == status
        assert len(client.answers) == 1
        assert client.open is (b"\r\n\r\n" not in request_[:split])
    assert len(gate.upstreams) == 1
    gate.check_counts()


def test_a_chunked_body_ends_the_connection() -> None:
    gate = gate_with()
    client = gate.ask(get(ME, KEY_FIELD + b"Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\n0\r\n\r\n")
    assert client.answer.status == 200
    assert client.answer.one("connection") == "close"
    client.send(get(b"/smuggled"))
    assert not gate.upstreams


def test_pipelined_requests_keep_their_order() -> None:
    gate = gate_with()
    client = gate.client()
    client.send(get(ME) + get(b"/second") + get(ME) + get(ME, b""))
    gate.upstream.send(OK)
    assert [each.status for each in client.answers] == [200, 200, 200, 401]
    assert [each.target for each in gate.upstream.requests] == [b"/second"]
    assert [each.body for each in client.answers][1] == b"ok"


# --- who is told ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "key", "expected"),
    [
        (b"", {}, (401, "missing_api_key")),
        (b"Authorization: Basic YTpi\r\n", {}, (401, "missing_api_key")),
        (b"X-API-KEY: " + OTHER_SECRET + b"\r\n", {}, (401, "invalid_api_key")),
        (KEY_FIELD, {"expires_at": 1.0}, (401, "expired_api_key")),
        (KEY_FIELD, {"disabled_at": 1.0}, (401, "disabled_api_key")),
        (KEY_FIELD, {"revoked_at": 1.0}, (401, "revoked_api_key")),
        (KEY_FIELD, {"allowed_origins": ("https://app.test",)}, (403, "origin_not_allowed")),
        (KEY_FIELD + b"customer-id: org_2\r\n", {}, (403, "wrong_organization")),
    ],
)
def test_the_holder_of_a_good_key_alone(fields: bytes, key: dict[str, Any], expected: tuple[int, str]) -> None:
    gate = gate_with([{"auth": "none"}], auth={"tenant_header": "customer-id"})
    gate.store.put(SECRET, **key)
    for method in (b"GET", b"POST"):
        client = gate.ask(get(ME, fields).replace(b"GET", method))
        assert error_of(client.answer) == expected
        assert client.answer.all("www-authenticate")
    assert not gate.upstreams


def test_a_key_that_may_do_nothing_is_told_so() -> None:
    gate = gate_with([{"permissions": ["orders:read"]}])
    gate.store.put(SECRET, permissions=(), owner_permissions=("*:*",))
    assert told(gate.ask(get(ME)))["permissions"] == []


def test_a_store_that_cannot_be_asked_is_a_503_though_the_key_is_held() -> None:
    gate = gate_with()
    told(gate.ask(get(ME)))
    for waits in (False, True):
        gate.store.down, gate.store.waits = True, waits
        client = gate.ask(get(ME))
        gate.answer_lookups()
        assert error_of(client.answer) == (503, "key_store_unavailable")
        assert client.answer.one("retry-after")
        assert client.open


def test_what_is_told_is_what_the_store_says_now() -> None:
    gate = gate_with()
    assert told(gate.ask(get(ME)))["key"]["name"] == "a key"
    gate.store.put(SECRET, key_name="renamed")
    assert told(gate.ask(get(ME)))["key"]["name"] == "renamed"


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (None, (401, "invalid_api_key")),
        ({"revoked_at": 1.0}, (401, "revoked_api_key")),
        ({"disabled_at": 1.0}, (401, "disabled_api_key")),
        ({"expires_at": 1.0}, (401, "expired_api_key")),
        ({"secret_valid_until": 1.0}, (401, "expired_api_key")),
        ({"allowed_origins": ("https://app.test",)}, (403, "origin_not_allowed")),
    ],
)
def test_a_key_that_is_no_good_by_now_is_refused_as_what_it_is(
    key: dict[str, Any] | None, expected: tuple[int, str], *, waits: bool
) -> None:
    """Its change has not arrived here, and the worker still holds the key for good."""
    gate = gate_with()
    told(gate.ask(get(ME)))
    if key is None:
        gate.store.records.clear()
    else:
        gate.store.put(SECRET, **key)
    gate.store.waits = waits
    for method in (b"GET", b"POST"):
        client = gate.ask(get(ME).replace(b"GET", method))
        for _ in range(2):  # what is to be told, and the key once more
            gate.answer_lookups()
        assert error_of(client.answer) == expected
        assert client.answer.all("www-authenticate")
    assert error_of(gate.ask(get(b"/")).answer) == expected  # and the worker knows
    gate.check_counts()


def test_a_store_that_makes_it_wait() -> None:
    gate = gate_with()
    gate.store.waits = True
    client = gate.client()
    client.send(get(ME) + get(b"/second"))
    for _ in range(3):  # for the key, for what is told, and for the key as it is then
        assert client.received == b""
        gate.answer_lookups()
    assert client.answers[0].status == 200
    assert gate.upstream.request.target == b"/second"
    gate.check_counts()


def test_a_client_that_leaves_meanwhile_leaves_nothing_behind() -> None:
    gate = gate_with()
    told(gate.ask(get(ME)))
    gate.store.waits = True
    gate.ask(get(ME))
    for client in gate.clients:
        client.reset()
    gate.answer_lookups()
    gate.check_nothing_is_left()


# --- pages ------------------------------------------------------------------------------------------------------------


def test_it_is_not_for_pages_of_other_origins_whatever_the_routes_around_it_say() -> None:
    """A preflight is granted nothing that the answer would not grant."""
    gate = gate_with([{"cors": {"allow_origins": ["*"]}}])
    asking = ORIGIN + b"Access-Control-Request-Method: GET\r\n"
    client = gate.ask(get(ME, asking).replace(b"GET /", b"OPTIONS /"))
    assert error_of(client.answer) == (401, "missing_api_key")
    assert not client.answer.all("access-control-allow-origin")
    client = gate.ask(get(ME, KEY_FIELD + ORIGIN))
    told(client)
    assert not client.answer.all("access-control-allow-origin")
