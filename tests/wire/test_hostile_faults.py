"""Upstreams that end, fall silent, or answer too early, at every moment of an exchange.

A client sees a good answer, a 502 or 504, or an abort that it cannot take for the end of its answer. A request is sent
twice only where that can have no effect, and the next client's answer comes from a connection that is in order.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.wire.hostile_upstream import FIRST, begin, check_next_client, code_of, hostile, outcome, request
from tests.wire.live import run

if TYPE_CHECKING:
    from tests.wire.conftest import Tried
    from tests.wire.hostile_upstream import HostileUpstream, Line
    from tests.wire.live import Live
    from tests.wire.live_clients import Client

SECTION = "hostile upstream: ends, silence, retries"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOST = (502, "upstream_unreachable")
BROKEN = (502, "upstream_invalid_response")
LATE = (504, "upstream_timeout")


def final(client: Client) -> tuple[int, str]:
    """Status and code of the gateway's own answer, which is the last one."""
    assert not client.was_reset
    return code_of(client.answers[-1])


async def leave(line: Line, how: str) -> None:
    if how == "end":
        await line.end()
    elif how == "close":
        line.close()
    else:
        await line.reset()


async def over(gate: Live, upstream: HostileUpstream, client: Client, line: Line) -> None:
    """The next client's turn; then both are gone."""
    await gate.settled()
    upstream.look()
    await check_next_client(gate, upstream, line)
    client.close()
    gate.clients.remove(client)
    upstream.forget()
    await upstream.read_by_gateway()


# --- the end of a response --------------------------------------------------------------------------------------------

WHOLE = {
    "a length": OK,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\nX: a\r\n\r\n",
    "events": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n",
    "HTTP/1.0 with a length": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "after 103": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "until the end": b"HTTP/1.1 200 OK\r\n\r\nok",
    "until the end, of HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nok",
}


@pytest.mark.parametrize("how", ["end", "close", "reset"])
@pytest.mark.parametrize("name", WHOLE)
def test_a_response_that_ends_at_any_byte(name: str, how: str, tried: Tried) -> None:
    response = WHOLE[name]
    begins = response.index(b"\r\n\r\n", response.index(b" 20")) + 4
    lasts = name.startswith("until")

    async def story() -> None:
        async with hostile() as (gate, upstream):
            for at in range(len(response) + 1):
                client, line = await begin(gate, request(b"/first"), upstream=upstream)
                await line.say(response[:at])
                await leave(line, how)
                await outcome(gate, client)
                if at < begins:
                    assert final(client) == LOST, at
                elif (lasts and how != "reset") or (not lasts and at == len(response)):
                    assert not client.was_reset, at
                    assert client.answers[-1].whole, at
                    assert response.endswith(client.answers[-1].body) or lasts or "chunk" in name or "event" in name
                else:
                    assert client.was_reset, at
                    assert not client.answers[-1].whole, at
                await over(gate, upstream, client, line)
                tried(SECTION, 1)

    run(story())


@pytest.mark.parametrize("how", ["end", "close", "reset"])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_an_upstream_that_ends_connections_as_soon_as_they_are_open(method: bytes, how: str, tried: Tried) -> None:
    async def story() -> None:
        async with hostile() as (gate, upstream):
            client = await gate.client()
            client.methods = [method]
            client.socket.send(request(b"/first", method=method, body=b"x" * (method == b"POST")))
            line = await upstream.connection()
            await leave(line, how)
            await outcome(gate, client)
            assert final(client) == LOST
            assert len(upstream.lines) == 1, "tried again on a fresh connection"
            await over(gate, upstream, client, line)
            tried(SECTION, 1)

    run(story())


@pytest.mark.parametrize("how", ["end", "reset", "surplus"])
@pytest.mark.parametrize("name", ["a length", "chunks", "events", "until the end"])
def test_a_client_of_http_1_0_sees_an_abort_too(name: str, how: str, tried: Tried) -> None:
    """Its body ends with the connection, so the connection must not end properly."""
    response = WHOLE[name]
    begins = response.index(b"\r\n\r\n") + 4

    async def story() -> None:
        async with hostile() as (gate, upstream):
            for at in range(begins, len(response)):
                if name == "until the end" and how != "reset":
                    continue  # any bytes are its body, and that end is a proper one
                asks = request(b"/first").replace(b"HTTP/1.1", b"HTTP/1.0")
                client, line = await begin(gate, asks, upstream=upstream)
                await line.say(response[:at])
                if how == "surplus":
                    await line.say(response[at:] + b"surplus")
                else:
                    await leave(line, how)
                await outcome(gate, client)
                assert client.was_reset, at
                assert not client.ended, at
                assert b"surplus" not in client.received
                await over(gate, upstream, client, line)
                tried(SECTION, 1)

    run(story())


# --- silence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["head", "body"])
def test_silence_at_any_moment(where: str, tried: Tried) -> None:
    """Before and within the head it is a 504, within the body an abort; all at once, so that they wait only once."""
    response = WHOLE["chunks"]
    begins = response.index(b"\r\n\r\n") + 4
    offsets = range(begins) if where == "head" else range(begins, len(response))
    limits = {"head_timeout_seconds": 3600, "body_timeout_seconds": 3600, f"{where}_timeout_seconds": 0.3}

    async def story() -> None:
        async with hostile(upstream=limits) as (gate, upstream):
            begun = []
            for at in offsets:
                client, line = await begin(gate, request(b"/first/%d" % at), upstream=upstream)
                await line.say(response[:at])
                begun.append((at, client, line))
            for at, client, line in begun:
                await outcome(gate, client)
                if where == "head":
                    assert final(client) == LATE, at
                else:
                    assert client.was_reset, at
                    assert not client.answers[-1].whole, at
                upstream.look()
                assert line.ended
                assert len(line.requests) == 1
                tried(SECTION, 1)
            await check_next_client(gate, upstream, begun[0][2])

    run(story())


@pytest.mark.parametrize("dribbles", [b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1000, b"HTTP/1.1 102 Go\r\n\r\n" * 100])
def test_a_head_that_dribbles_is_too_late_however_steadily_it_flows(dribbles: bytes, tried: Tried) -> None:
    async def story() -> None:
        async with hostile(upstream={"head_timeout_seconds": 0.3}) as (gate, upstream):
            client, line = await begin(gate, request(b"/first"), upstream=upstream)
            for byte in dribbles:
                await line.say(bytes([byte]))
                await asyncio.sleep(0.002)
                if upstream.look() and line.ended:
                    break
            assert line.ended
            await outcome(gate, client)
            assert final(client) == LATE
            await over(gate, upstream, client, line)
            tried(SECTION, 1)

    run(story())


# --- answers that come before the request is whole --------------------------------------------------------------------

EARLY = {
    "200": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nearly",
    "413": b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nearly",
    "413 and close": b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly",
    "400 in chunks": b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n0\r\n\r\n",
    "401 until the end": b"HTTP/1.1 401 No\r\n\r\nearly",
}


@pytest.mark.parametrize("sent", [0, 1, 70_000])
@pytest.mark.parametrize("framing", [b"Content-Length: 300000\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("name", EARLY)
def test_an_answer_that_overtakes_a_large_body(name: str, framing: bytes, sent: int, tried: Tried) -> None:
    """It goes out, both connections end with it, and what is still sent of the body reaches nobody."""
    chunked = framing.startswith(b"T")

    async def story() -> None:
        async with hostile() as (gate, upstream):
            client = await gate.client()
            client.methods = [b"POST"]
            await client.send(request(b"/first", method=b"POST", fields=framing))
            line = await upstream.connection()
            await client.send((b"493e0\r\n" if chunked else b"") + b"x" * sent)
            upstream.look()
            await line.say(*(EARLY[name][at : at + 40] for at in range(0, len(EARLY[name]), 40)))
            if "end" in name:
                await line.end()
            await outcome(gate, client)
            upstream.look()
            taken = len(line.received)
            await client.send(b"x" * (300_000 - sent) + (b"\r\n0\r\n\r\n" if chunked else b""), request(b"/never"))
            await gate.settled()
            (answer,) = client.answers
            assert (answer.status, answer.body) == (int(name[:3]), b"early")
            assert answer.one("connection") == "close"
            assert not client.was_reset
            upstream.look()
            assert len(line.received) - taken < 200_000
            assert b"/never" not in line.received
            await over(gate, upstream, client, line)
            tried(SECTION, 1)

    run(story())


# --- the second try ---------------------------------------------------------------------------------------------------

SAFE = {method: request(b"/again", method=method) for method in (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE")}
UNSAFE = {
    "POST": request(b"/again", method=b"POST", body=b"x"),
    "POST without a body": request(b"/again", method=b"POST"),
    "POST of nothing": request(b"/again", method=b"POST", fields=b"Content-Length: 0\r\n"),
    "PATCH": request(b"/again", method=b"PATCH"),
    "PUT with a body": request(b"/again", method=b"PUT", body=b"x"),
    "GET with a body": request(b"/again", method=b"GET", body=b"x"),
    "PUT in chunks": b"PUT /again HTTP/1.1\r\nHost: a\r\n" + FIRST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown method": request(b"/again", method=b"QUERY"),
}


async def reused(gate: Live, upstream: HostileUpstream, asks: bytes) -> tuple[Client, Line]:
    """A request on a connection that has served another one."""
    client, line = await begin(gate, request(b"/warm"), upstream=upstream)
    await line.say(OK)
    await outcome(gate, client)
    client.close()
    gate.clients.remove(client)
    client, again = await begin(gate, asks, upstream=upstream)
    assert again is line
    return client, line


@pytest.mark.parametrize("how", ["end", "close", "reset"])
@pytest.mark.parametrize("method", SAFE)
def test_a_safe_request_is_tried_once_more_and_no_third_time(method: bytes, how: str, tried: Tried) -> None:
    async def story() -> None:
        async with hostile() as (gate, upstream):
            for answers in (True, False):
                client, line = await reused(gate, upstream, SAFE[method])
                upstream.lines.remove(line)
                await leave(line, how)
                second = await upstream.request(b"/again")
                assert len(second.requests) == 1
                if answers:
                    await second.say(b"HTTP/1.1 204 No Content\r\n\r\n")
                    await outcome(gate, client)
                    assert client.answers[-1].status == 204
                else:
                    await leave(second, how)
                    await outcome(gate, client)
                    assert client.answers[-1].status == 502
                    assert len(upstream.lines) == 1, "a third try"
                client.close()
                gate.clients.remove(client)
                upstream.forget()
                line.close()
                await upstream.read_by_gateway()
                tried(SECTION, 1)

    run(story())


async def lost(asks: bytes, said: bytes, how: str) -> None:
    """A reused connection ends so, after these bytes of an answer: the client is told, and nothing is tried again."""
    async with hostile() as (gate, upstream):
        client, line = await reused(gate, upstream, asks)
        if said:
            await line.say(said)
        await leave(line, how)
        await outcome(gate, client)
        upstream.look()
        assert final(client) == LOST
        assert upstream.lines == [line]
        await over(gate, upstream, client, line)


@pytest.mark.parametrize("how", ["end", "close", "reset"])
@pytest.mark.parametrize("what", UNSAFE)
def test_what_may_have_had_an_effect_is_never_sent_twice(what: str, how: str, tried: Tried) -> None:
    run(lost(UNSAFE[what], b"", how))
    tried(SECTION, 1)


@pytest.mark.parametrize("how", ["end", "close", "reset"])
@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 A\r\n\r\n", OK[:-3]])
def test_nothing_is_tried_again_after_a_byte_of_an_answer(said: bytes, how: str, tried: Tried) -> None:
    run(lost(request(b"/again"), said, how))
    tried(SECTION, 1)


# --- tunnels ----------------------------------------------------------------------------------------------------------

ASKS = request(b"/ws", fields=b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\n"
AGREES = b"Connection: Upgrade\r\nUpgrade: WebSocket\r\n"
NO_TUNNEL = {
    "no Upgrade": b"Connection: Upgrade\r\n",
    "nothing": b"",
    "HTTP/2": b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    "two protocols": b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
    "an underscore": b"Connection: Upgrade\r\nUp_grade: websocket\r\n",
    "two framings": AGREES + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
    "a bare LF": AGREES + b"X: a\nb\r\n",
}


@pytest.mark.parametrize("name", NO_TUNNEL)
def test_a_tunnel_to_something_else_than_was_asked_for_is_refused(name: str, tried: Tried) -> None:
    async def story() -> None:
        response = SWITCH + NO_TUNNEL[name] + b"\r\n"
        async with hostile() as (gate, upstream):
            for at in range(1, len(response) + 1):
                client, line = await begin(gate, ASKS, upstream=upstream)
                await line.say(response[:at], response[at:])
                await outcome(gate, client)
                assert final(client) == BROKEN
                await over(gate, upstream, client, line)
                tried(SECTION, 1)

    run(story())


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("fields", [b"", b"Content-Length: 6\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_tunnel_passes_bytes_and_ends_with_its_upstream(fields: bytes, how: str, tried: Tried) -> None:
    """Whatever its head says of a body: there is none in a 101 (RFC 9110, section 15.2)."""

    async def story() -> None:
        response = SWITCH + AGREES + fields + b"\r\n" + OK
        async with hostile() as (gate, upstream):
            for at in range(1, len(response) + 1):
                client, line = await begin(gate, ASKS, upstream=upstream)
                await line.say(response[:at], response[at:])
                await gate.settled()
                (answer,) = client.answers
                assert (answer.status, answer.body) == (101, OK)
                await leave(line, how)
                await gate.settled()
                assert client.over()
                await over(gate, upstream, client, line)
                tried(SECTION, 1)

    run(story())


def test_an_upgrade_that_is_declined_is_an_answer_as_any(tried: Tried) -> None:
    async def story() -> None:
        async with hostile() as (gate, upstream):
            for response in (OK, b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok"):
                client, line = await begin(gate, ASKS, upstream=upstream)
                await line.say(response)
                await outcome(gate, client)
                (answer,) = client.answers
                assert answer.body == b"ok"
                assert not answer.all("upgrade")
                await check_next_client(gate, upstream, line, fresh=False)
                assert len(line.requests) == 2
                upstream.forget()
                await upstream.read_by_gateway()
                tried(SECTION, 1)

    run(story())
