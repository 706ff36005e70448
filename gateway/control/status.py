"""What the operator is told of the running gateway, and how it is made to read its settings again.

Invariant: only the organization that operates the gateway is told, since the other ones' business is their keys; and
what is told is names, numbers and times, never a key, a path or an address of a store.

Workers of all nodes are listed; what they count is known here of this node's own alone, the others' is null.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast

from gateway import __version__
from gateway.errors import Conflict, GatewayError
from gateway.keys.authority import ADMIN, READ
from gateway.services.access import require, require_operator, require_operators_organization
from gateway.services.shapes import Shape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gateway.control.health import Workers
    from gateway.control.recording_state import RecordingState
    from gateway.control.relay_state import RelayState
    from gateway.control.reloads import Reloads
    from gateway.control.worker_counts import WorkerCount, WorkerCounts
    from gateway.services.actor import Caller

_STORE_TIMEOUT_SECONDS: Final = 2.0
_log: Final = logging.getLogger(__name__)

Feed = Literal["redis", "store", "none"]


class WorkerFigures(Shape):
    """What a worker did since its start, and how current it is."""

    feed: Feed
    """How it hears of changes; none: it does not, and stops serving when what proves it current has run out."""
    proven_for_seconds: float
    """How long it may still serve from memory without another proof that it is current."""
    hits: int
    misses: int
    """Keys that were looked up."""
    hits_absent: int
    """Unknown keys that were known to be unknown."""
    lookups_discarded: int
    """Lookups that a change has overtaken."""
    lookup_failures: int
    evictions: int
    changes: int
    entries: int
    absent_entries: int
    oldest_entry_seconds: float
    connections: int
    in_flight: int
    requests: int


class WorkerStatus(Shape):
    """One worker process of any node."""

    name: str
    node: str
    """One run of a supervisor."""
    host: str
    pid: int
    own: bool
    """Of the node that answers."""
    applied: int | None
    """The newest change that counts there; null before the first look."""
    lag: int | None
    """How many changes it is behind; null where that cannot be known."""
    silent_seconds: float
    """How long ago it was heard last."""
    figures: WorkerFigures | None
    """Null for workers of other nodes, and in a worker's first second."""


class StoreStatus(Shape):
    """The store, asked now."""

    reachable: bool
    head: int | None
    """The newest change in its log."""


class RedisStatus(Shape):
    """The shared key table, as this node's relay saw it last."""

    reachable: bool
    complete: bool
    relayed: int | None
    """The newest change that the table has."""
    rebuilds: int


class RecordingStatus(Shape):
    """The record of requests on this node: what workers wrote to the spool, and what of it is in the store."""

    active: bool
    """Whether the process that answers records; during a reload, the one before it may still be at it."""
    lag_seconds: float | None
    """Age of the oldest record that is not in the store yet, 0 without any.

    Null where another process records, and after a start until the store has said how far it has them.
    """
    store_reachable: bool
    """Whether the store took the last batch."""
    spool_bytes: int
    """What the spool takes on the disk, files that workers hold ready included."""
    waiting_bytes: int
    """What of it is not in the store yet."""
    spool_limit_bytes: int
    entries: int
    """Records taken into the store since this process began, as are the following."""
    damaged_bytes: int
    """What could not be read in the spool."""
    unrecorded_refusals: int
    """Refusals on record by their number alone."""
    dropped_segments: int
    """Parts of the spool that were given up for want of room."""
    ndjson_failures: int
    """Records that could not be copied to audit.ndjson."""
    workers_blocked: int
    """Workers that refuse requests, since they could not be recorded."""


class GatewayStatus(Shape):
    """The gateway, as the node that answers sees it."""

    version: str
    node: str
    host: str
    settings_loaded_at: datetime | None
    reloads: int
    reloads_failed: int
    workers_ready: int
    """Of this node."""
    workers_of: int
    store: StoreStatus
    redis: RedisStatus | None
    """Null where no Redis is configured."""
    recording: RecordingStatus | None
    """Null where requests are not recorded, and none were left to be."""
    workers: tuple[WorkerStatus, ...]


class Reloaded(Shape):
    """A reload that is done: every process of the node that answers has the new settings."""

    changed: tuple[str, ...]
    """The settings that differ from before, by name; lists of tables as wholes (routes)."""
    warnings: tuple[str, ...]
    """A sentence for each certificate that has expired, or will soon."""


class MemberFacts(Protocol):
    """A worker as whoever waits for it knows it."""

    @property
    def name(self) -> str:
        """Its slot."""

    @property
    def node(self) -> str:
        """The run of a supervisor that it belongs to."""

    @property
    def host(self) -> str:
        """The machine."""

    @property
    def pid(self) -> int:
        """Its process."""

    @property
    def own(self) -> bool:
        """Whether it is of this node."""

    @property
    def applied(self) -> int | None:
        """The newest change that counts there."""

    @property
    def lag(self) -> int | None:
        """How many changes it is behind."""

    @property
    def silent_seconds(self) -> float:
        """How long ago it was heard last."""


class Membership(Protocol):
    """Knows the workers of all nodes."""

    async def members(self) -> Sequence[MemberFacts]:
        """All of them; those that are known where not all can be."""


class ReloadTrail(Protocol):
    """Remembers who reloaded."""

    async def record(self, caller: Caller, changed: Sequence[str]) -> None:
        """Note it. Raises GatewayError."""


class Administration:
    """See the module: what the operations on the gateway itself call."""

    def __init__(  # noqa: PLR0913 - the places that facts come from, all by name
        self,
        *,
        node: str,
        host: str,
        workers: Workers,
        counts: WorkerCounts,
        membership: Membership,
        newest_change: Callable[[], Awaitable[int]],
        relay: RelayState | None,
        reloads: Reloads,
        trail: ReloadTrail,
        recording: RecordingState | None = None,
    ) -> None:
        """`newest_change` asks the store, and raises GatewayError where it cannot be asked."""
        self._node = node
        self._host = host
        self._workers = workers
        self._counts = counts
        self._membership = membership
        self._newest_change = newest_change
        self._relay = relay
        self._reloads = reloads
        self._trail = trail
        self._recording = recording

    async def status(self, caller: Caller) -> GatewayStatus:
        """Return how things stand. Raises NotAllowed."""
        require(caller.authority, READ)
        require_operators_organization(caller.authority, "see how this gateway is doing")
        workers = self._workers
        head = await head_of(self._newest_change)
        members = await self._membership.members()
        return GatewayStatus(
            version=__version__,
            node=self._node,
            host=self._host,
            settings_loaded_at=workers.settings_loaded_at,
            reloads=workers.reloads,
            reloads_failed=workers.reloads_failed,
            workers_ready=workers.ready,
            workers_of=workers.of,
            store=StoreStatus(reachable=head is not None, head=head),
            redis=None if self._relay is None else _redis(self._relay),
            recording=None if self._recording is None else self._recorded(self._recording),
            workers=tuple(self._worker(each) for each in sorted(members, key=_place)),
        )

    async def reload(self, caller: Caller) -> Reloaded:
        """Have the settings read again. Raises NotAllowed, and Conflict with every problem where nothing came of it."""
        require(caller.authority, ADMIN)
        require_operator(caller.authority, "reload the settings")
        outcome = await self._reloads.reload()
        if not outcome.ok:
            raise Conflict("\n".join(outcome.problems), code=outcome.code)
        try:
            await self._trail.record(caller, outcome.changed)
        except GatewayError as error:  # it is done, whatever becomes of its trace
            _log.warning("a reload is missing in the trail", extra={"reason": error.internal or error.detail})
        return Reloaded(changed=outcome.changed, warnings=outcome.warnings)

    def _recorded(self, recording: RecordingState) -> RecordingStatus:
        lag = recording.lag_seconds
        return RecordingStatus(
            active=recording.active,
            lag_seconds=None if lag is None else round(lag, 3),
            store_reachable=not recording.store_away_seconds,
            spool_bytes=recording.spool_bytes,
            waiting_bytes=recording.waiting_bytes,
            spool_limit_bytes=recording.limit_bytes,
            entries=recording.entries,
            damaged_bytes=recording.damaged_bytes,
            unrecorded_refusals=recording.unrecorded_refusals,
            dropped_segments=recording.dropped_segments,
            ndjson_failures=recording.sink_failures,
            workers_blocked=sum(1 for each in self._counts.all() if each.audit_blocked),
        )

    def _worker(self, member: MemberFacts) -> WorkerStatus:
        count = self._counts.of(member.pid) if member.own else None
        return WorkerStatus(
            name=member.name,
            node=member.node,
            host=member.host,
            pid=member.pid,
            own=member.own,
            applied=member.applied,
            lag=member.lag,
            silent_seconds=round(member.silent_seconds, 3),
            figures=None if count is None else _figures(count),
        )


async def head_of(newest_change: Callable[[], Awaitable[int]]) -> int | None:
    """Return the number of the store's newest change; None where it cannot be told in time."""
    try:
        async with asyncio.timeout(_STORE_TIMEOUT_SECONDS):
            return await newest_change()
    except (GatewayError, TimeoutError):
        return None


def _place(member: MemberFacts) -> tuple[bool, str, str, str, int]:
    return (not member.own, member.host, member.node, member.name, member.pid)


def _redis(relay: RelayState) -> RedisStatus:
    return RedisStatus(
        reachable=relay.redis_reachable,
        complete=relay.redis_reachable and relay.complete,
        relayed=relay.relayed,
        rebuilds=relay.rebuilds,
    )


def _figures(count: WorkerCount) -> WorkerFigures:
    return WorkerFigures(
        feed=cast("Feed", count.feed) if count.feed in {"redis", "store"} else "none",
        proven_for_seconds=round(count.proven_for_seconds, 3),
        hits=count.hits,
        misses=count.lookups,
        hits_absent=count.hits_absent,
        lookups_discarded=count.lookups_discarded,
        lookup_failures=count.lookup_failures,
        evictions=count.evictions,
        changes=count.changes,
        entries=count.entries,
        absent_entries=count.absent_entries,
        oldest_entry_seconds=round(count.oldest_entry_seconds, 3),
        connections=count.connections,
        in_flight=count.in_flight,
        requests=count.requests,
    )
