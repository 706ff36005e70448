"""The worker process: builds the data plane's objects, and is the only file here that names concrete backends.

Started by the supervisor as `python -m gateway.proxy.process FD`, where FD is its end of the channel.
"""

import asyncio
import gc
import logging
import os
import socket
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Protocol

import uvloop
from aiohttp import web

from gateway import garbage, logs
from gateway.cache.direct_lookup import DirectLookup
from gateway.cache.key_cache import KeyCache, KeySource
from gateway.cache.shared_lookup import SharedLookup, Store
from gateway.changes.applier import Applier
from gateway.changes.log_follower import LogFollower
from gateway.changes.shared_feed import LocalLog, SharedFeed, StoreLog
from gateway.errors import GatewayError
from gateway.extensions import require_http_parsers
from gateway.keys.projection import LogPosition, WorkerPresence, believes_for, worker_id
from gateway.lifecycle import Message, StartOrder, SupervisorChannel
from gateway.proxy.accepting import Accepting
from gateway.proxy.assembly import assemble, key_cache
from gateway.proxy.health_checks import check_health
from gateway.proxy.recording import Recording
from gateway.proxy.worker import Worker
from gateway.recording.spool import Spool
from gateway.recording.spool_directory import SpoolDirectory
from gateway.settings.model import MEBIBYTE
from gateway.store.sqlite_reader import SqliteReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.settings.model import Settings
    from gateway.store.key_table import KeyTable

_GARBAGE_THRESHOLD: Final = 50_000
_COUNTS_SECONDS: Final = 1.0
_LOG = logging.getLogger(__name__)


def main() -> None:
    """Wait for the start order, then serve until drained."""
    channel = SupervisorChannel(int(sys.argv[1]))
    order = channel.wait_for_start()
    logs.configure(order.settings.log, f"worker-{order.slot}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            require_http_parsers()
            runner.run(_serve(channel, order))
        except GatewayError as error:
            _LOG.error("%s %s", error.detail, error.internal)
            channel.report("failed", reason=error.detail)
            sys.exit(1)


class Feed(Protocol):
    """How a worker hears of changes."""

    @property
    def source(self) -> str:
        """What the last proof of currency came from: "redis", "store", or "none" where there was none."""

    async def start(self) -> None:
        """The first proof; raises GatewayError."""

    async def run(self) -> None:
        """Follow until cancelled."""

    def look(self) -> None:
        """There is a change: do not wait for the next time."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Where keys come from, and what is remembered of them."""

    cache: KeyCache
    source: KeySource
    applier: Applier
    feed: Feed


async def _serve(channel: SupervisorChannel, order: StartOrder) -> None:
    settings = order.settings
    loop = asyncio.get_running_loop()
    recording = _recording(settings)
    accepting = Accepting(order.listen_fds, order.slot, backlog=settings.server.backlog)

    def on_applied(position: LogPosition) -> None:
        channel.report("applied", seq=position.seq, epoch=position.epoch)

    async with AsyncExitStack() as ended:
        if recording is not None:
            recording.spool.start()
            ended.callback(recording.close)
        embedded = settings.store.is_sqlite and settings.redis.url is None
        make = _embedded if embedded else _shared
        backend = make(order, loop.time, on_applied, ended)

        def on_message(message: Message) -> None:
            if message["command"] == "look":
                backend.feed.look()
            else:
                accepting.on_message(message)

        channel.attach(loop, accepting.drain, on_message)
        try:
            await backend.feed.start()
        except GatewayError as error:
            if not order.restarted:
                raise
            # Nobody else serves this slot: without a store there is a 503 to give, and there are keyless routes.
            _LOG.warning("serving without a store: %s %s", error.detail, error.internal)
        worker = assemble(settings, backend.cache, backend.source, loop, recording)
        backend.cache.on_change = worker.changed
        # A defect in one of these ends the process, and the supervisor starts another: a worker that no longer hears of
        # changes must not go on.
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(task)
                for task in (
                    backend.feed.run(),
                    worker.keep_time(),
                    _tell_counts(channel, worker, backend),
                    *(() if recording is None else (recording.spool.keep_room(), recording.spool.keep_synced())),
                    *(check_health(pool) for pool in worker.pools),
                )
            ]
            await _serve_until_drained(accepting, worker, channel)
            for task in tasks:
                task.cancel()
    channel.close()


def _recording(settings: "Settings") -> Recording | None:
    """Where requests are put on record; None where the settings say that they are not."""
    if settings.audit.record != "all":
        return None
    spool = Spool(
        SpoolDirectory(settings.audit_directory / "spool"),
        limit_bytes=settings.audit.spool_limit_mebibytes * MEBIBYTE,
        when_full=settings.audit.when_full,
        sync_interval_seconds=settings.audit.sync_interval_seconds,
    )
    return Recording(spool, refusals_per_second=settings.audit.refusals_per_second, key_prefix=settings.auth.key_prefix)


def _embedded(
    order: StartOrder,
    clock: "Callable[[], float]",
    on_applied: "Callable[[LogPosition], None]",
    ended: AsyncExitStack,
) -> Backend:
    """Build on a store of this machine alone: read on the loop, its log polled."""
    settings = order.settings
    reader, source = _local_store(settings, ended)
    cache = key_cache(settings.cache, source, clock=clock, wall_clock=time.time)
    applier = Applier(cache, on_applied)
    feed = LogFollower(
        reader,
        applier,
        interval_seconds=settings.cache.poll_interval_milliseconds / 1000,
        clock=clock,
        proven=cache.proven,
    )
    return Backend(cache, source, applier, feed)


def _local_store(settings: "Settings", ended: AsyncExitStack) -> tuple[SqliteReader, DirectLookup]:
    path = settings.store.sqlite_path
    reader = SqliteReader(path, lazy=True)
    source = DirectLookup(reader, lambda: SqliteReader(path))
    ended.callback(reader.close)
    ended.callback(source.close)
    return reader, source


def _shared(
    order: StartOrder,
    clock: "Callable[[], float]",
    on_applied: "Callable[[LogPosition], None]",
    ended: AsyncExitStack,
) -> Backend:
    """Build on servers: a store or a key table, or both, that other nodes use too."""
    settings = order.settings
    name = f"worker-{order.slot}"
    own_id = worker_id(order.node, name, os.getpid())
    host = socket.gethostname()
    believed = believes_for(settings.cache.positive_ttl_seconds, settings.cache.max_stale_seconds)

    def presence(position: LogPosition | None) -> WorkerPresence:
        return WorkerPresence(own_id, order.node, host, name, os.getpid(), believed, position)

    table = _key_table(settings, own_id, ended)
    log: StoreLog
    store: Store
    if settings.store.is_sqlite:
        reader, direct = _local_store(settings, ended)
        log, store = LocalLog(reader), direct
    else:
        # Here, since a machine without PostgreSQL need not have its driver.
        from gateway.store.postgres_reader import PostgresReader  # noqa: PLC0415

        log = store = server = PostgresReader(settings.store.url, connections=settings.store.connections_per_worker)
        ended.push_async_callback(server.close)
        ended.push_async_callback(server.leave, own_id)

    source = SharedLookup(
        table,
        store,
        position=lambda: applier.position,
        entered=lambda: feed.entered,
        heard=lambda: feed.source == "redis",
        clock=clock,
    )
    cache = key_cache(settings.cache, source, clock=clock, wall_clock=time.time)

    def applied(position: LogPosition) -> None:
        feed.applied()
        on_applied(position)

    applier = Applier(cache, applied)
    feed = SharedFeed(
        applier,
        log,
        table,
        presence=presence,
        proven=cache.proven,
        clock=clock,
        poll_seconds=settings.cache.poll_interval_milliseconds / 1000,
    )
    return Backend(cache, source, applier, feed)


def _key_table(settings: "Settings", own_id: str, ended: AsyncExitStack) -> "KeyTable | None":
    if settings.redis.url is None:
        return None
    # Here, since a worker without Redis need not load what only Redis needs.
    from gateway.store.key_table import key_table  # noqa: PLC0415

    table = key_table(settings.redis.url, settings.redis)
    ended.push_async_callback(table.close)
    ended.push_async_callback(table.leave, own_id)
    return table


async def _tell_counts(channel: SupervisorChannel, worker: Worker, backend: Backend) -> None:
    """Tell the control process once a second what happens here, until cancelled."""
    cache = backend.cache
    while True:
        at = backend.applier.position
        channel.report(
            "counts",
            **asdict(cache.counts),
            entries=len(cache),
            absent_entries=cache.absent_entries(),
            oldest_entry_seconds=cache.oldest_entry_seconds(),
            proven_for_seconds=cache.proven_for_seconds(),
            feed=backend.feed.source,
            epoch=None if at is None else at.epoch,
            applied=None if at is None else at.seq,
            connections=len(worker.connections),
            in_flight=worker.in_flight,
            requests=worker.requests,
            refused_connections=worker.overload.connections,
            refused_requests=worker.overload.requests,
            **_audit_counts(worker.recording),
        )
        await asyncio.sleep(_COUNTS_SECONDS)


def _audit_counts(recording: Recording | None) -> dict[str, int]:
    spool = None if recording is None else recording.spool
    return {
        "audit_entries": 0 if spool is None else spool.entries,
        "audit_blocked": int(spool is not None and spool.blocked),
    }


async def _serve_until_drained(accepting: Accepting, worker: Worker, channel: SupervisorChannel) -> None:
    """Accept and serve until told to drain, then until the last connection has ended or its time is over."""
    # The runner wants aiohttp's own Server; what it does with it is to call it for a protocol, and to shut it down.
    runner = web.ServerRunner(worker, shutdown_timeout=worker.settings.drain_timeout_seconds)  # type: ignore[arg-type]
    await runner.setup()
    await accepting.begin(runner)
    garbage.settle()
    # Requests leave no cycles; at the default of 700, a few hundred in flight are looked through again and again.
    gc.set_threshold(_GARBAGE_THRESHOLD)
    channel.report("ready")
    await accepting.until_drained(runner)
    channel.report("draining")
    if worker.recording is not None:
        worker.recording.spool.give_back()
    worker.hands_over = accepting.hands_over
    await accepting.end(worker)
    await runner.cleanup()


if __name__ == "__main__":
    main()
