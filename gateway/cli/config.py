"""`gateway config`: the settings in effect, and the JSON Schema of the file."""

import os
from typing import Annotated

import typer

from gateway.cli.options import Config

app = typer.Typer(help="Show the settings, or their schema.", no_args_is_help=True)


@app.command()
def show(
    config: Config = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value came from.")] = False,
) -> None:
    """Print the effective settings as TOML."""
    from gateway.settings.loading import load
    from gateway.settings.toml_text import show as as_toml

    typer.echo(as_toml(load(config, {}, os.environ), origin=origin), nl=False)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file."""
    from gateway.settings.schema import schema as as_json_schema

    typer.echo(as_json_schema(), nl=False)
