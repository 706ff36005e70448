"""The demo API: it shows what arrived, streams, echoes, and ends with the demo."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession

from gateway.demo import upstream
from gateway.demo.upstream_process import demo_upstream

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.test_utils import TestClient
    from pytest_aiohttp import AiohttpClient

    Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(upstream.application())


async def test_any_request_is_echoed(client: Client) -> None:
    async with client.post("/some/path?a=1", data=b"text", headers={"X-Consumer-ID": "mem_1"}) as answer:
        seen = await answer.json()
    assert (seen["method"], seen["path"], seen["query"], seen["body"]) == ("POST", "/some/path", {"a": "1"}, "text")
    assert seen["headers"]["X-Consumer-ID"] == "mem_1"


@pytest.mark.parametrize("count", [0, 1, 65_537])
async def test_bytes_come_in_the_number_asked_for(client: Client, count: int) -> None:
    async with client.get(f"/bytes/{count}") as answer:
        body = await answer.read()
    assert (answer.content_length, len(body)) == (count, count)


async def test_an_absurd_number_of_bytes_is_refused(client: Client) -> None:
    async with client.get("/bytes/9999999999999") as answer:
        assert answer.status == 400


async def test_events_are_sent_one_by_one(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_EVENT_INTERVAL_SECONDS", 0)
    async with client.get("/sse") as answer:
        text = await answer.text()
    assert answer.content_type == "text/event-stream"
    assert text.count("\n\n") == 5
    assert text.startswith("id: 1\ndata: event 1 of 5\n\n")


async def test_a_web_socket_gets_its_messages_back(client: Client) -> None:
    async with client.ws_connect("/ws") as connection:
        await connection.send_str("hello")
        assert await connection.receive_str() == "hello"
        await connection.send_bytes(b"\x00\x01")
        assert await connection.receive_bytes() == b"\x00\x01"


async def test_the_process_answers_within_the_block_and_is_gone_after_it() -> None:
    loop = asyncio.get_running_loop()
    context = demo_upstream()
    url = await loop.run_in_executor(None, context.__enter__)
    try:
        async with ClientSession() as session, session.get(f"{url}/x") as answer:
            assert answer.status == 200
    finally:
        await loop.run_in_executor(None, context.__exit__, None, None, None)
    host, port = url.removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))
