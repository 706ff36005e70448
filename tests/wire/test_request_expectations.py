"""Requests with `Expect: 100-continue`, the whole flow: who waits for whom, and whose fault it is when nothing comes.

As long as the upstream has not asked for the body, its client may wait, and the time that runs is the upstream's; once
it has, or once the client sends without waiting, the time is the client's. So each has one who is late, and is told so.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import KEY_FIELD, get, problem
from tests.wire.live import live, run

if TYPE_CHECKING:
    from tests.wire.conftest import Tried
    from tests.wire.live_clients import Client

SECTION = "expectations"
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n" + KEY_FIELD
BODIES = {b"Content-Length: 5\r\n\r\n": b"hello", b"Transfer-Encoding: chunked\r\n\r\n": b"5\r\nhello\r\n0\r\n\r\n"}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SHORT = 0.3
UPSTREAM = {"head_timeout_seconds": SHORT}
CLIENT = {"client_body_timeout_seconds": SHORT}


@pytest.fixture(params=BODIES, ids=["length", "chunked"])
def framing(request: pytest.FixtureRequest) -> bytes:
    found: bytes = request.param
    return found


def codes(client: Client) -> list[tuple[int, str]]:
    return [(each.status, problem(each)["code"] if each.body else "") for each in client.answers]


def test_a_client_may_wait_until_the_upstream_asks_however_late(framing: bytes, tried: Tried) -> None:
    async def case() -> None:
        async with live() as gate:
            client = await gate.ask(HEAD + framing)
            [peer] = gate.upstream.connections
            assert b"\r\nExpect: 100-continue\r\n" in peer.received
            [connection] = gate.worker.connections
            assert connection.deadline == inf, "no time of the client's runs"
            assert client.received == b""
            peer.transport.write(CONTINUE)
            await gate.until(lambda: client.received == CONTINUE)
            assert connection.deadline < inf, "and now one does"
            await client.send(BODIES[framing])
            await gate.until(lambda: len(client.answers) == 2)
            assert [each.status for each in client.answers] == [100, 200]
            assert [each.body for each in gate.upstream.requests] == [b"hello"]
            assert not client.ended

    run(case())
    tried(SECTION, 1)


def test_an_upstream_that_never_asks_is_the_one_too_late(framing: bytes, tried: Tried) -> None:
    async def case() -> None:
        async with live(upstream=UPSTREAM, server=CLIENT) as gate:
            client = await gate.ask(HEAD + framing)
            await gate.until(lambda: client.ended)
            assert codes(client) == [(504, "upstream_timeout")]
            [peer] = gate.upstream.connections
            await gate.until(lambda: peer.ended)
            assert peer.received.endswith(b"\r\n\r\n"), "nothing but the head"

    run(case())
    tried(SECTION, 1)


def test_an_upstream_that_asks_and_then_hears_nothing_has_a_client_too_late(framing: bytes, tried: Tried) -> None:
    async def case() -> None:
        async with live(upstream={"head_timeout_seconds": 3600}, server=CLIENT) as gate:
            client = await gate.ask(HEAD + framing)
            gate.upstream.connections[0].transport.write(CONTINUE)
            await gate.until(lambda: client.ended)
            assert codes(client) == [(100, ""), (408, "request_timeout")]
            await gate.until(lambda: gate.upstream.connections[0].ended)

    run(case())
    tried(SECTION, 1)


def test_an_upstream_may_answer_instead_of_asking(framing: bytes, tried: Tried) -> None:
    """The connection ends with it, since nobody can say whether a body still comes; none is read as a request."""

    async def case() -> None:
        async with live() as gate:
            client = await gate.ask(HEAD + framing)
            [peer] = gate.upstream.connections
            peer.transport.write(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
            await gate.until(lambda: client.ended)
            assert [(each.status, each.one("connection")) for each in client.answers] == [(417, "close")]
            await client.send(get(b"/smuggled"))
            await gate.until(lambda: peer.ended)
            assert b"smuggled" not in gate.upstream.received
            assert len(gate.upstream.connections) == 1

    run(case())
    tried(SECTION, 1)


@pytest.mark.parametrize("asked", ["never", "later"])
def test_a_client_may_send_without_waiting(framing: bytes, asked: str, tried: Tried) -> None:
    """Its body goes on as it comes; an upstream that asks for it then is relayed, and takes nothing of it twice."""

    async def case() -> None:
        async with live() as gate:
            body = BODIES[framing]
            client = await gate.ask(HEAD + framing, body[:4])
            if asked == "later":
                gate.upstream.connections[0].transport.write(CONTINUE)
                await gate.until(lambda: client.received == CONTINUE)
            await client.send(body[4:])
            await gate.until(lambda: client.received.endswith(b"POST /"))
            assert [each.status for each in client.answers] == ([100, 200] if asked == "later" else [200])
            assert [each.body for each in gate.upstream.requests] == [b"hello"]
            assert not client.ended

    run(case())
    tried(SECTION, 1)


def test_a_client_that_begins_without_waiting_and_stops_is_too_late_itself(framing: bytes, tried: Tried) -> None:
    async def case() -> None:
        async with live(upstream={"head_timeout_seconds": 3600}, server=CLIENT) as gate:
            client = await gate.ask(HEAD + framing, BODIES[framing][:4])
            await gate.until(lambda: client.ended)
            assert codes(client) == [(408, "request_timeout")]

    run(case())
    tried(SECTION, 1)
