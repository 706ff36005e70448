"""Clients that read slowly, or not at all: what waits for them is bounded, and so is how long it waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import KEY_FIELD, get
from tests.wire.live import live, run
from tests.wire.slow_peers import SLICE, all_over, slow_client, upstream_peer

if TYPE_CHECKING:
    from tests.proxy.wire_reader import Message
    from tests.wire.live import Live

    from tests.wire.conftest import Tried  # isort: skip

SECTION = "slow and many"
BIG = 24 << 20
"""More than all kernels between take."""
UPGRADE = get(b"/ws", KEY_FIELD + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n")
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
HURRIED = {"client_body_timeout_seconds": 0.5, "client_body_min_bytes_per_second": 1_000_000}
MOST_HELD = 300_000


def big(_: Message) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + bytes(BIG)


async def hung(gate: Live) -> None:
    """The gateway has more for its one client than that takes, or has cut it off for that."""
    connections = gate.worker.connections
    await gate.until(lambda: not connections or any(each.flow.writing_paused for each in connections))
    assert all(each.transport.get_write_buffer_size() < MOST_HELD for each in connections)


@pytest.mark.parametrize("dribbles", [False, True])
@pytest.mark.parametrize("kind", ["length", "chunked", "until the end"])
def test_a_big_answer_that_is_not_read_is_cut_off(kind: str, tried: Tried, *, dribbles: bool) -> None:
    async def case() -> None:
        async with live(server=HURRIED) as gate, slow_client(gate) as client:
            framing = {
                "length": b"Content-Length: %d\r\n\r\n" % BIG,
                "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % BIG,
                "until the end": b"\r\n",
            }[kind]
            gate.upstream.answer = lambda _: b"HTTP/1.1 200 OK\r\n" + framing + bytes(BIG)
            await client.send(get())
            peer = await upstream_peer(gate)
            await hung(gate)
            while gate.worker.connections:
                if dribbles:
                    client.read(1)
                await asyncio.sleep(SLICE)
            await all_over(gate)
            await gate.until(lambda: peer.ended)
            await client.read_to_end()
            assert client.was_reset  # nobody takes what came for the whole
            assert len(client.received) < BIG

    run(case())
    tried(SECTION, 1)


def test_a_pipeline_of_answers_that_are_not_read_costs_a_bounded_amount_and_is_cut_off(tried: Tried) -> None:
    count = 2000

    async def case() -> None:
        async with live(server=HURRIED) as gate, slow_client(gate) as client:
            gate.upstream.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + bytes(20_000)
            await client.send(get() * count)
            await hung(gate)
            await all_over(gate)
            assert len(gate.upstream.requests) < count
            await client.read_to_end()
            assert b" 408 " not in client.received

    run(case())
    tried(SECTION, count)


@pytest.mark.parametrize("sends_too", [False, True])
def test_a_websocket_that_is_not_read_is_cut_off(tried: Tried, *, sends_too: bool) -> None:
    """Also one whose client goes on sending to an upstream that takes a bit now and then."""

    async def case() -> None:
        async with live(server=HURRIED) as gate, slow_client(gate) as client:
            gate.upstream.reads_requests = False
            await client.send(UPGRADE)
            peer = await upstream_peer(gate)
            peer.transport.write(SWITCHING + bytes(BIG))
            await hung(gate)
            while gate.worker.connections:
                if sends_too:
                    peer.transport.pause_reading()
                    client.send_what_goes(bytes(1 << 20))
                    await asyncio.sleep(SLICE)
                    peer.transport.resume_reading()
                await asyncio.sleep(SLICE)
            await all_over(gate)
            await gate.until(lambda: peer.ended)

    run(case())
    tried(SECTION, 1)


def test_a_stalled_websocket_holds_little(tried: Tried) -> None:
    """Both sides send without end and read nothing: what was read here waits here."""

    async def case() -> None:
        async with live() as gate, slow_client(gate) as client:
            gate.upstream.reads_requests = False
            await client.send(UPGRADE)
            peer = await upstream_peer(gate)
            peer.transport.write(SWITCHING)
            await gate.until(client.read)
            peer.transport.pause_reading()
            peer.transport.write(bytes(BIG))
            (connection,) = gate.worker.connections
            await gate.until(lambda: connection.flow.writing_paused)
            while not connection.flow.stops:
                client.send_what_goes(bytes(1 << 20))
                await asyncio.sleep(SLICE)
            (exchange,) = gate.worker.streaming
            assert exchange.upstream is not None
            waiting = [each.transport.get_write_buffer_size() for each in (connection, exchange.upstream)]
            assert max(waiting) < 3 * 32_768

    run(case())
    tried(SECTION, 1)


def test_what_is_left_of_a_closing_answer_is_not_waited_for_for_ever(tried: Tried) -> None:
    async def case() -> None:
        first = get(fields=KEY_FIELD + b"Connection: close\r\n")
        async with live(server=HURRIED) as gate, slow_client(gate) as client:
            gate.upstream.answer = big
            await client.send(first)
            await hung(gate)
            await all_over(gate)
            await client.read_to_end()
            assert client.was_reset

    run(case())
    tried(SECTION, 1)
