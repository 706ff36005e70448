"""The clients of `live`: connections spoken by hand, plain and with TLS, whose every byte is the test's to send.

Invariant: nothing is read but by `take`, which never waits; so what a client has is what had arrived at that moment.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from tests.proxy.wire_reader import Message, read_responses

if TYPE_CHECKING:
    import socket

    from tests.wire.live import Live

_BLOCK: Final = 1 << 16


class Client:
    """A connection to the gateway, spoken by hand; `state` says how it stands after `Live.settled`."""

    def __init__(self, gate: Live, connection: socket.socket) -> None:
        self._gate = gate
        self.socket = connection
        self.received = b""
        self.ended = False
        """The gateway closed its half properly."""
        self.was_reset = False
        self.methods: list[bytes] = []
        """Of what was sent, for reading the answers; `ask` fills it in."""

    async def send(self, *pieces: bytes) -> None:
        """Send, each piece in a read of the gateway's own."""
        for piece in pieces:
            with suppress(ConnectionError):  # the gateway has closed: what it said before is to be judged
                self.socket.settimeout(0)
                await self._gate.loop.sock_sendall(self.socket, piece)
            await self._gate.settled(turns=2)

    def is_answered(self) -> bool:
        """Whether anything came that can be read as answers."""
        return bool(self.answers)

    def over(self) -> bool:
        """Whether the gateway has closed its half, or reset the connection."""
        return self.ended or self.was_reset

    def take(self) -> int:
        """Read what is here, and notice an end."""
        taken = 0
        while not (self.ended or self.was_reset) and (data := self._recv()) is not None:
            self.ended = not data
            self.received += data
            taken += len(data)
        return taken

    def _recv(self) -> bytes | None:
        """What is here, b"" for the end; None where there is nothing, or a reset, which is noted."""
        try:
            return self.socket.recv(_BLOCK)
        except BlockingIOError:
            return None
        except ConnectionError:
            self.was_reset = True
            return None

    @property
    def answers(self) -> list[Message]:
        """The responses that came, interim ones too; raises NotHttp for anything that a strict reader refuses."""
        return read_responses(self.received, self.methods, ended=self.ended)

    def close(self) -> None:
        self.socket.close()


class TlsClient(Client):
    """The same with TLS, on buffers in memory: what goes over the wire, and when, is the test's to say."""

    def __init__(self, gate: Live, connection: socket.socket, context: ssl.SSLContext, name: str) -> None:
        super().__init__(gate, connection)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.shaken = False
        self.error: ssl.SSLError | None = None
        """An alert of the gateway's, or our own complaint."""
        self.raw_received = b""
        """The beginning of what came, as it came."""
        self.fin = False
        """The TCP connection has ended; `ended` is close_notify."""

    def step(self) -> bytes:
        """Go on with the handshake as far as it goes without the gateway; returns what is to be sent for it."""
        try:
            self.tls.do_handshake()
            self.shaken = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.error = error
        return self._outgoing.read()

    async def shake_hands(self) -> None:
        while not (self.shaken or self.error or self.was_reset or self.fin):
            await self.send_raw(self.step())
            await self._gate.settled()

    async def send_raw(self, *pieces: bytes) -> None:
        await super().send(*pieces)

    async def send(self, *pieces: bytes) -> None:
        """Send each piece as a record of its own, in a read of the gateway's own."""
        for piece in pieces:
            self.tls.write(piece)
            await super().send(self._outgoing.read())

    async def send_end(self) -> None:
        """Send close_notify, and no FIN."""
        with suppress(ssl.SSLError):
            self.tls.unwrap()
        await super().send(self._outgoing.read())

    def take(self) -> int:
        """See Client; what the handshake needs is left for `step`."""
        taken = self._take_raw()
        while self.shaken and not self.ended and self.error is None:
            try:
                data = self.tls.read(_BLOCK)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError as error:
                self.error = error
                break
            if not data:
                self.ended = True
            self.received += data
        return taken

    def _take_raw(self) -> int:
        taken = 0
        while not (self.fin or self.was_reset) and (data := self._recv()) is not None:
            self.fin = not data
            self.raw_received = (self.raw_received + data)[:4096]
            self._incoming.write(data)
            taken += len(data)
        return taken
