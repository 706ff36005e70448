"""One measured run of wrk against one address.

Invariant: a run with a single failed connection, time-out or answer of the wrong kind is not a result. wrk counts them,
and `problem` names them, so that a peer cannot look fast by failing.

At a fixed rate wrk is paced by pauses per connection: 64 connections that pause 32 ms on average ask about 2,000 times
a second whatever single answers take, and wrk adds the samples that a stalled connection left out ("coordinated
omission"). A generator in Python was turned down: its own loop costs as much per request as the faster peers do, and
its scheduling noise is of the size of what is measured. wrk2 would be the tool; Debian does not ship it.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import pinned
from benchmarks.workloads import KeyChoice, Workload

SCRIPT = Path(__file__).with_name("load.lua")


class LoadFailed(Exception):
    """wrk itself did not run to its end."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What wrk saw. Latencies are in microseconds."""

    requests: int
    seconds: float
    bytes_read: int
    p50: int
    p99: int
    longest: int
    failures: int
    refusals: int

    def problem(self, workload: Workload) -> str | None:
        """Return why this run does not count, or None."""
        if self.requests == 0:
            return "no request was answered"
        if self.failures:
            return f"{self.failures} connections failed or timed out"
        if workload.refused and self.refusals != self.requests:
            return f"{self.requests - self.refusals} of {self.requests} requests were let through"
        if not workload.refused and self.refusals:
            return f"{self.refusals} of {self.requests} requests were answered with an error"
        return None


@dataclass(frozen=True, slots=True)
class LoadGenerator:
    """wrk on its core, with the files of good and unknown keys."""

    core: int | None
    good_keys: Path
    unknown_keys: Path

    def run(self, workload: Workload, port: int, seconds: float) -> LoadResult:
        """Load `port` for that long and return what wrk counted."""
        command = pinned(self.core, [*self._wrk(workload, seconds), f"http://127.0.0.1:{port}", "--"])
        command += self._script_arguments(workload)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
        lines = done.stdout.strip().splitlines()
        if done.returncode != 0 or not lines or not lines[-1].startswith("{"):
            raise LoadFailed(f"wrk ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        counted: dict[str, Any] = json.loads(lines[-1])
        return LoadResult(
            requests=counted["requests"],
            seconds=counted["microseconds"] / 1e6,
            bytes_read=counted["bytes"],
            p50=counted["p50"],
            p99=counted["p99"],
            longest=counted["max"],
            failures=sum(counted[kind] for kind in ("connect", "read", "write", "timeout")),
            refusals=counted["status"],
        )

    def _wrk(self, workload: Workload, seconds: float) -> list[str]:
        duration = f"{max(1, round(seconds))}s"  # wrk takes whole seconds
        threads, connections = str(workload.threads), str(workload.connections)
        return ["wrk", "-t", threads, "-c", connections, "-d", duration, "--timeout", "10s", "-s", str(SCRIPT)]

    def _script_arguments(self, workload: Workload) -> list[str]:
        keys = self.unknown_keys if workload.keys is KeyChoice.UNKNOWN else self.good_keys
        mode = KeyChoice.ROTATE if workload.keys is KeyChoice.UNKNOWN else workload.keys
        fields = "browser" if workload.browser_fields else "plain"
        pause = str(workload.pause_milliseconds)
        return [str(keys), mode, workload.method, workload.path, str(workload.body_bytes), fields, pause]
