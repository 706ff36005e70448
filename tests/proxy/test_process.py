"""A worker process, under a supervisor that speaks bytes: what it does when there is no store to read."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from gateway.settings.model import Settings, StoreSettings, UpstreamSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class WorkerProcess:
    """A running worker, and what it reports."""

    def __init__(self, opened: ExitStack, store: Path, *, restarted: bool) -> None:
        ours, theirs = socket.socketpair()
        self._socket = opened.enter_context(ours)
        self._reports = opened.enter_context(ours.makefile("rb"))
        settings = Settings(
            store=StoreSettings(url=f"sqlite:///{store}"),
            upstreams=(UpstreamSettings(name="default", targets=("http://127.0.0.1:9",)),),
        )
        with theirs, socket.create_server(("127.0.0.1", 0)) as listening:
            fds = (theirs.fileno(), listening.fileno())
            argv = [sys.executable, "-P", "-m", "gateway.proxy.process", str(fds[0])]
            self.process = opened.enter_context(subprocess.Popen(argv, pass_fds=fds, stderr=subprocess.PIPE))
        self.send(
            command="start",
            settings=settings.model_dump(mode="json"),
            slot=0,
            listen_fds=[fds[1]],
            node="n1",
            restarted=restarted,
        )

    def send(self, **message: object) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def report(self) -> dict[str, Any]:
        """The next report, but for the figures that come all the time."""
        for line in self._reports:
            parsed: dict[str, Any] = json.loads(line)
            if parsed["event"] != "counts":
                return parsed
        raise EOFError


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start a worker whose store does not exist."""
    with ExitStack() as opened:
        yield lambda **order: WorkerProcess(opened, tmp_path / "none.db", **order)


def test_at_the_first_start_a_store_that_cannot_be_read_is_told_and_ends_it(
    worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    started = worker(restarted=False)
    report = started.report()
    assert report["event"] == "failed"
    assert report["reason"].startswith(f"The key store {tmp_path}/none.db cannot be read")
    assert started.process.wait() == 1


def test_at_a_restart_it_comes_up_without_a_store_and_makes_none(
    worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    started = worker(restarted=True)
    assert started.report() == {"event": "ready"}
    assert not list(tmp_path.iterdir())
    started.send(command="drain")
    assert started.report() == {"event": "draining"}
    assert started.process.wait() == 0
