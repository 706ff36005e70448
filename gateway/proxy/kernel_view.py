"""What the kernel knows of a connection and no event tells: bytes in its buffers, and an end behind bytes not read.

Invariant: asked only where an event loop is silent by design (reading is paused, a deadline has come, a connection was
idle), never in each request of a busy connection; each question is one system call. A transport without a socket, and
one that is closed, has nothing to tell.
"""

import asyncio
import fcntl
import select
import socket
import struct
import termios
from collections.abc import Callable
from typing import Final

UNREAD_SECONDS: Final = 1.0
"""How long bytes that the kernel holds for us may take to reach us. Deadlines are looked at before sockets, and a
process that was stopped looks late: whose bytes lie here at its deadline has sent them in time, and is given this,
once in a request."""
OPEN: Final = 0
ENDED: Final = 1
"""The peer sends no more."""
RESET: Final = 2
"""The connection is no more."""
_TCP_CLOSE: Final = 7
_TCP_CLOSE_WAIT: Final = 8
"""tcpi_state, the first byte of Linux's TCP_INFO (tcp(7)), of a connection that was reset, and of an ended one."""


def unread(transport: asyncio.BaseTransport) -> int:
    """Bytes that have arrived and that the event loop has not read yet."""
    return _queued(transport, termios.FIONREAD)


def unacknowledged(transport: asyncio.BaseTransport) -> int:
    """Bytes that were sent and that the peer's side has not taken yet."""
    return _queued(transport, termios.TIOCOUTQ)


def end(transport: asyncio.BaseTransport) -> int:
    """OPEN, ENDED or RESET."""
    raw = transport.get_extra_info("socket")
    if raw is None:
        return OPEN
    state = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return RESET if state == _TCP_CLOSE else ENDED if state == _TCP_CLOSE_WAIT else OPEN


def poller(transport: asyncio.BaseTransport) -> Callable[[int], list[tuple[int, int]]] | None:
    """Something that tells when called with 0 whether bytes or an end have arrived (poll(2)); None without a socket.

    It costs as much as `unread`, and tells of an end too.
    """
    descriptor = _descriptor(transport)
    if descriptor < 0:
        return None
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return poll.poll


def _queued(transport: asyncio.BaseTransport, question: int) -> int:
    descriptor = _descriptor(transport)
    if descriptor < 0:
        return 0
    size: int = struct.unpack("i", fcntl.ioctl(descriptor, question, b"\0\0\0\0"))[0]
    return size


def _descriptor(transport: asyncio.BaseTransport) -> int:
    raw = transport.get_extra_info("socket")
    return -1 if raw is None else int(raw.fileno())
