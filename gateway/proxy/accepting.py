"""Where a worker accepts connections: at its own slot, at slots that are empty, and nowhere once it drains.

Every worker inherits the listening sockets of all slots, and a socket listens until the last process has closed it.
Two things follow. A worker can stand in for a slot whose own worker has crashed: the supervisor says which slots are
empty whenever that changes. And all of them have to close all of the sockets at the beginning of a drain, or the port
would stay taken, and new connections would be queued for nobody, until the last answer is given.

Invariant: whoever closes a socket first accepts what waits there, so what waits when the last one closes it is served.
Only a connection that comes between these two system calls is reset. But who hands its slot over to another worker (a
reload) takes nothing: what waits is the other's, who accepts there already. Turned down: a filter in the kernel that
drops what comes in between (SO_ATTACH_FILTER), which loses the connections whose handshake is half done just as well.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Sequence

from aiohttp import web

from gateway.lifecycle import Message

_LOG = logging.getLogger(__name__)


class Accepting:
    """Used in this order: `begin`, `until_drained`, `end`; told from outside by `on_message` and `drain`."""

    def __init__(self, listen_fds: Sequence[int], slot: int, *, backlog: int) -> None:
        """`listen_fds` are the sockets of all slots, by number; `slot` is the worker's own."""
        self._listening = [socket.socket(fileno=fd) for fd in listen_fds]
        for each in self._listening:
            each.settimeout(0)
        self._own = slot
        self._backlog = backlog
        self._wanted = {slot}
        self._sites: dict[int, web.SockSite] = {}
        self._draining = False
        self.hands_over = False
        """Another worker has the slot, and was ready before this one was told to drain."""
        self._told = asyncio.Event()

    def on_message(self, message: Message) -> None:
        """{"command": "slots", "empty": [1]}: stand in at these slots, and at no others any more.

        {"command": "handover"}: the drain that follows leaves what waits to others.
        """
        if message["command"] == "slots":
            self._wanted = {self._own, *message["empty"]}
            self._told.set()
        elif message["command"] == "handover":
            self.hands_over = True

    def drain(self) -> None:
        """Let `until_drained` return."""
        self._draining = True
        self._told.set()

    async def begin(self, runner: web.BaseRunner) -> None:
        """Accept at the own slot from now on, for the runner's server."""
        await self._adjust(runner)

    async def until_drained(self, runner: web.BaseRunner) -> None:
        """Follow what the supervisor says of empty slots, until the drain."""
        while not self._draining:
            self._told.clear()
            try:
                await self._adjust(runner)
            except OSError as error:  # out of descriptors: what waits there goes on waiting
                _LOG.warning("cannot stand in for an empty slot: %s", error)
            await self._told.wait()

    async def end(self, protocols: Callable[[], asyncio.Protocol]) -> None:
        """Give whoever waits at any socket a protocol, unless that is another's to do, and close all of them."""
        for site in self._sites.values():
            await site.stop()
        waiting: list[socket.socket] = []
        for each in self._listening:
            if not self.hands_over:
                waiting += self._take(each)
            each.close()
        loop = asyncio.get_running_loop()
        connecting = [loop.connect_accepted_socket(protocols, connection) for connection in waiting]
        await asyncio.gather(*connecting, return_exceptions=True)  # one that has been reset meanwhile is nobody's loss

    async def _adjust(self, runner: web.BaseRunner) -> None:
        wanted = self._wanted
        for slot in wanted - self._sites.keys():
            # A copy, since stopping the site closes what it was given, and the slot may be empty again.
            site = web.SockSite(runner, self._listening[slot].dup(), backlog=self._backlog)
            await site.start()
            self._sites[slot] = site
        for slot in self._sites.keys() - wanted:
            await self._sites.pop(slot).stop()

    def _take(self, listening: socket.socket) -> Iterator[socket.socket]:
        """What waits now; no more than can wait at a time, however fast more comes."""
        for _ in range(self._backlog + 1):
            try:
                connection, _ = listening.accept()
            except ConnectionError:
                continue  # it was reset while it waited
            except OSError:
                return  # none is left (BlockingIOError), or no descriptor for it
            yield connection
