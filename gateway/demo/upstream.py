"""The API that the demo protects: `python -m gateway.demo.upstream FD`, a process of its own, as a real one would be.

It shows what arrives (the key does not, the identity headers do) and each way of answering that a proxy can get wrong:
events that must come one by one, a WebSocket, bodies of any size. Its standard input is its leash: at end of file, so
when the demo is gone however that ended, it exits.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import Final

from aiohttp import WSMsgType, web

_BLOCK: Final = bytes(range(256)) * 256
_LARGEST_BODY_BYTES: Final = 1 << 40
_EVENTS: Final = 5
_EVENT_INTERVAL_SECONDS: Final = 0.5


async def echo(request: web.Request) -> web.Response:
    """The request as JSON: method, path, query, headers, body."""
    body = await request.text()
    return web.json_response(
        {
            "message": "Hello from the demo API: this request came through the gateway.",
            "method": request.method,
            "path": request.path,
            "query": dict(request.query),
            "headers": dict(request.headers),
            "body": body,
        }
    )


async def send_events(request: web.Request) -> web.StreamResponse:
    """Five server-sent events, half a second apart."""
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await answer.prepare(request)
    with contextlib.suppress(ConnectionError):  # who has seen enough leaves
        for number in range(1, _EVENTS + 1):
            await answer.write(f"id: {number}\ndata: event {number} of {_EVENTS}\n\n".encode())
            await asyncio.sleep(_EVENT_INTERVAL_SECONDS)
    return answer


async def echo_messages(request: web.Request) -> web.WebSocketResponse:
    """A WebSocket that sends back what it gets."""
    connection = web.WebSocketResponse()
    await connection.prepare(request)
    async for message in connection:
        if message.type is WSMsgType.TEXT:
            await connection.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await connection.send_bytes(message.data)
    return connection


async def send_bytes(request: web.Request) -> web.StreamResponse:
    """As many bytes as the path says: 0, 1, … 255, 0 and so on."""
    remaining = int(request.match_info["count"])
    if remaining > _LARGEST_BODY_BYTES:
        raise web.HTTPBadRequest(text=f"at most {_LARGEST_BODY_BYTES} bytes")
    answer = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    answer.content_length = remaining
    await answer.prepare(request)
    with contextlib.suppress(ConnectionError):
        while remaining > 0:
            part = _BLOCK[:remaining]
            await answer.write(part)
            remaining -= len(part)
    return answer


def application() -> web.Application:
    """The demo API; every path without a meaning of its own echoes."""
    made = web.Application()
    made.router.add_get("/sse", send_events)
    made.router.add_get("/ws", echo_messages)
    made.router.add_get(r"/bytes/{count:\d{1,13}}", send_bytes)
    made.router.add_route("*", "/{path:.*}", echo)
    return made


async def serve(listen_fd: int) -> None:
    """Answer on the inherited socket until standard input ends."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    runner = web.AppRunner(application(), access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.SockSite(runner, socket.socket(fileno=listen_fd)).start()
        await ended.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
        await runner.cleanup()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(int(sys.argv[1])))
