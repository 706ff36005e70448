"""Starting, pinning and ending the processes of a run.

Invariant: whatever was started here is ended here, by its process id, also when the run is interrupted. Nothing is
looked for by name, and nothing that was running before is touched.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 8.0


class StartFailed(Exception):
    """A process did not come up; the text ends with the last lines it wrote."""


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_program(program: str) -> str | None:
    """Look a program up on PATH, and where Debian keeps daemons."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def find_tools(*programs: str) -> list[str]:
    """Return those of the programs that are not installed."""
    return [program for program in programs if find_program(program) is None]


def can_pin(core: int) -> bool:
    """Tell whether this process may run on that core and has the tool to say so."""
    return shutil.which("taskset") is not None and core in os.sched_getaffinity(0)


def pinned(core: int | None, command: Sequence[str]) -> list[str]:
    """Return the command, bound to one core where that is possible. `taskset` execs, so the pid stays the same."""
    if core is None:
        return list(command)
    return ["taskset", "--cpu-list", str(core), *command]


class RunningProcess:
    """A child that listens on a port: started on entry, ended on exit, its output kept in a file."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int,
        log: Path,
        core: int | None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        self._command = pinned(core, command)
        self._log = log
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the child."""
        if self._process is None:
            raise StartFailed(f"{self._command[0]} was not started")
        return self._process.pid

    def __enter__(self) -> Self:
        """Start the child and wait until its port answers."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then ends its children in order
            )
        try:
            self._wait_for_port()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the child, whatever happened."""
        self.stop()

    def stop(self) -> None:
        """Ask the child to end, and insist when it does not."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own session, hence its own group: only what it started
            process.wait()

    def _wait_for_port(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.02)
        raise StartFailed(f"no answer on port {self.port} from: {' '.join(self._command)}\n{self.last_lines()}")

    def last_lines(self, count: int = 12) -> str:
        """Return the end of what the child wrote."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-count:])
