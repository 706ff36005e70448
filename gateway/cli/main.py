"""The entry point `gateway`: the list of commands, and the one place where errors become exit statuses.

A command lives in the module of its name and imports what it needs when it runs, so that `gateway run` starts without
SQLAlchemy, and `gateway --help` without almost anything.
"""

import sys
from typing import Annotated

import typer

from gateway import __version__
from gateway.cli import check, config, demo, initialise, keys, run
from gateway.cli.compilation import is_compiled
from gateway.cli.exits import ExitStatus, complain, status_of
from gateway.errors import GatewayError

app = typer.Typer(
    name="gateway",
    help="A reverse proxy that lets a request through only with a valid API key.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback is a bug's; it must be whole, and plain where logs collect it
    rich_markup_mode=None,
)
app.command("run")(run.run)
app.command("demo")(demo.demo)
app.command("init")(initialise.initialise)
app.command("check")(check.check)
app.add_typer(config.app, name="config")
app.add_typer(keys.app, name="keys")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"keygate {__version__} (data plane {'compiled' if is_compiled() else 'not compiled'})")
        raise typer.Exit


@app.callback()
def common(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        app()
    except GatewayError as error:
        complain(error.detail)
        sys.exit(status_of(error))
    except KeyboardInterrupt:
        sys.exit(ExitStatus.FAILED)
