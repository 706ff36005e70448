"""The control process: `python -m gateway.control.process FD`, started by the supervisor and by nobody else.

It migrates the store, says so (workers wait for that), then serves the control listener until the drain: health and the
admin API. Composition root: this is the one file of the control plane that names concrete backends.

Invariant: no request depends on this process. When it dies, workers go on, and the supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Final

from gateway import logs
from gateway.errors import GatewayError
from gateway.lifecycle import Message, StartOrder, SupervisorChannel
from gateway.store.migrate import migrate
from gateway.store.sqlite_reader import SqliteReader

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from gateway.control.api.operation import Services
    from gateway.settings.model import Settings

_PROBE_TIMEOUT_MILLISECONDS: Final = 1000
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
    # Imported this late because half a second of imports must not stand between a start and `store_ready`.
    from gateway.control.api.routes import routes  # noqa: PLC0415
    from gateway.control.following import Following  # noqa: PLC0415
    from gateway.control.health import Health, Workers  # noqa: PLC0415
    from gateway.control.listener import serve  # noqa: PLC0415
    from gateway.store.engine import create_engine  # noqa: PLC0415

    settings = order.settings
    path = settings.store.sqlite_path
    workers = Workers()
    following = Following(
        announce=lambda: channel.report("changed"),
        newest_change=lambda: asyncio.to_thread(_newest_change, path),
        believes_for_seconds=settings.cache.positive_ttl_seconds + settings.cache.max_stale_seconds,
    )

    def on_message(message: Message) -> None:
        if message["command"] == "workers":
            workers.update(message)
            following.update(message)
        elif message["command"] == "applied":
            following.applied(message)

    async def probe_store() -> None:
        await asyncio.to_thread(_newest_change, path)

    async def run() -> None:
        drained = asyncio.Event()
        channel.attach(asyncio.get_running_loop(), drained.set, on_message)
        engine = create_engine(settings.store.url)
        api = routes(_services(settings, engine), following, bare_authorization=settings.auth.bare_authorization)
        served = [*Health(workers, probe_store).routes(), *api]
        try:
            async with serve(order.listen_fds[0], served, realm=settings.auth.realm):
                # Without a single change nothing was ever created: somebody's first start.
                first_start = not order.restarted and await asyncio.to_thread(_newest_change, path) == 0
                channel.report("ready", first_start=first_start)
                await drained.wait()
        finally:
            await engine.dispose()

    asyncio.run(run())


def _services(settings: Settings, engine: AsyncEngine) -> Services:
    """Build what the admin API calls, by the settings."""
    # As late as the other imports of this process, and for the same reason.
    from gateway.control.api.operation import Services  # noqa: PLC0415
    from gateway.services.authentication import Authenticator  # noqa: PLC0415
    from gateway.services.events import EventService  # noqa: PLC0415
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
        events=EventService(engine),
        route_permissions=frozenset(each for route in settings.routes for each in route.permissions),
    )


def _newest_change(path: Path) -> int:
    """The number of the store's newest change, 0 where there is none; raises GatewayError where it cannot be read.

    Opened anew each time, as a worker's would be, so that a store that was moved away is not called readable.
    """
    with closing(SqliteReader(path, busy_timeout_milliseconds=_PROBE_TIMEOUT_MILLISECONDS)) as reader:
        return reader.head()


if __name__ == "__main__":
    main()
