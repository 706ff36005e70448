"""A client's connection: when it is kept, what order answers have, what it may cost, and when it ends."""

from __future__ import annotations

import pytest

from gateway.proxy.client_connection import ClientConnection
from tests.proxy.harness import KEY_FIELD, OK, OTHER_SECRET, Gate, error_of, get, post, problem

RESPONSE_OF_10_BYTES = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"


def request(version: bytes, connection: bytes) -> bytes:
    """A GET of a version with a Connection field."""
    return b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + KEY_FIELD + connection + b"\r\n"


# --- keep-alive -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: keep-alive\r\n", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: CLOSE\r\n", False),
        (b"1.1", b"Connection: a,close , b\r\n", False),
        (b"1.1", b"Connection: keep-alive, close\r\n", False),
        (b"1.1", b"Connection: keep-alive\r\nConnection: close\r\n", False),
        (b"1.1", b"Connection: closed\r\n", True),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", True),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.0", b"Connection: close\r\n", False),
    ],
)
def test_the_client_says_whether_its_connection_is_kept(version: bytes, connection: bytes, *, kept: bool) -> None:
    gate = Gate()
    client = gate.ask(request(version, connection))
    gate.upstream.send(OK)
    answer = client.answer
    assert client.open is kept
    assert answer.all("connection") == ([] if kept and version == b"1.1" else ["keep-alive"] if kept else ["close"])
    assert gate.target.idle, "the upstream's connection is its own affair"
    client.send(get(b"/second"))
    assert len(gate.upstream.requests) == (2 if kept else 1)


@pytest.mark.parametrize("connection", [b"", b"Connection: keep-alive\r\n", b"Connection: close\r\n"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_the_gateways_own_answers_follow_the_same_rules(version: bytes, connection: bytes) -> None:
    gate = Gate()
    client = gate.ask(b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + connection + b"\r\n")
    kept = b"keep" in connection or (version == b"1.1" and not connection)
    assert client.code == "missing_api_key"
    assert client.open is kept
    assert client.answer.all("connection") == (
        [] if kept and version == b"1.1" else ["keep-alive"] if kept else ["close"]
    )


# --- pipelining -------------------------------------------------------------------------------------------------------


def test_pipelined_requests_are_forwarded_one_at_a_time_and_answered_in_order() -> None:
    gate = Gate()
    client = gate.client()
    client.send(b"".join(get(b"/%d" % number) for number in range(5)))
    for number in range(5):
        assert [each.target for each in gate.upstream.requests] == [b"/%d" % n for n in range(number + 1)]
        gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
    assert [each.body for each in client.answers] == [b"0", b"1", b"2", b"3", b"4"]
    gate.check_counts()


def test_refusals_keep_their_place_in_the_pipeline() -> None:
    gate = Gate()
    client = gate.client()
    client.send(get(b"/1") + get(b"/2", b"") + get(b"/3") + get(b"/4", b"") + get(b"/5", b""))
    gate.upstream.send(OK)
    gate.upstream.send(OK)
    assert [each.status for each in client.answers] == [200, 401, 200, 401, 401]


def test_pipelined_bodies_are_cut_where_they_end() -> None:
    gate = Gate()
    stream = post(b"GET /no HTTP/1.1\r\n\r\n", b"/1") + get(b"/2") + post(b"", b"/3") + post(b"xyz", b"/4")
    for split in range(0, len(stream), 5):
        before = len(gate.upstreams)
        client = gate.client()
        client.send(*filter(None, (stream[:split], stream[split:])))
        upstream = gate.upstreams[before]
        for number in range(4):
            assert upstream.requests[-1].target == b"/%d" % (number + 1)
            upstream.send(OK)
        assert [each.body for each in upstream.requests] == [b"GET /no HTTP/1.1\r\n\r\n", b"", b"", b"xyz"]
        assert len(client.answers) == 4
        upstream.reset()


@pytest.mark.parametrize("body_with_head", [True, False])
@pytest.mark.parametrize("failure", ["reset", "broken", "timeout"])
def test_a_failed_upload_takes_nothing_from_the_next_request(failure: str, *, body_with_head: bool) -> None:
    """The body is gone upstream; the bytes that wait behind it are the next request's, whatever comes of this one."""
    gate = Gate(upstream={"head_timeout_seconds": 5})
    client = gate.client()
    first, behind = post(b"0123456789", b"/1"), get(b"/second/0123456789")
    if body_with_head:
        client.send(first + behind)
    else:
        client.send(first[:-4], first[-4:], behind)
    upstream = gate.upstream
    if failure == "reset":
        upstream.reset()
    elif failure == "broken":
        upstream.send(b"nonsense\r\n\r\n")
    else:
        gate.advance(6)
    first_answer = client.answers[0]
    assert first_answer.status in {502, 504}
    if client.open:
        gate.upstreams[1].send(OK)
        assert gate.upstreams[1].request.target == b"/second/0123456789"
        assert client.answers[1].status == 200
    else:
        assert first_answer.one("connection") == "close"
        assert len(client.answers) == 1


def test_after_a_closing_answer_nothing_is_read() -> None:
    gate = Gate()
    client = gate.ask(request(b"1.1", b"Connection: close\r\n") + get(b"/second"))
    gate.upstream.send(OK)
    assert client.answer.status == 200
    assert len(gate.upstream.requests) == 1
    assert client.ended


def test_a_refused_body_that_has_come_is_skipped_and_the_connection_kept() -> None:
    gate = Gate()
    client = gate.client()
    client.send(post(get(b"/smuggled"), fields=b"") + get(b"/second"))
    assert client.answers[0].status == 401
    if client.open:
        assert gate.upstream.request.target == b"/second"


@pytest.mark.parametrize("body", [b"Content-Length: 500", b"Transfer-Encoding: chunked"])
def test_a_refused_body_that_is_still_to_come_is_thrown_away_and_the_connection_closed(body: bytes) -> None:
    gate = Gate()
    client = gate.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + body + b"\r\n\r\n")
    assert client.code == "missing_api_key"
    assert client.answer.one("connection") == "close"
    assert client.ended
    client.send(get(b"/smuggled"), get(b"/smuggled") * 1000)
    assert not gate.upstreams
    assert len(client.answers) == 1
    assert not client.aborted, "the client has to get to read the answer"
    client.end()
    assert client.gone


def test_what_is_thrown_away_is_bounded_in_bytes_and_in_time() -> None:
    for nuisance in ("bytes", "time"):
        gate = Gate()
        client = gate.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n")
        for _ in range(40):
            if nuisance == "bytes":
                client.send(bytes(1_048_576))
            else:
                client.send(b"x")
                gate.advance(1)
        assert client.gone


def test_a_paused_connection_reads_on_after_a_refusal() -> None:
    """The store took its time, a body of 70 kB came meanwhile, then the key was unknown: the next request is served."""
    gate = Gate()
    gate.store.waits = True
    client = gate.client()
    client.send(post(bytes(70_000), fields=b"X-API-KEY: " + OTHER_SECRET + b"\r\n"))
    gate.answer_lookups()
    assert client.answers[0].status == 401
    gate.store.waits = False
    if client.open:
        client.send(get(b"/second"))
        gate.upstream.send(OK)
        assert client.answers[1].status == 200


def test_what_is_sent_ahead_is_held_within_bounds() -> None:
    gate = Gate()
    client = gate.ask(get())
    for _ in range(100):
        client.send(get(b"/" + b"a" * 4000))
    assert not client.transport.reading
    for number in range(101):
        gate.upstream.send(OK)
        assert len(gate.upstream.requests) == min(number + 2, 101)
    client.methods += [b"GET"] * 100
    assert len(client.answers) == 101
    assert client.transport.reading


def test_a_client_that_asks_and_never_reads_costs_a_bounded_amount() -> None:
    gate = Gate()
    client = gate.client()
    client.stop_reading()
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + bytes(60_000)
    client.send(get() * 50)
    answered = 0
    while answered < len(gate.upstream.requests):
        gate.upstream.send(response)
        answered += 1
    assert client.transport.most_unsent < 262_144
    client.read_on()
    while answered < len(gate.upstream.requests):
        gate.upstream.send(response)
        answered += 1
    assert len(client.answers) == 50


# --- limits -----------------------------------------------------------------------------------------------------------


def test_above_max_connections_a_connection_is_answered_503_and_closed() -> None:
    gate = Gate(server={"max_connections": 2})
    clients = [gate.client() for _ in range(3)]
    assert error_of(clients[2].answer) == (503, "gateway_overloaded")
    assert clients[2].answer.one("retry-after")
    assert clients[2].ended
    clients[2].send(get())
    assert not gate.upstreams
    clients[2].end()
    clients[0].end()
    gate.client().send(get())
    assert gate.upstream.request.target == b"/"


def test_what_was_refused_at_a_limit_is_counted_and_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate(server={"max_in_flight": 1, "max_connections": 4})
    asked = [gate.ask(get()) for _ in range(4)]
    refused = [gate.client() for _ in range(2)]
    assert (gate.worker.overload.requests, gate.worker.overload.connections) == (3, 2)
    assert not caplog.messages
    gate.advance(1)
    assert len(caplog.messages) == 2
    assert "server.max_connections = 4 is reached in this worker, connections refused: 2;" in caplog.messages[0]
    assert "server.max_in_flight = 1 is reached in this worker, requests refused: 3;" in caplog.messages[1]
    asked[1].send(get())
    gate.advance(5)
    assert len(caplog.messages) == 2
    gate.advance(5)
    assert "requests refused: 1;" in caplog.messages[2]
    assert len(caplog.messages) == 3
    assert "of requests in flight" in problem(asked[2].answer)["detail"]
    assert "limit of connections" in problem(refused[0].answer)["detail"]


def test_above_max_in_flight_a_request_is_answered_503_and_the_next_one_served() -> None:
    gate = Gate(server={"max_in_flight": 1})
    first, second = gate.ask(get(b"/1")), gate.ask(get(b"/2"))
    assert error_of(second.answer) == (503, "gateway_overloaded")
    assert second.answer.one("retry-after")
    assert second.open
    gate.upstream.send(OK)
    assert first.answer.status == 200
    second.send(get(b"/3"))
    assert gate.upstream.requests[1].target == b"/3"


# --- time -------------------------------------------------------------------------------------------------------------


def test_an_idle_connection_is_closed_silently_after_its_time() -> None:
    gate = Gate()
    fresh, used = gate.client(), gate.ask(get())
    gate.upstream.send(OK)
    gate.advance(74)
    assert fresh.open
    assert used.open
    gate.advance(2)
    assert fresh.gone
    assert used.gone
    assert fresh.received == b""
    assert used.answer.status == 200


def test_a_head_has_ten_seconds_from_its_first_byte_whatever_dribbles_in() -> None:
    gate = Gate()
    client = gate.client()
    gate.advance(5)
    for byte in get()[:30]:
        client.send(bytes([byte]))
        gate.advance(0.5)
        if not client.open:
            break
    assert error_of(client.answer) == (408, "request_timeout")
    assert client.ended
    assert 15 <= gate.loop.time() - 1000 <= 16


def test_a_head_has_its_ten_seconds_however_long_the_connection_was_idle_before() -> None:
    gate = Gate()
    client = gate.client()
    gate.advance(72)
    client.send(get()[:20])
    gate.advance(8)
    client.send(get()[20:])
    gate.upstream.send(OK)
    assert client.answer.status == 200


@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_silence_within_a_request_body_is_bounded(framing: bytes) -> None:
    gate = Gate(server={"client_body_min_bytes_per_second": 0}, upstream={"head_timeout_seconds": 500})
    client = gate.ask(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + KEY_FIELD + b"\r\n1\r\na\r\n")
    gate.advance(59)
    client.send(b"1\r\nb\r\n")
    gate.advance(59)
    assert client.received == b""
    gate.advance(2)
    assert error_of(client.answer) == (408, "request_timeout")
    assert gate.upstream.aborted
    gate.check_counts()


def test_a_client_may_be_silent_while_the_upstream_works() -> None:
    gate = Gate(upstream={"head_timeout_seconds": 500})
    client = gate.ask(post(b"hello"))
    gate.advance(400)
    gate.upstream.send(OK)
    assert client.answer.status == 200


def test_a_client_that_stops_reading_is_cut_off() -> None:
    gate = Gate()
    client = gate.ask(get())
    client.stop_reading()
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n" + bytes(100_000), bytes(100_000))
    gate.advance(59)
    assert not client.gone
    gate.advance(2)
    assert client.aborted
    assert gate.upstream.aborted
    gate.check_nothing_is_left()


@pytest.mark.parametrize("connection", [b"", b"Connection: close\r\n"])
def test_a_client_that_never_reads_a_whole_answer_does_not_stay_for_ever(connection: bytes) -> None:
    gate = Gate()
    client = gate.ask(request(b"1.1", connection))
    client.stop_reading()
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + bytes(50_000))
    gate.advance(600, step=1)
    assert client.gone
    gate.check_nothing_is_left()


def test_a_client_that_ignores_its_refusal_does_not_stay_for_ever() -> None:
    gate = Gate()
    client = gate.client()
    client.stop_reading()
    client.send(b"nonsense\r\n\r\n")
    gate.advance(600, step=1)
    assert client.gone
    gate.check_nothing_is_left()


# --- the client goes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", ["end", "reset"])
@pytest.mark.parametrize("moment", ["lookup", "connect", "sent", "upload", "relay"])
def test_a_client_that_goes_ends_what_was_done_for_it(leave: str, moment: str) -> None:
    gate = Gate()
    gate.store.waits = moment == "lookup"
    gate.dials_hang = moment == "connect"
    client = gate.ask(post(b"0123456789")[: -5 if moment == "upload" else None])
    if moment == "relay":
        gate.upstream.send(RESPONSE_OF_10_BYTES[:-5])
    getattr(client, leave)()
    assert client.gone
    gate.answer_lookups()
    gate.connect()
    assert gate.worker.in_flight == 0
    assert all(each.aborted or each.gone for each in gate.upstreams)
    gate.check_counts()
    gate.check_nothing_is_left()


@pytest.mark.parametrize("moment", ["connect", "upload"])
def test_a_client_that_resets_unseen_is_noticed_within_a_second(moment: str) -> None:
    """While nothing is read, since the upstream is the slow one, no event tells of a reset."""
    gate = Gate(upstream={"connect_timeout_seconds": 100, "head_timeout_seconds": 100})
    gate.dials_hang = moment == "connect"
    client = gate.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n" + KEY_FIELD + b"\r\n")
    if moment == "upload":
        gate.upstream.stop_reading()
    client.send(bytes(200_000))
    assert not client.transport.reading
    client.reset()
    gate.advance(1)
    gate.connect()
    assert gate.worker.in_flight == 0
    assert all(each.gone for each in gate.upstreams)
    gate.check_nothing_is_left()


def test_a_connection_says_what_it_is_doing() -> None:
    gate = Gate()
    gate.ask(get())
    (connection,) = gate.worker.connections
    assert isinstance(connection, ClientConnection)
    assert "EXCHANGE" in repr(connection)
    assert "SENT" in repr(connection)
    assert "busy" in repr(connection)


def test_every_answer_of_the_gateway_names_its_request() -> None:
    gate = Gate()
    seen = {problem(gate.ask(bytes_).answer)["request_id"] for bytes_ in (get(fields=b""), b"nonsense\r\n\r\n")}
    assert len(seen) == 2
