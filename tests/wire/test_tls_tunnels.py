"""TLS with clients, tunnels: their halves close apart, by close_notify."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import KEY_FIELD, get
from tests.wire.live import live, run
from tests.wire.tls_front import LARGE, tls, trusting

if TYPE_CHECKING:
    from tests.wire.conftest import Tried
    from tests.wire.live import Live, UpstreamPeer
    from tests.wire.live_clients import TlsClient

UPGRADE = KEY_FIELD + (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_tunnel_s_halves_close_apart(version: ssl.TLSVersion, tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            gate.upstream.answer = lambda _: SWITCH + b"hello"
            client = await gate.ask_tls(trusting(maximum_version=version), get(fields=UPGRADE))
            assert client.received.endswith(b"\r\n\r\nhello")
            [behind] = gate.upstream.connections
            gate.upstream.reads_requests = False
            sending = asyncio.ensure_future(client.send(LARGE))
            await gate.until(lambda: behind.received.endswith(LARGE[-4096:]) and len(behind.received) > len(LARGE))
            await sending
            behind.transport.write(LARGE)
            await gate.until(lambda: client.received.endswith(LARGE))
            behind.transport.write_eof()
            await gate.until(lambda: client.ended)
            await client.send(b"still here")
            await gate.until(lambda: behind.received.endswith(b"still here"))
            await client.send_end()
            await gate.until(lambda: behind.ended)
            await gate.until(lambda: not gate.worker.connections)

    run(case())
    tried("tls: tunnels", 1)


async def tunnel_whose_upstream_keeps_its_half(gate: Live) -> tuple[TlsClient, UpstreamPeer]:
    gate.upstream.answer = lambda _: SWITCH
    client = await gate.ask_tls(trusting(), get(fields=UPGRADE))
    [behind] = gate.upstream.connections
    gate.upstream.reads_requests = False
    behind.keeps_its_half = True
    return client, behind


def test_a_tunnel_whose_client_ends_first_still_hears_the_rest(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            client, behind = await tunnel_whose_upstream_keeps_its_half(gate)
            await client.send_end()
            await gate.until(lambda: behind.ended)
            behind.transport.write(b"the rest")
            await gate.until(lambda: client.received.endswith(b"the rest"))
            behind.transport.close()
            await gate.until(lambda: client.ended and client.fin)

    run(case())
    tried("tls: tunnels", 1)


def test_a_tunnel_whose_client_has_closed_ends_when_the_upstream_speaks(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            client, behind = await tunnel_whose_upstream_keeps_its_half(gate)
            await client.send_end()
            gate.clients.clear()
            client.close()
            await gate.until(lambda: behind.ended)
            behind.transport.write(b"once")
            await gate.until(lambda: not gate.worker.connections and not gate.worker.in_flight)

    run(case())
    tried("tls: tunnels", 1)


def test_a_tunnel_that_is_cut_without_close_notify_is_over(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            gate.upstream.answer = lambda _: SWITCH
            client = await gate.ask_tls(trusting(), get(fields=UPGRADE))
            [behind] = gate.upstream.connections
            client.socket.shutdown(socket.SHUT_WR)
            await gate.until(lambda: behind.ended)
            await gate.until(lambda: not gate.worker.connections)

    run(case())
    tried("tls: tunnels", 1)
