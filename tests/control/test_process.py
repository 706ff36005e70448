"""The control process, under a supervisor that speaks bytes: store first, then ready, and one line when it cannot."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests

from gateway.settings.model import Settings, StoreSettings
from gateway.store.sqlite_reader import SqliteReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Control:
    """A running control process, and what it reports."""

    def __init__(self, settings: Settings) -> None:
        self._socket, theirs = socket.socketpair()
        self._reports = self._socket.makefile("rb")
        with theirs, socket.create_server(("127.0.0.1", 0)) as listening:
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            fds = (theirs.fileno(), listening.fileno())
            argv = [sys.executable, "-P", "-m", "gateway.control.process", str(fds[0])]
            self.process = subprocess.Popen(argv, pass_fds=fds)
            self.send(
                command="start", settings=settings.model_dump(mode="json"), slot=0, listen_fds=[fds[1]], node="n1"
            )

    def send(self, **message: object) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def report(self) -> dict[str, Any]:
        """The next report; empty at the end of the process."""
        line = self._reports.readline()
        parsed: dict[str, Any] = json.loads(line) if line else {}
        return parsed

    def end(self) -> None:
        """Let go of the channel, as a supervisor that died would, and see it exit."""
        self._reports.close()
        self._socket.close()
        self.process.wait()


@pytest.fixture
def control() -> Iterator[Callable[[str], Control]]:
    started: list[Control] = []

    def start(url: str) -> Control:
        started.append(Control(Settings(store=StoreSettings(url=url))))
        return started[-1]

    yield start
    for each in started:
        each.end()


def test_the_store_is_ready_before_anything_else_and_a_first_start_is_told(
    control: Callable[[str], Control], tmp_path: Path
) -> None:
    process = control(f"sqlite:///{tmp_path}/d/gateway.db")
    assert process.report() == {"event": "store_ready"}
    reader = SqliteReader(tmp_path / "d" / "gateway.db")  # migrated: a worker may open it now
    reader.close()
    assert process.report() == {"event": "ready", "first_start": True}


def test_readiness_follows_what_the_supervisor_says(
    control: Callable[[str], Control], tmp_path: Path, eventually: Callable[[Callable[[], object]], None]
) -> None:
    process = control(f"sqlite:///{tmp_path}/gateway.db")
    process.report()
    process.report()
    assert requests.get(f"{process.url}/healthz", timeout=30).status_code == 200
    assert requests.get(f"{process.url}/readyz", timeout=30).status_code == 503
    process.send(command="workers", ready=1, of=1, draining=False)
    eventually(lambda: requests.get(f"{process.url}/readyz", timeout=30).status_code == 200)
    (tmp_path / "gateway.db").rename(tmp_path / "moved.db")
    reasons = requests.get(f"{process.url}/readyz", timeout=30).json()["reasons"]
    assert [reason["code"] for reason in reasons] == ["key_store_unavailable"]


def test_a_drain_ends_it_with_status_0(control: Callable[[str], Control], tmp_path: Path) -> None:
    process = control(f"sqlite:///{tmp_path}/gateway.db")
    process.report()
    process.report()
    process.send(command="drain")
    assert process.process.wait() == 0


def test_a_store_that_cannot_be_opened_is_reported_as_one_sentence(
    control: Callable[[str], Control], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    process = control(f"sqlite:///{tmp_path}/file/gateway.db")
    report = process.report()
    assert report["event"] == "failed"
    assert report["reason"].startswith(f"The key store {tmp_path}/file/gateway.db cannot be opened")
    assert process.process.wait() == 1
    assert capfd.readouterr().err == ""  # the supervisor says it, once
