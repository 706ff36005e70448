"""Processor time of a process and everything under it, read from /proc.

Invariant: time is never lost when a child ends. `/proc/PID/stat` carries a process's own user and system time and that
of the children it has reaped, so the sum over a tree only grows while the root lives.

Processor time per request is the figure this comparison rests on, because other work on the machine disturbs it least;
throughput and latency are printed beside it. Kernel work for loopback traffic is done in the sender's system call and
is charged to it, so it is included.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds of processor time and resident bytes: the part that moves requests, and the whole tree."""

    worker_seconds: float
    tree_seconds: float
    worker_resident_bytes: int
    tree_resident_bytes: int


def usage(root: int, worker_marker: str | None) -> Usage:
    """Read the tree under `root`. Workers are the processes whose command line holds the marker; None means all."""
    worker_seconds = tree_seconds = 0.0
    worker_resident = tree_resident = 0
    for pid in tree(root):
        try:
            seconds, resident = _seconds(pid), _resident_bytes(pid)
            is_worker = worker_marker is None or worker_marker in command_line(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended between the listing and the reading; its parent has its time by now
        tree_seconds += seconds
        tree_resident += resident
        if is_worker:
            worker_seconds += seconds
            worker_resident += resident
    return Usage(worker_seconds, tree_seconds, worker_resident, tree_resident)


def tree(root: int) -> Iterator[int]:
    """Yield `root` and every descendant of it."""
    yield root
    try:
        threads = list(Path(f"/proc/{root}/task").iterdir())
        children = [pid for thread in threads for pid in (thread / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield from tree(int(child))


def command_line(pid: int) -> str:
    """Return the arguments of a process, separated by spaces."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def workers(root: int, worker_marker: str | None) -> list[int]:
    """Return the processes of a tree that carry the marker, or all of them."""
    return [pid for pid in tree(root) if worker_marker is None or worker_marker in command_line(pid)]


def core_busy_seconds(core: int) -> float:
    """Return how long a core was taken since boot: by processes, the kernel, or (steal) the machine's host."""
    line = next(each for each in Path("/proc/stat").read_text().splitlines() if each.startswith(f"cpu{core} "))
    user, nice, system, _idle, _waiting, interrupt, soft_interrupt, steal = (int(each) for each in line.split()[1:9])
    return (user + nice + system + interrupt + soft_interrupt + steal) / TICKS_PER_SECOND


def _seconds(pid: int) -> float:
    """Return user and system time of a process and of the children it has reaped (proc(5), fields 14 to 17)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in after_name[11:15]) / TICKS_PER_SECOND


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
