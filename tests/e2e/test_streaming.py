"""Bodies stream: each part goes on when it comes, in both directions, and interim responses with them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.e2e.recording_upstream import RecordingUpstream
    from tests.e2e.site import Site


@pytest.fixture(scope="module")
def site(serve_module: Callable[..., Site], upstream_module: RecordingUpstream) -> Site:
    return serve_module(upstream_module.url)


@pytest.fixture
def upstream(upstream_module: RecordingUpstream) -> RecordingUpstream:
    upstream_module.reset()
    return upstream_module


@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Connection: close"])
def test_events_arrive_one_by_one(site: Site, upstream: RecordingUpstream, framing: str) -> None:
    """No event is sent before the one before it has arrived, so nothing can have waited for company."""
    with upstream.by_hand() as take, site.wire() as client:
        client.send("GET /events HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}", "Accept: text/event-stream")
        _, upper = take()
        upper.send("HTTP/1.1 200 OK", "Content-Type: text/event-stream", framing)
        head = client.expect_head()
        assert head.one("Content-Type") == "text/event-stream"
        for number in range(20):
            event = f"id: {number}\ndata: {'x' * number}\n\n".encode()
            if framing.endswith("chunked"):
                upper.send_chunk(event)
            else:
                upper.socket.sendall(event)
            assert client.read_chunk() == event


@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Content-Length: 26"])
def test_an_upload_goes_on_part_by_part(site: Site, upstream: RecordingUpstream, framing: str) -> None:
    """Each byte is with the upstream before the next is sent; what came with a length goes on with it."""
    with upstream.by_hand() as take, site.wire() as client:
        client.send("POST / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}", framing)
        head, upper = take()
        name, _, value = framing.partition(": ")
        assert head.one(name) == value
        for letter in b"abcdefghijklmnopqrstuvwxyz":
            byte = bytes([letter])
            if framing.endswith("chunked"):
                client.send_chunk(byte)
                assert upper.read_chunk() == byte
            else:
                client.socket.sendall(byte)
                assert upper.read_exactly(1) == byte
        if framing.endswith("chunked"):
            client.socket.sendall(b"0\r\n\r\n")
            assert upper.read_chunk() == b""
        upper.send("HTTP/1.1 200 OK", "Content-Length: 2", body=b"ok")
        assert client.read_answer().body == b"ok"


def test_both_directions_stream_at_once(site: Site, upstream: RecordingUpstream) -> None:
    """A response may begin before the request has ended, and go on in step with it."""
    with upstream.by_hand() as take, site.wire() as client:
        client.send("POST / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}", "Transfer-Encoding: chunked")
        _, upper = take()
        upper.send("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")
        assert client.expect_head().status == 200
        for number in range(10):
            part = f"part {number}".encode()
            client.send_chunk(part)
            assert upper.read_chunk() == part
            upper.send_chunk(part.upper())
            assert client.read_chunk() == part.upper()
        client.socket.sendall(b"0\r\n\r\n")
        assert upper.read_chunk() == b""
        upper.socket.sendall(b"0\r\n\r\n")
        assert client.read_chunk() == b""


def test_the_body_is_not_asked_for_before_the_key_is_accepted(site: Site, upstream: RecordingUpstream) -> None:
    """With a good key the upstream asks for it; without, the 401 is all that ever comes."""
    expecting = ("PUT / HTTP/1.1", "Host: x", "Content-Length: 5", "Expect: 100-continue")
    with site.wire() as client:
        client.send(*expecting)
        assert client.read_rest().startswith(b"HTTP/1.1 401 ")
    with upstream.by_hand() as take, site.wire() as client:
        client.send(*expecting, f"X-API-KEY: {site.secret}")
        head, upper = take()
        assert head.one("Expect") == "100-continue"
        upper.send("HTTP/1.1 100 Continue")
        assert client.expect_head().status == 100
        client.socket.sendall(b"hello")
        assert upper.read_exactly(5) == b"hello"
        upper.send("HTTP/1.1 200 OK", "Content-Length: 0")
        assert client.expect_head().status == 200
        assert client.ask("GET / HTTP/1.1").status == 401  # the connection is in step


def test_an_upstream_may_refuse_a_body_unseen(site: Site, upstream: RecordingUpstream) -> None:
    """Its 417 or 413 instead of the 100 reaches the client, which then must not send the body."""
    with upstream.by_hand() as take, site.wire() as client:
        client.send(
            *("PUT / HTTP/1.1", "Host: x", "Content-Length: 5", "Expect: 100-continue"),
            f"X-API-KEY: {site.secret}",
        )
        _, upper = take()
        upper.send("HTTP/1.1 413 Content Too Large", "Content-Length: 2", body=b"no")
        head = client.expect_head()
        assert (head.status, client.read_body(head)) == (413, b"no")
        assert head.one("Connection") == "close"  # nobody can tell whether the body will follow
        assert client.read_rest() == b""


def test_early_hints_come_before_the_response(site: Site, upstream: RecordingUpstream) -> None:
    """103 is relayed when it comes, several of them too; a client of HTTP/1.0 knows none."""
    hints = ["Link: </style.css>; rel=preload; as=style", "Link: </script.js>; rel=preload"]
    with upstream.by_hand() as take, site.wire() as client:
        client.send("GET / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
        _, upper = take()
        for hint in hints:
            upper.send("HTTP/1.1 103 Early Hints", hint)
            head = client.expect_head()
            assert (head.status, head.one("Link")) == (103, hint.partition(": ")[2])
        upper.send("HTTP/1.1 200 OK", "Content-Length: 2", body=b"ok")
        assert client.read_answer().body == b"ok"
    with upstream.by_hand() as take, site.wire() as client:
        client.send("GET / HTTP/1.0", f"X-API-KEY: {site.secret}")
        _, upper = take()
        upper.send("HTTP/1.1 103 Early Hints", *hints)
        upper.send("HTTP/1.1 200 OK", "Content-Length: 2", body=b"ok")
        assert client.expect_head().status == 200


def test_a_client_of_http_1_0_gets_a_plain_body(site: Site, upstream: RecordingUpstream) -> None:
    """Chunks do not exist for it: the end of the connection is the end of the body."""
    upstream.answer = lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\n!!!\r\n0\r\n\r\n"
    with site.wire() as client:
        client.send("GET / HTTP/1.0", f"X-API-KEY: {site.secret}")
        head = client.expect_head()
        assert head.one("Transfer-Encoding") is None
        assert client.read_rest() == b"ok!!!"


def test_pipelined_requests_are_answered_in_order_one_at_a_time(site: Site, upstream: RecordingUpstream) -> None:
    with upstream.by_hand() as take, site.wire() as client:
        for number in range(3):
            client.send(f"GET /{number} HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
        client.send("GET /refused HTTP/1.1", "Host: x")
        _, upper = take()
        upper.send("HTTP/1.1 200 OK", "Content-Length: 1", body=b"0")
        assert client.read_answer().body == b"0"
        for number in range(1, 3):
            assert upper.expect_head().target == f"/{number}"  # on the same connection, and not before
            upper.send("HTTP/1.1 200 OK", "Content-Length: 1", body=str(number).encode())
            assert client.read_answer().body == str(number).encode()
        assert client.read_answer().status == 401


class _Steps:
    """An aiohttp upstream whose every step waits for the client to have seen the one before."""

    def __init__(self) -> None:
        self.seen = asyncio.Semaphore(0)

    async def events(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for number in range(5):
            await answer.write(f"data: {number}\n\n".encode())
            await self.seen.acquire()
        return answer

    async def upload(self, request: web.Request) -> web.Response:
        count = 0
        async for block in request.content.iter_any():
            count += len(block)
            self.seen.release()
        return web.Response(text=str(count))


@pytest.fixture
async def steps() -> AsyncIterator[tuple[_Steps, str]]:
    made = _Steps()
    application = web.Application(client_max_size=1 << 30)
    application.router.add_get("/events", made.events)
    application.router.add_post("/upload", made.upload)
    async with TestServer(application) as server:
        yield made, str(server.make_url("")).rstrip("/")


async def test_aiohttp_on_both_sides_streams_in_step(serve: Callable[..., Site], steps: tuple[_Steps, str]) -> None:
    """Events down, blocks up: each is seen at the other end before the next is made."""
    upstream, url = steps
    site = await asyncio.to_thread(serve, url)

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 1000
            await upstream.seen.acquire()

    async with aiohttp.ClientSession(headers={"X-API-KEY": site.secret}) as session:
        async with session.get(f"{site.url}/events") as answer:
            for number in range(5):
                assert await answer.content.readuntil(b"\n\n") == f"data: {number}\n\n".encode()
                upstream.seen.release()
        async with session.post(f"{site.url}/upload", data=blocks()) as answer:
            assert await answer.text() == "5000"
