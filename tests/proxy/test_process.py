"""A worker process, under a supervisor that speaks bytes: what it does when it lacks its store, or its spool."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from gateway.recording.records import Seal
from gateway.recording.segment import is_abandoned
from gateway.settings.model import AuditSettings, Settings, StoreSettings, UpstreamSettings
from tests.recording.reading import read_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class WorkerProcess:
    """A running worker, and what it reports."""

    def __init__(self, opened: ExitStack, store: Path, *, restarted: bool, audit: AuditSettings | None = None) -> None:
        ours, theirs = socket.socketpair()
        self._socket = opened.enter_context(ours)
        self._reports = opened.enter_context(ours.makefile("rb"))
        settings = Settings(
            store=StoreSettings(url=f"sqlite:///{store}"),
            audit=audit or AuditSettings(),
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
    assert not list(tmp_path.glob("none.db*"))
    started.send(command="drain")
    assert started.report() == {"event": "draining"}
    assert started.process.wait() == 0


@pytest.mark.parametrize("restarted", [False, True])
def test_without_a_place_for_records_it_says_so_in_one_line_and_serves_nobody(
    worker: Callable[..., WorkerProcess], tmp_path: Path, *, restarted: bool
) -> None:
    (tmp_path / "file").touch()
    started = worker(restarted=restarted, audit=AuditSettings(directory=str(tmp_path / "file")))
    report = started.report()
    assert report["event"] == "failed"
    assert report["reason"] == (
        f"Requests cannot be put on record in {tmp_path}/file/spool: Not a directory. "
        'Give audit.directory another place, or set audit.record to "none".'
    )
    assert started.process.wait() == 1


def test_without_the_compiled_parser_of_http_it_serves_nobody(
    worker: Callable[..., WorkerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Health checks would be read by another one; see `gateway.extensions`."""
    monkeypatch.setenv("AIOHTTP_NO_EXTENSIONS", "1")
    started = worker(restarted=True)
    report = started.report()
    assert report["event"] == "failed"
    assert report["reason"].startswith("aiohttp runs without its C extension")
    assert started.process.wait() == 1


def test_where_requests_are_not_on_record_no_place_for_them_is_needed(
    worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    audit = AuditSettings(record="changes", directory=str(tmp_path / "file"))
    started = worker(restarted=True, audit=audit)
    assert started.report() == {"event": "ready"}
    started.send(command="drain")
    assert started.report() == {"event": "draining"}
    assert started.process.wait() == 0
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_worker_that_ends_leaves_its_records_sealed(worker: Callable[..., WorkerProcess], tmp_path: Path) -> None:
    started = worker(restarted=True)
    assert started.report() == {"event": "ready"}
    [path] = (tmp_path / "spool").glob("*.segment")
    assert not is_abandoned(path)
    started.send(command="drain")
    assert started.process.wait() == 0
    assert is_abandoned(path)
    assert read_segment(path) == [Seal(0)]
    assert path.stat().st_size < 200
