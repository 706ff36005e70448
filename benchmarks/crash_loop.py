"""`python -m benchmarks.crash_loop`: how long clients wait while one of two workers does nothing but crash.

A new worker in the second slot is killed as soon as it is there, or, with `--serving`, a moment after it has begun to
serve: then connections come to a slot whose worker is gone, until the supervisor has told the other one. Each request
comes on a connection of its own, since that is who a crash concerns, and is answered by the gateway itself (401).

Invariant: only children of the gateway that was started here are killed, by their process ids. The goal is a p99 of
connect and answer below 100 ms; answers that a killed worker owed are counted apart.
"""

import argparse
import contextlib
import os
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import RunningProcess, free_port

GOAL_SECONDS = 0.1
PAUSE_SECONDS = 0.005
TIMEOUT_SECONDS = 30.0
SERVES_AFTER_SECONDS = 1.5
WORKER = b"gateway.proxy.process"
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class CrashLoop(threading.Thread):
    """Kills each new worker but the oldest."""

    def __init__(self, supervisor: int, *, serving: bool) -> None:
        super().__init__(daemon=True)
        self._supervisor = supervisor
        self._delay = SERVES_AFTER_SECONDS if serving else 0.0
        self._spared = min(workers_of(supervisor))
        self._over = threading.Event()
        self.crashes = 0

    def run(self) -> None:
        """Until `stop`."""
        while not self._over.wait(0.01):
            for pid in workers_of(self._supervisor):
                if pid != self._spared:
                    self._over.wait(self._delay)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        self.crashes += 1

    def stop(self) -> None:
        """Kill no more."""
        self._over.set()
        self.join()


def workers_of(supervisor: int) -> list[int]:
    """The worker processes of this gateway."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [int(pid) for pid in children if WORKER in _command_line(pid)]


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def ask(port: int) -> float | None:
    """Seconds from the connect to the end of the answer; None where the answer was cut off."""
    began = time.perf_counter()
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
            connection.sendall(REQUEST)
            answer = b""
            while part := connection.recv(65_536):
                answer += part
    except ConnectionError:
        return None
    return time.perf_counter() - began if answer.startswith(b"HTTP/1.1 401 ") else None


@contextlib.contextmanager
def gateway(directory: Path) -> Iterator[RunningProcess]:
    """A gateway with two workers."""
    port = free_port()
    environment = {
        "GATEWAY__SERVER__LISTEN": f"127.0.0.1:{port}",
        "GATEWAY__SERVER__WORKERS": "2",
        "GATEWAY__CONTROL__LISTEN": f"127.0.0.1:{free_port()}",
        "GATEWAY__STORE__URL": f"sqlite:///{directory}/gateway.db",
    }
    command = [sys.executable, "-P", "-m", "gateway", "run", "--upstream", "http://127.0.0.1:9"]
    log = directory / "gateway.log"
    with RunningProcess(command, port=port, log=log, core=None, environment=environment) as running:
        while len(workers_of(running.pid)) < 2 or "ready" not in log.read_text():
            time.sleep(0.05)
        yield running


def measure(port: int, seconds: float) -> tuple[list[float], int]:
    """Ask again and again; the times of whole answers, sorted, and how many were cut off."""
    times: list[float] = []
    lost = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        took = ask(port)
        if took is None:
            lost += 1
        else:
            times.append(took)
        time.sleep(PAUSE_SECONDS)
    return sorted(times), lost


def main() -> None:
    """Print a line without crashes and one with them; exit with 1 where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long to measure each")
    parser.add_argument("--serving", action="store_true", help="let each worker serve for a moment before it is killed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, gateway(Path(directory)) as running:
        _report("both workers well", *measure(running.port, given.seconds), crashes=0)
        loop = CrashLoop(running.pid, serving=given.serving)
        loop.start()
        times, lost = measure(running.port, given.seconds)
        loop.stop()
        _report("one crash-loops", times, lost, crashes=loop.crashes)
    sys.exit(_percentile(times, 99) >= GOAL_SECONDS)


def _report(what: str, times: list[float], lost: int, *, crashes: int) -> None:
    p50, p99 = 1000 * statistics.median(times), 1000 * _percentile(times, 99)
    figures = f"p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   longest {1000 * times[-1]:7.2f} ms"
    print(f"{what:18}  {len(times):6} answers   {figures}   {lost} cut off   {crashes} crashes")


def _percentile(times: list[float], percent: int) -> float:
    return times[min(len(times) - 1, len(times) * percent // 100)]


if __name__ == "__main__":
    main()
