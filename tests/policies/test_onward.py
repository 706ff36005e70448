"""An Authorization field that holds a key of this gateway stays here, whatever the key looks like; others travel on."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.keys.secret import MAX_SECRET_BYTES
from tests.proxy.harness import KEY_FIELD, OK, SECRET, Client, Gate, error_of, get
from tests.proxy.profiles import scaled

if TYPE_CHECKING:
    from collections.abc import Callable

IMPORTED = b"legacy-key-1"
JWT = (
    b"eyJhbGciOiJIUzI1NiJ9."
    + base64.urlsafe_b64encode(b'{"sub": "ann", "scope": "read write"}').rstrip(b"=")
    + b".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)
SCHEMES = [b"Bearer ", b"bearer ", b"Bearer   ", b"Bearer\t", b"Token ", b"ApiKey ", b"Basic ", b""]
OPEN: dict[str, Any] = {"auth": "none"}


def gate_with(**route: object) -> Gate:
    """A gate whose store knows a key that was imported."""
    gate = Gate(routes=[route])
    gate.store.put(IMPORTED, key_id="key_2")
    return gate


def ask(gate: Gate, value: bytes, key: bytes = b"") -> Client:
    """A request with this Authorization."""
    return gate.ask(get(fields=key + b"Authorization: " + value + b"\r\n"))


def onward(gate: Gate) -> list[str]:
    """The Authorization fields of the last request that went upstream."""
    return gate.upstreams[-1].requests[-1].all("authorization")


WAYS: dict[str, tuple[dict[str, Any], bytes]] = {
    "a route without auth": (OPEN, b""),
    "a route without auth, with a key": (OPEN, KEY_FIELD),
    "beside a good key": ({}, KEY_FIELD),
    "beside a good key where it is optional": ({"auth": "optional"}, KEY_FIELD),
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("way", WAYS)
def test_an_imported_key_stays_here(way: str, scheme: bytes) -> None:
    route, key = WAYS[way]
    gate = gate_with(**route)
    for _ in range(2):  # the second time it is held in memory
        client = ask(gate, scheme + IMPORTED, key)
        gate.upstreams[-1].send(OK)
        assert client.answer.status == 200, "the request itself goes on"
        assert IMPORTED not in gate.upstreams[-1].received
        assert onward(gate) == []
    assert gate.store.reads == (2 if "good" in way else 1)


@pytest.mark.parametrize("state", ["revoked_at", "disabled_at", "expires_at", "secret_valid_until"])
@pytest.mark.parametrize("way", WAYS)
def test_so_does_one_that_is_no_good_any_more(way: str, state: str) -> None:
    route, key = WAYS[way]
    gate = gate_with(**route)
    gate.store.put(IMPORTED, key_id="key_2", **{state: 1.0})
    ask(gate, b"Bearer " + IMPORTED, key)
    assert onward(gate) == []


@pytest.mark.parametrize("secret", [b"two words", b"k" * MAX_SECRET_BYTES, b"a:b", b"\xc3\xbc=="])
def test_so_does_one_of_an_odd_form(secret: bytes) -> None:
    gate = gate_with(**OPEN)
    gate.store.put(secret, key_id="key_3")
    ask(gate, b"Bearer " + secret)
    assert onward(gate) == []


def test_the_same_key_in_both_fields_stays_here_whatever_its_scheme() -> None:
    for scheme in SCHEMES:
        gate = gate_with()
        ask(gate, scheme + IMPORTED, b"X-API-KEY: " + IMPORTED + b"\r\n")
        assert IMPORTED not in gate.upstream.received
        assert gate.store.reads == 1


def test_a_websocket_is_no_way_around() -> None:
    gate = gate_with(**OPEN)
    ask(gate, b"Bearer " + IMPORTED, b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    assert b"\r\nUpgrade: websocket\r\n" in gate.upstream.received
    assert onward(gate) == []


def test_a_route_that_forwards_credentials_does() -> None:
    gate = gate_with(forward_credential=True)
    ask(gate, b"Bearer " + IMPORTED, KEY_FIELD)
    assert onward(gate) == ["Bearer legacy-key-1"]


# --- what is the upstream's business ----------------------------------------------------------------------------------


OWN = {
    "a JWT": b"Bearer " + JWT,
    "a long token": b"Bearer " + b"t" * (MAX_SECRET_BYTES + 1),
    "Basic": b"Basic " + base64.b64encode(b"ann:secret"),
    "Digest": b'Digest username="Ann, A.", realm="r", nonce="n", uri="/", response="0"',
    "a signature": b"AWS4-HMAC-SHA256 Credential=AK/20260101/eu/s3/aws4_request, SignedHeaders=host, Signature=f",
    "a scheme alone": b"Negotiate",
    "nothing": b"",
    "a key and more": b"Bearer " + IMPORTED + b"2",
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("way", WAYS)
def test_an_upstreams_own_token_travels_on(way: str, name: str) -> None:
    route, key = WAYS[way]
    gate = gate_with(**route)
    for _ in range(2):
        client = ask(gate, OWN[name], key)
        gate.upstreams[-1].send(OK)
        assert client.answer.status == 200
        assert onward(gate) == [OWN[name].decode()]
    assert gate.store.reads <= (2 if "good" in way else 1), "one that is not known is asked for once in a while"


def test_a_token_that_is_too_long_for_a_key_costs_no_lookup() -> None:
    gate = gate_with(**OPEN)
    ask(gate, b"Bearer " + b"t" * (MAX_SECRET_BYTES + 1))
    assert gate.store.reads == 0


def test_a_token_that_becomes_a_key_stays_here_from_then_on() -> None:
    gate = Gate(routes=[OPEN])
    ask(gate, b"Bearer " + IMPORTED)
    assert onward(gate) == ["Bearer legacy-key-1"]
    gate.store.put(IMPORTED, key_id="key_2")
    gate.change("key_2")
    ask(gate, b"Bearer " + IMPORTED)
    assert onward(gate) == []


@settings(max_examples=scaled(150), deadline=None)
@given(
    scheme=st.sampled_from(SCHEMES),
    token=st.sampled_from([IMPORTED, SECRET, b"two words", JWT, b"YTpi", b"unknown", b""]),
    ending=st.sampled_from([b"", b" ", b"\t "]),
    way=st.sampled_from(sorted(WAYS)),
)
def test_no_spelling_lets_a_key_out_and_none_takes_a_token_away(
    scheme: bytes, token: bytes, ending: bytes, way: str
) -> None:
    route, key = WAYS[way]
    gate = gate_with(**route)
    gate.store.put(b"two words", key_id="key_3")
    client = ask(gate, scheme + token + ending, key)
    if not gate.upstreams:
        assert error_of(client.answer) == (400, "conflicting_credentials")
        return
    ours = token in {IMPORTED, SECRET} or (token == b"two words" and scheme)
    assert onward(gate) == ([] if ours else [(scheme + token + ending).strip(b" \t").decode()])


# --- while the store cannot be asked ----------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [IMPORTED, JWT])
@pytest.mark.parametrize("waits", [False, True])
def test_what_may_be_a_key_stays_here_while_the_store_cannot_be_asked(token: bytes, *, waits: bool) -> None:
    """The request goes on without it: what the upstream refuses can be repeated."""
    gate = gate_with(**OPEN)
    gate.store.down = True
    gate.store.waits = waits
    client = ask(gate, b"Bearer " + token)
    gate.answer_lookups()
    assert onward(gate) == []
    gate.upstream.send(OK)
    assert client.answer.status == 200
    gate.store.down = gate.store.waits = False
    ask(gate, b"Bearer " + JWT)
    assert onward(gate) == ["Bearer " + JWT.decode()]


def test_beside_a_key_that_is_held_in_memory_too() -> None:
    gate = gate_with()
    client = gate.ask(get())
    gate.upstream.send(OK)
    assert client.answer.status == 200
    gate.store.down = True
    ask(gate, b"Bearer " + IMPORTED, KEY_FIELD)
    assert onward(gate) == []


def test_what_is_remembered_needs_no_store() -> None:
    gate = gate_with(**OPEN)
    for token in (IMPORTED, JWT):
        ask(gate, b"Bearer " + token)
    gate.store.down = True
    for token, expected in ((IMPORTED, []), (JWT, ["Bearer " + JWT.decode()])):
        ask(gate, b"Bearer " + token)
        assert onward(gate) == expected


# --- while the store makes it wait ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("token", "expected"), [(IMPORTED, []), (JWT, ["Bearer " + JWT.decode()])])
@pytest.mark.parametrize("way", WAYS)
def test_nothing_leaves_before_the_store_has_answered(way: str, token: bytes, expected: list[str]) -> None:
    route, key = WAYS[way]
    gate = gate_with(**route)
    gate.store.waits = True
    client = ask(gate, b"Bearer " + token, key)
    for _ in range(2 if "good" in way else 1):
        assert not gate.upstreams
        gate.answer_lookups()
    assert onward(gate) == expected
    gate.upstream.send(OK)
    assert client.answer.status == 200
    gate.check_counts()


def _gone(client: Client) -> None:
    client.reset()


def _left(client: Client) -> None:
    client.end()


@pytest.mark.parametrize("leave", [_gone, _left])
def test_a_client_that_leaves_meanwhile_leaves_nothing_behind(leave: Callable[[Client], None]) -> None:
    gate = gate_with(**OPEN)
    gate.store.waits = True
    client = ask(gate, b"Bearer " + IMPORTED)
    leave(client)
    gate.answer_lookups()
    assert not gate.upstreams
    gate.check_nothing_is_left()


def test_a_permission_is_still_asked_for_after_a_wait() -> None:
    gate = gate_with(permissions=["orders:read"])
    gate.store.put(SECRET, owner_permissions=("other:read",))
    gate.store.waits = True
    client = ask(gate, b"Bearer " + JWT, KEY_FIELD)
    gate.answer_lookups()
    gate.answer_lookups()
    assert error_of(client.answer) == (403, "insufficient_permissions")
    assert not gate.upstreams


def test_what_is_judged_again_before_it_is_sent_is_judged_the_same() -> None:
    """The key died while the request waited for a connection, and is looked up anew, and so is the other one."""
    gate = gate_with()
    gate.dials_hang = True
    ask(gate, b"Token " + IMPORTED, KEY_FIELD)
    gate.change()
    gate.dials_hang = False
    gate.connect()
    assert onward(gate) == []
