"""One request and its response: what is sent when, what is tried again, and what a changed key ends."""

from __future__ import annotations

import pytest

from gateway.keys.change import Change
from tests.proxy.harness import KEY_FIELD, OK, OTHER_SECRET, SECRET, Client, Gate, error_of, get, post
from tests.proxy.wire_reader import Incomplete

EXPECTING = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n" + KEY_FIELD + b"\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" + KEY_FIELD + b"\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


# --- interim responses ------------------------------------------------------------------------------------------------


def test_continue_is_the_upstreams_to_say_and_the_body_waits_for_it() -> None:
    gate = Gate()
    client = gate.ask(EXPECTING)
    assert client.received == b""
    assert b"\r\nExpect: 100-continue\r\n" in gate.upstream.received
    with pytest.raises(Incomplete):
        _ = gate.upstream.request
    gate.upstream.send(CONTINUE)
    assert client.received == CONTINUE
    client.send(b"hello")
    assert gate.upstream.request.body == b"hello"
    gate.upstream.send(OK)
    assert [each.status for each in client.answers] == [100, 200]
    assert client.open
    gate.check_counts()


@pytest.mark.parametrize("fields", [b"", b"X-API-KEY: " + OTHER_SECRET + b"\r\n"])
def test_a_body_is_not_asked_for_before_the_key_is_accepted(fields: bytes) -> None:
    gate = Gate()
    client = gate.ask(EXPECTING.replace(KEY_FIELD, fields))
    assert client.answer.status == 401
    assert client.ended
    assert not gate.upstreams


@pytest.mark.parametrize(("body", "error"), [(b"", (408, "request_timeout")), (b"hello", (504, "upstream_timeout"))])
def test_asking_for_the_body_again_gives_nobody_more_time(body: bytes, error: tuple[int, str]) -> None:
    gate = Gate()
    client = gate.ask(EXPECTING)
    gate.upstream.send(CONTINUE)
    if body:
        client.send(body)
    for _ in range(6):
        gate.advance(9)
        gate.upstream.send(CONTINUE)
    assert [each.status for each in client.answers] == [100] * 7
    gate.advance(9)
    assert error_of(client.answers[-1]) == error


def test_an_upstream_may_refuse_what_is_expected() -> None:
    gate = Gate()
    client = gate.ask(EXPECTING)
    gate.upstream.send(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
    assert client.answer.status == 417
    assert client.answer.one("connection") == "close"
    assert client.ended
    assert gate.upstream.aborted
    client.send(get(b"/smuggled"))
    assert len(gate.upstreams) == 1


def test_interim_responses_are_relayed_in_order_and_written_anew() -> None:
    gate = Gate()
    client = gate.ask(get())
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: forged\r\n\r\n"
    for split in range(1, len(interim)):
        gate.upstream.send(interim[:split], interim[split:])
    gate.upstream.send(interim + interim + OK)
    assert [each.status for each in client.answers] == [103] * (len(interim) + 1) + [200]
    assert client.answers[0].fields == [(b"Link", b"</a>")]
    assert gate.target.idle


def test_a_continue_that_nobody_asked_for_is_swallowed() -> None:
    gate = Gate()
    client = gate.ask(get())
    gate.upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
    assert client.answer.status == 200


def test_http_1_0_clients_get_no_interim_responses() -> None:
    gate = Gate()
    client = gate.ask(b"GET / HTTP/1.0\r\n" + KEY_FIELD + b"\r\n")
    gate.upstream.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    assert client.answer.status == 200


# --- early responses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [post(b"0123456789")[:-5], CHUNKED, CHUNKED + b"5\r\nhello\r\n"])
def test_a_response_before_the_request_is_whole_ends_both_connections(begun: bytes) -> None:
    gate = Gate()
    client = gate.ask(begun)
    gate.upstream.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nbad")
    assert (client.answer.status, client.answer.body) == (400, b"bad")
    assert client.answer.one("connection") == "close"
    assert client.ended
    assert not client.aborted
    assert gate.upstream.aborted
    client.send(get(b"/smuggled"))
    assert len(gate.upstreams) == 1
    gate.check_counts()


def test_a_body_goes_on_while_an_early_response_does() -> None:
    gate = Gate()
    client = gate.ask(CHUNKED + b"5\r\nhello\r\n")
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    client.send(b"5\r\nworld\r\n")
    gate.upstream.send(b"2\r\ncd\r\n")
    client.send(b"0\r\n\r\n")
    gate.upstream.send(b"0\r\n\r\n")
    assert gate.upstream.request.body == b"helloworld"
    assert client.answer.body == b"abcd"
    assert client.ended
    gate.check_counts()


def test_a_body_that_breaks_while_the_response_is_out_is_cut_off() -> None:
    gate = Gate()
    client = gate.ask(CHUNKED + b"5\r\nhello\r\n")
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    client.send(b"x\r\n")
    assert client.aborted
    assert gate.upstream.aborted
    assert len(client.answers) == 1


# --- retry ------------------------------------------------------------------------------------------------------------


def with_idle(**settings: object) -> Gate:
    """A gate that has an idle connection to its upstream."""
    gate = Gate(**settings)  # type: ignore[arg-type]
    client = gate.ask(get(b"/before"))
    gate.upstream.send(OK)
    client.end()
    assert gate.target.idle
    return gate


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"])
@pytest.mark.parametrize("leave", ["end", "reset"])
def test_an_idempotent_request_is_tried_once_more_when_a_reused_connection_dies(method: bytes, leave: str) -> None:
    gate = with_idle()
    client = gate.ask(get(b"/again").replace(b"GET", method, 1))
    getattr(gate.upstreams[0], leave)()
    first, second = gate.upstreams
    assert first.requests[1].fields == second.request.fields, "the same request, under the same id"
    second.send(OK if method != b"HEAD" else OK[:-2])
    assert client.answer.status == 200
    gate.check_counts()


def test_there_is_no_second_retry() -> None:
    gate = with_idle()
    client = gate.ask(get())
    gate.upstreams[0].reset()
    gate.upstreams[1].reset()
    assert error_of(client.answer) == (502, "upstream_unreachable")
    assert len(gate.upstreams) == 2
    gate.check_counts()


@pytest.mark.parametrize(
    ("what", "request_"),
    [
        ("POST without a body", get().replace(b"GET", b"POST", 1)),
        ("POST", post(b"hello")),
        ("PATCH without a body", get().replace(b"GET", b"PATCH", 1)),
        ("a method of its own", get().replace(b"GET", b"PURGE", 1)),
        ("PUT with a body", post(b"hello").replace(b"POST", b"PUT", 1)),
        ("PUT with chunks", CHUNKED.replace(b"POST", b"PUT", 1)),
        ("DELETE with a body", post(b"hello").replace(b"POST", b"DELETE", 1)),
    ],
)
def test_what_may_have_had_an_effect_is_never_sent_twice(what: str, request_: bytes) -> None:
    gate = with_idle()
    client = gate.ask(request_)
    gate.upstreams[0].reset()
    assert error_of(client.answer) == (502, "upstream_unreachable"), what
    assert len(gate.upstreams) == 1
    gate.check_counts()


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_nothing_is_tried_again_after_a_byte_of_the_response(begun: bytes) -> None:
    gate = with_idle()
    client = gate.ask(get())
    gate.upstreams[0].send(begun)
    gate.upstreams[0].reset()
    assert client.answers[-1].status == 502
    assert len(gate.upstreams) == 1


def test_nothing_is_tried_again_on_a_fresh_connection_or_after_a_timeout() -> None:
    gate = Gate()
    client = gate.ask(get())
    gate.upstream.reset()
    assert client.answer.status == 502
    assert len(gate.upstreams) == 1
    gate = with_idle(upstream={"head_timeout_seconds": 5})
    client = gate.ask(get())
    gate.advance(6)
    assert error_of(client.answer) == (504, "upstream_timeout")
    assert len(gate.upstreams) == 1


def test_a_retry_waits_for_its_connection_and_may_fail_there() -> None:
    gate = with_idle()
    gate.refuses_connections = {"10.0.0.1:9000"}
    client = gate.ask(get())
    gate.upstreams[0].reset()
    assert error_of(client.answer) == (502, "upstream_unreachable")
    gate.check_counts()


def test_a_close_by_the_upstream_is_noticed_at_once() -> None:
    """Between the upstream's end and the loop's next turn, no request is given to the connection."""
    gate = with_idle()
    with gate.loop.inside():
        gate.upstreams[0].transport.peer_ends()
        client = gate.client()
        client.transport.peer_sends(post(b"hello"))
    gate.settle()
    assert len(gate.upstreams) == 2
    gate.upstreams[1].send(OK)
    assert client.answer.status == 200


# --- back-pressure ----------------------------------------------------------------------------------------------------


def test_a_slow_client_stops_the_upstream_and_memory_stays_bounded() -> None:
    gate = Gate()
    client = gate.ask(get())
    client.stop_reading()
    gate.upstream.send(LONG)
    for _ in range(100):
        gate.upstream.send(bytes(10_000))
    assert not gate.upstream.transport.reading
    assert client.transport.most_unsent < 131_072
    taken = 0
    while taken < 1_000_000:
        client.read_on(20_000)
        taken += 20_000
    client.read_on()
    assert client.answer.whole
    assert gate.upstream.transport.reading
    assert client.transport.most_unsent < 131_072
    gate.check_counts()


def test_a_slow_upstream_stops_the_client_and_memory_stays_bounded() -> None:
    gate = Gate()
    client = gate.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n" + KEY_FIELD + b"\r\n")
    gate.upstream.stop_reading()
    for _ in range(100):
        client.send(bytes(10_000))
    assert not client.transport.reading
    assert gate.upstream.transport.most_unsent < 131_072
    for _ in range(100):
        gate.upstream.read_on(10_000)
    gate.upstream.read_on()
    assert len(gate.upstream.request.body) == 1_000_000
    gate.upstream.send(OK)
    assert client.answer.status == 200
    assert client.transport.reading
    gate.check_counts()


def test_what_comes_before_there_is_a_connection_is_held_within_bounds() -> None:
    gate = Gate()
    gate.dials_hang = True
    client = gate.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n" + KEY_FIELD + b"\r\n")
    for _ in range(100):
        client.send(bytes(10_000))
    assert not client.transport.reading
    gate.connect()
    assert len(gate.upstream.request.body) == 1_000_000
    gate.upstream.send(OK)
    assert client.answer.status == 200


def test_a_connection_that_was_held_back_serves_the_next_request() -> None:
    """The last piece of a response filled the client's buffer: the upstream's connection must be read from again."""
    gate = Gate()
    client = gate.ask(get())
    client.stop_reading()
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))
    gate.check_counts()
    other = gate.ask(get(b"/other"))
    gate.upstreams[-1].send(OK)
    assert other.answer.status == 200
    client.read_on()
    assert client.answer.whole


def test_a_client_that_was_held_back_sends_its_next_request() -> None:
    """The last piece of a body filled the upstream's buffer, and the response came before it was read."""
    gate = Gate()
    client = gate.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n" + KEY_FIELD + b"\r\n")
    gate.upstream.stop_reading()
    client.send(bytes(200_000))
    gate.upstream.send(OK)
    assert client.answers[0].status == 200
    gate.upstream.read_on()
    if client.open:
        client.send(get(b"/second"))
        gate.upstreams[-1].send(OK)
        assert client.answers[1].status == 200
    gate.check_counts()


def test_a_client_that_reads_slowly_is_not_overrun_by_the_next_response() -> None:
    gate = Gate()
    client = gate.client()
    client.stop_reading()
    client.send(get(b"/1") + get(b"/2"))
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))
    for upstream in gate.upstreams:
        upstream.send(*[LONG, *[bytes(10_000)] * 100])
    assert client.transport.most_unsent < 262_144


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "setting"), [(b"", "head"), (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "body")]
)
def test_the_log_names_the_setting_that_a_silence_is_beyond(
    caplog: pytest.LogCaptureFixture, sent: bytes, setting: str
) -> None:
    gate = Gate(upstream={"head_timeout_seconds": 20, "body_timeout_seconds": 20})
    gate.ask(get())
    if sent:
        gate.upstream.send(sent)
    gate.advance(21)
    (record,) = caplog.records
    assert f"was silent for longer than {setting}_timeout_seconds allows" in record.message


def test_the_upstream_has_its_time_for_the_head() -> None:
    gate = Gate(upstream={"head_timeout_seconds": 20})
    client = gate.ask(get())
    gate.advance(19)
    gate.upstream.send(b"HTTP/1.1 200 OK\r\n")
    assert client.received == b""
    gate.advance(2)
    assert error_of(client.answer) == (504, "upstream_timeout")
    assert client.open
    assert gate.upstream.aborted
    gate.check_counts()


def test_the_time_for_the_head_begins_with_the_end_of_the_body() -> None:
    gate = Gate(server={"client_body_min_bytes_per_second": 0}, upstream={"head_timeout_seconds": 20})
    client = gate.ask(post(b"0123456789")[:-8])
    for byte in b"23456789":
        gate.advance(15)
        client.send(bytes([byte]))
    gate.advance(15)
    gate.upstream.send(OK)
    assert client.answer.status == 200


def test_a_route_may_have_times_of_its_own() -> None:
    gate = Gate(routes=[{"head_timeout_seconds": 3, "body_timeout_seconds": 4}])
    client = gate.ask(get())
    gate.advance(4)
    assert client.answer.status == 504
    client = gate.ask(get())
    gate.upstreams[-1].send(LONG)
    gate.advance(5)
    assert client.aborted


def test_silence_within_a_response_is_bounded_and_a_stream_that_flows_is_not() -> None:
    gate = Gate()
    client = gate.ask(get())
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(8):
        gate.advance(290, step=1)
        gate.upstream.send(b"5\r\nevent\r\n")
        assert client.answer.body.endswith(b"event")
    gate.advance(302, step=1)
    assert client.aborted
    assert not client.answer.whole
    gate.check_nothing_is_left()


def test_every_event_goes_out_as_it_comes() -> None:
    gate = Gate()
    client = gate.ask(get())
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    assert client.answer.status == 200, "the head goes out before there is any event"
    for number in range(3):
        gate.upstream.send(b"data: %d\n\n" % number)
        assert client.answer.body.endswith(b"data: %d\n\n" % number)


def test_a_slow_client_is_not_the_upstreams_silence() -> None:
    gate = Gate(upstream={"body_timeout_seconds": 20})
    client = gate.ask(get())
    client.stop_reading()
    gate.upstream.send(LONG, bytes(200_000))
    gate.advance(50)
    client.read_on()
    gate.upstream.send(bytes(800_000))
    assert client.answer.whole


def test_a_slow_upstream_is_not_the_clients_silence() -> None:
    gate = Gate(upstream={"head_timeout_seconds": 200})
    client = gate.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n" + KEY_FIELD + b"\r\n")
    gate.upstream.stop_reading()
    client.send(bytes(200_000))
    gate.advance(100)
    assert client.received == b""
    gate.upstream.read_on()
    client.send(bytes(800_000))
    gate.upstream.send(OK)
    assert client.answer.status == 200


# --- keys that change -------------------------------------------------------------------------------------------------


def test_a_key_that_dies_while_its_request_waits_for_a_connection_is_asked_for_again() -> None:
    gate = Gate()
    gate.dials_hang = True
    client = gate.ask(get())
    gate.revoke()
    gate.dials_hang = False
    gate.connect()
    assert error_of(client.answer) == (401, "revoked_api_key")
    assert all(each.received == b"" for each in gate.upstreams)
    gate.check_counts()


def test_a_key_that_changed_and_is_still_good_goes_on() -> None:
    gate = Gate()
    gate.dials_hang = True
    client = gate.ask(post(b"hello"))
    gate.store.put(SECRET, owner_name="bob@example.com", version=2)
    gate.change()
    gate.dials_hang = False
    gate.connect()
    (upstream,) = [each for each in gate.upstreams if each.received]
    assert upstream.request.all("x-consumer-username") == ["bob@example.com"]
    assert upstream.request.body == b"hello"
    upstream.send(OK)
    assert client.answer.status == 200
    gate.check_counts()


def test_a_key_that_dies_during_its_lookup_is_not_admitted() -> None:
    gate = Gate()
    gate.store.waits = True
    client = gate.ask(get())
    waiting, gate.store.waiting = gate.store.waiting, []
    for key_digest, future in waiting:
        future.set_result(gate.store.records[key_digest])
    with gate.loop.inside():
        gate.store.put(SECRET, revoked_at=1.0)
        gate.store.waits = False
        gate.cache.apply(Change(1, "key", "key_1", 2))
    gate.settle()
    assert error_of(client.answer) == (401, "revoked_api_key")
    assert not gate.upstreams


def test_a_key_that_dies_before_a_retry_is_not_sent_again() -> None:
    gate = with_idle()
    gate.dials_hang = True
    client = gate.ask(get())
    gate.upstreams[0].reset()
    gate.revoke()
    gate.connect()
    assert error_of(client.answer) == (401, "revoked_api_key")
    assert all(each.received == b"" for each in gate.upstreams[1:])
    gate.check_counts()


def streaming(gate: Gate) -> Client:
    """A client in the middle of a response."""
    client = gate.ask(get())
    gate.upstreams[-1].send(LONG + b"beginning")
    return client


@pytest.mark.parametrize("change", ["revoked_at", "disabled_at", "expires_at"])
def test_a_response_under_way_ends_with_its_key(change: str) -> None:
    gate = Gate()
    client = streaming(gate)
    gate.store.put(SECRET, **{change: 1.0})
    gate.change()
    assert client.aborted
    assert gate.upstream.aborted
    gate.check_nothing_is_left()


def test_a_response_under_way_goes_on_when_its_key_changed_and_is_still_good() -> None:
    gate = Gate()
    client = streaming(gate)
    gate.store.put(SECRET, version=2)
    gate.change()
    gate.upstream.send(b"more")
    assert client.answer.body == b"beginningmore"
    gate.revoke()
    assert client.aborted


def test_a_response_under_way_of_another_key_goes_on() -> None:
    gate = Gate()
    gate.store.put(OTHER_SECRET, key_id="key_2")
    gate.ask(get(fields=b"X-API-KEY: " + OTHER_SECRET + b"\r\n"))
    gate.upstream.send(LONG)
    gate.revoke()
    assert not gate.upstream.aborted


def test_an_upload_under_way_ends_with_its_key() -> None:
    gate = Gate()
    client = gate.ask(CHUNKED + b"5\r\nhello\r\n")
    gate.revoke()
    assert client.aborted or client.answer.status == 401
    assert gate.upstream.aborted
    gate.check_counts()


def test_a_response_under_way_ends_with_its_key_though_another_request_renewed_what_is_held() -> None:
    """The entry that the stream was admitted with has been replaced; the change names the key, not the entry."""
    gate = Gate(cache={"positive_ttl_seconds": 60})
    client = streaming(gate)
    gate.advance(70, step=1)
    gate.ask(get(b"/renews"))
    gate.revoke()
    assert client.aborted


def test_a_response_under_way_ends_with_its_key_though_nothing_of_it_is_held_any_more() -> None:
    gate = Gate(cache={"max_entries": 1})
    client = streaming(gate)
    gate.store.put(OTHER_SECRET, key_id="key_2")
    gate.ask(get(fields=b"X-API-KEY: " + OTHER_SECRET + b"\r\n"))
    assert len(gate.cache) == 1
    gate.revoke()
    assert client.aborted


def test_a_response_under_way_ends_when_everything_has_to_be_forgotten_and_the_key_is_gone() -> None:
    gate = Gate(cache={"max_entries": 1})
    client = streaming(gate)
    gate.store.put(OTHER_SECRET, key_id="key_2")
    gate.ask(get(fields=b"X-API-KEY: " + OTHER_SECRET + b"\r\n"))
    gate.store.put(SECRET, revoked_at=1.0)
    gate.happens(gate.cache.forget_everything)
    assert client.aborted


def test_a_response_under_way_ends_when_its_key_expires() -> None:
    gate = Gate()
    gate.store.put(SECRET, expires_at=gate.wall_clock() + 30)
    client = streaming(gate)
    gate.advance(29)
    gate.upstream.send(b"more")
    assert not client.aborted
    gate.advance(2)
    assert client.aborted
    gate.check_nothing_is_left()


def test_an_outage_of_the_store_ends_no_response_under_way() -> None:
    gate = Gate()
    client = streaming(gate)
    gate.store.down = True
    gate.change()
    gate.upstream.send(b"more")
    assert client.answer.body == b"beginningmore"


def test_a_key_that_expired_while_its_request_waited_for_a_connection_is_not_sent() -> None:
    gate = Gate()
    gate.store.put(SECRET, expires_at=gate.wall_clock() + 2)
    gate.dials_hang = True
    client = gate.ask(get())
    gate.advance(3)
    gate.dials_hang = False
    gate.connect()
    assert error_of(client.answer) == (401, "expired_api_key")


BELIEVES_FOR_3 = {"positive_ttl_seconds": 3, "poll_interval_milliseconds": 50}


def stopped(gate: Gate, seconds: float) -> None:
    """The process is stopped for so long: nothing is heard of and no tick comes before what was waited for."""
    gate.loop.advance(seconds)
    gate.store.put(SECRET, revoked_at=1.0, version=2)
    gate.dials_hang = False


@pytest.mark.parametrize("retried", [False, True])
def test_a_request_that_waited_longer_than_the_proof_that_its_key_counts_is_judged_again(*, retried: bool) -> None:
    """Whoever revoked the key has stopped waiting for this worker by then, and it has heard nothing of it."""
    gate = with_idle(cache=BELIEVES_FOR_3) if retried else Gate(cache=BELIEVES_FOR_3)
    gate.dials_hang = True
    client = gate.ask(get())
    if retried:
        gate.upstreams[0].reset()
    stopped(gate, 3)
    gate.connect()
    assert error_of(client.answer) == (401, "revoked_api_key")
    assert all(each.received == b"" for each in gate.upstreams[retried:])
    gate.check_counts()


def test_a_request_that_waited_no_longer_than_that_goes_on() -> None:
    gate = Gate(cache=BELIEVES_FOR_3)
    gate.dials_hang = True
    gate.ask(get())
    stopped(gate, 2)
    gate.connect()
    assert [each for each in gate.upstreams if each.received]


# --- connections ------------------------------------------------------------------------------------------------------


def test_an_upstream_that_speaks_first_is_no_upstream() -> None:
    gate = Gate()
    gate.greeting = b"220 mail.example.com ESMTP\r\n"
    client = gate.ask(get())
    assert client.answer.status == 502
    assert b"ESMTP" not in client.received
    gate.check_counts()
    assert gate.target.in_flight == 0
    assert not gate.target.connections


def test_bytes_on_an_idle_connection_end_it_and_reach_nobody() -> None:
    gate = with_idle()
    gate.upstreams[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    assert gate.upstreams[0].aborted
    client = gate.ask(get())
    gate.upstreams[1].send(OK)
    assert client.answer.body == b"ok"
    gate.check_counts()
