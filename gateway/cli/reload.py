"""`gateway reload`: have the running gateway read its settings again, without losing a request."""

from typing import Final

import typer

from gateway.cli.connection import Connection, connected
from gateway.cli.exits import ExitStatus, complain
from gateway.cli.output import print_json

_BAD_SETTINGS: Final = frozenset({"bad_configuration", "restart_required"})


@connected
def reload(connection: Connection) -> None:
    """Read the settings again and replace every process; bad settings change nothing. For the operator's admins."""
    from gateway.client import ConflictError

    try:
        done = connection.client.reload()
    except ConflictError as error:
        complain(error.detail)
        status = ExitStatus.CONFIGURATION if error.code in _BAD_SETTINGS else ExitStatus.FAILED
        raise typer.Exit(status) from None
    for each in done.warnings:
        complain(f"warning: {each}")
    if connection.json:
        print_json(done.raw)
    elif done.changed:
        typer.echo(f"reloaded; changed: {', '.join(done.changed)}")
    else:
        typer.echo("no setting has changed; every process was replaced and read its files again")
