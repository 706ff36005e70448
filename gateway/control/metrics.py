"""`/metrics`, in Prometheus' text format: what this node's workers count, and how its stores and its spool are doing.

Invariant: whoever can reach the control listener may read it, without a key, as with `/healthz`. So it holds numbers
alone; labels are slots, process ids and fixed words, never a key, a path, an address or anything that a client sent.

The metrics are tables: a name, a sentence and where the value comes from. docs/metrics.md is held against them by a
test. What workers count begins with 0 in each process, so a reload looks like any restart to Prometheus. Its own
registry of counters was turned down: nothing is counted in this process that is not counted somewhere already.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.control.status import head_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from prometheus_client.core import Metric

    from gateway.control.api.propagation import Propagation, PropagationShape
    from gateway.control.health import Workers
    from gateway.control.recording_state import RecordingState
    from gateway.control.relay_state import RelayState
    from gateway.control.worker_counts import WorkerCount, WorkerCounts

    Number = float | None

BUCKETS_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
FEEDS: Final = ("redis", "store", "none")
_WORKER: Final = ("worker", "pid")


class MeasuredPropagation:
    """Waits as another Propagation does, and remembers how long answers to changes took."""

    __slots__ = ("_propagation", "counts", "seconds", "silent")

    def __init__(self, propagation: Propagation) -> None:
        self._propagation = propagation
        self.counts = [0] * (len(BUCKETS_SECONDS) + 1)
        """Changes by the bucket that their time is in; the last one has no upper bound."""
        self.seconds = 0.0
        self.silent = 0
        """Changes that were answered while a worker was silent."""

    async def wait(self, seq: int | None) -> PropagationShape:
        """See Propagation; what had to change nothing is not counted."""
        shape = await self._propagation.wait(seq)
        if seq is not None:
            seconds = shape.milliseconds / 1000
            self.counts[bisect_left(BUCKETS_SECONDS, seconds)] += 1
            self.seconds += seconds
            self.silent += bool(shape.silent)
        return shape


@dataclass(frozen=True, slots=True)
class Facts:
    """What one scrape is made of."""

    workers: Workers
    counts: tuple[WorkerCount, ...]
    head: int | None
    """The newest change of the store; None where the store did not answer."""
    relay: RelayState | None
    propagation: MeasuredPropagation
    recording: RecordingState | None = None

    def lag(self, count: WorkerCount) -> Number:
        """How many changes a worker is behind."""
        if self.head is None or count.applied is None:
            return None
        return max(0, self.head - count.applied)

    def of_relay(self, value: Callable[[RelayState], Number]) -> Number:
        """Something of the relay, where there is one."""
        return None if self.relay is None else value(self.relay)

    def of_recording(self, value: Callable[[RecordingState], Number]) -> Number:
        """Something of the recorder, where requests are recorded."""
        return None if self.recording is None else value(self.recording)


Kind = Literal["counter", "gauge"]


@dataclass(frozen=True, slots=True)
class OfWorkers:
    """A value of each worker; None: none can be told, and there is no sample."""

    name: str
    kind: Kind
    help: str
    value: Callable[[Facts, WorkerCount], Number]


@dataclass(frozen=True, slots=True)
class OfNode:
    """A value of the node; None as with workers."""

    name: str
    kind: Kind
    help: str
    value: Callable[[Facts], Number]


OF_WORKERS: Final = (
    OfWorkers("gateway_requests_total", "counter", "Requests, refused ones too.", lambda _, w: w.requests),
    OfWorkers("gateway_requests_in_flight", "gauge", "Requests in progress.", lambda _, w: w.in_flight),
    OfWorkers("gateway_connections", "gauge", "Connections of clients.", lambda _, w: w.connections),
    OfWorkers(
        "gateway_overload_connections_total",
        "counter",
        "Connections that were refused above `server.max_connections`.",
        lambda _, w: w.refused_connections,
    ),
    OfWorkers(
        "gateway_overload_requests_total",
        "counter",
        "Requests that were refused above `server.max_in_flight`.",
        lambda _, w: w.refused_requests,
    ),
    OfWorkers("gateway_cache_hits_total", "counter", "Keys known from memory.", lambda _, w: w.hits),
    OfWorkers("gateway_cache_misses_total", "counter", "Keys that were looked up.", lambda _, w: w.lookups),
    OfWorkers(
        "gateway_cache_absent_hits_total",
        "counter",
        "Unknown keys known from memory to be unknown.",
        lambda _, w: w.hits_absent,
    ),
    OfWorkers(
        "gateway_cache_lookups_discarded_total",
        "counter",
        "Lookups that a change overtook, and that were made again.",
        lambda _, w: w.lookups_discarded,
    ),
    OfWorkers(
        "gateway_cache_lookup_failures_total",
        "counter",
        "Lookups that neither Redis nor the store answered.",
        lambda _, w: w.lookup_failures,
    ),
    OfWorkers("gateway_cache_evictions_total", "counter", "Keys forgotten for want of room.", lambda _, w: w.evictions),
    OfWorkers("gateway_cache_changes_total", "counter", "Changes that were applied.", lambda _, w: w.changes),
    OfWorkers("gateway_cache_entries", "gauge", "Keys held in memory.", lambda _, w: w.entries),
    OfWorkers("gateway_cache_absent_entries", "gauge", "Unknown keys remembered.", lambda _, w: w.absent_entries),
    OfWorkers(
        "gateway_cache_oldest_entry_seconds",
        "gauge",
        "Age of the oldest key held in memory.",
        lambda _, w: w.oldest_entry_seconds,
    ),
    OfWorkers(
        "gateway_worker_applied_seq", "gauge", "The newest change that counts in the worker.", lambda _, w: w.applied
    ),
    OfWorkers("gateway_worker_lag_changes", "gauge", "Changes of the store that do not count there yet.", Facts.lag),
    OfWorkers(
        "gateway_worker_proven_seconds",
        "gauge",
        "How long the worker may still serve from memory without a new proof that it is current.",
        lambda _, w: w.proven_for_seconds,
    ),
    OfWorkers(
        "gateway_audit_spooled_total",
        "counter",
        "Records of requests that workers wrote to the spool; of a request that lasts, two.",
        lambda _, w: w.audit_entries,
    ),
    OfWorkers(
        "gateway_audit_blocked",
        "gauge",
        "1 while the worker refuses requests, since they could not be recorded.",
        lambda _, w: w.audit_blocked,
    ),
)

OF_NODE: Final = (
    OfNode("gateway_workers", "gauge", "Worker slots of this node.", lambda f: f.workers.of),
    OfNode("gateway_workers_ready", "gauge", "Worker slots that serve.", lambda f: f.workers.ready),
    OfNode("gateway_reloads_total", "counter", "Reloads of the settings.", lambda f: f.workers.reloads),
    OfNode(
        "gateway_reloads_failed_total",
        "counter",
        "Reloads that were refused or ended half-way.",
        lambda f: f.workers.reloads_failed,
    ),
    OfNode(
        "gateway_settings_loaded_timestamp_seconds",
        "gauge",
        "When the settings in force were loaded.",
        lambda f: None if f.workers.settings_loaded_at is None else f.workers.settings_loaded_at.timestamp(),
    ),
    OfNode("gateway_store_reachable", "gauge", "1 while the store answers.", lambda f: f.head is not None),
    OfNode("gateway_store_head_seq", "gauge", "The newest change in the store's log.", lambda f: f.head),
    OfNode(
        "gateway_redis_reachable",
        "gauge",
        "1 while Redis answers; absent where none is configured.",
        lambda f: f.of_relay(lambda relay: relay.redis_reachable),
    ),
    OfNode(
        "gateway_redis_table_complete",
        "gauge",
        "1 while the key table in Redis holds every key.",
        lambda f: f.of_relay(lambda relay: relay.redis_reachable and relay.complete),
    ),
    OfNode(
        "gateway_redis_relayed_seq",
        "gauge",
        "The newest change that the key table in Redis has.",
        lambda f: f.of_relay(lambda relay: relay.relayed),
    ),
    OfNode(
        "gateway_redis_rebuilds_total",
        "counter",
        "How often this process built the key table anew.",
        lambda f: f.of_relay(lambda relay: relay.rebuilds),
    ),
    OfNode(
        "gateway_propagation_silent_total",
        "counter",
        "Changes that were answered while a worker had not said that it follows.",
        lambda f: f.propagation.silent,
    ),
    OfNode(
        "gateway_audit_entries_total",
        "counter",
        "Records of requests that this process took into the store.",
        lambda f: f.of_recording(lambda recording: recording.entries),
    ),
    OfNode(
        "gateway_audit_lag_seconds",
        "gauge",
        "Age of the oldest record that is not in the store yet; absent while another process records or it is unknown.",
        lambda f: f.of_recording(lambda recording: recording.lag_seconds),
    ),
    OfNode(
        "gateway_audit_spool_bytes",
        "gauge",
        "What the spool takes on the disk, files that workers hold ready included.",
        lambda f: f.of_recording(lambda recording: recording.spool_bytes),
    ),
    OfNode(
        "gateway_audit_waiting_bytes",
        "gauge",
        "What of the spool is not in the store yet.",
        lambda f: f.of_recording(lambda recording: recording.waiting_bytes),
    ),
    OfNode(
        "gateway_audit_spool_limit_bytes",
        "gauge",
        "What the spool may take.",
        lambda f: f.of_recording(lambda recording: recording.limit_bytes),
    ),
    OfNode(
        "gateway_audit_damaged_bytes_total",
        "counter",
        "What could not be read in the spool.",
        lambda f: f.of_recording(lambda recording: recording.damaged_bytes),
    ),
    OfNode(
        "gateway_audit_unrecorded_refusals_total",
        "counter",
        "Refusals beyond `audit.refusals_per_second`, which are on record by their number alone.",
        lambda f: f.of_recording(lambda recording: recording.unrecorded_refusals),
    ),
    OfNode(
        "gateway_audit_dropped_segments_total",
        "counter",
        "Segments of the spool that were given up for want of room (`audit.when_full`).",
        lambda f: f.of_recording(lambda recording: recording.dropped_segments),
    ),
    OfNode(
        "gateway_audit_ndjson_failures_total",
        "counter",
        "Records that could not be copied to `audit.ndjson`.",
        lambda f: f.of_recording(lambda recording: recording.sink_failures),
    ),
)


class Metrics:
    """Answers scrapes."""

    def __init__(
        self,
        workers: Workers,
        counts: WorkerCounts,
        newest_change: Callable[[], Awaitable[int]],
        relay: RelayState | None,
        propagation: MeasuredPropagation,
        *,
        recording: RecordingState | None = None,
    ) -> None:
        """`newest_change` asks the store, and raises GatewayError where it cannot be asked."""
        self._workers = workers
        self._counts = counts
        self._newest_change = newest_change
        self._relay = relay
        self._propagation = propagation
        self._recording = recording

    def routes(self) -> list[web.RouteDef]:
        """To be added to the control application."""
        return [web.get("/metrics", self.metrics)]

    async def metrics(self, _: web.Request) -> web.Response:
        """200, with everything there is."""
        head = await head_of(self._newest_change)
        counts = tuple(self._counts.all())
        facts = Facts(self._workers, counts, head, self._relay, self._propagation, self._recording)
        headers = {"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"}
        return web.Response(body=exposition(facts), headers=headers)


def exposition(facts: Facts) -> bytes:
    """Write the facts down in Prometheus' format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(facts))
    return generate_latest(registry)


class _Once(Collector):
    """The families of one scrape."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        facts = self._facts
        yield _version()
        for each in OF_WORKERS:
            yield _of_workers(each, facts)
        yield _feeds(facts)
        for metric in OF_NODE:
            value = metric.value(facts)
            family = _family(metric, ())
            if value is not None:
                family.add_metric((), float(value))
            yield family
        yield _histogram(facts.propagation)


def _version() -> Metric:
    family = GaugeMetricFamily("gateway_info", "Always 1; says which version answers.", labels=("version",))
    family.add_metric((__version__,), 1)
    return family


def _family(metric: OfWorkers | OfNode, labels: tuple[str, ...]) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=labels)


def _of_workers(metric: OfWorkers, facts: Facts) -> Metric:
    family = _family(metric, _WORKER)
    for count in facts.counts:
        value = metric.value(facts, count)
        if value is not None:
            family.add_metric((count.name, str(count.pid)), float(value))
    return family


def _feeds(facts: Facts) -> Metric:
    described = "How the worker hears of changes: 1 at redis, store or none."
    family = GaugeMetricFamily("gateway_worker_feed", described, labels=(*_WORKER, "feed"))
    for count in facts.counts:
        for feed in FEEDS:
            family.add_metric((count.name, str(count.pid), feed), float(count.feed == feed))
    return family


def _histogram(measured: MeasuredPropagation) -> Metric:
    described = "From a committed change to its answer: until every worker followed, or until waiting was given up."
    bounds = [*map(str, BUCKETS_SECONDS), "+Inf"]
    buckets = list(zip(bounds, map(float, accumulate(measured.counts)), strict=True))
    return HistogramMetricFamily("gateway_propagation_seconds", described, buckets=buckets, sum_value=measured.seconds)
