"""Where a worker accepts: at its own slot, at empty ones while they are empty, and nowhere once it drains.

The slots here have ports of their own, so that a test knows which one a connection waits at. The event loop is the
workers': asyncio's own drops a connection that it has accepted when its listening socket is closed a moment later.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

import pytest
import uvloop
from aiohttp import web

from gateway.proxy.accepting import Accepting

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

BACKLOG = 16


class Greeting(asyncio.Protocol):
    """Says hello, which shows that somebody has accepted."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        cast("asyncio.Transport", transport).write(b"hello")


class Greeter:
    """What a runner wants of its server."""

    def __call__(self) -> Greeting:
        return Greeting()

    def pre_shutdown(self) -> None:
        """See Worker."""

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  aiohttp's signature
        """See Worker."""


class Place:
    """Three slots, and the worker of the first one. The sockets here are the supervisor's copies."""

    def __init__(self, opened: ExitStack) -> None:
        self._opened = opened
        self.slots = [opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)) for _ in range(3)]
        self._addresses = [each.getsockname() for each in self.slots]
        self.accepting = Accepting([each.dup().detach() for each in self.slots], 0, backlog=BACKLOG)
        self.runner = web.ServerRunner(Greeter())  # type: ignore[arg-type]  # see proxy.process

    async def begin(self) -> asyncio.Task[None]:
        await self.runner.setup()
        await self.accepting.begin(self.runner)
        return asyncio.create_task(self.accepting.until_drained(self.runner))

    def connect(self, slot: int) -> socket.socket:
        """A connection; it counts as one for the client as soon as it waits in the queue."""
        return self._opened.enter_context(socket.create_connection(self._addresses[slot]))

    def stands_in_at(self, *slots: int) -> None:
        self.accepting.on_message({"command": "slots", "empty": list(slots)})

    async def end(self) -> None:
        await self.accepting.end(Greeting)
        await self.runner.cleanup()


async def greeted(client: socket.socket) -> None:
    """Wait until somebody accepts."""
    client.settimeout(0)
    assert await asyncio.get_running_loop().sock_recv(client, 5) == b"hello"


def waits(client: socket.socket) -> bool:
    """Whether nobody has accepted until now."""
    client.settimeout(0)
    try:
        client.recv(1)
    except BlockingIOError:
        return True
    return False


def on_uvloop(test: Callable[[Place], Coroutine[None, None, None]]) -> Callable[[], None]:
    """Run a test in a place of its own."""

    async def in_a_place() -> None:
        with ExitStack() as opened:
            await test(Place(opened))

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(in_a_place())

    return run


@on_uvloop
async def test_a_worker_accepts_at_its_own_slot_alone(place: Place) -> None:
    following = await place.begin()
    other = place.connect(1)
    await greeted(place.connect(0))
    assert waits(other)
    following.cancel()
    await place.end()


@on_uvloop
async def test_what_waits_at_a_slot_that_is_empty_is_accepted_until_it_is_served_again(place: Place) -> None:
    """And again at the next crash."""
    following = await place.begin()
    for _ in range(3):
        waiting = [place.connect(1), place.connect(1), place.connect(2)]
        place.stands_in_at(1, 2)
        for each in waiting:
            await greeted(each)
        place.stands_in_at(2)
        await greeted(place.connect(2))
        while len(place.runner.sites) != 2:
            await asyncio.sleep(0)
        returned = place.connect(1)
        await greeted(place.connect(0))
        assert waits(returned)
        returned.close()
        place.slots[1].accept()[0].close()  # the new worker's
    following.cancel()
    await place.end()


@on_uvloop
async def test_a_drain_serves_all_who_wait_at_any_slot_and_ends_the_listening(place: Place) -> None:
    following = await place.begin()
    for each in place.slots:
        each.close()  # as the supervisor does, before it tells its workers
    waiting = [place.connect(slot) for slot in (0, 1, 1, 2, 2, 2)]  # within this turn, nobody accepts
    place.accepting.drain()
    await following
    await place.end()
    for each in waiting:
        await greeted(each)
    for slot in range(3):
        with pytest.raises(ConnectionRefusedError):
            place.connect(slot)


@on_uvloop
async def test_the_end_of_one_worker_leaves_the_sockets_to_the_others(place: Place) -> None:
    following = await place.begin()
    place.stands_in_at(1)
    await greeted(place.connect(1))
    place.accepting.drain()
    await following
    await place.end()
    for slot in range(3):
        assert waits(place.connect(slot))


@on_uvloop
async def test_a_drain_that_was_told_before_the_beginning_counts(place: Place) -> None:
    place.accepting.drain()
    await (await place.begin())
    await place.end()


@on_uvloop
async def test_other_messages_are_for_others(place: Place) -> None:
    following = await place.begin()
    place.accepting.on_message({"command": "something new"})
    await greeted(place.connect(0))
    following.cancel()
    await place.end()
