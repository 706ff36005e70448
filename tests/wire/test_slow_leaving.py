"""Clients that leave, properly or not, at any moment: what was done for them ends, and their upstream sees it end."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import KEY_FIELD, get
from tests.wire.live import live, ok, run
from tests.wire.slow_peers import SLICE, SlowClient, all_over, slow_client, upstream_peer
from tests.wire.test_slow_reading import BIG, SWITCHING, UPGRADE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.wire.conftest import Tried
    from tests.wire.live import Live, UpstreamPeer

SECTION = "slow and many"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n" + KEY_FIELD
PART = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
ROOM = 3
"""Requests at a time."""


async def waiting(_gate: Live, client: SlowClient) -> None:
    """The upstream has the request and says nothing."""
    await client.send(get())


async def sending(_gate: Live, client: SlowClient) -> None:
    """Half of the body has gone."""
    await client.send(POST + b"Content-Length: 100\r\n\r\nhalf")


async def receiving(gate: Live, client: SlowClient) -> None:
    """Half of the answer has come."""
    await client.send(get())
    peer = await upstream_peer(gate)
    peer.transport.write(PART)
    await gate.until(client.read)


async def held_back(gate: Live, client: SlowClient) -> None:
    """The upstream takes no more, so the client is not read from: no event tells of its end."""
    await client.send(POST + b"Content-Length: %d\r\n\r\n" % BIG)
    peer = await upstream_peer(gate)
    peer.transport.pause_reading()
    (connection,) = gate.worker.connections
    sent = 0
    while not connection.flow.stops or sent < 4 << 20:
        sent += client.send_what_goes(bytes(1 << 20))
        if connection.flow.stops and not client.send_what_goes(b"a"):
            break
        await asyncio.sleep(SLICE)


async def not_reading(gate: Live, client: SlowClient) -> None:
    """Much of the answer waits for it."""
    await client.send(get())
    peer = await upstream_peer(gate)
    peer.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + bytes(BIG))
    await gate.until(lambda: any(each.flow.writing_paused for each in gate.worker.connections))


async def pipelining(gate: Live, client: SlowClient) -> None:
    """So much is asked ahead that the gateway reads no more."""
    await client.send(get() * 1500)
    await gate.until(lambda: any(each.flow.stops for each in gate.worker.connections))


async def tunnelling(gate: Live, client: SlowClient) -> None:
    """A WebSocket is open."""
    await client.send(UPGRADE)
    peer = await upstream_peer(gate)
    peer.transport.write(SWITCHING)
    await gate.until(client.read)


async def stuck_tunnel(gate: Live, client: SlowClient) -> None:
    """A WebSocket is open whose upstream takes nothing."""
    await tunnelling(gate, client)
    gate.upstream.connections[-1].transport.pause_reading()
    (connection,) = gate.worker.connections
    while not connection.flow.stops:
        client.send_what_goes(bytes(1 << 20))
        await asyncio.sleep(SLICE)


STAGES = [waiting, sending, receiving, held_back, not_reading, pipelining, tunnelling, stuck_tunnel]
CASES = [
    (stage, manner)
    for stage in STAGES
    for manner in ("close", "reset", "half")
    if not (manner == "half" and stage in {held_back, tunnelling, stuck_tunnel})  # kept behind what is unread, or open
    and not (manner == "close" and stage in {held_back, stuck_tunnel})  # the same: its kernel still holds bytes for us
]


@pytest.mark.parametrize(("stage", "manner"), CASES)
def test_a_client_that_leaves_ends_what_was_done_for_it(
    stage: Callable[[Live, SlowClient], Awaitable[None]], manner: str, tried: Tried
) -> None:
    async def case() -> None:
        async with live() as gate, slow_client(gate) as client:
            gate.upstream.reads_requests = False
            await stage(gate, client)
            peer: UpstreamPeer = await upstream_peer(gate)
            assert gate.worker.in_flight == 1
            client.leave(manner)
            if not peer.transport.is_reading():
                await gate.until(lambda: not gate.worker.connections)
                peer.transport.resume_reading()  # else it cannot notice
            await gate.until(lambda: peer.ended)
            await gate.until(lambda: not gate.worker.in_flight and not gate.worker.streaming)
            if manner == "half":
                await client.read_to_end()
            await all_over(gate)

    run(case())
    tried(SECTION, 1)


def test_a_client_that_closes_while_it_is_held_back_is_noticed(tried: Tried) -> None:
    """All that it sent has arrived, and so has its end, behind what the gateway does not read for now."""

    async def case() -> None:
        async with live() as gate, slow_client(gate) as client:
            gate.upstream.reads_requests = False
            await client.send(POST + b"Content-Length: %d\r\n\r\n" % BIG)
            peer = await upstream_peer(gate)
            peer.transport.pause_reading()
            (connection,) = gate.worker.connections
            while not connection.flow.stops:
                client.send_what_goes(bytes(1 << 16))
                await asyncio.sleep(0)
            client.leave("half")
            await gate.until(lambda: not gate.worker.in_flight)
            assert gate.target.in_flight == 0

    run(case())
    tried(SECTION, 1)


def test_a_websocket_may_close_one_half_first(tried: Tried) -> None:
    async def case() -> None:
        async with live() as gate, slow_client(gate) as client:
            gate.upstream.reads_requests = False
            await tunnelling(gate, client)
            (peer,) = gate.upstream.connections
            peer.keeps_its_half = True
            client.leave("half")
            await gate.until(lambda: peer.ended)
            peer.transport.write(b"still here")
            await gate.until(lambda: client.read() or client.over)
            assert client.received.endswith(b"still here")
            peer.transport.close()
            await client.read_to_end()
            await all_over(gate)

    run(case())
    tried(SECTION, 1)


async def closed_tunnels(gate: Live) -> None:
    """As many as there is room for, whose clients have closed their connections, while the upstream keeps its half."""
    gate.upstream.answer = lambda _: SWITCHING
    async with AsyncExitStack() as clients:
        for _ in range(ROOM):
            client = await clients.enter_async_context(slow_client(gate, UPGRADE))
            await gate.until(client.read)
        for each in gate.upstream.connections:
            each.keeps_its_half = True
        assert gate.worker.in_flight == ROOM
    await gate.until(lambda: all(each.ended for each in gate.upstream.connections))


async def served(gate: Live) -> None:
    """There is room again."""
    await gate.until(lambda: not gate.worker.in_flight and not gate.worker.connections)
    assert gate.target.in_flight == 0
    gate.upstream.answer = ok
    client = await gate.ask(get())
    assert [each.status for each in client.answers] == [200]


def test_a_websocket_whose_client_has_closed_gives_its_place_back_after_silence(tried: Tried) -> None:
    async def case() -> None:
        async with live(server={"max_in_flight": ROOM}, upstream={"body_timeout_seconds": 0.5}) as gate:
            await closed_tunnels(gate)
            await served(gate)

    run(case())
    tried(SECTION, 1)


def test_a_websocket_whose_client_has_closed_gives_its_place_back_when_the_upstream_speaks(tried: Tried) -> None:
    """The client's kernel answers with a reset, of which the event loop does not tell."""

    async def case() -> None:
        async with live(server={"max_in_flight": ROOM}) as gate:
            await closed_tunnels(gate)
            for peer in gate.upstream.connections:
                peer.transport.write(b"once")
            await served(gate)

    run(case())
    tried(SECTION, 1)


def test_the_kernel_asks_both_sides_of_a_websocket_whether_they_are_there(tried: Tried) -> None:
    async def case() -> None:
        async with live() as gate, slow_client(gate) as client:
            gate.upstream.reads_requests = False
            await tunnelling(gate, client)
            [connection] = gate.worker.connections
            [upstream] = gate.target.connections
            for transport in (connection.transport, upstream.transport):
                kernel = transport.get_extra_info("socket")
                assert kernel.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert kernel.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60

    run(case())
    tried(SECTION, 1)
