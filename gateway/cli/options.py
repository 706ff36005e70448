"""Options that several commands share, so that each means and is called the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

# Not `exists=True`: a missing file is a mistake of the configuration (78), like all that is wrong in one.
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", envvar="GATEWAY_CONFIG", help="TOML file with the settings."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, in the shapes of the admin API.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is no terminal.")]
