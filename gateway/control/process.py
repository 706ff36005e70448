"""The control process: `python -m gateway.control.process FD`, started by the supervisor and by nobody else.

It migrates the store, says so (workers wait for that), then serves the control listener until the drain: health and the
admin API. Composition root: this is the one file of the control plane that names concrete backends.

Invariant: no request depends on this process. When it dies, workers go on, and the supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING, Final

from gateway import garbage, logs
from gateway.errors import GatewayError
from gateway.extensions import require_http_parsers
from gateway.keys.projection import believes_for
from gateway.lifecycle import Message, StartOrder, SupervisorChannel
from gateway.store.migrate import migrate
from gateway.store.sqlite_reader import SqliteReader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from gateway.control.api.operation import Services
    from gateway.control.following import Following
    from gateway.control.health import Workers
    from gateway.control.reloads import Reloads
    from gateway.control.status import Administration
    from gateway.control.worker_counts import WorkerCounts
    from gateway.services.log_guard import LogGuard
    from gateway.services.recorder import Recorder
    from gateway.services.relay import Relay
    from gateway.settings.model import Settings
    from gateway.store.audit_store import AuditStore
    from gateway.store.key_table import KeyTable

_PROBE_TIMEOUT_MILLISECONDS: Final = 1000
_LAST_RECORDS_SECONDS: Final = 3.0
"""How long the end is put off for what workers wrote last; what is left then is taken up after the next start."""
_log: Final = logging.getLogger(__name__)


def main() -> None:
    """Do the supervisor's order; expected failures are reported to it as one sentence, and end the process."""
    channel = SupervisorChannel(int(sys.argv[1]))
    order = channel.wait_for_start()
    logs.configure(order.settings.log, "control")
    try:
        if not order.restarted:
            migrate(order.settings.store.url)
        channel.report("store_ready")
        _serve(order, channel)
    except GatewayError as error:
        _log.debug("cannot start", extra={"reason": error.internal})
        channel.report("failed", reason=error.detail)
        sys.exit(1)


def _serve(order: StartOrder, channel: SupervisorChannel) -> None:
    asyncio.run(_serve_until_drained(order, channel))


async def _serve_until_drained(order: StartOrder, channel: SupervisorChannel) -> None:  # noqa: PLR0915 - see below
    """Build all parts, each from those above it, and run them.

    Longer than functions are here: it is the one list of what this process is made of, and cutting it would hand most
    of the parts on from piece to piece.
    """
    # Imported this late because half a second of imports must not stand between a start and `store_ready`.
    from gateway.control.api.routes import routes  # noqa: PLC0415
    from gateway.control.following import Following  # noqa: PLC0415
    from gateway.control.health import Health, Workers  # noqa: PLC0415
    from gateway.control.listener import serve  # noqa: PLC0415
    from gateway.control.metrics import MeasuredPropagation, Metrics  # noqa: PLC0415
    from gateway.control.reloads import Reloads  # noqa: PLC0415
    from gateway.control.status import Administration  # noqa: PLC0415
    from gateway.control.worker_counts import WorkerCounts  # noqa: PLC0415
    from gateway.services.log_guard import LogGuard  # noqa: PLC0415
    from gateway.services.reload_events import ReloadEvents  # noqa: PLC0415
    from gateway.services.retention import keep_to  # noqa: PLC0415
    from gateway.services.worker_roll import WorkerRoll  # noqa: PLC0415
    from gateway.store.audit_factory import audit_store  # noqa: PLC0415
    from gateway.store.engine import create_engine  # noqa: PLC0415

    require_http_parsers()
    settings, host = order.settings, socket.gethostname()
    async with AsyncExitStack() as ended:
        engine = create_engine(settings.store.url)
        ended.push_async_callback(engine.dispose)
        table = _key_table(settings, ended)
        relay = None if table is None else _relay(engine, table)
        # A store that is a file is not taken back under a running gateway: it is another file then, which is noticed.
        guard = None if settings.store.is_sqlite else LogGuard(engine)
        newest_change = _newest_change(settings, engine)
        requests = audit_store(settings, engine)
        ended.push_async_callback(requests.close)
        recorder = _recorder(settings, engine, requests)

        def announce() -> None:
            if relay is not None:
                relay.nudge()
            channel.report("changed")

        workers, counts = Workers(), WorkerCounts()
        reloads = Reloads(lambda number: channel.report("reload", number=number))
        following = Following(
            announce=announce,
            newest_change=newest_change,
            believes_for_seconds=believes_for(settings.cache.positive_ttl_seconds, settings.cache.max_stale_seconds),
            # A store that is a file is that of one node, whose supervisor knows all workers.
            roll=None if settings.store.is_sqlite else WorkerRoll(engine, table),
            verify=None if guard is None else guard.verify,
            node=order.node,
            host=host,
        )

        async def probe_store() -> None:
            await newest_change()

        drained = asyncio.Event()
        on_message = _dispatch(workers, counts, following, reloads, guard)
        channel.attach(asyncio.get_running_loop(), drained.set, on_message)
        administration = Administration(
            node=order.node,
            host=host,
            workers=workers,
            counts=counts,
            membership=following,
            newest_change=newest_change,
            relay=relay,
            reloads=reloads,
            trail=ReloadEvents(engine),
            recording=recorder,
        )
        measured = MeasuredPropagation(following)
        services = _services(settings, engine, administration, requests, recorder)
        api = routes(services, measured, bare_authorization=settings.auth.bare_authorization)
        metrics = Metrics(workers, counts, newest_change, relay, measured, recording=recorder)
        health = Health(workers, probe_store, relay, recording=recorder, counts=counts)
        served = [*health.routes(), *metrics.routes(), *api]
        # A defect in one of the tasks ends the process, and the supervisor starts another.
        async with asyncio.TaskGroup() as group:
            retaining = keep_to(settings.audit.retention_days, engine, requests)
            running = [following.run(), retaining, *(each.run() for each in (relay, guard) if each is not None)]
            tasks = [group.create_task(task) for task in running]
            recording = None if recorder is None else group.create_task(recorder.run())
            async with serve(order.listen_fds[0], served, realm=settings.auth.realm):
                # Without a single change nothing was ever created: somebody's first start.
                first_start = not order.restarted and await newest_change() == 0
                garbage.settle()
                channel.report("ready", first_start=first_start)
                await drained.wait()
            for task in tasks:
                task.cancel()
            if recorder is not None and recording is not None:
                # Workers end first, so what they wrote last is there now.
                recorder.drain()
                await asyncio.wait([recording], timeout=_LAST_RECORDS_SECONDS)
                recording.cancel()


def _dispatch(
    workers: Workers, counts: WorkerCounts, following: Following, reloads: Reloads, guard: LogGuard | None
) -> Callable[[Message], None]:
    """Make what hands on the supervisor's messages to whom they concern."""
    receivers: dict[str, tuple[Callable[[Message], None], ...]] = {
        "workers": (workers.update, counts.update, following.update),
        "applied": (following.applied, *(() if guard is None else (guard.applied,))),
        "counts": (counts.counted,),
        "reloaded": (reloads.reloaded,),
    }

    def on_message(message: Message) -> None:
        for receive in receivers.get(message["command"], ()):
            receive(message)

    return on_message


def _key_table(settings: Settings, ended: AsyncExitStack) -> KeyTable | None:
    if settings.redis.url is None:
        return None
    from gateway.store.key_table import key_table  # noqa: PLC0415

    table = key_table(settings.redis.url, settings.redis)
    ended.push_async_callback(table.close)
    return table


def _relay(engine: AsyncEngine, table: KeyTable) -> Relay:
    from gateway.services.relay import Relay  # noqa: PLC0415

    return Relay(engine, table)


def _recorder(settings: Settings, engine: AsyncEngine, requests: AuditStore) -> Recorder | None:
    """Build what takes requests into the record; also where they are not recorded any more, and some were left over."""
    directory = settings.audit_directory / "spool"
    if settings.audit.record != "all" and not directory.is_dir():
        return None
    from gateway.services.ndjson_sink import NdjsonSink  # noqa: PLC0415
    from gateway.services.recorder import Recorder  # noqa: PLC0415

    return Recorder(
        engine,
        requests,
        directory,
        retention_days=settings.audit.retention_days,
        limit_bytes=settings.audit.spool_limit_mebibytes << 20,
        sink=None if settings.audit.ndjson is None else NdjsonSink(settings.audit.ndjson),
    )


def _services(
    settings: Settings,
    engine: AsyncEngine,
    administration: Administration,
    requests: AuditStore,
    recorder: Recorder | None,
) -> Services:
    """Build what the admin API calls, by the settings."""
    # As late as the other imports of this process, and for the same reason.
    from gateway.control.api.operation import Services  # noqa: PLC0415
    from gateway.services.audit import AuditService  # noqa: PLC0415
    from gateway.services.authentication import Authenticator  # noqa: PLC0415
    from gateway.services.keys import KeyService  # noqa: PLC0415
    from gateway.services.members import MemberService  # noqa: PLC0415
    from gateway.services.organizations import OrganizationService  # noqa: PLC0415
    from gateway.services.service_accounts import ServiceAccountService  # noqa: PLC0415

    prefix, generic = settings.auth.key_prefix, settings.auth.error_detail == "generic"
    return Services(
        authenticator=Authenticator(engine, key_prefix=prefix, generic=generic),
        keys=KeyService(engine, key_prefix=prefix),
        members=MemberService(engine, key_prefix=prefix),
        service_accounts=ServiceAccountService(engine),
        organizations=OrganizationService(engine, key_prefix=prefix),
        audit=AuditService(engine, requests, recorder if settings.audit.record == "all" else None),
        gateway=administration,
        route_permissions=frozenset(each for route in settings.routes for each in route.permissions),
    )


def _newest_change(settings: Settings, engine: AsyncEngine) -> Callable[[], Awaitable[int]]:
    """Make what gives the number of the store's newest change, 0 where there is none; it raises GatewayError."""
    if settings.store.is_sqlite:
        return lambda: asyncio.to_thread(_newest_change_of_file, settings.store.sqlite_path)

    async def newest_change() -> int:
        from gateway.store.change_log import newest  # noqa: PLC0415
        from gateway.store.engine import read_transaction  # noqa: PLC0415

        async with read_transaction(engine) as connection:
            return await newest(connection)

    return newest_change


def _newest_change_of_file(path: Path) -> int:
    """Opened anew each time, as a worker's would be, so that a store that was moved away is not called readable."""
    with closing(SqliteReader(path, busy_timeout_milliseconds=_PROBE_TIMEOUT_MILLISECONDS)) as reader:
        return reader.head()


if __name__ == "__main__":
    main()
