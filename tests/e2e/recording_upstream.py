"""An upstream that keeps every byte of the heads it gets, and answers as a test says.

It is a socket and a thread per connection, no HTTP library: what a library merges, folds or refuses must be visible.
Two ways to use it: `answer`, a function from a request to the bytes of its response, or `by_hand`, where the test
itself holds the upstream's end of the connection and speaks line by line.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from tests.e2e.wire import Head, Message, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    # The bytes of a response; nothing closes the connection.
    Answer = Callable[[Message], bytes]


def response(body: bytes = b"", *fields: str, status: str = "200 OK") -> bytes:
    """The bytes of a response with a length."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields))
    return head.encode() + b"\r\n" + body


def echo(request: Message) -> bytes:
    """The request as JSON."""
    seen = {
        "method": request.method,
        "target": request.target,
        "fields": request.fields,
        "body": request.body.decode("latin-1"),
    }
    return response(json.dumps(seen).encode(), "Content-Type: application/json")


class RecordingUpstream:
    """See the module. Close it, or use it as a context manager."""

    def __init__(self, answer: Answer = echo) -> None:
        self.answer = answer
        self.requests: list[Message] = []
        self.connections = 0
        self._handed_over: queue.Queue[tuple[Head, Wire]] | None = None
        self._released = threading.Event()
        self.open: set[Wire] = set()
        """Connections that neither side has closed."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def authority(self) -> str:
        return self.url.removeprefix("http://")

    def reset(self) -> None:
        """Forget what came, and answer as at the beginning."""
        self.answer = echo
        self.requests.clear()

    def cut(self) -> None:
        """Close every connection, as a restart does; the port stays."""
        for connection in list(self.open):
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)

    def say_unasked(self, data: bytes) -> None:
        """Send this on every connection, whatever is going on there."""
        for connection in list(self.open):
            with suppress(OSError):
                connection.socket.sendall(data)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._released.set()
        self.cut()
        for thread in self._threads:
            thread.join()

    @contextmanager
    def by_hand(self) -> Iterator[Callable[[], tuple[Head, Wire]]]:
        """Hand each request over as soon as its head is there, with the connection that it came on.

        The connections are closed at the end.
        """
        self._released.clear()
        handed_over: queue.Queue[tuple[Head, Wire]] = queue.Queue()
        self._handed_over = handed_over
        try:
            yield handed_over.get
        finally:
            self._handed_over = None
            self.cut()
            self._released.set()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(Wire(accepted),), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Wire) -> None:
        self.open.add(connection)
        with connection, suppress(OSError, AssertionError):
            while head := connection.read_head():
                handed_over = self._handed_over
                if handed_over is not None:
                    released = self._released
                    handed_over.put((head, connection))
                    released.wait()
                    break
                if head.one("Expect"):
                    connection.send("HTTP/1.1 100 Continue")
                request = Message(head.raw, connection.read_body(head))
                self.requests.append(request)
                answer = self.answer(request)
                if not answer:
                    break
                head_only = request.method == "HEAD"
                connection.socket.sendall(answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if head_only else answer)
        self.open.discard(connection)
