"""Serves the control plane's routes on a socket that the supervisor opened.

The socket is inherited, not bound here, so that the port stays ours while this process is being replaced.

Invariant: what a client can make this process hold is bounded in bytes and in time, key or no key: heads by aiohttp's
own limits, a connection without a whole head by `_IDLE_SECONDS`, bodies by `MAX_BODY_BYTES` (and in time where they are
read), answers that are not taken by `_ANSWER_SECONDS`, and all of it by `_MAX_CONNECTIONS`. Bodies are taken as they
are; a compressed one would be bounded only after it was unpacked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Final

from aiohttp import web

from gateway.control.api.edge import REQUEST_ID, RequestIds, edge, finish
from gateway.control.api.problems import INTERNAL_ERROR, Problems, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

MAX_BODY_BYTES: Final = 1 << 20
_IDLE_SECONDS: Final = 30.0  # from the connection, or the last answer, to the end of the next head
_LINGER_SECONDS: Final = 5.0  # how long what is left of a refused body is read on, so that its sender sees the answer
_MAX_LINE_BYTES: Final = 8190
_MAX_FIELDS: Final = 100
_ANSWER_SECONDS: Final = 60.0  # from when bytes of ours wait for the client, until it has taken all of them
_MAX_CONNECTIONS: Final = 512
_SHUTDOWN_SECONDS: Final = 4.0  # how long a request in flight may take to end; the supervisor waits 5 s in all

_MALFORMED: Final = Refused(400, "malformed_request", "This is not an HTTP request, or its head is too large.")
_log: Final = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def serve(listen_fd: int, routes: Iterable[web.RouteDef], *, realm: str = "gateway") -> AsyncIterator[None]:
    """Answer on `listen_fd` inside the block; requests in flight are answered before it ends."""
    problems, request_ids = Problems(realm), RequestIds()
    application = web.Application(middlewares=[edge(problems, request_ids)], client_max_size=MAX_BODY_BYTES)
    application.add_routes(routes)

    async def finish_each(request: web.Request, response: web.StreamResponse) -> None:
        """Also what aiohttp answers before any middleware: an `Expect` that it does not know."""
        finish(response, request.get(REQUEST_ID) or request_ids.next())

    application.on_response_prepare.append(finish_each)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    loop = asyncio.get_running_loop()

    def connection() -> Connection:
        assert runner.server is not None  # noqa: S101 - `setup` has made it
        return Connection(runner.server, loop, problems, request_ids)

    async with contextlib.AsyncExitStack() as ended:
        ended.push_async_callback(runner.cleanup)
        await runner.setup()
        server = await loop.create_server(connection, sock=socket.socket(fileno=listen_fd))
        ended.callback(server.close)
        yield


class Connection(web.RequestHandler):
    """aiohttp's connection, which says in our words what it cannot read.

    aiohttp's own answer repeats the bytes that it did not like, and so does its log, with a traceback: a key with a
    stray control character in its field would be written there.
    """

    __slots__ = ("_answer_taken_by", "_problems", "_request_ids")

    def __init__(
        self, manager: web.Server, loop: asyncio.AbstractEventLoop, problems: Problems, request_ids: RequestIds
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # as AppRunner takes it: none
            keepalive_timeout=_IDLE_SECONDS,
            lingering_time=_LINGER_SECONDS,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_LINE_BYTES,
            max_headers=_MAX_FIELDS,
            auto_decompress=False,
        )
        self._problems = problems
        self._request_ids = request_ids
        self._answer_taken_by: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """One too many is closed without an answer: whoever fills them up would not read it."""
        super().connection_made(transport)
        assert self.transport is not None  # noqa: S101 - aiohttp has just set it
        # So that `pause_writing` is called for whatever the client does not take at once, however little it is.
        self.transport.set_write_buffer_limits(high=0)
        if self._manager is not None and len(self._manager.connections) > _MAX_CONNECTIONS:
            _log.warning("too many connections", extra={"limit": _MAX_CONNECTIONS})
            self.transport.abort()

    def pause_writing(self) -> None:
        """What was written waits for the client."""
        super().pause_writing()
        assert self.transport is not None  # noqa: S101 - only a transport calls this
        self._answer_taken_by = self._loop.call_later(_ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken everything."""
        self._forget_answer()
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nobody waits any more."""
        self._forget_answer()
        super().connection_lost(exc)

    def _forget_answer(self) -> None:
        if self._answer_taken_by is not None:
            self._answer_taken_by.cancel()
            self._answer_taken_by = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request with 400, and a defect outside of our own middleware with 500."""
        del message
        request_id = self._request_ids.next()
        extra = {"request_id": request_id, "address": request.remote, "exception": type(exc).__qualname__}
        defect = status >= 500 and not isinstance(exc, ConnectionError)  # noqa: PLR2004 - or the client has left
        _log.log(logging.ERROR if defect else logging.DEBUG, "cannot serve", extra=extra)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        response = self._problems.answer(INTERNAL_ERROR if status >= 500 else _MALFORMED, request_id)  # noqa: PLR2004
        finish(response, request_id)
        response.force_close()
        return response
