"""Real gateways for end-to-end tests: started by the command that users type, on ports that nobody else has."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.e2e.recording_upstream import RecordingUpstream
from tests.e2e.site import Site, make_site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

# The same as the installed script, whichever environment runs the tests.
GATEWAY: Final = (sys.executable, "-P", "-m", "gateway")


class Command:
    """The command line in a directory of its own, with nothing of this shell's settings."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY")}

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; without a terminal, as a script would."""
        return subprocess.run(
            [*GATEWAY, *arguments],
            cwd=self.directory,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """What a command that has to succeed prints with --json."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        printed: dict[str, Any] = json.loads(done.stdout)
        return printed


class Running:
    """A gateway that runs: where it listens, what it logged, and how to stop it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        ready = self.logged("ready")
        self.proxy = str(ready["proxy"])
        self.control = str(ready["control"])

    def records(self) -> list[dict[str, Any]]:
        """The log so far; lines that are no JSON (a traceback, say) come as {"message": line}."""
        complete = self._log.read_text().rpartition("\n")[0].splitlines()
        return [json.loads(line) if line.startswith("{") else _of_text(line) for line in complete]

    def logged(self, message: str) -> dict[str, Any]:
        """The first record that begins with `message`, waited for; fails at once when the process ended without it."""
        while True:
            over = self.process.poll() is not None
            for record in self.records():
                if record["message"].startswith(message):
                    return record
            if over:
                pytest.fail(
                    f"ended with {self.process.returncode} without logging {message!r}:\n{self._log.read_text()}"
                )
            time.sleep(0.01)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait()


def _of_text(line: str) -> dict[str, Any]:
    """A line as `log.format = "text"` writes it, as far as it can be taken apart again."""
    found = re.match(r"\S+Z \w+ [\w-]+: (.*)", line)
    return {"message": line} if found is None else {"message": found[1], **dict(re.findall(r" (\w+)=(\S+)", found[1]))}


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@contextmanager
def starting(command: Command, logs: Path) -> Iterator[Callable[..., Running]]:
    """Give a function that starts gateways; at the end none of them is left."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str, environ: Mapping[str, str] | None = None) -> Running:
        log = logs / f"gateway-{len(started)}.log"
        settings = {
            "GATEWAY__SERVER__LISTEN": "127.0.0.1:0",
            "GATEWAY__CONTROL__LISTEN": "127.0.0.1:0",
            "GATEWAY__LOG__FORMAT": "json",
        }
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [*GATEWAY, "run", *arguments],
                cwd=command.directory,
                env=command.environ | settings | dict(environ or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,  # no terminal, whoever runs the tests: SIGHUP means to reload
            )
        started.append(process)
        return Running(process, log)

    try:
        yield run
    finally:
        for process in started:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for _ in range(2):  # the second signal cuts whatever a failed test left in flight
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
    if process.poll() is None:
        process.kill()  # its children notice, and end by themselves
        process.wait()


@pytest.fixture
def start(command: Command, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start `gateway run` with these arguments (and environment), and wait until it is ready."""
    with starting(command, tmp_path) as run:
        yield run


@pytest.fixture
def serve(command: Command, start: Callable[..., Running]) -> Callable[..., Site]:
    """Start a gateway with an organization; see `make_site`."""
    return functools.partial(make_site, command, start)


@pytest.fixture(scope="module")
def serve_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """The same for all tests of a file: for one gateway that none of them changes for the others."""
    directory = tmp_path_factory.mktemp("site")
    command = Command(directory)
    with starting(command, directory) as run:
        yield functools.partial(make_site, command, run)


@pytest.fixture(scope="module")
def upstream_module() -> Iterator[RecordingUpstream]:
    with RecordingUpstream() as recording:
        yield recording


@pytest.fixture
def upstreams() -> Iterator[Callable[..., RecordingUpstream]]:
    """Make recording upstreams, closed at the end."""
    with ExitStack() as opened:
        yield lambda *answer: opened.enter_context(RecordingUpstream(*answer))
