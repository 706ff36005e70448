"""What the workers of this node said last of themselves, once a second, over the supervisor's channel.

Invariant: only processes that the supervisor knows are kept, so what a dead worker counted ends with it; counts are per
process, and begin with 0 in each new one. Fields that are unknown here are passed over, since during a reload workers
and control process may be of two versions. Asking workers at the moment of a scrape was turned down: an answer would
wait for the slowest of them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.lifecycle import Message


@dataclass(frozen=True, slots=True)
class WorkerCount:
    """One worker's process: what it did since its start, and how current it is."""

    name: str
    pid: int
    hits: int = 0
    hits_absent: int = 0
    lookups: int = 0
    lookups_discarded: int = 0
    lookup_failures: int = 0
    evictions: int = 0
    changes: int = 0
    entries: int = 0
    absent_entries: int = 0
    oldest_entry_seconds: float = 0.0
    feed: str = "none"
    """How it hears of changes: redis, store, or none while it does not."""
    proven_for_seconds: float = 0.0
    epoch: str | None = None
    applied: int | None = None
    connections: int = 0
    in_flight: int = 0
    requests: int = 0
    refused_connections: int = 0
    """Above the limit, as the next one."""
    refused_requests: int = 0
    audit_entries: int = 0
    """Records of requests in the spool, both of one that lasts."""
    audit_blocked: int = 0
    """1 while it refuses requests for want of room in the spool."""


_FIELDS: Final = frozenset(each.name for each in fields(WorkerCount))


class WorkerCounts:
    """The counts by process. Told by `update` ("workers") and `counted` ("counts")."""

    __slots__ = ("_by_pid", "_known")

    def __init__(self) -> None:
        self._by_pid: dict[int, WorkerCount] = {}
        self._known: set[int] = set()

    def update(self, message: Message) -> None:
        """Forget who has ended."""
        self._known = {each["pid"] for each in message.get("following", ())}
        self._by_pid = {pid: count for pid, count in self._by_pid.items() if pid in self._known}

    def counted(self, message: Message) -> None:
        """Take over what one of them says; its last words may come after the news of its end."""
        if message["pid"] in self._known:
            told = {name: value for name, value in message.items() if name in _FIELDS}
            self._by_pid[message["pid"]] = WorkerCount(**told)

    def of(self, pid: int) -> WorkerCount | None:
        """What that process said last; None while it has said nothing."""
        return self._by_pid.get(pid)

    def all(self) -> list[WorkerCount]:
        """Everybody's, by name."""
        return sorted(self._by_pid.values(), key=lambda count: (count.name, count.pid))
