"""The gateway's own status and reload, for admin APIs in tests that have no gateway around them.

One worker of this node with figures, one of another node without; reloads end as `Supervisor.outcome` says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gateway.control.health import Workers
from gateway.control.reloads import Reloads
from gateway.control.status import Administration
from gateway.control.worker_counts import WorkerCounts
from gateway.services.clock import Clock, utc_now
from gateway.services.reload_events import ReloadEvents

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

COUNTS = {"hits": 10, "lookups": 3, "hits_absent": 2, "evictions": 1, "entries": 3, "feed": "store", "requests": 15}
LOADED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Member:
    """A worker."""

    name: str
    node: str
    host: str
    pid: int
    own: bool
    applied: int | None
    lag: int | None
    silent_seconds: float


OWN = Member("worker-0", "n1", "here", 100, own=True, applied=7, lag=0, silent_seconds=0.25)
OTHER = Member("worker-0", "n2", "there", 200, own=False, applied=5, lag=2, silent_seconds=1.0)


class Members:
    """The workers of both nodes."""

    async def members(self) -> list[Member]:
        return [OTHER, OWN]


@dataclass
class Supervisor:
    """Answers a question for a reload at once."""

    outcome: dict[str, Any] = field(
        default_factory=lambda: {"ok": True, "code": "", "problems": [], "changed": ["cache.max_entries"]}
    )

    def __post_init__(self) -> None:
        self.reloads = Reloads(self._asked)

    def _asked(self, number: int) -> None:
        self.reloads.reloaded({"command": "reloaded", "number": number, **self.outcome})


async def newest_change() -> int:
    """The number of the newest change."""
    return 7


def administration(engine: AsyncEngine, clock: Clock = utc_now, supervisor: Supervisor | None = None) -> Administration:
    """What operations on the gateway itself call."""
    workers, counts = Workers(ready=1, of=1, settings_loaded_at=LOADED_AT), WorkerCounts()
    counts.update({"following": [{"pid": OWN.pid}]})
    counts.counted({"pid": OWN.pid, "name": OWN.name, **COUNTS})
    return Administration(
        node=OWN.node,
        host=OWN.host,
        workers=workers,
        counts=counts,
        membership=Members(),
        newest_change=newest_change,
        relay=None,
        reloads=(supervisor or Supervisor()).reloads,
        trail=ReloadEvents(engine, clock=clock),
    )
