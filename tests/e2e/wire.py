"""One side of an HTTP/1.1 connection, spoken by hand: what goes out is what a test wrote, and nothing is hidden.

Invariant: bytes are interpreted only as far as finding the end of a message needs it, so that a test sees interim
responses, duplicates and spellings. Turned down: `http.client`, which swallows 100 and tidies up what it is given.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Head:
    """The first line and the fields of a message, as received."""

    raw: bytes

    @property
    def first_line(self) -> str:
        return self.raw.partition(b"\r\n")[0].decode()

    @property
    def fields(self) -> list[tuple[str, str]]:
        lines = self.raw.decode("latin-1").rstrip("\r\n").split("\r\n")[1:]
        return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.fields if found.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        """The value of a field that must not come twice."""
        found = self.all(name)
        assert len(found) < 2, f"{name} came {len(found)} times"
        return found[0] if found else None

    @property
    def status(self) -> int:
        return int(self.first_line.split(" ")[1])

    @property
    def method(self) -> str:
        return self.first_line.split(" ")[0]

    @property
    def target(self) -> str:
        return self.first_line.split(" ")[1]


@dataclass(frozen=True)
class Message(Head):
    """A head and the whole body that came with it, without its framing."""

    body: bytes

    def json(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded


class Wire:
    """A connection; a context manager, so that no test leaves one open."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._reader = connection.makefile("rb")

    @classmethod
    def to(cls, address: tuple[str, int]) -> Self:
        return cls(socket.create_connection(address))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            self._reader.close()
        self.socket.close()

    def send(self, *lines: str, body: bytes = b"") -> None:
        """A head of these lines, and what follows it."""
        self.socket.sendall("".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + body)

    def send_chunk(self, data: bytes) -> None:
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def read_head(self) -> Head | None:
        """The next head, an interim one too; None at the end of the connection."""
        lines: list[bytes] = []
        while line := self._reader.readline():
            lines.append(line)
            if line == b"\r\n":
                return Head(b"".join(lines))
        assert not lines, f"the connection ended within a head: {lines}"
        return None

    def expect_head(self) -> Head:
        head = self.read_head()
        assert head is not None, "the connection ended where a head should be"
        return head

    def read_body(self, head: Head, *, to_end: bool = False) -> bytes:
        """The body that belongs to a head. `to_end`: without any framing it goes on to the end of the connection."""
        if head.one("Transfer-Encoding") == "chunked":
            return b"".join(iter(self.read_chunk, b""))
        length = head.one("Content-Length")
        if length is not None:
            return self.read_exactly(int(length))
        return self.read_rest() if to_end else b""

    def read_chunk(self) -> bytes:
        """The next chunk's payload; empty for the last one, whose trailers are read with it."""
        size = int(self.read_line().partition(b";")[0], 16)
        if size == 0:
            while self.read_line() != b"\r\n":
                pass
            return b""
        data = self.read_exactly(size)
        assert self.read_exactly(2) == b"\r\n"
        return data

    def read_line(self) -> bytes:
        line = self._reader.readline()
        assert line.endswith(b"\n"), f"the connection ended within a line: {line!r}"
        return line

    def read_exactly(self, count: int) -> bytes:
        data = self._reader.read(count)
        assert len(data) == count, f"the connection ended {count - len(data)} bytes early"
        return data

    def read_some(self) -> bytes:
        """What is there, waited for; empty at the end of the connection, however it ended."""
        try:
            return self._reader.read1(_BLOCK_BYTES)
        except ConnectionError:
            return b""

    def read_rest(self) -> bytes:
        """All that comes until the connection ends, however it ends."""
        return b"".join(iter(self.read_some, b""))

    def read_answer(self, method: str = "GET") -> Message:
        """The final response, with its body."""
        head = self.expect_head()
        while head.status < 200:
            head = self.expect_head()
        bodiless = method == "HEAD" or head.status in {204, 304}
        return Message(head.raw, b"" if bodiless else self.read_body(head, to_end=True))

    def ask(self, *lines: str, body: bytes = b"") -> Message:
        """Send a request and read its response. A Host field is added where there is none."""
        if not any(line.lower().startswith("host:") for line in lines):
            lines = (*lines, "Host: gateway.test")
        self.send(*lines, body=body)
        return self.read_answer(lines[0].split(" ")[0])
