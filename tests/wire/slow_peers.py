"""Clients that take their time, for tests of slowness: nothing reads for them, and waiting has no limit of its own."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.wire.live import Live, UpstreamPeer

_RESET: Final = struct.pack("ii", 1, 0)
SLICE: Final = 0.02
"""Seconds between looks."""


class SlowClient:
    """A connection with a small receive buffer, read from only when told to."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.received = b""
        self.over = False
        """It has ended, by a reset or properly."""
        self.was_reset = False

    async def send(self, data: bytes) -> None:
        """Send all of it; an end of the connection is for the test to notice."""
        with suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    def send_what_goes(self, data: bytes) -> int:
        """Send as much as is taken now."""
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0

    def read(self, most: int = 1 << 20) -> int:
        """Read what is here."""
        if self.over:
            return 0
        try:
            data = self.socket.recv(most)
        except BlockingIOError:
            return 0
        except ConnectionError:
            self.over = self.was_reset = True
            return 0
        self.over = not data
        self.received += data
        return len(data)

    async def read_to_end(self) -> bytes:
        while not self.over:
            if not self.read():
                await asyncio.sleep(SLICE)
        return self.received

    def leave(self, manner: str) -> None:
        """`close`, `reset`, or `half`: send no more."""
        if manner == "half":
            self.socket.shutdown(socket.SHUT_WR)
            return
        if manner == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.socket.close()


@asynccontextmanager
async def slow_client(gate: Live, first: bytes = b"", *, room: int = 16_384) -> AsyncIterator[SlowClient]:
    """Connect, and send this."""
    connection = socket.socket()
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(0)
        await asyncio.get_running_loop().sock_connect(connection, gate.address)
        client = SlowClient(connection)
        if first:
            await client.send(first)
        yield client
    finally:
        connection.close()


async def upstream_peer(gate: Live) -> UpstreamPeer:
    """The connection that the gateway opens for a request, once it has sent something."""
    await gate.until(lambda: any(each.received for each in gate.upstream.connections))
    return gate.upstream.connections[-1]


async def all_over(gate: Live) -> None:
    """Nothing is done for anybody any more, and nobody is connected."""
    await gate.until(lambda: not gate.worker.in_flight and not gate.worker.streaming and not gate.worker.connections)
