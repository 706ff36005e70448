"""`gateway run`: the gateway in the foreground, until a signal ends it.

What can be found wrong without starting anything is found first: the settings, then the ports. A reload loads the
settings as the start did: the same file, flags and environment, read again. Logs go to stderr;
staying in the background is left to what starts it (systemd, a container).
"""

import logging
import os
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import Config

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.lifecycle import Message
    from gateway.settings.model import Settings

_log = logging.getLogger(__name__)


def run(
    config: Config = None,
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="The API to protect, such as http://127.0.0.1:9000.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where clients connect, instead of server.listen.")
    ] = None,
) -> None:
    """Start the gateway. --upstream alone is enough for a first try."""
    from gateway import logs
    from gateway.cli.compilation import is_compiled
    from gateway.settings.loading import load
    from gateway.supervisor.foreground import run_in_foreground
    from gateway.supervisor.listeners import open_listeners

    flags = {"upstream": upstream, "server.listen": listen}
    overrides = {name: value for name, value in flags.items() if value is not None}

    def load_settings() -> "Settings":
        return load(config, overrides, os.environ, require_upstream=True).settings

    def load_again() -> "Settings":
        settings = load_settings()
        _warn(settings)
        return settings

    settings = load_settings()
    logs.configure(settings.log, "supervisor")
    _warn(settings)
    listeners = open_listeners(settings)

    def on_ready(report: "Message") -> None:
        scheme = "http" if settings.server.tls is None else "https"
        where = {"proxy": f"{scheme}://{listeners.proxy_address}", "control": f"http://{listeners.control_address}"}
        _log.info("ready", extra=where | {"workers": settings.server.workers, "compiled": is_compiled()})
        if report.get("first_start"):
            _log.info("there is no key yet; get the first one with: %s", _first_key_command(config))

    raise typer.Exit(run_in_foreground(settings, listeners, on_ready, load_again))


def _warn(settings: "Settings") -> None:
    from gateway.settings.certificates import warnings

    for each in warnings(settings, datetime.now(UTC)):
        _log.warning(each)


def _first_key_command(config: "Path | None") -> str:
    command = ["gateway", "init", *(["--config", str(config)] if config else []), "--org", "NAME", "--admin", "EMAIL"]
    return shlex.join(command)
