"""TLS over one TCP connection: the protocol of its transport, and the transport of the protocol above it.

Invariants: nothing reaches the protocol above before the handshake is over; an end without close_notify reaches it as
an error, never as an end, since anybody on the way can send a FIN (RFC 8446 section 6.1). Halves close apart: after
`write_eof` what the peer sends is still read. What is decrypted is handed on at once and what is written is encrypted
at once, 16 KiB at a time, so a connection holds no plain text, and no more than TCP's own buffers otherwise would.

Turned down: the event loop's own TLS (`ssl=`). It can close no half, so that a refused upload lost its answer in a
reset; it throws away what it has not handed on when the peer closes while reading is paused, so that a slow reader lost
the end of a response; it takes a bare FIN for a proper end; and it keeps a buffer of 256 KiB for each connection.
"""

import asyncio
import contextlib
import ssl
from typing import Final, cast

from gateway.proxy.small_reads import LARGE_READ_BYTES, TUNNEL_READ_BYTES, SmallReads

_SLICE_BYTES: Final = 16_384
"""The most that a record holds (RFC 8446 section 5.1)."""

# The states of one connection.
HANDSHAKE: Final = 0
OPEN: Final = 1
OVER: Final = 2
"""Nothing is read or written any more; what was written may still be on its way."""


class TlsConnection(asyncio.Protocol):
    """See the module. For the protocol above it is an `asyncio.Transport`, but for inheriting from it."""

    __slots__ = (
        "_answered",
        "_backlog",
        "_error",
        "_incoming",
        "_keeps_half",
        "_outgoing",
        "_paused",
        "_protocol",
        "_received_end",
        "_sent_end",
        "_tls",
        "raw",
        "state",
    )

    raw: asyncio.Transport

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_name: str | None) -> None:
        self.state = HANDSHAKE
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name
        )
        self._protocol: asyncio.Protocol | None = None
        self._backlog = b""
        """Received and not decrypted, since the protocol above reads no more for now."""
        self._paused = False
        self._sent_end = False
        self._received_end = False
        self._answered = 0
        """Bytes of TLS's own that were sent while the peer read nothing."""
        self._keeps_half = False
        """The protocol above goes on writing after the peer's end."""
        self._error: Exception | None = None

    # --- what the two sides do in their own ways --------------------------------------------------------------------

    def opened(self) -> asyncio.Protocol:
        """The handshake is over: make the protocol above."""
        raise NotImplementedError

    def failed(self, error: Exception) -> None:
        """The handshake has failed, or the connection has ended before it was over."""
        raise NotImplementedError

    def broken(self, error: ssl.SSLError) -> None:
        """What came after the handshake is no TLS, or an alert: the connection is being closed."""

    def cut(self, protocol: asyncio.Protocol, error: Exception) -> None:
        """The peer has ended the connection without close_notify; it is closed after that."""
        raise NotImplementedError

    # --- events of the transport below ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # uvloop's transports are not registered as subclasses of asyncio.Transport, so nothing can be asserted here.
        self.raw = cast("asyncio.Transport", transport)
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        """Decrypt, unless the protocol above wants nothing now."""
        if len(data) > LARGE_READ_BYTES:
            self.raw.set_protocol(SmallReads(self, LARGE_READ_BYTES))
        if self._backlog or self._paused:
            self._backlog += data
        else:
            self._read(data)

    def eof_received(self) -> bool:
        """A FIN. Behind close_notify it says nothing new; without it, nobody knows whether all has come."""
        if self._received_end:
            return self._keeps_half and self.state == OPEN
        if self.state == OPEN and self._protocol is not None:
            self._error = ConnectionResetError("the connection ended without close_notify")
            self.cut(self._protocol, self._error)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for it."""
        state = self.state
        self.lose(self._error or exc)
        if state == HANDSHAKE:
            self.failed(exc or ConnectionResetError("the connection ended within the handshake"))

    def lose(self, error: Exception | None) -> None:
        """Tell the protocol above, once, that it is over."""
        self.state = OVER
        self._backlog = b""
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(error)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._protocol is not None:
            self._protocol.resume_writing()

    # --- reading ----------------------------------------------------------------------------------------------------

    def _read(self, data: bytes) -> None:
        """Decrypt slice by slice, so that OpenSSL's buffers stay small, and keep what nobody wants for now."""
        size, offset = len(data), 0
        while offset < size and self.state != OVER and not self._received_end:
            if self._paused:
                self._backlog = data[offset:]
                return
            self._incoming.write(data if size <= _SLICE_BYTES else data[offset : offset + _SLICE_BYTES])
            offset += _SLICE_BYTES
            if self.state == HANDSHAKE:
                self._shake_hands()
            else:
                self._deliver()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:  # CertificateError is one, too
            self.state = OVER
            self._flush()  # an alert says why
            self.failed(error)
            return
        self._flush()
        self.state = OPEN
        self._protocol = protocol = self.opened()
        protocol.connection_made(cast("asyncio.Transport", self))
        self._deliver()

    def _deliver(self) -> None:
        """Hand on what can be decrypted, record by record."""
        while self._incoming.pending and not self._paused and self.state == OPEN:
            try:
                data = self._tls.read(_SLICE_BYTES)
            except ssl.SSLWantReadError:
                break  # a part of a record
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError as error:
                self._break(error)
                break
            protocol = self._protocol
            if protocol is None:
                break
            if not data:
                self._end(protocol)
                break
            protocol.data_received(data)
        if self._outgoing.pending and self.state == OPEN:
            self._answer()

    def _answer(self) -> None:
        """OpenSSL answers requests for new keys (RFC 8446 section 4.6.3), without end to a peer that reads nothing."""
        self._answered += self._outgoing.pending
        self._flush()
        if not self.raw.get_write_buffer_size():
            self._answered = 0
        elif self._answered > _SLICE_BYTES:
            self.abort()

    def _end(self, protocol: asyncio.Protocol) -> None:
        """The peer writes no more."""
        self._received_end = True
        self._keeps_half = bool(protocol.eof_received())
        if not self._keeps_half:
            self.close()

    def _break(self, error: ssl.SSLError) -> None:
        self._error = error
        self._flush()  # an alert says why
        self.state = OVER
        self.broken(error)
        self.raw.close()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.raw.write(self._outgoing.read())

    def _read_on(self) -> None:
        """What has waited while reading was paused, and then what comes."""
        if self._paused or self.state != OPEN:
            return
        try:
            self._deliver()
            data, self._backlog = self._backlog, b""
            if data:
                self._read(data)
        except BaseException:
            self.abort()  # as the event loop does where a protocol fails on what it read
            raise
        if self.is_reading() and not self.raw.is_closing():
            self.raw.resume_reading()

    # --- the transport of the protocol above --------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        if self.state != OPEN or self._sent_end or not data:
            return
        if len(data) <= _SLICE_BYTES:
            self._tls.write(data)
            self.raw.write(self._outgoing.read())
            return
        view = memoryview(data)
        records = []
        for offset in range(0, len(data), _SLICE_BYTES):
            self._tls.write(view[offset : offset + _SLICE_BYTES])
            records.append(self._outgoing.read())
        self.raw.writelines(records)

    def writelines(self, pieces: list[bytes]) -> None:
        """Together, since each record costs some bytes and some time."""
        self.write(b"".join(pieces))

    def can_write_eof(self) -> bool:
        """Halves close apart."""
        return True

    def write_eof(self) -> None:
        """Say that nothing more will be written, and read on."""
        if self.state == OPEN and not self._sent_end:
            self._send_end()
            self.raw.write_eof()

    def _send_end(self) -> None:
        self._sent_end = True
        # What has come and is not read yet has to be out of the way: here, OpenSSL takes it for a fault.
        unread = self._incoming.read()
        with contextlib.suppress(ssl.SSLError):  # it waits for the peer's own end, which comes when it comes
            self._tls.unwrap()
        self._incoming.write(unread)
        self._flush()

    def close(self) -> None:
        """Close when what was written is out."""
        if self.state == OPEN and not self._sent_end:
            self._send_end()
        self.state = OVER
        self.raw.close()

    def abort(self) -> None:
        """Close at once."""
        self.state = OVER
        self.raw.abort()

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport."""
        return self.raw.is_closing()

    def is_reading(self) -> bool:
        """See asyncio.ReadTransport."""
        return not self._paused and self.state == OPEN

    def pause_reading(self) -> None:
        """See asyncio.ReadTransport; what has been received waits undecrypted."""
        if not self._paused and self.state == OPEN:
            self._paused = True
            self.raw.pause_reading()

    def holds_some(self) -> bool:
        """Whether something came that was not handed on."""
        return bool(self._backlog) or self._incoming.pending > 0

    def resume_reading(self) -> None:
        """See asyncio.ReadTransport; the protocol above hears of what has waited in a turn of its own."""
        if self._paused and self.state == OPEN:
            self._paused = False
            asyncio.get_running_loop().call_soon(self._read_on)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:  # noqa: ARG002  asyncio.BaseTransport's signature
        """Read in small pieces from now on: what bounds reads belongs below this layer, and nothing else is set."""
        self.raw.set_protocol(SmallReads(self, TUNNEL_READ_BYTES))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio.WriteTransport; counted is what has been encrypted."""
        self.raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """See asyncio.WriteTransport."""
        return self.raw.get_write_buffer_size()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """See asyncio.BaseTransport; `ssl_object` is that of this connection, all else the socket's."""
        return self._tls if name == "ssl_object" else self.raw.get_extra_info(name, default)
