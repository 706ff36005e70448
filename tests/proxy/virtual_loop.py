"""An event loop without time and without sockets: what the data plane's protocols run on in these tests.

Invariant: nothing happens by itself. Callbacks run in `settle` alone, in the order in which they were scheduled; the
clock moves in `advance` alone. Turned down: a real loop with short timeouts, whose tests are slow where they are right
and wrong where the machine is slow.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from asyncio.events import _set_running_loop  # isort: skip  documented for implementations of event loops

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from contextvars import Context

_T = TypeVar("_T")


class VirtualLoop:
    """Only what the gateway's protocols and asyncio's tasks, futures and timeouts ask of a loop: no base class.

    A method of a loop that is not here is not to be called; calling it fails.
    """

    def __init__(self, dial: Callable[[Callable[[], asyncio.BaseProtocol], str, int], Any]) -> None:
        """`dial` makes the coroutine that answers `create_connection`."""
        self.for_asyncio = cast("asyncio.AbstractEventLoop", self)
        self._dial = dial
        self._now = 1000.0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = itertools.count()
        self._inside = False
        self.failures: list[BaseException] = []
        """What callbacks and forgotten tasks raised."""
        self.tasks: list[asyncio.Task[Any]] = []
        """Every task that was begun."""

    # --- driven by the test -------------------------------------------------------------------------------------------

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be the running loop for a while, as when a transport calls its protocol."""
        if self._inside:
            yield
            return
        self._inside = True
        _set_running_loop(self.for_asyncio)
        try:
            yield
        finally:
            _set_running_loop(None)
            self._inside = False

    def settle(self) -> None:
        """Run what is ready, and what that makes ready, until nothing is."""
        with self.inside():
            for _ in range(100_000):
                while self._timers and self._timers[0][0] <= self._now:
                    self._ready.append(heapq.heappop(self._timers)[2])
                if not self._ready:
                    return
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
        message = "the loop never comes to rest"
        raise AssertionError(message)

    def advance(self, seconds: float) -> None:
        """Let time pass, all at once."""
        self._now += seconds
        self.settle()

    # --- asked for by the code under test -----------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._inside

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:  # noqa: ANN401  asyncio's signature
        handle = asyncio.Handle(callback, args, self.for_asyncio, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,  # noqa: ANN401  asyncio's signature
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self.for_asyncio, context)
        heapq.heappush(self._timers, (when, next(self._count), handle))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,  # noqa: ANN401  asyncio's signature
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self.for_asyncio)

    def create_task(self, coro: Coroutine[Any, Any, _T], **_: Any) -> asyncio.Task[_T]:  # noqa: ANN401
        task = asyncio.Task(coro, loop=self.for_asyncio)
        self.tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None:
            self.failures.append(error)

    async def create_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        **_: Any,  # noqa: ANN401  TLS and such: not for a loop without sockets
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        answer: tuple[asyncio.Transport, asyncio.BaseProtocol] = await self._dial(protocol_factory, host, port)
        return answer
