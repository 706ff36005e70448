"""Makes an event loop read a connection in smaller pieces than uvloop's 250 KiB: for large bodies and for tunnels.

Invariant: the protocol behind it sees the same bytes and the same events. What was read at once stays in memory whole
while a slow peer takes the last of it, so this bounds what a stalled connection holds. Turned down: reading every
connection in this way, which would cost each request the two further calls; a first large read tells who needs it, or
a first body that did not come with its head.
"""

import asyncio
from typing import Final

WRITE_BUFFER_BYTES: Final = 4096
"""From here on a peer is slow. Little: behind it is as much as was read at once, held whole until all of it is out."""
LARGE_READ_BYTES: Final = 131_072
"""Who sends more than this at once sends a large body."""
TUNNEL_READ_BYTES: Final = 32_768
"""Less: a tunnel may stall both ways."""
FINE_READ_BYTES: Final = 512
"""Where bytes cost much: a body in chunks of a few bytes each. libuv reads a connection that has more up to 32 times
before it looks at another one (`uv__read`), so this is 16 KiB in a turn of the loop."""
_ROOM: Final = memoryview(bytearray(LARGE_READ_BYTES))
"""Shared: it is filled and emptied in one go, on one thread."""


class SmallReads(asyncio.BufferedProtocol):
    """Stands between a transport and its protocol."""

    __slots__ = ("_protocol", "_room")

    def __init__(self, protocol: asyncio.Protocol, most: int) -> None:
        self._protocol = protocol
        self._room = _ROOM[:most]

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio.BufferedProtocol
        """See asyncio.BufferedProtocol."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        self._protocol.data_received(_ROOM[:nbytes].tobytes())

    def eof_received(self) -> bool | None:
        """See asyncio.BufferedProtocol."""
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BaseProtocol."""
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        self._protocol.resume_writing()
