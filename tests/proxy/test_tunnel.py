"""After 101 bytes pass unread, both ways, until both sides have ended or the key is no good any more."""

from __future__ import annotations

import socket

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


@pytest.mark.parametrize("more", [b"", b"Connection: keep-alive\r\n"])
def test_an_upstream_of_http_1_0_opens_no_tunnel(more: bytes) -> None:
    """It knows no 1xx and no Upgrade (RFC 9110 sections 7.8 and 15.2): who says 101 there means something else."""
    gate = Gate()
    client = gate.ask(ASKING)
    gate.upstream.send(SWITCHING.replace(b"1.1", b"1.0").replace(b"Sec-", more + b"Sec-") + b"frames")
    assert error_of(client.answer) == (502, "upstream_invalid_response")
    assert gate.upstream.aborted


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
def test_once_one_half_is_closed_silence_in_the_other_is_bounded(who: str) -> None:
    gate = Gate()
    client = tunnel(gate)
    gate.advance(400, step=1)
    ends, other = (client, gate.upstream) if who == "client" else (gate.upstream, client)
    ends.end()
    for _ in range(3):
        gate.advance(299, step=1)
        other.send(b"x")
    assert ends.received.endswith(b"xxx")
    gate.advance(299, step=1)
    assert gate.worker.in_flight == 1
    gate.advance(2, step=1)
    assert client.gone
    assert gate.upstream.gone
    assert not client.aborted
    assert not gate.upstream.aborted
    gate.check_nothing_is_left()


def test_a_half_that_is_silent_is_the_routes_to_bound_and_no_failure_of_its_upstream() -> None:
    gate = Gate(routes=[{"body_timeout_seconds": 5}], upstream={"ejection_failures": 1})
    client = tunnel(gate)
    client.end()
    gate.advance(4)
    assert not client.gone
    gate.advance(2)
    assert client.gone
    gate.check_nothing_is_left()
    again = gate.ask(get())
    gate.upstreams[-1].send(OK)
    assert again.answer.status == 200


def test_a_half_that_is_not_silent_but_held_back_by_a_slow_client_has_the_clients_time() -> None:
    gate = Gate(
        server={"client_body_timeout_seconds": 60, "client_body_min_bytes_per_second": 0},
        upstream={"body_timeout_seconds": 5},
    )
    client = tunnel(gate)
    client.end()
    client.stop_reading()
    gate.upstream.send(bytes(20_000))
    gate.advance(50, step=1)
    assert not client.gone
    client.read_on()
    gate.advance(4, step=1)
    assert not client.gone
    gate.advance(2, step=1)
    assert client.gone
    assert not client.aborted
    gate.check_nothing_is_left()


def test_an_upstream_that_has_ended_its_half_and_takes_nothing_is_cut_off() -> None:
    gate = Gate(upstream={"body_timeout_seconds": 5})
    client = tunnel(gate)
    gate.upstream.end()
    gate.upstream.stop_reading()
    client.send(bytes(100_000))
    gate.advance(4)
    assert not client.gone
    gate.advance(2)
    assert client.gone
    assert gate.upstream.aborted
    gate.check_nothing_is_left()


@pytest.mark.parametrize("who", ["client", "upstream"])
def test_a_side_that_ended_and_then_was_reset_is_noticed_within_a_second(who: str) -> None:
    """A peer that has closed both its halves says so by a reset, once something is sent to it."""
    gate = Gate()
    client = tunnel(gate)
    ends, other = (client, gate.upstream) if who == "client" else (gate.upstream, client)
    ends.end()
    other.send(b"nobody reads this")
    ends.reset()
    assert not ends.gone
    gate.advance(1)
    assert client.gone
    assert gate.upstream.gone
    gate.check_nothing_is_left()


def test_both_sides_of_a_silent_tunnel_are_asked_whether_they_are_there() -> None:
    gate = Gate()
    client = tunnel(gate)
    for side in (client, gate.upstream):
        options = side.transport.socket.options
        assert options[socket.SOL_SOCKET, socket.SO_KEEPALIVE] == 1
        silence = options[socket.IPPROTO_TCP, socket.TCP_KEEPIDLE]
        assert (silence, options[socket.IPPROTO_TCP, socket.TCP_KEEPINTVL]) == (60, 15)
        assert options[socket.IPPROTO_TCP, socket.TCP_KEEPCNT] == 4
        assert not side.transport.socket.resets


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
