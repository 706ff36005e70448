"""The worker process: builds the data plane's objects, and is the only file here that names concrete backends.

Started by the supervisor as `python -m gateway.proxy.process FD`, where FD is its end of the channel.
"""

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Callable
from typing import Final, TypeVar

import uvloop
from aiohttp import web

from gateway import logs
from gateway.cache.direct_lookup import DirectLookup
from gateway.changes.log_follower import LogFollower
from gateway.errors import GatewayError, StoreBusy
from gateway.lifecycle import Message, StartOrder, SupervisorChannel
from gateway.proxy.accepting import Accepting
from gateway.proxy.assembly import assemble, key_cache
from gateway.proxy.health_checks import check_health
from gateway.proxy.worker import Worker
from gateway.store.sqlite_reader import SqliteReader

_GARBAGE_THRESHOLD: Final = 50_000
_START_ATTEMPTS: Final = 100
_START_PAUSE_SECONDS: Final = 0.05
_Result = TypeVar("_Result")
_LOG = logging.getLogger(__name__)


def main() -> None:
    """Wait for the start order, then serve until drained."""
    channel = SupervisorChannel(int(sys.argv[1]))
    order = channel.wait_for_start()
    logs.configure(order.settings.log, f"worker-{order.slot}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(channel, order))
        except GatewayError as error:
            _LOG.error("%s %s", error.detail, error.internal)
            channel.report("failed", reason=error.detail)
            sys.exit(1)


async def _serve(channel: SupervisorChannel, order: StartOrder) -> None:
    settings = order.settings
    loop = asyncio.get_running_loop()
    accepting = Accepting(order.listen_fds, order.slot, backlog=settings.server.backlog)
    reader = SqliteReader(settings.store.sqlite_path, lazy=True)
    lookup = DirectLookup(reader, lambda: SqliteReader(settings.store.sqlite_path))
    cache = key_cache(settings.cache, lookup, clock=loop.time, wall_clock=time.time)
    follower = LogFollower(
        reader,
        cache,
        interval_seconds=settings.cache.poll_interval_milliseconds / 1000,
        clock=loop.time,
        on_applied=lambda seq: channel.report("applied", seq=seq),
    )

    def on_message(message: Message) -> None:
        if message["command"] == "look":
            follower.poll()
        else:
            accepting.on_message(message)

    channel.attach(loop, accepting.drain, on_message)
    if order.restarted:
        follower.poll()  # whatever it finds: without a store there is a 503 to give, and routes that need no key
    else:
        await _patiently(follower.start)
    worker = assemble(settings, cache, lookup, loop)
    cache.on_change = worker.changed
    # A defect in one of these ends the process, and the supervisor starts another: a worker that no longer hears of
    # changes must not go on.
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(task)
            for task in (follower.run(), worker.keep_time(), *(check_health(pool) for pool in worker.pools))
        ]
        await _serve_until_drained(accepting, worker, channel)
        for task in tasks:
            task.cancel()
    lookup.close()
    reader.close()
    channel.close()


async def _patiently(step: Callable[[], _Result]) -> _Result:
    """A writer may hold the store at the moment of the start: try for a while; raises StoreBusy after that."""
    for _ in range(_START_ATTEMPTS):
        try:
            return step()
        except StoreBusy:
            await asyncio.sleep(_START_PAUSE_SECONDS)
    return step()


async def _serve_until_drained(accepting: Accepting, worker: Worker, channel: SupervisorChannel) -> None:
    """Accept and serve until told to drain, then until the last connection has ended or its time is over."""
    # The runner wants aiohttp's own Server; what it does with it is to call it for a protocol, and to shut it down.
    runner = web.ServerRunner(worker, shutdown_timeout=worker.settings.drain_timeout_seconds)  # type: ignore[arg-type]
    await runner.setup()
    await accepting.begin(runner)
    # What was made until now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    # Requests leave no cycles; at the default of 700, a few hundred in flight are looked through again and again.
    gc.set_threshold(_GARBAGE_THRESHOLD)
    channel.report("ready")
    await accepting.until_drained(runner)
    channel.report("draining")
    await accepting.end(worker)
    await runner.cleanup()


if __name__ == "__main__":
    main()
