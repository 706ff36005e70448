"""A client that sends or reads slowly has its time, by the least rate; where others are slow, it has all it needs."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import KEY_FIELD, OK, Gate, error_of, get, post
from tests.proxy.test_tunnel import SWITCHING, tunnel

if TYPE_CHECKING:
    from tests.proxy.harness import Client

RATE = 240
TIMEOUT = 60
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n" + KEY_FIELD
PATIENT = {"head_timeout_seconds": 3000, "body_timeout_seconds": 3000}


def upload(gate: Gate, framing: bytes = b"Content-Length: 100000000\r\n") -> Client:
    """A client that has begun to send a large body."""
    return gate.ask(HEAD + framing + b"\r\n")


def seconds_of(gate: Gate, client: Client, piece: bytes, every: float, *, at_most: float = 900) -> float:
    """How long a client is waited for that sends this piece again and again."""
    began = gate.loop.time()
    while client.open and not client.received and gate.loop.time() - began < at_most:
        client.send(piece)
        gate.advance(every)
    return gate.loop.time() - began


def begin_answer(gate: Gate, client: Client, size: int = 200_000) -> None:
    """The upstream answers with more than the client has read."""
    client.stop_reading()
    gate.upstreams[-1].send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + bytes(size))
    assert client.transport.unsent


# --- sending ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("framing", "piece"),
    [(b"Content-Length: 1000\r\n", b"a"), (b"Transfer-Encoding: chunked\r\n", b"1\r\na\r\n")],
)
@pytest.mark.parametrize("every", [1.0, 25.0, 59.0])
def test_a_body_that_dribbles_in_has_the_time_that_silence_has(framing: bytes, piece: bytes, every: float) -> None:
    gate = Gate(upstream=PATIENT)
    client = upload(gate, framing)
    assert seconds_of(gate, client, piece, every) == pytest.approx(TIMEOUT + every / 2, abs=every / 2 + 3)
    assert error_of(client.answer) == (408, "request_timeout")
    assert gate.upstream.aborted
    gate.check_counts()


def test_what_came_fast_buys_no_dribbling_afterwards() -> None:
    gate = Gate(upstream=PATIENT)
    client = upload(gate)
    for _ in range(20):
        client.send(bytes(50_000))
        gate.advance(0.25)
    assert TIMEOUT - 1 <= seconds_of(gate, client, b"a", 1) <= TIMEOUT + 2
    assert error_of(client.answer) == (408, "request_timeout")


@pytest.mark.parametrize("every", [0.5, 10.0, 40.0])
def test_a_body_at_the_least_rate_goes_on(every: float) -> None:
    gate = Gate(upstream=PATIENT)
    client = upload(gate)
    assert seconds_of(gate, client, bytes(round(RATE * every * 1.05)), every) >= 900
    assert client.received == b""


def test_without_a_rate_silence_alone_counts() -> None:
    gate = Gate(server={"client_body_min_bytes_per_second": 0}, upstream=PATIENT)
    client = upload(gate)
    assert seconds_of(gate, client, b"a", 59) >= 900
    gate.advance(62)
    assert error_of(client.answer) == (408, "request_timeout")


def test_the_upstreams_slowness_is_not_the_clients() -> None:
    gate = Gate(upstream=PATIENT)
    client = upload(gate)
    gate.advance(30)  # half of its time is gone
    gate.upstream.stop_reading()
    client.send(bytes(100_000))
    assert not client.transport.reading
    gate.advance(500)
    gate.upstream.read_on()
    assert client.transport.reading
    gate.advance(TIMEOUT - 2)
    assert client.open
    gate.advance(3)
    assert error_of(client.answer) == (408, "request_timeout")


def test_an_upstream_that_is_slow_now_and_then_gives_a_dribbler_no_new_time() -> None:
    gate = Gate(upstream=PATIENT)
    client = upload(gate)
    client.send(bytes(100_000))
    dribbled = 0
    while client.open and dribbled < 200:
        gate.upstream.stop_reading()
        gate.upstream.transport.unsent += bytes(70_000)  # as if it had taken no more of what came before
        client.send(b"a")
        gate.advance(1)
        gate.upstream.read_on()
        gate.advance(1)
        dribbled += 1
    assert not client.open
    assert TIMEOUT / 2 - 2 <= dribbled <= TIMEOUT + 2


def test_a_client_that_was_asked_late_for_its_body_has_all_its_time() -> None:
    gate = Gate(upstream=PATIENT)
    client = gate.ask(HEAD + b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n")
    gate.advance(TIMEOUT - 1)
    gate.upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    gate.advance(TIMEOUT - 1)
    client.send(bytes(10))
    gate.upstream.send(OK)
    assert [each.status for each in client.answers] == [100, 200]


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bytes_per_second", "stays"), [(RATE + 10, True), (RATE - 40, False), (1, False)])
def test_a_slow_reader_stays_at_the_least_rate(bytes_per_second: int, *, stays: bool) -> None:
    gate = Gate(upstream=PATIENT)
    client = gate.ask(get())
    begin_answer(gate, client)
    for _ in range(300):
        if not client.gone:
            client.read_on(bytes_per_second)
        gate.advance(1)
    assert client.gone != stays
    assert gate.upstream.gone != stays


def test_without_a_rate_any_reading_will_do() -> None:
    gate = Gate(server={"client_body_min_bytes_per_second": 0}, upstream=PATIENT)
    client = gate.ask(get())
    begin_answer(gate, client)
    for _ in range(10):
        client.read_on(1)
        gate.advance(50)
    assert not client.gone
    gate.advance(2 * TIMEOUT)
    assert client.aborted
    assert gate.upstream.aborted


def test_a_client_that_does_not_read_gains_nothing_by_sending() -> None:
    gate = Gate(upstream=PATIENT)
    client = upload(gate)
    begin_answer(gate, client)
    assert seconds_of(gate, client, bytes(20_000), 1) <= TIMEOUT + 2
    assert client.aborted


def test_two_sides_that_both_do_not_read_do_not_stay_for_ever() -> None:
    gate = Gate(upstream=PATIENT)
    client = upload(gate)
    begin_answer(gate, client)
    gate.upstream.stop_reading()
    client.send(bytes(100_000))
    assert not client.transport.reading
    gate.advance(TIMEOUT + 2)
    assert client.aborted


def test_a_tunnels_client_that_does_not_read_is_cut_off_whatever_the_upstream_does() -> None:
    gate = Gate()
    client = tunnel(gate)
    client.stop_reading()
    gate.upstream.send(bytes(100_000))
    for _ in range(7):
        gate.upstream.stop_reading()
        client.send(bytes(100_000))
        gate.upstream.read_on()
        gate.advance(10)
    assert client.aborted


def test_a_client_that_does_not_read_what_opened_its_tunnel_is_cut_off() -> None:
    gate = Gate()
    client = gate.ask(get(b"/ws", KEY_FIELD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"))
    client.stop_reading()
    gate.upstream.send(SWITCHING + bytes(100_000))
    gate.advance(TIMEOUT + 2)
    assert client.aborted


def test_a_client_that_does_not_read_its_answers_is_not_told_that_its_requests_came_too_late() -> None:
    gate = Gate()
    client = gate.client()
    client.stop_reading()
    client.send(get() * 5)
    for _ in range(3):
        if len(gate.upstream.requests) > len(client.answers):
            gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + bytes(50_000))
    assert client.transport.unsent
    gate.advance(2 * TIMEOUT)
    assert client.aborted
    assert b" 408 " not in client.transport.unsent + client.received
    gate.check_nothing_is_left()


def test_a_closing_answer_that_is_read_slowly_is_read_whole() -> None:
    gate = Gate(upstream=PATIENT)
    client = gate.ask(get(fields=KEY_FIELD + b"Connection: close\r\n"))
    client.stop_reading()
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + bytes(60_000))
    for _ in range(250):
        client.read_on(RATE + 10)
        gate.advance(1)
    assert client.answer.body == bytes(60_000)
    gate.check_nothing_is_left()


# --- ahead ------------------------------------------------------------------------------------------------------------


def test_a_head_as_long_as_the_settings_allow_arrives_piece_by_piece() -> None:
    gate = Gate(server={"header_section_limit_bytes": 200_000, "header_count_limit": 1000})
    fields = KEY_FIELD + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 4000) for number in range(40))
    request = get(fields=fields)
    client = gate.client()
    client.methods.append(b"GET")
    client.send(*(request[a:b] for a, b in pairwise([*range(0, len(request), 10_000), len(request)])))
    gate.upstream.send(OK)
    assert client.answer.status == 200


def test_those_who_are_turned_away_take_no_place() -> None:
    gate = Gate(server={"max_connections": 2})
    first, _ = gate.client(), gate.client()
    refused = [gate.client() for _ in range(5)]
    assert {error_of(each.answer) for each in refused} == {(503, "gateway_overloaded")}
    first.end()
    gate.client().send(post(b"a"))
    assert gate.upstream.request.body == b"a"
    gate.advance(6)
    assert all(each.gone for each in refused)
    assert gate.worker.turned_away == 0
    assert len(gate.worker.connections) == 2


def test_a_flood_of_connections_is_reset_when_too_many_are_being_told() -> None:
    gate = Gate(server={"max_connections": 1})
    gate.client()
    flood = [gate.client() for _ in range(1030)]
    assert sum(each.aborted for each in flood) == 6
    assert len(gate.worker.connections) == 1025
    for each in flood:
        each.end()
    gate.advance(6)
    assert gate.worker.turned_away == 0
    assert error_of(gate.client().answer) == (503, "gateway_overloaded")


# --- upstreams that take it slowly ------------------------------------------------------------------------------------


def test_an_upstream_that_takes_an_upload_slowly_has_all_the_time_it_needs() -> None:
    gate = Gate(upstream={"head_timeout_seconds": 5})
    client = upload(gate)
    gate.upstream.stop_reading()
    client.send(bytes(200_000))
    for _ in range(20):
        gate.upstream.transport.peer_reads = False
        gate.advance(4)
        gate.upstream.read_on(1000)
    assert not client.received
    gate.advance(12)
    assert error_of(client.answer) == (504, "upstream_timeout")


def held_upload(gate: Gate, *, missing: int = 0) -> Client:
    """All of a body but so many bytes is here, and the upstream takes none of it: so its client is not read from."""
    client = upload(gate, b"Content-Length: %d\r\n" % (10_000 + missing))
    gate.upstream.stop_reading()
    client.send(bytes(10_000))
    assert not client.transport.reading
    return client


def test_a_connection_that_a_body_is_stuck_in_is_not_used_again() -> None:
    """The answer overtook the body: the next request would wait behind it."""
    gate = Gate()
    client = held_upload(gate)
    gate.upstream.send(OK)
    assert client.answer.status == 200
    assert gate.upstream.aborted
    assert not gate.target.connections
    gate.check_counts()


def test_a_client_that_was_held_back_is_read_from_again_after_an_answer_that_overtook_its_body() -> None:
    gate = Gate()
    client = held_upload(gate)
    gate.upstream.send(OK)
    client.methods.append(b"GET")
    client.send(get(b"/second"))
    gate.upstreams[-1].send(OK)
    assert gate.upstreams[-1].request.target == b"/second"
    assert [each.status for each in client.answers] == [200, 200]


def test_nor_does_what_is_left_of_its_body_turn_that_answer_into_a_reset() -> None:
    """It is read and thrown away: closing a socket with bytes unread resets it, and the answer may be lost."""
    gate = Gate()
    client = held_upload(gate, missing=5)
    gate.upstream.send(OK)
    assert client.answer.one("connection") == "close"
    client.send(bytes(5))
    client.end()
    assert client.gone
    assert not client.aborted
    assert len(gate.upstreams) == 1
    gate.check_nothing_is_left()


def stalled_tunnel() -> tuple[Gate, Client]:
    """One whose upstream has much to read, and reads nothing."""
    gate = Gate(upstream={"body_timeout_seconds": 30})
    client = tunnel(gate)
    gate.upstream.stop_reading()
    client.send(bytes(200_000))
    return gate, client


def test_a_tunnel_ends_whose_upstream_takes_nothing_more() -> None:
    gate, client = stalled_tunnel()
    gate.advance(29)
    assert not client.gone
    gate.advance(2)
    assert client.aborted
    assert gate.upstream.aborted
    gate.check_counts()


def test_a_tunnel_goes_on_whose_upstream_takes_it_slowly_and_then_says_nothing() -> None:
    gate, client = stalled_tunnel()
    for _ in range(5):
        gate.upstream.transport.peer_reads = False
        gate.advance(20)
        gate.upstream.read_on(1000)
    gate.upstream.transport.peer_reads = True
    gate.upstream.read_on()
    gate.advance(500)
    assert not client.gone
