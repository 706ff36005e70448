"""What a gateway's processes take of the machine while it runs, and whether that grows.

The rule. Only what lives on can grow, so each process is held against itself: of each that was seen for long enough,
the first part of its life is left out (its pools, caches and allocator fill), and of what is left the median of the
second half may not be above that of the first by more than 3 % and 2 MiB of resident memory, 8 descriptors (as many
connections to the upstream come and go) and no thread. Connections of clients that are there are not counted: whenever
a worker is killed, what it served is shared out anew.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from tests.e2e.audit_site import RecordedSite

    Taken = Mapping[tuple[str, int], list["Sample"]]
    """By name and pid."""

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_MEBIBYTE: Final = 1 << 20
_PART: Final = 0.03
_SLACK_BYTES: Final = 2 * _MEBIBYTE
_SLACK_DESCRIPTORS: Final = 8
_INTERVAL_SECONDS: Final = 0.5
_ESTABLISHED: Final = "01"  # tcp_states.h of Linux
_LEFT_OUT: Final = 0.25


class Sample(NamedTuple):
    """One process at one moment (CLOCK_MONOTONIC)."""

    at: float
    resident: int
    descriptors: int
    """But for connections of clients that are there."""
    threads: int


def sample(pid: int, port: int) -> Sample | None:
    """None: it is gone. `port`: at which it takes clients."""
    own = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError, IndexError, ValueError):
        # Less what is mapped from files: a worker's present segment of the spool comes and goes with its 16 MiB.
        _, pages, of_files, *_ = map(int, (own / "statm").read_text().split())
        resident = (pages - of_files) * _PAGE_BYTES
        threads = len(list((own / "task").iterdir()))
        held = _descriptors(pid)
        clients = sum(row.local == port and row.state == _ESTABLISHED for row in _connections(held))
        return Sample(time.monotonic(), resident, len(held) - clients, threads)
    return None


def connections_to(port: int, pid: int) -> int:
    """How many connections a process has open to that port of the loopback."""
    with contextlib.suppress(OSError):
        return sum(row.remote == port for row in _connections(_descriptors(pid)))
    return 0


class _Connection(NamedTuple):
    local: int
    remote: int
    state: str


def _descriptors(pid: int) -> list[str]:
    """What they lead to."""
    held = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held.append(str(descriptor.readlink()))
    return held


def _connections(held: list[str]) -> Iterator[_Connection]:
    sockets = set(held)
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *rest = line.split()
        if f"socket:[{rest[5]}]" in sockets:
            yield _Connection(_port(local), _port(remote), state)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


class Growth:
    """Samples all processes of a gateway from when it is entered until it is left."""

    def __init__(self, site: RecordedSite) -> None:
        self._site = site
        self.taken: dict[tuple[str, int], list[Sample]] = defaultdict(list)
        self.segments: list[int] = []
        """How many files there were in the spool."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_INTERVAL_SECONDS):
            site = self._site
            supervisor = [site.site.running.process.pid]
            for name, pids in (("supervisor", supervisor), ("control", site.control), ("worker", site.workers)):
                for pid in pids:
                    taken = sample(pid, site.site.address[1])
                    if taken is not None:
                        self.taken[name, pid].append(taken)
            self.segments.append(len(list(site.spool.glob("*.segment"))))

    def told(self, seconds: float) -> list[str]:
        """A line for each process that lived so long."""
        return [
            f"{name} {pid} over {lived:.0f} s: {early} → {late}"
            for (name, pid), lived, early, late in _halves(self.taken, seconds)
        ]

    def judged(self, seconds: float) -> set[str]:
        """The names of those that lived so long."""
        return {name for (name, _), *_ in _halves(self.taken, seconds)}


def grown(taken: Taken, seconds: float) -> list[str]:
    """Those who lived so long and break the rule."""
    return [
        f"{name} {pid}: {early} → {late}"
        for (name, pid), _, early, late in _halves(taken, seconds)
        if late.resident > early.resident * (1 + _PART) + _SLACK_BYTES
        or late.descriptors > early.descriptors + _SLACK_DESCRIPTORS
        or late.threads > early.threads
    ]


def _halves(taken: Taken, seconds: float) -> Iterator[tuple[tuple[str, int], float, Typical, Typical]]:
    for who, samples in taken.items():
        lived = samples[-1].at - samples[0].at
        if lived >= seconds:
            warm = samples[int(len(samples) * _LEFT_OUT) :]
            middle = len(warm) // 2
            yield who, lived, Typical(warm[:middle]), Typical(warm[middle:])


class Typical:
    """Medians of samples."""

    def __init__(self, samples: list[Sample]) -> None:
        self.resident = statistics.median(each.resident for each in samples)
        self.descriptors = statistics.median(each.descriptors for each in samples)
        self.threads = statistics.median(each.threads for each in samples)

    def __repr__(self) -> str:
        """For people."""
        return f"{self.resident / _MEBIBYTE:.1f} MiB, {self.descriptors:.0f} descriptors, {self.threads:.0f} threads"
