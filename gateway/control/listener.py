"""Serves the control plane's routes on a socket that the supervisor opened.

The socket is inherited, not bound here, so that the port stays ours while this process is being replaced.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

_SHUTDOWN_SECONDS: Final = 2.0  # how long a request in flight may take to end; the supervisor waits 5 s in all


@contextlib.asynccontextmanager
async def serve(listen_fd: int, routes: Iterable[web.RouteDef]) -> AsyncIterator[None]:
    """Answer on `listen_fd` inside the block; requests in flight are answered before it ends."""
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, socket.socket(fileno=listen_fd)).start()
        yield
    finally:
        await runner.cleanup()
