"""An upstream for crowds of connections, on one event loop: it sends, takes or holds back as the path says.

GET /<count>        `count` zero bytes, as fast as they are taken
POST /take          reads the body, then answers with its length
POST /hold          reads nothing for 3 seconds, then as above
POST /stall         reads nothing, ever
GET /tiny           chunks of one byte, without end, as fast as they are taken
GET /ws             agrees to a WebSocket, reads nothing of it and sends without end

python -m benchmarks.crowd_upstream PORT
"""

import asyncio
import resource
import sys
from typing import cast

import uvloop

BLOCK = bytes(65_536)
TINY_CHUNKS = b"1\r\nx\r\n" * 10_000
HELD_SECONDS = 3.0
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class CrowdUpstream(asyncio.Protocol):
    """One connection; lenient, since what comes is the gateway's."""

    def __init__(self) -> None:
        self._head = b""
        self._expected = -1
        self._received = 0
        self._left = 0.0
        self._block = BLOCK
        self._writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take part of a head or of a body."""
        if self._expected < 0:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            self._begin(head)
        self._received += len(data)
        if self._received == self._expected:
            told = str(self._received).encode()
            self._expected, self._received = -1, 0
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told) + told)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writable = False

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writable = True
        self._send()

    def _begin(self, head: bytes) -> None:
        method, path, _ = head.split(b" ", 2)
        if path == b"/stall":
            self._transport.pause_reading()
            return
        if method == b"POST":
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            self._expected = int(length.partition(b":")[2])
            if path == b"/hold":
                self._transport.pause_reading()
                asyncio.get_running_loop().call_later(HELD_SECONDS, self._transport.resume_reading)
            return
        if path == b"/ws":
            self._transport.pause_reading()
            self._left = float("inf")
            self._transport.write(SWITCHING)
        elif path == b"/tiny":
            self._left, self._block = float("inf"), TINY_CHUNKS
            self._transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        else:
            self._left = int(path[1:] or 0)
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self._left)
        self._send()

    def _send(self) -> None:
        while self._left > 0 and self._writable:
            block = self._block[: int(min(self._left, len(self._block)))]
            self._left -= len(block)
            self._transport.write(block)


async def main() -> None:
    """Serve until killed."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = await asyncio.get_running_loop().create_server(CrowdUpstream, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
