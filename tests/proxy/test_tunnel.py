"""After 101 bytes pass unread, both ways, until both sides have ended or the key is no good any more."""

from __future__ import annotations

import pytest

from tests.proxy.harness import KEY_FIELD, OK, OTHER_SECRET, Client, Gate, error_of, get

ASKING = get(b"/ws", KEY_FIELD + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n")
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: b\r\n\r\n"
)


def tunnel(gate: Gate) -> Client:
    """A client behind whom a WebSocket is open."""
    client = gate.ask(ASKING)
    gate.upstreams[-1].send(SWITCHING)
    assert client.answer.status == 101
    return client


def test_a_websocket_is_opened_and_bytes_pass_both_ways() -> None:
    for split in [0, *range(1, len(SWITCHING))]:
        gate = Gate()
        client = gate.ask(ASKING)
        gate.upstream.send(*filter(None, (SWITCHING[:split], SWITCHING[split:] + b"first")))
        answer = client.answer
        assert answer.all("upgrade") == ["websocket"]
        assert answer.all("connection") == ["Upgrade"]
        assert answer.all("sec-websocket-accept") == ["b"]
        assert answer.body == b"first"
        client.send(get(b"/not-read"), b"\r\n\r\n")
        assert gate.upstream.received.endswith(b"\r\n\r\n" + get(b"/not-read") + b"\r\n\r\n")
        gate.upstream.send(OK)
        assert client.received.endswith(OK)
        assert gate.worker.in_flight == 1
        gate.check_counts()


def test_what_a_client_sends_before_it_knows_is_part_of_the_tunnel() -> None:
    gate = Gate()
    client = gate.ask(ASKING + b"early")
    assert b"early" not in gate.upstream.received
    gate.upstream.send(SWITCHING)
    assert gate.upstream.received.endswith(b"early")
    client.send(b"late")
    assert gate.upstream.received.endswith(b"earlylate")


def test_a_client_that_sent_a_lot_before_it_knew_is_read_on() -> None:
    gate = Gate()
    client = gate.ask(ASKING)
    client.send(bytes(80_000))
    gate.upstream.send(SWITCHING)
    client.send(b"late")
    assert gate.upstream.received.endswith(b"late")


def test_an_upstream_may_decline() -> None:
    gate = Gate()
    client = gate.ask(ASKING + get(b"/second"))
    gate.upstream.send(OK)
    assert client.answer.status == 200
    gate.upstream.send(OK)
    assert [each.target for each in gate.upstream.requests] == [b"/ws", b"/second"]


@pytest.mark.parametrize(
    "request_",
    [
        get(),
        get(b"/ws", KEY_FIELD + b"Upgrade: websocket\r\n"),
        get(b"/ws", KEY_FIELD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        b"GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + KEY_FIELD + b"\r\n",
    ],
)
def test_a_tunnel_that_nobody_asked_for_is_a_broken_response(request_: bytes) -> None:
    gate = Gate()
    client = gate.ask(request_)
    gate.upstream.send(SWITCHING + b"frames")
    assert error_of(client.answer) == (502, "upstream_invalid_response")
    assert gate.upstream.aborted
    client.send(b"frames")
    assert len(gate.upstreams) == 1


@pytest.mark.parametrize("fields", [b"", b"X-API-KEY: " + OTHER_SECRET + b"\r\n"])
def test_a_tunnel_needs_a_key_as_everything_does(fields: bytes) -> None:
    gate = Gate()
    client = gate.ask(ASKING.replace(KEY_FIELD, fields))
    assert client.answer.status == 401
    assert not gate.upstreams


def test_half_of_a_tunnel_may_close_first() -> None:
    gate = Gate()
    client = tunnel(gate)
    client.send(b"last of the client")
    client.end()
    assert gate.upstream.transport.eof_sent
    assert not client.gone
    gate.upstream.send(b"last of the upstream")
    gate.upstream.end()
    assert client.received.endswith(b"last of the upstream")
    assert client.gone
    assert gate.upstream.gone
    assert not client.aborted
    gate.check_nothing_is_left()


def test_the_other_half_of_a_tunnel_may_close_first() -> None:
    gate = Gate()
    client = tunnel(gate)
    gate.upstream.send(b"last of the upstream")
    gate.upstream.end()
    assert client.transport.eof_sent
    client.send(b"last of the client")
    client.end()
    assert gate.upstream.received.endswith(b"last of the client")
    assert client.gone
    gate.check_nothing_is_left()


@pytest.mark.parametrize("who", ["client", "upstream"])
def test_a_reset_ends_both_sides(who: str) -> None:
    gate = Gate()
    client = tunnel(gate)
    (client if who == "client" else gate.upstream).reset()
    assert client.gone
    assert gate.upstream.gone
    gate.check_nothing_is_left()


def test_a_tunnel_may_be_silent_for_as_long_as_it_likes() -> None:
    gate = Gate()
    client = tunnel(gate)
    gate.advance(7200, step=10)
    gate.upstream.send(b"still here")
    assert client.received.endswith(b"still here")


def test_a_tunnel_that_was_held_back_once_may_be_silent_too() -> None:
    gate = Gate()
    client = tunnel(gate)
    client.stop_reading()
    gate.upstream.send(bytes(200_000))
    client.read_on()
    gate.advance(2000, step=10)
    gate.upstream.send(b"still here")
    assert client.received.endswith(b"still here")
    client.send(b"so am I")
    assert gate.upstream.received.endswith(b"so am I")


def test_slow_sides_hold_each_other_back() -> None:
    gate = Gate()
    client = tunnel(gate)
    client.stop_reading()
    gate.upstream.stop_reading()
    for _ in range(100):
        gate.upstream.send(bytes(10_000))
        client.send(bytes(10_000))
    assert client.transport.most_unsent < 131_072
    assert gate.upstream.transport.most_unsent < 131_072
    client.read_on()
    gate.upstream.read_on()
    assert len(client.answer.body) == 1_000_000
    assert gate.upstream.received.endswith(bytes(1_000_000))
    gate.check_counts()


def test_a_side_that_never_reads_again_does_not_stay_for_ever() -> None:
    gate = Gate()
    client = tunnel(gate)
    client.stop_reading()
    gate.upstream.send(bytes(200_000))
    gate.upstream.reset()
    gate.advance(600, step=1)
    assert client.gone
    gate.check_nothing_is_left()


def test_a_tunnel_ends_with_its_key() -> None:
    gate = Gate()
    client = tunnel(gate)
    gate.revoke()
    assert client.gone
    assert gate.upstream.gone
    gate.check_nothing_is_left()


def test_a_tunnel_ends_with_its_key_though_another_request_renewed_what_is_held() -> None:
    gate = Gate()
    client = tunnel(gate)
    gate.advance(70, step=1)
    gate.ask(get(b"/renews"))
    gate.revoke()
    assert client.gone


def test_a_tunnel_ends_when_its_key_expires() -> None:
    gate = Gate()
    gate.store.put(KEY_FIELD[11:-2], expires_at=gate.wall_clock() + 100)
    client = tunnel(gate)
    gate.advance(99)
    assert not client.gone
    gate.advance(2)
    assert client.gone
    gate.check_nothing_is_left()


def test_a_tunnel_goes_on_when_its_key_changed_and_is_still_good() -> None:
    gate = Gate()
    client = tunnel(gate)
    gate.change()
    gate.store.waits = True
    gate.change()
    gate.change()
    gate.answer_lookups()
    gate.answer_lookups()
    gate.upstream.send(b"still here")
    assert client.received.endswith(b"still here")
    gate.check_counts()


def test_a_tunnel_whose_key_is_looked_up_while_it_ends() -> None:
    gate = Gate()
    client = tunnel(gate)
    gate.store.waits = True
    gate.revoke()
    gate.change()
    client.reset()
    gate.answer_lookups()
    gate.answer_lookups()
    gate.check_nothing_is_left()
