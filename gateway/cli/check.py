"""`gateway check`: whether `gateway run` would accept the settings, with every problem at once."""

import os
from datetime import UTC, datetime

import typer

from gateway.cli.exits import complain
from gateway.cli.options import Config


def check(config: Config = None) -> None:
    """Validate the settings; names every problem with its file, key and reason, and exits with 78."""
    from gateway.settings.certificates import warnings
    from gateway.settings.loading import load

    settings = load(config, {}, os.environ, require_upstream=True).settings
    counts = f"{len(settings.upstreams)} upstream(s), {len(settings.routes)} route(s)"
    for each in warnings(settings, datetime.now(UTC)):
        complain(f"warning: {each}")
    typer.echo(f"The settings are valid: {counts}.")
