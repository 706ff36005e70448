"""Many at once: what is above a limit is told so cheaply, what was taken is given back, and refusals can be read."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import KEY_FIELD, OTHER_SECRET, get, problem
from tests.proxy.wire_reader import read_responses
from tests.wire.live import live, run, store_away
from tests.wire.slow_peers import SLICE, all_over, slow_client

if TYPE_CHECKING:
    from tests.wire.conftest import Tried
    from tests.wire.live_clients import Client

SECTION = "slow and many"


def _answered(client: Client) -> bool:
    return bool(client.take()) or client.over()


def assert_overloaded(client: Client) -> None:
    (answer,) = client.answers
    assert (answer.status, problem(answer)["code"]) == (503, "gateway_overloaded")
    assert answer.one("retry-after")


def test_connections_above_the_limit_are_told_so(tried: Tried) -> None:
    async def case() -> None:
        async with live(server={"max_connections": 50}) as gate:
            held = [await gate.client() for _ in range(50)]
            await gate.until(lambda: len(gate.worker.connections) == 50)
            refused = [await gate.ask(get()) for _ in range(30)]
            for each in refused:
                await gate.until(partial(_answered, each))
                assert_overloaded(each)
                assert each.ended
            assert not gate.upstream.connections
            assert gate.worker.requests == 0
            for each in held[:3]:
                gate.clients.remove(each)
                each.close()
            await gate.until(lambda: len(gate.worker.connections) - gate.worker.turned_away == 47)
            again = await gate.ask(get())  # those who were turned away are still there, and take no place
            assert [each.status for each in again.answers] == [200]
            tried(SECTION, 80)

    run(case())


def test_requests_above_the_limit_are_told_so_without_a_lookup(tried: Tried) -> None:
    async def case() -> None:
        async with live(server={"max_in_flight": 20}) as gate:
            gate.upstream.answer = lambda _: None
            served = [await gate.ask(get()) for _ in range(20)]
            assert gate.worker.in_flight == 20
            connections = len(gate.upstream.connections)
            gate.keys.fails_with = store_away  # whoever asked for a key would be told of that
            unknown = b"X-API-KEY: " + OTHER_SECRET + b"\r\n"
            refused = [await gate.ask(get(fields=unknown)) for _ in range(30)]
            for each in refused:
                assert_overloaded(each)
                assert not each.ended
            assert gate.worker.in_flight == 20
            assert len(gate.upstream.connections) == connections
            gate.keys.fails_with = None
            for peer in gate.upstream.connections:
                peer.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await gate.settled()
            assert gate.worker.in_flight == 0
            assert {each.answers[0].status for each in served} == {200}
            gate.upstream.answer = lambda _: b"HTTP/1.1 204 No Content\r\n\r\n"
            refused[0].received = b""
            await refused[0].send(get())
            await gate.settled()
            assert [each.status for each in refused[0].answers] == [204]
            tried(SECTION, 51)

    run(case())


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 4194304\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n400000\r\n"]
)
def test_a_refused_request_with_a_large_body_has_an_answer_that_can_be_read(framing: bytes, tried: Tried) -> None:
    """The client sends all of it first, and would see a reset instead if the gateway just closed."""

    async def case() -> None:
        async with live() as gate, slow_client(gate, b"POST / HTTP/1.1\r\nHost: a\r\n" + framing) as client:
            await client.send(bytes(4 << 20))
            await client.read_to_end()
            assert not client.was_reset
            (answer,) = read_responses(client.received, [b"POST"], ended=True)
            assert answer.status == 401
            assert answer.one("connection") == "close"
            assert not gate.upstream.connections

    run(case())
    tried(SECTION, 1)


def test_what_is_thrown_away_has_bounds(tried: Tried) -> None:
    """One that sends for ever after its refusal is cut off by bytes, and one that is just there by time."""

    async def case() -> None:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\n\r\n"
        async with live() as gate, slow_client(gate, head) as sender, slow_client(gate, head) as stayer:
            sent = 0
            while not sender.over:
                sent += sender.send_what_goes(bytes(1 << 16))
                if sent > 16 << 20:
                    sender.read()
                await asyncio.sleep(0)
            assert sent < 64 << 20
            await gate.until(lambda: not gate.worker.connections)
            await stayer.read_to_end()
            assert stayer.received.startswith(b"HTTP/1.1 401 ")
            assert not stayer.was_reset

    run(case())
    tried(SECTION, 2)


def test_a_pipeline_of_thousands_is_answered_in_order(tried: Tried) -> None:
    count = 5000

    async def case() -> None:
        requests = [get(b"/%d" % number, KEY_FIELD if number % 7 else b"") for number in range(count)]
        async with live() as gate, slow_client(gate, room=1 << 20) as client:
            sending = asyncio.ensure_future(client.send(b"".join(requests)))
            while client.received.count(b"HTTP/1.1 ") < count or not client.received.endswith(
                (b"}", b"%d" % (count - 1))
            ):
                if not client.read():
                    await asyncio.sleep(SLICE)
            await sending
            answers = read_responses(client.received, [b"GET"] * count, ended=False)
            assert [each.status for each in answers] == [200 if number % 7 else 401 for number in range(count)]
            bodies = [each.body for each in answers if each.status == 200]
            assert bodies == [b"GET /%d" % number for number in range(count) if number % 7]
            assert gate.worker.requests == count
            client.leave("close")
            await all_over(gate)

    run(case())
    tried(SECTION, count)
