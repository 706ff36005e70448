"""A transport whose other end is the test: it keeps every byte that went out, and behaves as asyncio's and uvloop's do.

Invariants kept, as their documentation and source have them: `pause_writing` is called from within the write that
fills the buffer; nothing is received while reading is paused or after `close`; `close` sends what is buffered first;
`connection_lost` comes once, from the loop, never from within `close` or `abort`; writing after `write_eof`, or after
`connection_lost`, raises.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.proxy.virtual_loop import VirtualLoop


_ESTABLISHED, _CLOSE = 1, 7  # states of a TCP connection, as TCP_INFO tells them


class FakeSocket:
    """Notes that the next close is to be a reset, and tells of one by the peer; keeps what else is set."""

    def __init__(self) -> None:
        self.resets = False
        self.reset_by_peer = False
        self.descriptor = -1
        self.options: dict[tuple[int, int], object] = {}

    def fileno(self) -> int:
        """There is no kernel behind it that could hold bytes, unless a test lends it a socket."""
        return self.descriptor

    def getsockopt(self, *_: object) -> bytes:
        return bytes([_CLOSE if self.reset_by_peer else _ESTABLISHED])

    def setsockopt(self, level: int, option: int, value: object) -> None:
        self.options[level, option] = value
        self.resets |= (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)


class FakeTransport(asyncio.Transport):
    """See the module. `sent`: on the wire; `unsent`: written, while the peer does not read."""

    def __init__(self, loop: VirtualLoop, protocol: asyncio.Protocol, peer: tuple[str, int]) -> None:
        super().__init__()
        self._loop = loop
        self._protocol: asyncio.Protocol | asyncio.BufferedProtocol = protocol
        self._peer = peer
        self.socket = FakeSocket()
        self.sent = bytearray()
        self.unsent = bytearray()
        self.late = bytearray()
        """Written after `close`: on a real transport it goes out or not, as it happens."""
        self.most_unsent = 0
        self.peer_reads = True
        self.eof_sent = False
        self.closing = False
        self.aborted = False
        self.lost = False
        self.reading = True
        self._high = 65_536
        self._protocol_paused = False
        self._peer_ended = False
        self._end_was_read = False
        self._incoming: deque[bytes | None] = deque()

    @property
    def reads_at_once(self) -> int | None:
        """The most bytes that one read takes; None: as many as the loop likes."""
        if not isinstance(self._protocol, asyncio.BufferedProtocol):
            return None
        return len(memoryview(self._protocol.get_buffer(-1)))

    # --- the gateway's side -------------------------------------------------------------------------------------------

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 65_536 if high is None else high
        assert low is None

    def get_write_buffer_size(self) -> int:
        return len(self.unsent)

    def get_extra_info(self, name: str, default: object = None) -> Any:  # noqa: ANN401  asyncio's signature
        return {"peername": self._peer, "socket": self.socket}.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol)
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return self.reading

    def write(self, data: Any) -> None:  # noqa: ANN401  asyncio's signature
        self._check_open()
        if self.closing:
            self.late += data
            return
        self.unsent += data
        self._flush()
        if len(self.unsent) > self._high and not self._protocol_paused:
            self._protocol_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self.lost:
            message = "the handler is closed"
            raise RuntimeError(message)
        self.eof_sent = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        if not self.reading:
            self.reading = True
            self._loop.call_soon(self._deliver)

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.reading = False
            if not self.unsent:
                self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self._force_close(None)

    # --- the test's side ----------------------------------------------------------------------------------------------

    def peer_sends(self, data: bytes) -> None:
        """Bytes arrive; they wait where nobody reads."""
        if not self.closing and not self._peer_ended:
            self._incoming.append(data)
            self._deliver()

    def peer_ends(self) -> None:
        """The peer sends no more."""
        if not self.closing and not self._peer_ended:
            self._peer_ended = True
            self._incoming.append(None)
            self._deliver()

    def peer_resets(self) -> None:
        """The peer is gone, as by a reset; no event tells of it while nothing is read and nothing written.

        After the peer's end nothing is read any more: asyncio and uvloop stop listening then.
        """
        self.socket.reset_by_peer = True
        if (self.reading and not self._end_was_read) or self.unsent or self.closing:
            self._reset()

    def peer_takes(self, size: int | None = None) -> None:
        """The peer reads that much, or everything from now on."""
        if size is None:
            self.peer_reads = True
            self._flush()
        else:
            self._send(min(size, len(self.unsent)))

    # --- between them -------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.lost:
            message = "unable to perform operation; the handler is closed"
            raise RuntimeError(message)
        if self.eof_sent:
            message = "Cannot call write() after write_eof()"
            raise RuntimeError(message)

    def _flush(self) -> None:
        if self.socket.reset_by_peer:
            self._reset()
        elif self.peer_reads:
            self._send(len(self.unsent))
        self.most_unsent = max(self.most_unsent, len(self.unsent))

    def _send(self, size: int) -> None:
        self.sent += self.unsent[:size]
        del self.unsent[:size]
        if self._protocol_paused and len(self.unsent) <= self._high // 4:
            self._protocol_paused = False
            self._protocol.resume_writing()
        if self.closing and not self.unsent and not self.lost:
            self._loop.call_soon(self._lose, None)

    def _reset(self) -> None:
        self._force_close(ConnectionResetError("reset by the test"))

    def _deliver(self) -> None:
        while self._incoming and self.reading and not self.closing:
            item = self._incoming.popleft()
            if item is not None:
                self._hand_over(item)
            else:
                self._end_was_read = True
                if not self._protocol.eof_received():
                    self.close()
        if self.socket.reset_by_peer and self.reading and not self._end_was_read:
            self._reset()

    def _hand_over(self, data: bytes) -> None:
        if not isinstance(self._protocol, asyncio.BufferedProtocol):
            self._protocol.data_received(data)
            return
        room = memoryview(self._protocol.get_buffer(-1))
        room[: len(data[: len(room)])] = data[: len(room)]
        if data[len(room) :]:
            self._incoming.appendleft(data[len(room) :])
        self._protocol.buffer_updated(len(data[: len(room)]))

    def _force_close(self, error: Exception | None) -> None:
        if not self.lost:
            self.closing = self.aborted = True
            self.reading = False
            self.unsent.clear()
            self._loop.call_soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = self.closing = True
            self._protocol.connection_lost(error)
