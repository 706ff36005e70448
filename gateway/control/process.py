"""The control process: `python -m gateway.control.process FD`, started by the supervisor and by nobody else.

It migrates the store, says so (workers wait for that), then serves the control listener until the drain. Composition
root: this is the one file of the control plane that names concrete backends. What comes later has its place here: the
admin API and metrics are further routes of the application, the recorder and the change relay further entries of its
`cleanup_ctx`.

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
    from gateway.control.health import Health, Workers  # noqa: PLC0415
    from gateway.control.listener import serve  # noqa: PLC0415

    path = order.settings.store.sqlite_path
    workers = Workers()

    def on_message(message: Message) -> None:
        if message["command"] == "workers":
            workers.update(message)

    async def probe_store() -> None:
        await asyncio.to_thread(_newest_change, path)

    async def run() -> None:
        drained = asyncio.Event()
        channel.attach(asyncio.get_running_loop(), drained.set, on_message)
        async with serve(order.listen_fds[0], Health(workers, probe_store).routes()):
            # Without a single change nothing was ever created: somebody's first start.
            first_start = not order.restarted and await asyncio.to_thread(_newest_change, path) == 0
            channel.report("ready", first_start=first_start)
            await drained.wait()

    asyncio.run(run())


def _newest_change(path: Path) -> int:
    """The number of the store's newest change, 0 where there is none; raises GatewayError where it cannot be read.

    Opened anew each time, as a worker's would be, so that a store that was moved away is not called readable.
    """
    with closing(SqliteReader(path, busy_timeout_milliseconds=_PROBE_TIMEOUT_MILLISECONDS)) as reader:
        return reader.head()


if __name__ == "__main__":
    main()
