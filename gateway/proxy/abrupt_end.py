"""Ends a connection so that its peer sees it was cut off.

Invariant: a reset reaches the peer at once, however much it has not read, and no reader takes it for the proper end of
a body, as it might a FIN.
"""

import asyncio
import socket
import struct
from typing import Final

_NO_LINGER: Final = struct.pack("ii", 1, 0)
"""struct linger: on, for no time; closing then sends a reset (socket(7))."""


def reset_on_close(transport: asyncio.Transport) -> None:
    """Make the next close of `transport` a reset."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
