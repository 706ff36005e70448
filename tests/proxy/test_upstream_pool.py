"""Which target and which connection a request gets: reuse, age, turns, failures, and who is left out."""

from __future__ import annotations

import errno
import socket
from collections import Counter

import pytest

from gateway.proxy.upstream_pool import (
    LONGEST_REST_SECONDS,
    LOOK_AFTER_SECONDS,
    PROBATION_LOOKS,
    SHORTEST_REST_SECONDS,
    USES_BEFORE_REST,
)
from tests.proxy.harness import OK, Gate, error_of, get, post
from tests.proxy.test_tunnel import ASKING, SWITCHING

TWO = {"targets": ["http://10.0.0.1:9000", "http://10.0.0.2:9000"]}
THREE = {"targets": [f"http://10.0.0.{n}:9000" for n in (1, 2, 3)]}


def kept(gate: Gate, count: int) -> None:
    """Leave that many idle connections, used in the order of `gate.upstreams`."""
    clients = [gate.ask(get(b"/%d" % number)) for number in range(count)]
    for upstream in gate.upstreams[-count:]:
        upstream.send(OK)
    for client in clients:
        client.end()


def timed() -> Gate:
    """A gate in which connections take their time to rest; in others whatever is idle has rested."""
    gate = Gate()
    gate.target.precise_clock = gate.loop.time
    return gate


def rest(gate: Gate) -> None:
    """Let so much time pass that a connection may be used again whoever is behind it."""
    gate.loop.advance(2 * SHORTEST_REST_SECONDS)


def test_the_most_recently_used_connection_goes_out_first() -> None:
    gate = Gate()
    kept(gate, 3)
    assert gate.target.idle[-1].transport is gate.upstreams[2].transport
    gate.ask(get(b"/next"))
    assert len(gate.upstreams[2].requests) == 2
    gate.upstreams[2].send(OK)
    gate.ask(get(b"/next"))
    assert len(gate.upstreams[2].requests) == 3
    assert len(gate.upstreams) == 3
    gate.check_counts()


def test_idle_connections_are_closed_before_their_peer_closes_them() -> None:
    gate = Gate()
    kept(gate, 2)
    gate.advance(3.5)
    gate.ask(get())
    gate.upstreams[1].send(OK)
    gate.advance(1)
    assert gate.upstreams[0].gone
    assert not gate.upstreams[1].gone
    gate.advance(4)
    assert gate.upstreams[1].gone
    gate.check_counts()


@pytest.mark.parametrize(("says", "lives"), [(b"timeout=3", 2.0), (b"timeout=60", 4.0), (b"max=5, timeout=2", 1.0)])
def test_the_peers_own_time_counts_less_a_second(says: bytes, lives: float) -> None:
    gate = Gate()
    gate.ask(get())
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: " + says + b"\r\n\r\n")
    gate.advance(lives - 0.5)
    assert not gate.upstream.gone
    gate.advance(1)
    assert gate.upstream.gone


def test_idle_connections_are_bounded_in_number() -> None:
    gate = Gate(upstream={"max_idle_connections": 2})
    kept(gate, 4)
    assert len(gate.target.idle) == 2
    assert sum(each.gone for each in gate.upstreams) == 2
    gate.check_counts()


def test_nothing_is_kept_where_nothing_may_be() -> None:
    gate = Gate(upstream={"idle_timeout_seconds": 0})
    kept(gate, 2)
    assert not gate.target.idle
    gate.check_counts()


@pytest.mark.parametrize("balance", ["round_robin", "least_in_flight"])
def test_targets_take_turns(balance: str) -> None:
    gate = Gate(upstream={**THREE, "balance": balance})
    for number in range(9):
        gate.ask(get(b"/%d" % number))
    assert set(Counter(each.authority for each in gate.upstreams).values()) == {3}


@pytest.mark.parametrize("balance", ["round_robin", "least_in_flight"])
def test_targets_take_turns_under_light_load(balance: str) -> None:
    gate = Gate(upstream={**TWO, "balance": balance})
    client = gate.client()
    for number in range(8):
        client.send(get(b"/%d" % number))
        next(each for each in gate.upstreams if each.requests[-1].target == b"/%d" % number).send(OK)
    assert sorted(len(each.requests) for each in gate.upstreams) == [4, 4]


def test_the_least_loaded_target_gets_the_next_request() -> None:
    gate = Gate(upstream={**TWO, "balance": "least_in_flight"})
    for _ in range(4):
        gate.ask(get())
    for upstream in [each for each in gate.upstreams if each.authority == "10.0.0.2:9000"]:
        upstream.send(OK)
    for _ in range(2):
        gate.ask(get())
    in_flight = {each.authority: each.in_flight for each in gate.worker.pools[0].targets}
    assert in_flight == {"10.0.0.1:9000": 2, "10.0.0.2:9000": 2}


@pytest.mark.parametrize("request_", [get(), post(b"hello")])
def test_a_target_that_cannot_be_reached_is_passed_over_since_nothing_was_sent(request_: bytes) -> None:
    gate = Gate(upstream=TWO)
    gate.refuses_connections = {"10.0.0.1:9000"}
    for _ in range(4):
        client = gate.ask(request_)
        gate.upstreams[-1].send(OK)
        assert client.answer.status == 200
        assert gate.upstreams[-1].authority == "10.0.0.2:9000"
        gate.upstreams[-1].reset()
    gate.check_counts()


def test_when_no_target_can_be_reached_each_is_tried_once() -> None:
    gate = Gate(upstream=THREE)
    gate.refuses_connections = {f"10.0.0.{n}:9000" for n in (1, 2, 3)}
    client = gate.ask(get())
    assert error_of(client.answer) == (502, "upstream_unreachable")
    assert sorted(gate.dialled) == [f"10.0.0.{n}:9000" for n in (1, 2, 3)]
    assert client.open
    gate.check_counts()


def test_a_connection_has_its_time_to_open() -> None:
    gate = Gate(upstream={"connect_timeout_seconds": 5})
    gate.dials_hang = True
    client = gate.ask(get())
    gate.advance(4.5)
    assert client.received == b""
    gate.advance(1)
    assert error_of(client.answer) == (502, "upstream_unreachable")
    gate.check_counts()


def test_a_target_that_fails_in_a_row_is_left_out_for_a_while() -> None:
    gate = Gate(upstream={**TWO, "ejection_failures": 3, "ejection_seconds": 10})
    gate.refuses_connections = {"10.0.0.1:9000"}
    for _ in range(6):
        gate.ask(get())
        gate.upstreams[-1].reset()
        gate.worker.pools[0].targets[1]._failures = 0
    assert gate.dialled.count("10.0.0.1:9000") == 3
    gate.refuses_connections = set()
    gate.advance(11)
    for _ in range(2):
        gate.ask(get())
    assert gate.dialled.count("10.0.0.1:9000") == 4


def test_a_success_between_failures_forgives_them() -> None:
    gate = Gate(upstream={"ejection_failures": 2})
    for _ in range(3):
        gate.ask(get())
        gate.upstreams[-1].reset()
        client = gate.ask(get())
        gate.upstreams[-1].send(OK)
        gate.upstreams[-1].reset()
        client.end()
        assert gate.target.usable(gate.loop.time())


def test_when_all_targets_are_left_out_all_are_used() -> None:
    gate = Gate(upstream={**TWO, "ejection_failures": 1})
    for _ in range(4):
        gate.ask(get())
        gate.upstreams[-1].reset()
    assert not any(each.usable(gate.loop.time()) for each in gate.worker.pools[0].targets)
    client = gate.ask(get())
    gate.upstreams[-1].send(OK)
    assert client.answer.status == 200


def test_an_unhealthy_target_is_left_out_while_another_is_well() -> None:
    gate = Gate(upstream=TWO)
    gate.worker.pools[0].targets[0].healthy = False
    for _ in range(3):
        gate.ask(get())
    assert {each.authority for each in gate.upstreams} == {"10.0.0.2:9000"}
    gate.worker.pools[0].targets[1].healthy = False
    gate.ask(get())
    gate.ask(get())
    assert {each.authority for each in gate.upstreams} == {"10.0.0.1:9000", "10.0.0.2:9000"}


def test_an_ended_connection_leaves_the_idle_ones_at_once() -> None:
    gate = Gate()
    kept(gate, 3)
    gate.upstreams[2].end()
    gate.upstreams[1].reset()
    assert len(gate.target.idle) == 1
    gate.ask(get())
    assert len(gate.upstreams[0].requests) == 2
    gate.check_counts()


# --- what the kernel holds and the loop has not read ------------------------------------------------------------------


@pytest.mark.parametrize("request_", [get(), post(b"x")])
@pytest.mark.parametrize("what", ["bytes", "an end"])
def test_a_connection_with_something_unread_is_not_used_again(what: str, request_: bytes) -> None:
    """A POST is not lost to it, since it goes out on the next connection only."""
    gate = timed()
    behind = [socket.socketpair() for _ in range(3)]
    gate.descriptors = [ours.fileno() for ours, _ in behind]
    kept(gate, 3)
    for _, theirs in behind[1:]:
        if what == "bytes":
            theirs.send(OK)
        else:
            theirs.close()
    rest(gate)  # else a target that spoke unasked gets no request
    client = gate.ask(request_)
    assert [each.gone for each in gate.upstreams] == [False, True, True]
    gate.upstreams[0].send(OK)
    assert client.answer.body == b"ok"
    assert len(gate.upstreams) == 3
    gate.check_counts()
    for ours, theirs in behind:
        ours.close()
        theirs.close()


def test_a_fresh_connection_that_speaks_unasked_serves_nobody() -> None:
    gate = Gate(upstream=TWO)
    ours, theirs = socket.socketpair()
    theirs.send(OK)
    gate.descriptors = [ours.fileno()]
    client = gate.ask(post(b"x"))
    assert gate.upstreams[0].gone
    assert not gate.upstreams[0].received
    gate.upstreams[1].send(OK)
    assert client.answer.body == b"ok"
    gate.check_counts()
    ours.close()
    theirs.close()


def looks(gate: Gate) -> list[int]:
    """From now on, one member for each time that the kernel is asked about a connection that is open now."""
    seen: list[int] = []

    def poll(timeout: int) -> list[tuple[int, int]]:
        seen.append(timeout)
        return []

    for connection in gate.target.connections:
        connection._poll = poll
    return seen


def serve(gate: Gate, count: int, *, apart: float = 0.0) -> None:
    """One after the other, on one connection, which rests when it must."""
    client = gate.client()
    for _ in range(count):
        gate.loop.advance(apart)
        if not gate.target.idle:
            rest(gate)
        client.send(get())
        gate.upstream.send(OK)


def trusted() -> Gate:
    """A gate whose target has been silent at each look, with one connection, which has rested."""
    gate = timed()
    kept(gate, 1)
    serve(gate, PROBATION_LOOKS)
    while gate.target.idle:
        serve(gate, 1)
    rest(gate)
    return gate


def test_the_figures_are_those_of_the_documents() -> None:
    assert (PROBATION_LOOKS, LOOK_AFTER_SECONDS) == (1000, 0.02)
    assert (USES_BEFORE_REST, SHORTEST_REST_SECONDS, LONGEST_REST_SECONDS) == (100, 0.005, 1.0)


def test_a_target_that_was_always_silent_is_not_looked_at_a_moment_after_its_response() -> None:
    gate = timed()
    kept(gate, 1)
    seen = looks(gate)
    serve(gate, PROBATION_LOOKS)
    assert len(seen) == PROBATION_LOOKS
    gate = trusted()
    seen = looks(gate)
    serve(gate, 10 * USES_BEFORE_REST)
    assert len(seen) == 10, "once in each turn, after its rest"
    seen.clear()
    serve(gate, 20, apart=LOOK_AFTER_SECONDS - 0.001)
    assert len(seen) == 1, "the rest that was due"
    seen.clear()
    serve(gate, 20, apart=LOOK_AFTER_SECONDS + 0.001)
    assert len(seen) == 20


def test_a_connection_rests_after_some_uses_in_a_row_for_longer_than_its_answers_took() -> None:
    """An answer that is owed comes while nobody waits for it, if all have got the answer to another request."""
    gate = timed()
    client = gate.client()
    for number in range(USES_BEFORE_REST):
        client.send(get())
        gate.loop.advance(0.2 if number == 5 else 0.001)
        gate.upstream.send(OK)
    assert not gate.target.idle
    gate.loop.advance(0.39)
    client.send(get())
    assert len(gate.upstreams) == 2
    gate.upstreams[1].send(OK)
    gate.loop.advance(0.02)
    for _ in range(USES_BEFORE_REST - 1):  # the other one is idle, so that it goes out first
        client.send(get())
        gate.upstreams[1].send(OK)
    client.send(get())
    assert len(gate.upstreams[0].requests) == USES_BEFORE_REST + 1
    assert len(gate.upstreams) == 2
    gate.check_counts()


def test_connections_that_were_opened_together_do_not_rest_together() -> None:
    """Else as many again would be opened in their place, each at the price of ten requests."""
    gate = timed()
    kept(gate, 50)
    clients = [gate.client() for _ in range(50)]
    for _ in range(3 * USES_BEFORE_REST):
        for client in clients:
            client.send(get())
        gate.loop.advance(0.001)
        for upstream in [each for each in gate.upstreams if each.transport in lent(gate)]:
            upstream.send(OK)
        assert len(gate.target.resting) < 10
    assert len(gate.upstreams) < 60
    gate.check_counts()


def lent(gate: Gate) -> list[object]:
    """The transports of connections that are lent."""
    return [each.transport for each in gate.target.connections if each.exchange is not None]


def test_the_first_answer_of_a_connection_says_nothing_of_how_long_it_has_to_rest() -> None:
    """It waited until the worker had opened all those that were wanted at once."""
    gate = timed()
    client = gate.client()
    for number in range(USES_BEFORE_REST):
        client.send(get())
        gate.loop.advance(0.001 if number else 0.4)
        gate.upstream.send(OK)
    assert not gate.target.idle
    rest(gate)
    client.send(get())
    assert len(gate.upstreams) == 1


def test_one_that_rests_for_long_holds_up_no_other() -> None:
    gate = timed()
    gate.target.distrust()
    for seconds in (0.3, 0.001):
        gate.ask(get())
        gate.loop.advance(seconds)
    slow, quick = gate.upstreams
    slow.send(OK)
    quick.send(OK)
    rest(gate)
    gate.ask(get())
    assert len(quick.requests) == 2
    assert len(gate.upstreams) == 2
    gate.check_counts()


def test_a_distrusted_target_needs_no_more_connections_than_its_load_does() -> None:
    """Those of a burst grow old, and are closed."""
    gate = timed()
    gate.target.distrust()
    kept(gate, 20)
    burst = list(gate.upstreams)
    for _ in range(24):
        gate.advance(0.25)
        client = gate.ask(get())
        next(each for each in gate.upstreams if each.transport is busy(gate)).send(OK)
        client.end()
    assert sum(not each.gone for each in burst) == 1
    gate.check_counts()


def busy(gate: Gate) -> object:
    """The transport of the one connection that is lent."""
    (transport,) = lent(gate)
    return transport


@pytest.mark.parametrize("why", ["distrusted meanwhile", "held back"])
def test_an_answer_that_comes_at_once_shortens_no_rest(why: str) -> None:
    """It may be the one that was owed; then the next one is owed, and takes as long as those before."""
    gate = timed()
    client = gate.client()
    for _ in range(20):
        client.send(get())
        gate.loop.advance(0.1)
        gate.upstream.send(OK)
    client.send(get())
    if why == "held back":
        client.stop_reading()
        gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n", bytes(20_000))
    else:
        gate.target.distrust()
        gate.upstream.send(OK)
    gate.loop.advance(0.19)
    other = gate.ask(get())
    assert len(gate.upstreams) == 2
    gate.upstreams[1].send(OK)
    assert other.answer.status == 200
    gate.check_counts()


def test_a_target_that_is_distrusted_lets_idle_connections_rest_for_as_long_as_their_answers_took() -> None:
    gate = timed()
    client = gate.client()
    client.send(get())
    gate.loop.advance(0.2)
    gate.upstream.send(OK)
    gate.target.distrust()
    gate.loop.advance(0.39)
    client.send(get())
    assert len(gate.upstreams) == 2


def test_no_rest_is_longer_than_a_second() -> None:
    gate = timed()
    client = gate.client()
    for _ in range(USES_BEFORE_REST):
        client.send(get())
        gate.loop.advance(30)
        gate.upstream.send(OK)
    gate.loop.advance(LONGEST_REST_SECONDS + 0.01)
    client.send(get())
    assert len(gate.upstreams) == 1


def test_a_connection_that_was_held_back_rests_before_it_is_used_again() -> None:
    """What came while it was not read from is as old as that."""
    gate = timed()
    slow = gate.ask(get())
    slow.stop_reading()
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n", bytes(20_000))
    assert not gate.target.in_flight
    gate.ask(get())
    assert len(gate.upstreams) == 2
    gate.check_counts()


BREACHES = {
    "an answer to nobody": (OK, OK),
    "a byte to nobody": (OK, b"H"),
    "an interim response to nobody": (OK, b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a byte too many": (OK + b"\n",),
    "no response": (b"ok\r\n\r\n",),
    "the beginning of none": (b"SSH-2.0-",),
    "a body where there is none": (b"HTTP/1.1 204 No Content\r\n\r\nbody",),
}
HONEST = {
    "a head that is too large": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    "a field that is none": b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 0\r\n\r\n",
    "a protocol that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_target_that_spoke_unasked_is_used_again_only_after_a_rest(
    breach: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What it says late is not taken for the answer to the next request."""
    gate = timed()
    for _ in range(2):
        gate.ask(get())
        upstream = gate.upstreams[-1]
        for said in BREACHES[breach]:
            upstream.send(said)
        assert upstream.gone
    told = [message for message in caplog.messages if "no request had asked for" in message]
    assert len(told) == 1
    assert "upstream default, target 10.0.0.1:9000" in told[0]
    kept(gate, 2)
    one, two = gate.upstreams[2:]
    assert not gate.target.idle
    gate.ask(get())
    assert len(gate.upstreams) == 5, "neither has rested"
    rest(gate)
    gate.ask(get(b"/two"))
    gate.ask(get(b"/one"))
    assert [each.requests[-1].target for each in (one, two)] == [b"/one", b"/two"], "the last one goes out first"
    assert len(gate.upstreams) == 5
    gate.check_counts()


@pytest.mark.parametrize("fault", HONEST)
def test_a_response_that_is_broken_in_its_place_costs_no_trust(fault: str) -> None:
    """A client may bring that about, with what is told back to it."""
    gate = timed()
    client = gate.ask(get())
    gate.upstream.send(HONEST[fault])
    assert client.answer.status == 502
    assert not gate.target.distrusted


def test_what_a_target_says_after_its_connection_was_given_up_costs_no_trust() -> None:
    gate = timed()
    client = gate.ask(get())
    (connection,) = gate.target.connections
    client.end()
    connection.data_received(OK)
    assert connection.closing
    assert not gate.target.distrusted


def test_a_target_that_ends_idle_connections_is_trusted_as_before(caplog: pytest.LogCaptureFixture) -> None:
    gate = timed()
    ours, theirs = socket.socketpair()
    gate.descriptors = [ours.fileno()]
    kept(gate, 2)
    theirs.close()
    gate.upstreams[1].end()
    rest(gate)
    gate.ask(get())
    assert gate.upstreams[0].gone
    gate.upstreams[2].send(OK)
    gate.ask(get())
    assert len(gate.upstreams) == 3
    assert not caplog.messages
    gate.check_counts()
    ours.close()


@pytest.mark.parametrize("between", ["a response", "a tunnel", "a response that its client does not wait for"])
def test_what_went_well_between_failures_ends_the_row(between: str) -> None:
    gate = Gate(upstream={"ejection_failures": 3})
    for _ in range(5):
        client = gate.ask(ASKING if between == "a tunnel" else get())
        if between == "a response":
            gate.upstreams[-1].send(OK)
        elif between == "a tunnel":
            gate.upstreams[-1].send(SWITCHING)
        else:
            gate.upstreams[-1].send(OK.replace(b": 2", b": 9"))
        client.end()
        rest(gate)
        gate.ask(get())
        gate.upstreams[-1].send(b"BROKEN\r\n\r\n")
        rest(gate)
        assert gate.target.usable(gate.loop.time())


def test_a_client_that_waits_to_be_asked_for_its_body_makes_no_target_fail() -> None:
    """An upstream need not ask (RFC 9110 section 10.1.1); whoever has a key could eject it so."""
    gate = Gate(upstream={"ejection_failures": 1, "head_timeout_seconds": 1})
    client = gate.ask(post(b"hello").replace(b"\r\n\r\nhello", b"\r\nExpect: 100-continue\r\n\r\n"))
    gate.advance(1.5)
    assert error_of(client.answer) == (504, "upstream_timeout")
    assert gate.target.usable(gate.loop.time())
    gate.ask(get())
    gate.advance(1.5)
    assert not gate.target.usable(gate.loop.time())


def test_an_outage_is_told_once_a_second_with_its_reason_and_how_much_was_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate(upstream={"ejection_failures": 0})
    gate.refuses_connections.add("10.0.0.1:9000")
    for _ in range(20):
        assert error_of(gate.ask(get()).answer) == (502, "upstream_unreachable")
    gate.advance(1.25)
    gate.ask(get())
    told = (
        "upstream default, target 10.0.0.1:9000: nothing listens there (connection refused): does it run, and is its"
        " address in targets right? (upstream_unreachable, request "
    )
    first, second = caplog.messages
    assert first.startswith(told)
    assert second.startswith(told)
    assert second.endswith(", failures before it that were not logged: 19)")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "its name cannot be resolved: is it right in",
        ),
        (TimeoutError(), "no connection in time"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "No route to host"),
    ],
)
def test_the_log_says_why_a_target_cannot_be_reached(
    caplog: pytest.LogCaptureFixture, error: OSError, told: str
) -> None:
    gate = Gate()
    gate.refuses_with = error
    gate.refuses_connections.add("10.0.0.1:9000")
    gate.ask(get())
    assert told in caplog.messages[0]


def test_each_reason_is_told_though_another_one_was_a_moment_ago(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate(upstream={"ejection_failures": 0})
    kinds = [b"\x15\x03\x01\x00\x02\x02\x0a", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n"]
    for kind in kinds * 2:
        rest(gate)
        gate.ask(get())
        gate.upstreams[-1].send(kind)
    told = [message for message in caplog.messages if "upstream_invalid_response" in message]
    assert len(told) == len(kinds)
    assert "what came is TLS: is its address https://?" in told[0]


def test_a_target_that_is_left_out_already_is_not_told_of_again(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate(upstream={"ejection_failures": 2, "ejection_seconds": 10})
    gate.refuses_connections.add("10.0.0.1:9000")
    for _ in range(20):  # it is asked all the same, since there is no other
        gate.ask(get())
    gate.advance(11)
    for _ in range(2):
        gate.ask(get())
    assert sum("is left out" in message for message in caplog.messages) == 2
