"""The API behind the gateways whose records are judged, as a process of its own.

    python audit_upstream.py    prints {"port": …}, and serves until its standard input is closed

The first part of the path says what comes back; 16 characters behind it are the token, by which the client recognises
its own answer:

    /l/TOKEN    the token, with a length
    /c/TOKEN    the token, in three chunks
    /e/TOKEN    the token, without a length, ended by the end of the connection
    /n/TOKEN    404, and the token
    /p/TOKEN    the token, when the body of the request has come whole
    /s/TOKEN    a stream: pieces of 16 bytes, as many and as far apart as `X-Pieces: COUNT MILLISECONDS` says
    /w/TOKEN    a tunnel, when asked to switch protocols; every byte comes back
    /h/TOKEN    a head and the first piece of a stream that never ends

Invariant: it answers in order, keeps all other connections open, and holds nothing against a client that leaves.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import sys
from typing import Final, cast

import uvloop

PIECE_BYTES: Final = 16
_TOKEN_BYTES: Final = 16
_HEAD_END: Final = b"\r\n\r\n"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FIXED: Final = b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
_UNTIL_CLOSED: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
_CHUNKED: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_SWITCHED: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)


class Connection(asyncio.Protocol):
    """From the gateway, which has one request at a time on each."""

    def __init__(self, streams: set[asyncio.Task[None]]) -> None:
        self._streams = streams
        self._buffer = b""
        self._tunnel = False
        self._transport: asyncio.Transport | None = None
        self._stream: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # of uvloop, which does not say so

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._stream is not None:
            self._stream.cancel()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._tunnel:
            self._transport.write(data)
            return
        self._buffer += data
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return
        head = self._buffer[:end]
        length = int(_field(head, b"content-length") or 0)
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer = self._buffer[end + 4 + length :]
        self._answer(head)

    def _answer(self, head: bytes) -> None:
        assert self._transport is not None
        method, path, _ = head.split(b"\r\n", 1)[0].split(b" ")
        kind, token = path[1:2], path[3 : 3 + _TOKEN_BYTES]
        body = b"" if method == b"HEAD" else token
        if kind == b"c":
            pieces = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (token[:4], token[4:9], token[9:]))
            self._transport.write(_CHUNKED + pieces + b"0\r\n\r\n")
        elif kind == b"e":
            self._transport.write(_UNTIL_CLOSED + token)
            self._transport.close()
        elif kind in {b"s", b"h"}:
            self._stream = asyncio.create_task(self._pieces(head, endless=kind == b"h"))
            self._streams.add(self._stream)
            self._stream.add_done_callback(self._streams.discard)
        elif kind == b"w":
            self._tunnel = True
            key = _field(head, b"sec-websocket-key")
            accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
            self._transport.write(_SWITCHED % accept)
        else:
            status = b"404 Not Found" if kind == b"n" else b"200 OK"
            self._transport.write(_FIXED % (status, len(token)) + body)

    async def _pieces(self, head: bytes, *, endless: bool) -> None:
        assert self._transport is not None
        count, milliseconds = map(int, (_field(head, b"x-pieces") or b"1 0").split(b" "))
        self._transport.write(_CHUNKED)
        for number in range(count):
            self._transport.write(b"%x\r\n%b\r\n" % (PIECE_BYTES, b"%0*d" % (PIECE_BYTES, number)))
            await asyncio.sleep(milliseconds / 1000)
        if endless:
            await asyncio.Event().wait()
        self._transport.write(b"0\r\n\r\n")


def _field(head: bytes, name: bytes) -> bytes:
    """The value of the first field of that name; empty where there is none."""
    start = head.lower().find(b"\r\n%b:" % name)
    if start < 0:
        return b""
    return head[start + 3 + len(name) :].split(b"\r\n", 1)[0].strip()


async def serve() -> None:
    """Until the parent closes the way to here, or is gone."""
    loop = asyncio.get_running_loop()
    streams: set[asyncio.Task[None]] = set()
    server = await loop.create_server(lambda: Connection(streams), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(json.dumps({"port": server.sockets[0].getsockname()[1]}) + "\n")
    sys.stdout.flush()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    await commands.read()
    server.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve())
