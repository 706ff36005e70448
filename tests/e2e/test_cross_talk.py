"""A worker that was stopped while an upstream spoke unasked gives what it said to nobody.

The loop's tests are in `tests/wire/test_cross_talk.py`; here the worker is a process, and really stopped.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.recording_upstream import RecordingUpstream, response
from tests.e2e.site import WORKER
from tests.wire.hostile_upstream import arrived

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.site import Site
    from tests.e2e.wire import Message

_ROUNDS = 20


def _named(request: Message) -> bytes:
    return response(f"{request.one('X-Credential-Identifier')} {request.target}".encode())


def _stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("first", ["client", "upstream"])
def test_what_came_while_the_worker_was_stopped_is_nobodys_answer(
    first: str,
    serve: Callable[..., Site],
    upstreams: Callable[..., RecordingUpstream],
    eventually: Callable[[Callable[[], object]], None],
) -> None:
    """One client's answer comes twice, the second time while the other client's request is on its way."""
    upstream = upstreams(_named)
    settings = {"name": "default", "targets": [upstream.url], "idle_timeout_seconds": 60}
    site = serve([settings], SERVER__WORKERS="1")
    ann, ben = site.issue("ann"), site.issue("ben")
    (worker,) = site.processes(WORKER)
    with site.wire() as hers, site.wire() as his:
        for number in range(_ROUNDS):
            path = f"/{number}"
            answer = hers.ask(f"GET /ann{path} HTTP/1.1", f"X-API-KEY: {ann.secret}")
            assert answer.body == f"{ann.id} /ann{path}".encode()
            assert his.ask("GET /warm HTTP/1.1", f"X-API-KEY: {ben.secret}").status == 200
            method = "POST" if number % 2 else "GET"
            os.kill(worker, signal.SIGSTOP)
            try:
                eventually(lambda: _stopped(worker))
                lines = (f"{method} /ben{path} HTTP/1.1", "Host: x", f"X-API-KEY: {ben.secret}")
                if first == "client":
                    his.send(*lines)
                    arrived(his.socket)
                upstream.say_unasked(response(f"{ann.id} /ann{path}".encode()))
                for connection in list(upstream.open):
                    with suppress(ValueError):  # it is being closed by its thread: another client's, long ago
                        arrived(connection.socket)
                if first == "upstream":
                    his.send(*lines)
                    arrived(his.socket)
            finally:
                os.kill(worker, signal.SIGCONT)
            answer = his.read_answer()
            assert (answer.status, answer.body) == (200, f"{ben.id} /ben{path}".encode())
