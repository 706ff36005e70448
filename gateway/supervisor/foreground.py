"""Runs a supervisor over open listeners until a signal ends it: what `gateway run` and `gateway demo` share.

Limits of the process are set here, once, because children inherit them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from typing import TYPE_CHECKING, Final

from gateway.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.lifecycle import Message
    from gateway.settings.model import Settings
    from gateway.supervisor.listeners import Listeners

_SPARE_FILES: Final = 1024  # idle upstream connections, sockets to listen on, store, event loop
_log: Final = logging.getLogger(__name__)


def run_in_foreground(
    settings: Settings, listeners: Listeners, on_ready: Callable[[Message], None], load: Callable[[], Settings]
) -> int:
    """Run to the end and close the listeners; returns the exit status, raises GatewayError where the start fails.

    `load` reads the settings again, the same way as those at hand were read, for a reload.
    """
    with contextlib.closing(listeners):
        _allow_what_is_needed(settings)
        return asyncio.run(_run(settings, listeners, on_ready, load))


async def _run(
    settings: Settings, listeners: Listeners, on_ready: Callable[[Message], None], load: Callable[[], Settings]
) -> int:
    def load_again() -> Settings:
        loaded = load()
        _allow_what_is_needed(loaded)
        return loaded

    return await Supervisor(settings, listeners, load=load_again, on_ready=on_ready).run()


def _allow_what_is_needed(settings: Settings) -> None:
    server = settings.server
    _allow_open_files(server.max_connections + server.max_in_flight + _SPARE_FILES)


def _allow_open_files(needed: int) -> None:
    """A descriptor per client and one per request in flight: a shell's soft limit of 1,024 is soon used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < needed:
            _log.warning(
                "fewer files may be open than server.max_connections can need; raise the limit (ulimit -Hn)",
                extra={"allowed": allowed, "needed": needed},
            )
