"""`gateway keys`: make, find and end keys.

Invariant: what cannot be taken back (revoke, delete) happens only after a yes: typed at a terminal, or given as --yes.
Without a terminal there is nobody to ask, so the command refuses rather than guesses.
"""

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from gateway.cli.exits import ExitStatus, complain
from gateway.cli.options import Config, Json, Yes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from gateway.cli.store_access import Services
    from gateway.services.shapes import IssuedKey, Key, KeyPage

    # What a command does with a key, given the services and the id of its organization.
    Act = Callable[[Services, str], Awaitable[Key]]

Result = TypeVar("Result")
Org = Annotated[str | None, typer.Option("--org", help="Organization, where there are several: its id or name.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id (key_…), as the list shows it.")]
Status = Literal["active", "revoked", "expired", "disabled", "expires_soon"]

app = typer.Typer(help="Create, list, show, disable, enable, revoke and delete keys.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What people call the key.")],
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    expires: Annotated[
        str | None,
        typer.Option(help="1h, 1d, 7d, 30d, 6mo, 1y, 2y, 4y, never, or an RFC 3339 date. Default: the organization's."),
    ] = None,
    permission: Annotated[
        list[str] | None,
        typer.Option(help="A permission such as orders:read; repeat for more. Default: what the owner holds."),
    ] = None,
    owner: Annotated[
        str | None, typer.Option(help="Member (e-mail) or service account (name), or an id. Default: the first admin.")
    ] = None,
    org: Org = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a key. The secret is printed once."""
    from gateway.cli.output import key_fields, print_fields, print_json
    from gateway.services.key_request import CreateKey

    request = CreateKey(name=name, description=description, expires=expires, permissions=permission, owner=owner)

    async def work(services: "Services", organization: str) -> "IssuedKey":
        return await services.keys.create(organization, request)

    made = _in_organization(config, org, work)
    for warning in made.warnings:
        complain(f"warning: {warning.detail}")
    if json:
        print_json(made)
        return
    print_fields([("secret", made.secret), *key_fields(made)])
    complain("keep the secret now: only its hash is stored, and it is never shown again")


@app.command("list")
def list_keys(
    status: Annotated[Status | None, typer.Option(help="Only keys of this status.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only this owner's: e-mail, name or id.")] = None,
    search: Annotated[str | None, typer.Option(help="The beginning of a name, or a key's last six characters.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Keys on a page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    org: Org = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List keys, newest first."""
    from gateway.cli.output import last_used_text, moment, print_json, print_table, status_text
    from gateway.services.key_listing import KeyFilter

    wanted = KeyFilter(status=status, owner=owner, search=search)

    async def work(services: "Services", organization: str) -> "KeyPage":
        return await services.keys.list(organization, wanted, cursor=cursor, limit=limit)

    page = _in_organization(config, org, work)
    if json:
        print_json(page)
        return
    print_table(
        ("ID", "NAME", "TAIL", "STATUS", "OWNER", "EXPIRES", "LAST USED"),
        [
            (
                key.id,
                key.name,
                key.tail or "",
                status_text(key),
                key.owner.name,
                moment(key.expires_at) or "never",
                last_used_text(key),
            )
            for key in page.items
        ],
    )
    if page.next_cursor:
        complain(f"there are more: --cursor {page.next_cursor}")


@app.command()
def show(key_id: KeyId, org: Org = None, config: Config = None, json: Json = False) -> None:
    """Show one key, without its secret."""
    _print_key(_in_organization(config, org, _showing(key_id)), json=json)


@app.command()
def disable(key_id: KeyId, org: Org = None, config: Config = None, json: Json = False) -> None:
    """Stop a key until it is enabled again."""
    _print_key(_in_organization(config, org, lambda services, of: services.keys.disable(of, key_id)), json=json)


@app.command()
def enable(key_id: KeyId, org: Org = None, config: Config = None, json: Json = False) -> None:
    """Let a disabled key work again."""
    _print_key(_in_organization(config, org, lambda services, of: services.keys.enable(of, key_id)), json=json)


@app.command()
def revoke(
    key_id: KeyId,
    reason: Annotated[str | None, typer.Option(help="Why; kept with the key.")] = None,
    yes: Yes = False,
    org: Org = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """End a key for good; it stays in the list."""
    if not yes:
        _confirm("Revoke", _in_organization(config, org, _showing(key_id)))
    revoked = _in_organization(config, org, lambda services, of: services.keys.revoke(of, key_id, reason=reason))
    _print_key(revoked, json=json)


@app.command()
def delete(key_id: KeyId, yes: Yes = False, org: Org = None, config: Config = None, json: Json = False) -> None:
    """Remove a key for good, from the list too. Prints it a last time."""
    found = _in_organization(config, org, _showing(key_id))
    if not yes:
        _confirm("Delete", found)

    async def work(services: "Services", organization: str) -> None:
        await services.keys.delete(organization, key_id)

    _in_organization(config, org, work)
    _print_key(found, json=json)


def _in_organization(
    config: "Path | None", org: str | None, work: "Callable[[Services, str], Awaitable[Result]]"
) -> Result:
    """Run `work` with the services and the id of the organization that is meant."""
    from gateway.cli.store_access import opened
    from gateway.settings.loading import load

    settings = load(config, {}, os.environ).settings

    async def run() -> Result:
        async with opened(settings) as services:
            organization = await services.organizations.resolve(org)
            return await work(services, organization.id)

    return asyncio.run(run())


def _showing(key_id: str) -> "Act":
    return lambda services, organization: services.keys.show(organization, key_id)


def _confirm(verb: str, key: "Key") -> None:
    """Go on only after a yes; exits with USAGE where nobody can be asked, with FAILED after a no."""
    if not sys.stdin.isatty():
        complain(f"{verb} cannot be undone, and there is no terminal to ask at: repeat the command with --yes")
        raise typer.Exit(ExitStatus.USAGE)
    question = f"{verb} the key {key.name!r} of {key.owner.name} (…{key.tail}) for good?"
    if not typer.confirm(question, err=True):
        complain("nothing was changed")
        raise typer.Exit(ExitStatus.FAILED)


def _print_key(key: "Key", *, json: bool) -> None:
    from gateway.cli.output import key_fields, print_fields, print_json

    if json:
        print_json(key)
    else:
        print_fields(key_fields(key))
