"""The proxy a user would write with aiohttp: a catch-all handler, a dictionary of keys, a shared ClientSession.

It follows aiohttp's own documentation, streams bodies both ways, and runs on uvloop. It is measured, not recommended.

    python -m benchmarks.peers.plain_aiohttp_proxy PORT UPSTREAM_URL KEYS.json
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection"}
NOT_FORWARDED = {*HOP_BY_HOP, "host", "x-api-key", "x-consumer-id"}
NOT_RETURNED = {*HOP_BY_HOP, "content-length", "date", "server"}


class Proxy:
    """One upstream, one set of keys."""

    def __init__(self, upstream: str, consumers: Mapping[str, str]) -> None:
        self.upstream = upstream
        self.consumers = consumers

    async def session(self, app: web.Application) -> AsyncIterator[None]:
        """Keep one client session for the life of the application."""
        timeout = ClientTimeout(total=None, sock_connect=5)
        connector = TCPConnector(limit=0)
        async with ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
            app[SESSION] = session
            yield

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Check the key, pass the request on, pass the answer back."""
        consumer = self.consumers.get(request.headers.get("X-API-KEY", ""))
        if consumer is None:
            return web.json_response({"error": "invalid API key"}, status=401)
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in NOT_FORWARDED]
        headers.append(("X-Consumer-ID", consumer))
        async with request.app[SESSION].request(
            request.method,
            self.upstream + request.path_qs,
            headers=headers,
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
        ) as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in NOT_RETURNED:
                    response.headers.add(name, value)
            response.content_length = answer.content_length
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


SESSION = web.AppKey("session", ClientSession)


async def _serve(port: int, proxy: Proxy) -> None:
    app = web.Application(client_max_size=0)
    app.cleanup_ctx.append(proxy.session)
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


def main() -> None:
    """Serve until killed."""
    port, upstream, keys = sys.argv[1:]
    consumers: dict[str, str] = json.loads(Path(keys).read_text())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(port), Proxy(upstream, consumers)))


if __name__ == "__main__":
    main()
