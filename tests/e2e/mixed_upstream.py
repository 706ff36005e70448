"""The API behind the gateway of the mixed load, as a process of its own; it fails exactly where a request asks it to.

    python mixed_upstream.py PORT SEEN WRONG    prints {"port": …}; PORT 0 takes any

The path names the kind and the token: `/m/KIND/TOKEN?t=TOKEN`; the kinds are in `mixed_words`. Every answer says in
fields whose it is: the token, the key and its owner as the gateway told them. On its standard input it takes
{"sabotage": "swap" | "byte" | "twice" | ""}: from then on some answers are those of the request before, lack a byte, or
some requests with a body count twice; that is how the clients are shown to notice.

Invariant: SEEN, a byte for each number, is mapped into memory and counts how often each request came, so that a kill of
this process forgets none. WRONG gets a line for each request that is not what its client sent: another token in path,
query, field or body, a credential, two identities, bytes behind a request that nobody answered yet.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import mmap
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import uvloop

from tests.e2e.mixed_words import (
    PREFIX,
    SUMMED,
    TOKEN_BYTES,
    answer_body,
    event,
    events_of,
    summary,
    token_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_HEAD_END: Final = b"\r\n\r\n"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_EVENT_SECONDS: Final = 0.05
_STALL_SECONDS: Final = 60.0  # the routes of these give up after one
_SABOTAGED: Final = 5
_MAX_SEEN: Final = 255
_SECRETS: Final = (b"x-api-key", b"authorization")


class WrongRequest(Exception):
    """It is not what its client sent."""


class Api:
    """What all connections share."""

    def __init__(self, seen: mmap.mmap, wrong: Path) -> None:
        self._seen, self._wrong = seen, wrong
        self.sabotage = ""
        self._answers = 0
        self._before: tuple[int, bytes, bytes] = (0, b"", b"")
        self.tasks: set[asyncio.Task[None]] = set()

    def count(self, number: int, *, with_body: bool) -> int:
        """How often it was seen, with this time."""
        times = 2 if self.sabotage == "twice" and with_body and number % _SABOTAGED == 0 else 1
        self._seen[number] = min(_MAX_SEEN, self._seen[number] + times)
        return self._seen[number]

    def complain(self, what: str, data: bytes) -> None:
        with self._wrong.open("a") as file:
            file.write(f"{what}: {data[:600]!r}\n")

    def whose(self, number: int, key: bytes, owner: bytes) -> tuple[int, bytes, bytes]:
        """To whom an answer is addressed."""
        self._answers += 1
        before, self._before = self._before, (number, key, owner)
        swapped = self.sabotage == "swap" and self._answers % _SABOTAGED == 0
        return before if swapped else self._before

    def body(self, body: bytes, number: int) -> bytes:
        return body[:-1] if self.sabotage == "byte" and number % _SABOTAGED == 0 else body


class Request:
    """One, as far as it has come."""

    def __init__(self, head: bytes) -> None:
        line, *lines = head.split(b"\r\n")
        self.method, target, _ = line.split(b" ")
        self.fields: dict[bytes, bytes] = {}
        for each in lines:
            name, _, value = each.partition(b": ")
            if self.fields.setdefault(name.lower(), value) != value or name.lower() in _SECRETS:
                raise WrongRequest("a field that should not be there")
        path, _, query = target.partition(b"?t=")
        _, _, rest = path.decode().partition(PREFIX)
        self.kind, _, token = rest.partition("/")
        if not token.encode() == query == self.fields.get(b"x-token") or len(token) != TOKEN_BYTES:
            raise WrongRequest("tokens that differ")
        self.number = int(token)
        self.key, self.owner = self.fields[b"x-credential-identifier"], self.fields[b"x-consumer-id"]
        self.chunked = b"transfer-encoding" in self.fields
        length = self.fields.get(b"content-length")
        if self.chunked and (length is not None or self.fields[b"transfer-encoding"] != b"chunked"):
            raise WrongRequest("a framing that can be read in two ways")
        self.has_body = self.chunked or length not in {None, b"0"}
        self.left = int(length or 0)
        self.seen = 0
        self.size = 0
        self.first = b""
        self._digest = hashlib.sha256()

    def take(self, buffer: bytes) -> tuple[bytes, bool]:
        """What is left of the bytes, and whether the body is whole."""
        if not self.chunked:
            piece = buffer[: self.left]
            self.left -= len(piece)
            self._add(piece)
            return buffer[len(piece) :], not self.left
        while (line := buffer.find(b"\r\n")) >= 0:
            size = int(buffer[:line], 16)
            end = line + 2 + size
            if len(buffer) < end + 2:
                break
            if buffer[end : end + 2] != b"\r\n":
                raise WrongRequest("a chunk that does not end")
            self._add(buffer[line + 2 : end])
            buffer = buffer[end + 2 :]
            if not size:
                return buffer, True
        return buffer, False

    def _add(self, piece: bytes) -> None:
        if self.size < TOKEN_BYTES:
            self.first = (self.first + piece)[:TOKEN_BYTES]
        self.size += len(piece)
        self._digest.update(piece)

    def body_of_answer(self) -> bytes:
        if self.has_body and self.first != token_of(self.number):
            raise WrongRequest("the body of another request")
        if self.kind in SUMMED:
            return summary(self.number, self.key, self.owner, self.size, self._digest.hexdigest())
        return answer_body(self.kind, self.number, self.key, self.owner)


class Connection(asyncio.Protocol):
    """From the gateway, which has one request at a time on each."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._buffer = b""
        self._request: Request | None = None
        self._busy = False
        self._tunnel = False
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # of uvloop, which does not say so

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._task is not None:
            self._task.cancel()

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def data_received(self, data: bytes) -> None:
        if self._tunnel:
            self.transport.write(data)
            return
        self._buffer += data
        try:
            self._advance()
        except (WrongRequest, ValueError, KeyError) as error:
            self._api.complain(
                repr(error), self._buffer if self._request is None else repr(self._request.fields).encode()
            )
            self.transport.abort()

    def _advance(self) -> None:
        if self._busy:
            raise WrongRequest("bytes behind a request that is not answered yet")
        if self._request is None:
            head, found, rest = self._buffer.partition(_HEAD_END)
            if not found:
                return
            self._request = request = Request(head)
            self._buffer = rest
            if request.fields.get(b"expect") == b"100-continue":
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.seen = self._api.count(request.number, with_body=request.has_body)
        self._buffer, whole = self._request.take(self._buffer)
        if not whole:
            return
        if self._buffer:
            raise WrongRequest("bytes behind a request")
        request, self._request = self._request, None
        self._answer(request)

    # --- answers ----------------------------------------------------------------------------------------------------

    def _head(self, request: Request, status: bytes, framing: bytes) -> bytes:
        number, key, owner = self._api.whose(request.number, request.key, request.owner)
        whose = b"X-Seen-Token: %016d\r\nX-Seen-Key: %b\r\nX-Seen-Owner: %b\r\n" % (number, key, owner)
        return b"HTTP/1.1 %b\r\nContent-Type: application/octet-stream\r\n%b%b\r\n" % (status, whose, framing)

    def _answer(self, request: Request) -> None:
        body = self._api.body(request.body_of_answer(), request.number)
        _ANSWERS.get(request.kind, Connection._plain)(self, request, body)

    def _plain(self, request: Request, body: bytes) -> None:
        sent = b"" if request.method == b"HEAD" else body
        self.transport.write(self._fixed(request, len(body)) + sent)

    def _fixed(self, request: Request, length: int) -> bytes:
        return self._head(request, b"200 OK", b"Content-Length: %d\r\n" % length)

    def _open(self, request: Request) -> bytes:
        return self._head(request, b"200 OK", b"Transfer-Encoding: chunked\r\n")

    def _chunks(self, request: Request, body: bytes) -> None:
        third = len(body) // 3
        pieces = b"".join(_chunk(each) for each in (body[:third], body[third : 2 * third], body[2 * third :]))
        self.transport.write(self._open(request) + pieces + b"0\r\n\r\n")

    def _until_close(self, request: Request, body: bytes) -> None:
        self.transport.write(self._head(request, b"200 OK", b"Connection: close\r\n") + body)
        self.transport.close()

    def _no_content(self, request: Request, body: bytes) -> None:
        self.transport.write(self._head(request, b"204 No Content", b"") + body)

    def _not_modified(self, request: Request, body: bytes) -> None:
        self.transport.write(self._head(request, b"304 Not Modified", b'ETag: "1"\r\n') + body)

    def _events(self, request: Request, body: bytes) -> None:
        del body
        self._later(self._flow(request))

    async def _flow(self, request: Request) -> None:
        self.transport.write(self._open(request))
        for position in range(events_of(request.number)):
            self.transport.write(_chunk(event(request.number, position)))
            await asyncio.sleep(_EVENT_SECONDS)
        self._busy = False
        self.transport.write(b"0\r\n\r\n")

    def _socket(self, request: Request, body: bytes) -> None:
        del body
        self._tunnel = True
        accept = hashlib.sha1(request.fields[b"sec-websocket-key"] + _GUID, usedforsecurity=False).digest()
        switching = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %b\r\n" % base64.b64encode(
            accept
        )
        self.transport.write(self._head(request, b"101 Switching Protocols", switching))

    # --- faults -----------------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        """Such that the peer gets a reset, behind what was written."""
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _reset_in_head(self, request: Request, body: bytes) -> None:
        self.transport.write(self._fixed(request, len(body))[: 20 + request.number % 60])
        if request.number % 2:
            self._reset()
        else:
            self.transport.close()

    def _close_unanswered(self, request: Request, body: bytes) -> None:
        if request.seen > 1:  # the retry
            self.transport.write(self._fixed(request, len(body)) + body)
        elif request.number % 2:
            self._reset()
        else:
            self.transport.close()

    def _stall(self, request: Request, body: bytes) -> None:
        self._later(self._silence(b"HTTP/1.1 200 OK\r\n" if request.number % 2 else b"", body))

    def _stall_in_body(self, request: Request, body: bytes) -> None:
        self._later(self._silence(self._fixed(request, len(body)) + body[:100], body[100:]))

    async def _silence(self, first: bytes, last: bytes) -> None:
        self.transport.write(first)
        await asyncio.sleep(_STALL_SECONDS)
        self.transport.write(last)
        self.transport.close()

    def _short_body(self, request: Request, body: bytes) -> None:
        self.transport.write(self._fixed(request, len(body)) + body[: request.number % len(body)])
        if request.number % 2:
            self._reset()
        else:
            self.transport.close()

    def _short_chunks(self, request: Request, body: bytes) -> None:
        self.transport.write(
            self._open(request) + _chunk(body[:50]) + (_chunk(body[50:]) if request.number % 2 else b"")
        )
        self.transport.close()

    def _bad_chunk(self, request: Request, body: bytes) -> None:
        self.transport.write(self._open(request) + _chunk(body[:50]) + b"zz\r\n" + body[50:] + b"\r\n0\r\n\r\n")

    def _surplus(self, request: Request, body: bytes) -> None:
        """A whole answer of nobody's behind the right one."""
        poison = b"HTTP/1.1 200 OK\r\nX-Seen-Token: poison\r\nContent-Length: 6\r\n\r\npoison"
        self.transport.write(self._fixed(request, len(body)) + body + poison)

    def _garbage(self, request: Request, body: bytes) -> None:
        del body
        garbage = (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"220 mail.example.com ESMTP\r\n\r\n",
            b"HTTP/1.1 2OO OK\r\n\r\n",
        )
        self.transport.write(garbage[request.number % len(garbage)])

    def _later(self, work: Coroutine[None, None, None]) -> None:
        self._busy = True
        self._task = asyncio.create_task(work)
        self._api.tasks.add(self._task)
        self._task.add_done_callback(self._api.tasks.discard)


_ANSWERS: Final[dict[str, Callable[[Connection, Request, bytes], None]]] = {
    "chunks": Connection._chunks,
    "until-close": Connection._until_close,
    "no-content": Connection._no_content,
    "not-modified": Connection._not_modified,
    "events": Connection._events,
    "socket": Connection._socket,
    "reset-in-head": Connection._reset_in_head,
    "close-unanswered": Connection._close_unanswered,
    "close-unanswered-post": Connection._close_unanswered,
    "stall": Connection._stall,
    "stall-in-body": Connection._stall_in_body,
    "short-body": Connection._short_body,
    "short-chunks": Connection._short_chunks,
    "bad-chunk": Connection._bad_chunk,
    "surplus": Connection._surplus,
    "garbage": Connection._garbage,
}
"""All others are answered with a length, at once."""


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(port: int, seen: Path, wrong: Path) -> None:
    """Until the parent closes the way to here, or is gone."""
    loop = asyncio.get_running_loop()
    with seen.open("r+b") as file:
        api = Api(mmap.mmap(file.fileno(), 0), wrong)
    server = await loop.create_server(lambda: Connection(api), "127.0.0.1", port, backlog=1024)
    sys.stdout.write(json.dumps({"port": server.sockets[0].getsockname()[1]}) + "\n")
    sys.stdout.flush()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        api.sabotage = json.loads(line)["sabotage"]
        sys.stdout.write('{"ok": true}\n')
        sys.stdout.flush()
    server.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])))
