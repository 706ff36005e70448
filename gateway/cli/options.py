"""Options that several commands share, so that each means and is called the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.exits import ExitStatus, complain

# Not `exists=True`: a missing file is a mistake of the configuration (78), like all that is wrong in one.
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", envvar="GATEWAY_CONFIG", help="TOML file with the settings."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, in the shapes of the admin API.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is no terminal.")]

# No `envvar`: GATEWAY_ADMIN_URL and GATEWAY_API_KEY are read in one place, the client.
AdminUrl = Annotated[
    str | None,
    typer.Option(
        "--admin-url",
        metavar="URL",
        help="Where the admin API is. Default: GATEWAY_ADMIN_URL, or http://127.0.0.1:8081.",
    ),
]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option("--api-key-file", metavar="FILE", help="File with the API key to call with, and nothing else."),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        help="The API key itself, which others on this machine can see; better GATEWAY_API_KEY or --api-key-file.",
    ),
]

Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many on a page.")]
Cursor = Annotated[str | None, typer.Option("--cursor", help="Where the page before ended.")]
IfMatch = Annotated[
    int | None,
    typer.Option("--if-match", metavar="VERSION", min=1, help="Only where nobody has changed it since this version."),
]
IdempotencyKey = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="Makes a repetition of this command harmless; any text of your own."),
]


def chosen_permissions(given: list[str] | None, *, none: bool) -> list[str] | None:
    """Return what --permission and --no-permissions say together; None where neither is given.

    Exits with USAGE where both are: to drop one of them silently is to guess what somebody may do.
    """
    if given and none:
        complain("--permission and --no-permissions contradict each other")
        raise typer.Exit(ExitStatus.USAGE)
    return [] if none else given
