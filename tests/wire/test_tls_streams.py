"""TLS with clients, requests and answers: as without it, and ended so that no client takes a part for the whole."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import struct
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import get, post
from tests.wire.live import live, run
from tests.wire.tls_front import BLOCK, LARGE, nobody_left, tls, trusting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.proxy.wire_reader import Message
    from tests.wire.conftest import Tried
    from tests.wire.live import Live
    from tests.wire.live_clients import TlsClient


def answered(client: TlsClient, times: int) -> bool:
    return len(client.answers) == times


def asked_more(gate: Live, before: int) -> bool:
    return len(gate.upstream.requests) > before


def echo(request: Message) -> bytes:
    body = request.body
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [1, 16_383, 16_384, 16_385, 65_536, len(LARGE)])
def test_bodies_are_the_same_both_ways(size: int, version: ssl.TLSVersion, tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            gate.upstream.answer = echo
            client = await gate.tls_client(trusting(maximum_version=version))
            client.methods = [b"POST"]
            sending = asyncio.ensure_future(client.send(post(LARGE[:size])))
            await gate.until(lambda: len(client.received) > size)
            await sending
            assert client.answers[0].body == LARGE[:size]

    run(case())
    tried("tls: in front", 1)


def test_a_slow_reader_gets_all_of_it_and_holds_the_upstream_back(tried: Tried) -> None:
    """Also what was sent by an upstream that has closed the connection long before."""

    async def case() -> None:
        async with live(server=tls()) as gate:
            gate.upstream.answer = lambda _: b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + LARGE * 2
            client = await gate.tls_client(trusting())
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            gate.clients.clear()  # nobody reads
            await client.send(get())
            await gate.until(lambda: any(each.flow.writing_paused for each in gate.worker.connections))
            for _ in range(20):
                await gate.settled()
            [held] = gate.worker.connections
            assert held.transport.get_write_buffer_size() < 1 << 20
            gate.upstream.connections[0].transport.close()
            gate.clients.append(client)
            await gate.until(lambda: client.received.endswith(b"0\r\n\r\n"))
            client.methods = [b"GET"]
            assert hashlib.sha256(client.answers[0].body).digest() == hashlib.sha256(LARGE * 2).digest()

    run(case())
    tried("tls: in front", 1)


def test_pipelined_requests_are_answered_in_order(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            requests = [get(b"/%d" % number) for number in range(40)]
            together = await gate.ask_tls(trusting(), b"".join(requests), methods=[b"GET"] * 40)
            apart = await gate.ask_tls(trusting(), *requests, methods=[b"GET"] * 40)
            for client in (together, apart):
                await gate.until(partial(answered, client, 40))
                assert [each.body for each in client.answers] == [b"GET /%d" % number for number in range(40)]

    run(case())
    tried("tls: in front", 80)


def test_a_request_split_at_every_byte(tried: Tried) -> None:
    request = get()

    async def case() -> None:
        async with live(server=tls()) as gate:
            client = await gate.tls_client(trusting())
            for position in range(1, len(request)):
                before = len(gate.upstream.requests)
                await client.send(request[:position], request[position:])
                await gate.until(partial(asked_more, gate, before))
            await gate.settled()
            client.methods = [b"GET"] * (len(request) - 1)
            assert {each.status for each in client.answers} == {200}

    run(case())
    tried("tls: in front", len(request) - 1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_refused_upload_is_answered_before_it_is_over(
    version: ssl.TLSVersion, tried: Tried, *, chunked: bool
) -> None:
    """The answer, close_notify, a FIN; and what still comes is read and thrown away: no reset takes the answer back."""

    async def case() -> None:
        async with live(server=tls()) as gate:
            framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(LARGE)
            head = b"POST / HTTP/1.1\r\nHost: x\r\nX-API-KEY: sk_no\r\n%b\r\n\r\n" % framing
            client = await gate.tls_client(trusting(maximum_version=version))
            client.methods = [b"POST"]
            await client.send(head)
            for _ in range(32):
                await client.send(b"10000\r\n" + BLOCK + b"\r\n" if chunked else BLOCK)
            await gate.settled()
            assert [each.status for each in client.answers] == [401]
            assert client.ended
            assert client.fin
            assert not client.was_reset
            assert client.error is None
            [held] = gate.worker.connections
            assert held.transport.is_reading()
            client.close()
            gate.clients.clear()
            await gate.until(lambda: not gate.worker.connections)

    run(case())
    tried("tls: in front", 1)


def test_an_abort_is_a_reset_without_close_notify(tried: Tried) -> None:
    """A length that is not kept: no client may take what came for the whole."""

    async def case() -> None:
        async with live(server=tls()) as gate:
            gate.upstream.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
            client = await gate.ask_tls(trusting(), get())
            gate.upstream.connections[0].transport.close()
            await gate.until(lambda: client.was_reset or client.fin)
            assert client.was_reset
            assert not client.ended
            assert b"half" in client.received

    run(case())
    tried("tls: in front", 1)


def test_a_client_that_is_gone_ends_what_is_done_for_it(tried: Tried) -> None:
    """By close_notify, by a bare FIN, by a reset, and by bytes that are no record."""

    async def end_properly(client: TlsClient) -> None:
        await client.send_end()

    async def end_badly(client: TlsClient) -> None:
        client.socket.shutdown(socket.SHUT_WR)

    async def reset(client: TlsClient) -> None:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        client.was_reset = True

    async def garbage(client: TlsClient) -> None:
        await client.send_raw(b"\x17\x03\x03\x00\x20" + b"A" * 32)

    async def case(leave: Callable[[TlsClient], Awaitable[None]]) -> None:
        async with live(server=tls()) as gate:
            gate.upstream.answer = lambda _: None
            client = await gate.ask_tls(trusting(), get())
            assert len(gate.upstream.requests) == 1
            await leave(client)
            await gate.until(lambda: gate.upstream.connections[0].ended)
            await gate.until(lambda: not gate.worker.connections)
            nobody_left(gate.worker)

    for leave in (end_properly, end_badly, reset, garbage):
        run(case(leave))
    tried("tls: in front", 4)


def test_a_connection_that_is_idle_too_long_ends_properly(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls(client_idle_timeout_seconds=0.05)) as gate:
            client = await gate.ask_tls(trusting(), get())
            await gate.until(lambda: client.fin)
            assert client.ended
            assert client.error is None

    run(case())
    tried("tls: in front", 1)


def test_a_drain_waits_for_a_handshake_and_answers_its_request(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            client = await gate.tls_client(trusting(), shakes=False)
            await client.send_raw(client.step())
            gate.worker.pre_shutdown()
            over = asyncio.ensure_future(gate.worker.shutdown(30))
            await gate.settled()
            assert not over.done()
            await client.shake_hands()
            await client.send(get())
            await gate.settled()
            client.methods = [b"GET"]
            assert [(each.status, each.one("Connection")) for each in client.answers] == [(200, "close")]
            assert client.ended
            client.close()
            gate.clients.clear()
            await over

    run(case())
    tried("tls: in front", 1)


def test_a_drain_s_end_ends_a_handshake(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            client = await gate.tls_client(trusting(), shakes=False)
            await client.send_raw(b"\x16")
            gate.worker.pre_shutdown()
            await gate.worker.shutdown(0.01)
            await gate.until(lambda: client.fin or client.was_reset)
            nobody_left(gate.worker)

    run(case())
    tried("tls: in front", 1)
