"""The API behind the nodes, as a process of its own: fast, and it notes what came with the key under test.

    python load_upstream.py     then JSON objects, a line each: {"command": "barrier"} or {"command": "stop"}

A request is `GET /l/TOKEN` (load) or `GET /w/TOKEN` (the key under test), its token 16 characters; the answer's body is
the token and the id of the key that the gateway named, so that a client sees whether it got its own answer and counted
as itself. For `/w/` the time of arrival is kept as well, on CLOCK_MONOTONIC, which all processes of a machine share.

Invariant: the answer to a barrier comes after everything that had reached this process before the barrier did was
noted. The loop takes up what is readable in the order in which it became so; two turns later all of it is written down.
Times alone were turned down as the judge: on a busy machine this process may look at bytes long after they came.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import Any, Final, cast

import uvloop

_TOKEN_BYTES: Final = 16
_FIELD: Final = b"\r\nX-Credential-Identifier: "
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b%b"


class Arrivals:
    """What came with the key under test, since it was last asked: time, token, key's id."""

    def __init__(self) -> None:
        self.noted: list[tuple[float, str, str]] = []
        self.requests = 0

    def taken(self) -> list[tuple[float, str, str]]:
        noted, self.noted = self.noted, []
        return noted


class Connection(asyncio.Protocol):
    """From the gateway, which has one request at a time on each; none has a body."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # of uvloop, which does not say so

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        if not data.endswith(b"\r\n\r\n"):
            self._received = data
            return
        self._received = b""
        token = data[7 : 7 + _TOKEN_BYTES]
        start = data.find(_FIELD)
        key = b"" if start < 0 else data[start + len(_FIELD) : data.index(b"\r\n", start + len(_FIELD))]
        self._arrivals.requests += 1
        if data.startswith(b"GET /w"):
            self._arrivals.noted.append((time.monotonic(), token.decode(), key.decode()))
        assert self._transport is not None
        self._transport.write(_ANSWER % (len(token) + len(key), token, key))


async def serve() -> None:
    """Until told to stop, or until the parent is gone."""
    arrivals = Arrivals()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(arrivals), "127.0.0.1", 0, backlog=1024)
    tell({"port": server.sockets[0].getsockname()[1]})
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        if json.loads(line)["command"] == "stop":
            break
        for _ in range(2):
            await asyncio.sleep(0)
        tell({"at": time.monotonic(), "requests": arrivals.requests, "arrivals": arrivals.taken()})
    server.close()


def tell(message: dict[str, Any]) -> None:
    """To the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve())
