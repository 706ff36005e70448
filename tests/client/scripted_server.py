"""An admin API that does as a test says: answers in a row, or none at all.

For what a real gateway cannot be made to do: to be busy just now, to hang up, to answer nonsense. It is a socket and
threads, so that a client that waits and one that awaits meet the same thing.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


@dataclass(frozen=True)
class Scripted:
    """An answer; with the status 0 the connection is closed instead."""

    status: int = 200
    body: bytes = b"{}"
    fields: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, document: object, status: int = 200, **fields: str) -> Scripted:
        return cls(status, json.dumps(document).encode(), {"Content-Type": "application/json", **fields})

    @classmethod
    def problem(cls, status: int, code: str, detail: str = "It is so.", **fields: str) -> Scripted:
        document = {"title": "-", "status": status, "code": code, "detail": detail, "request_id": "r1"}
        return cls.json(document, status, **fields)


HANG_UP = Scripted(0)


@dataclass(frozen=True)
class Received:
    method: str
    target: str
    fields: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> object:
        return json.loads(self.body)


class ScriptedServer:
    """Gives the answers in their order, and the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[Scripted] = []
        self.received: list[Received] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                script.received.append(Received(self.command, self.path, dict(self.headers.items()), body))
                answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
                if not answer.status:
                    return
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.fields}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - names of the base class

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._server.shutdown()
        self._thread.join()
        self._server.server_close()
