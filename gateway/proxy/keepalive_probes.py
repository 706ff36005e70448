"""Makes the kernel ask the peer of a silent connection whether it is there: for tunnels, which have no other clock.

Invariant: a peer that vanished without a FIN, or whose machine has forgotten the connection, is noticed after two
minutes of silence; one that is there and says nothing costs it one packet a minute. Turned down: a limit on how long a
tunnel may be silent, since one that waits for an event is in order; pings of our own, since bytes pass unread.
"""

import asyncio
import socket
from typing import Final

_IDLE_SECONDS: Final = 60
_INTERVAL_SECONDS: Final = 15
_UNANSWERED: Final = 4
"""So many probes in a row, and the connection is given up (tcp(7))."""


def probe_when_silent(transport: asyncio.Transport) -> None:
    """Ask from now on; the end of the connection is then an event like any."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _UNANSWERED)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
