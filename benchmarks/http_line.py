"""One raw HTTP/1.1 connection that costs as little as Python allows, for timing single requests.

Invariant: the answer is known beforehand (75 bytes, one status), so an exchange is one `sendall` and reads until the
last byte has come. `http.client` was turned down: its parsing takes several times what a look-up takes.
"""

import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from benchmarks.upstream import ANSWER

END_OF_ANSWER = ANSWER.encode()[-8:]
STATUS_OK = b"HTTP/1.1 200"


class UnexpectedAnswer(Exception):
    """The gateway answered something else than the upstream's 75 bytes; the text begins with what it said."""


def request_for(secret: str) -> bytes:
    """Return a whole GET request with a key."""
    return f"GET /json HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: {secret}\r\n\r\n".encode()


class HttpLine:
    """A kept-alive connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        """Use the connection, and close it at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def ask(self, request: bytes) -> None:
        """Send one request and read its answer to the end."""
        self._socket.sendall(request)
        received = b""
        while not received.endswith(END_OF_ANSWER):
            received += self._read(received)
        if not received.startswith(STATUS_OK):
            raise UnexpectedAnswer(repr(received[:200]))

    def ask_all(self, requests: Sequence[bytes]) -> None:
        """Send requests in one go and read until each was answered with 200. For filling caches, not for timing."""
        self._socket.sendall(b"".join(requests))
        received = b""
        while received.count(STATUS_OK) < len(requests) or not received.endswith(END_OF_ANSWER):
            received += self._read(received)

    def _read(self, so_far: bytes) -> bytes:
        chunk = self._socket.recv(262_144)
        if not chunk or so_far[:12] not in {b"", STATUS_OK}:
            raise UnexpectedAnswer(repr(so_far[:200]) if so_far else "the connection was closed")
        return chunk
