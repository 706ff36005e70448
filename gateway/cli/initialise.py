"""`gateway init`: the first organization, its admin, and the admin's key; or another key where that one is lost.

Invariant: it asks for no key. Whoever may write to the store may do everything anyway, and nobody else gets here.
"""

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.exits import complain
from gateway.cli.options import Config, Json
from gateway.errors import Conflict, NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.services.shapes import Initialised
    from gateway.settings.model import Settings


def initialise(
    org: Annotated[str, typer.Option("--org", metavar="NAME", help="Name of the organization.")],
    admin: Annotated[str, typer.Option("--admin", metavar="EMAIL", help="E-mail address of its first admin.")],
    another_key: Annotated[
        bool, typer.Option("--another-key", help="Both are there, and the key is lost or expired: make another one.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make the first organization, its admin and an admin key. The secret is printed once."""
    from gateway.cli.output import print_fields, print_json
    from gateway.settings.loading import load

    settings = load(config, {}, os.environ).settings
    if another_key and settings.store.is_sqlite:
        _require_file(settings.store.sqlite_path)
    try:
        made = asyncio.run(_initialise(settings, org, admin, another_key=another_key))
    except Conflict as error:
        raise Conflict(f"{error.detail} For another key of its admin, add --another-key.", code=error.code) from error
    if settings.store.is_sqlite:  # a relative one is another store in another directory
        complain(f"the store is {settings.store.sqlite_path.absolute()}; the gateway has to run with this one")
    if json:
        print_json(made.model_dump(mode="json"))
        return
    print_fields(
        [
            ("organization", f"{made.organization.name} ({made.organization.id})"),
            ("admin", f"{made.member.email} ({made.member.id})"),
            ("key", made.key.id),
            ("secret", made.key.secret or ""),
        ]
    )
    complain("keep the secret now: only its hash is stored, and it is never shown again")


def _require_file(path: "Path") -> None:
    """Whoever lost a key finds it in no store that is made for the purpose."""
    try:
        path.stat()
    except FileNotFoundError as error:
        detail = f"There is no store at {path.absolute()}. Run this in the gateway's directory, with its settings."
        raise NotFound(detail, code="no_store") from error
    except OSError:
        return  # the store says what is wrong


async def _initialise(settings: "Settings", org: str, admin: str, *, another_key: bool) -> "Initialised":
    from gateway.cli.store_access import opened
    from gateway.services.organizations import initial

    initial(org, admin)  # before a store is made for it
    async with opened(settings) as organizations:
        return await organizations.initialise(org, admin, another_key=another_key)
