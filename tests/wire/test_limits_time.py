"""The limits of time that a client has, with short settings; nothing here is judged by how long it takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import KEY_FIELD, get, post, problem
from tests.wire.cases import HOST, SECOND
from tests.wire.live import live, run

if TYPE_CHECKING:
    from tests.wire.conftest import Tried

HEADS = [
    *(b"G", b"GET", b"GET /", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\n", b"\r", b"\r\nG"),
    *(get()[:-1], get()[:-2], get()[:-3], get()[:40], b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 8000),
]
BODIES = [
    *(post(b"hello")[:-5], post(b"hello")[:-1]),
    *(
        b"POST / HTTP/1.1\r\n" + HOST + KEY_FIELD + b"Transfer-Encoding: chunked\r\n\r\n" + begun
        for begun in (
            b"",
            b"5",
            b"5\r",
            b"5\r\n",
            b"5\r\nhell",
            b"5\r\nhello\r",
            b"5\r\nhello\r\n0\r\n",
            b"5\r\nhello\r\n0\r\nA: b\r\n",
        )
    ),
]
SHORT = 0.3


def test_a_head_that_comes_to_no_end(tried: Tried) -> None:
    """Alone, and behind a request that was answered."""

    async def whole() -> None:
        async with live(server={"client_head_timeout_seconds": SHORT}) as gate:
            alone = [await gate.ask(begun) for begun in HEADS]
            later = [await gate.ask(SECOND + begun, methods=[b"GET", b"GET"]) for begun in HEADS]
            await gate.until(lambda: all(each.ended for each in alone + later))
            for client in alone:
                (answer,) = client.answers
                assert problem(answer)["code"] == "request_timeout"
                assert (answer.status, answer.one("connection")) == (408, "close")
            for client in later:
                assert [each.status for each in client.answers] == [200, 408]
            assert len(gate.upstream.requests) == len(later)

    run(whole())
    tried("limits of time", 2 * len(HEADS))


@pytest.mark.parametrize(
    ("begun", "piece"),
    [(b"GET / HTTP/1.1\r\n", b"A: b\r\n"), (b"G", b"a"), (b"GET / HT", b"a"), (b"\r\nGET ", b"a")],
)
def test_a_head_that_dribbles_in_has_no_more_time(begun: bytes, piece: bytes, tried: Tried) -> None:
    async def whole() -> None:
        async with live(server={"client_head_timeout_seconds": SHORT}) as gate:
            client = await gate.client()
            client.methods = [b"GET"]
            await client.send(begun)
            while not client.over():  # for ever, if each byte gave it more time
                await client.send(piece)
                await asyncio.sleep(0.02)
            (answer,) = client.answers
            assert answer.status == 408
            assert gate.upstream.received == b""

    run(whole())
    tried("limits of time", 1)


def test_a_body_that_comes_to_no_end(tried: Tried) -> None:
    """What the upstream has of it is cut off, and is no request."""

    async def whole() -> None:
        async with live(server={"client_body_timeout_seconds": SHORT}) as gate:
            clients = [await gate.ask(begun) for begun in BODIES]
            await gate.until(lambda: all(each.ended for each in clients))
            await gate.until(lambda: all(each.ended for each in gate.upstream.connections))
            for client in clients:
                (answer,) = client.answers
                assert problem(answer)["code"] == "request_timeout"
            assert not gate.upstream.requests
            assert not gate.upstream.faults

    run(whole())
    tried("limits of time", len(BODIES))


@pytest.mark.parametrize("before", [b"", SECOND, b"\r\n", SECOND + b"\r\n"])
def test_an_idle_connection_is_closed_without_a_word(before: bytes, tried: Tried) -> None:
    async def whole() -> None:
        async with live(server={"client_idle_timeout_seconds": SHORT}) as gate:
            client = await gate.client()
            client.methods = [b"GET"]
            await client.send(before)
            await gate.until(client.over)
            assert not client.was_reset
            assert len(client.answers) == before.count(b"GET")
            await gate.until(lambda: not gate.worker.connections)

    run(whole())
    tried("limits of time", 1)
