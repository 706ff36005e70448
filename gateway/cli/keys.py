"""`gateway keys`: make, find, change and judge keys. How a key ends, or gets a new secret, is in `key_life`.

Invariant: a secret is printed by the command that made it and by no other, on stdout, where it can be kept. A secret to
be judged is read from a file or from standard input: arguments are seen by everybody on the machine.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from gateway.cli.connection import Connection, connected
from gateway.cli.exits import ExitStatus, complain
from gateway.cli.options import Cursor, IdempotencyKey, IfMatch, Limit, chosen_permissions
from gateway.cli.output import listed
from gateway.cli.references import key_id_alone, no_secret
from gateway.cli.views import KEY_HEADS, key_fields, key_row, show, show_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.client.shapes import IssuedKey, Warned

KeyId = Annotated[
    str, typer.Argument(metavar="ID", callback=key_id_alone, help="The key's id (key_…), as the list shows it.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", callback=no_secret, help="What people call the key.")]
Description = Annotated[str | None, typer.Option("--description", help="What it is for.")]
Expires = Annotated[
    str | None,
    typer.Option(
        "--expires",
        help="1h, 1d, 7d, 30d, 6mo, 1y, 2y, 4y, never, or an RFC 3339 date. Default: the organization's.",
    ),
]
Permission = Annotated[
    list[str] | None,
    typer.Option("--permission", help="A permission such as orders:read; repeat for more. Default: the owner's."),
]
Owner = Annotated[
    str | None,
    typer.Option(
        "--owner", callback=no_secret, help="Member (e-mail) or service account (name), or an id. Default: you."
    ),
]
Origin = Annotated[
    list[str] | None,
    typer.Option("--origin", help="A page's origin that may use it, such as https://app.example.com; repeat for more."),
]
Status = Literal["active", "revoked", "expired", "disabled", "expires_soon"]
Sort = Literal["created", "name", "expires", "last_used"]
_SORT_HELP: Final = (
    "Default: by name with --search; else the longest without a recorded use first with --unused-days; else the latest "
    "to expire first with --status expired, the next to expire first with --status expires_soon; else newest first."
)

app = typer.Typer(help="Create, find, change, rotate and end keys.", no_args_is_help=True)


@app.command()
@connected
def create(
    connection: Connection,
    name: Name,
    description: Description = None,
    expires: Expires = None,
    permission: Permission = None,
    no_permissions: Annotated[bool, typer.Option("--no-permissions", help="A key that may do nothing yet.")] = False,
    owner: Owner = None,
    origin: Origin = None,
    idempotency_key: IdempotencyKey = None,
) -> None:
    """Make a key. The secret is printed once."""
    made = connection.client.keys.create(
        name,
        description=description,
        expires=expires,
        permissions=chosen_permissions(permission, none=no_permissions),
        owner=owner,
        allowed_origins=origin,
        idempotency_key=idempotency_key,
    )
    show_issued(connection, made)


def show_issued(connection: Connection, made: "IssuedKey") -> None:
    """Print a key with its new secret, and what there is to know about that."""
    _warn(made.warnings)
    show(connection, made, [("secret", made.secret or ""), *key_fields(connection, made)])
    if made.secret is not None:
        complain("keep the secret now: only its hash is stored, and it is never shown again")
    else:
        complain("this was asked for before; the secret was in the first answer, and is never shown again")
        complain(f"if it is lost, make another one: gateway keys rotate {made.id}")


def _warn(warnings: "Sequence[Warned]") -> None:
    """Say what was done as asked, and may not be what was meant."""
    for warning in warnings:
        complain(f"warning: {warning.detail}")


@app.command("list")
@connected
def list_keys(
    connection: Connection,
    status: Annotated[Status | None, typer.Option(help="Only keys of this status.")] = None,
    owner: Annotated[
        str | None, typer.Option(callback=no_secret, help="Only this owner's: e-mail, name or id.")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(callback=no_secret, help="The beginning of a name, or a key's last six characters."),
    ] = None,
    unused_days: Annotated[
        int | None, typer.Option(min=1, help="Only keys of which no use is recorded for so many days.")
    ] = None,
    sort: Annotated[Sort | None, typer.Option(help=_SORT_HELP)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> None:
    """List keys."""
    page = connection.client.keys.page(
        status=status, owner=owner, search=search, unused_days=unused_days, sort=sort, cursor=cursor, limit=limit
    )
    show_page(connection, page, KEY_HEADS, [key_row(connection, key) for key in page.items])


@app.command("show")
@connected
def show_key(connection: Connection, key_id: KeyId) -> None:
    """Show one key, without its secret."""
    key = connection.client.keys.get(key_id)
    show(connection, key, key_fields(connection, key))


@app.command()
@connected
def update(
    connection: Connection,
    key_id: KeyId,
    name: Annotated[str | None, typer.Option(callback=no_secret, help="What people call the key.")] = None,
    description: Description = None,
    expires: Expires = None,
    permission: Permission = None,
    no_permissions: Annotated[bool, typer.Option("--no-permissions", help="It may do nothing any more.")] = False,
    inherit: Annotated[bool, typer.Option("--inherit", help="It may do whatever its owner may.")] = False,
    origin: Origin = None,
    any_origin: Annotated[bool, typer.Option("--any-origin", help="Every page may use it.")] = False,
    if_match: IfMatch = None,
) -> None:
    """Change what is given, and nothing else."""
    from gateway.client import UNCHANGED

    granted = chosen_permissions(permission, none=no_permissions)
    if (granted is not None and inherit) or (origin is not None and any_origin):
        complain("--permission, --no-permissions and --inherit, or --origin and --any-origin, contradict each other")
        raise typer.Exit(ExitStatus.USAGE)
    changed = connection.client.keys.update(
        key_id,
        name=UNCHANGED if name is None else name,
        description=UNCHANGED if description is None else description,
        expires=UNCHANGED if expires is None else expires,
        permissions=UNCHANGED if granted is None and not inherit else granted,
        allowed_origins=UNCHANGED if origin is None and not any_origin else origin,
        if_match=if_match,
    )
    show(connection, changed, key_fields(connection, changed))


@app.command("import")
@connected
def import_key(
    connection: Connection,
    name: Name,
    sha256: Annotated[str, typer.Option(help="The SHA-256 of the whole secret, in hex or base64.")],
    entropy_bits: Annotated[
        int, typer.Option(min=0, help="How many random bits the secret has, on your word: at least 128.")
    ],
    tail: Annotated[str | None, typer.Option(help="Its last six characters, to find it by.")] = None,
    prefix: Annotated[str | None, typer.Option(help="What it begins with, such as sk_.")] = None,
    description: Description = None,
    expires: Expires = None,
    permission: Permission = None,
    no_permissions: Annotated[bool, typer.Option("--no-permissions", help="A key that may do nothing yet.")] = False,
    owner: Owner = None,
    origin: Origin = None,
    idempotency_key: IdempotencyKey = None,
) -> None:
    """Let a secret of another system work here, by its hash."""
    made = connection.client.keys.import_key(
        name,
        sha256=sha256,
        entropy_bits=entropy_bits,
        tail=tail,
        prefix=prefix,
        description=description,
        expires=expires,
        permissions=chosen_permissions(permission, none=no_permissions),
        owner=owner,
        allowed_origins=origin,
        idempotency_key=idempotency_key,
    )
    _warn(made.warnings)
    show(connection, made, key_fields(connection, made))


@app.command()
@connected
def verify(
    connection: Connection,
    secret_file: Annotated[
        Path | None, typer.Option("--secret-file", metavar="FILE", help="Where the secret is. Default: standard input.")
    ] = None,
    permission: Annotated[
        list[str] | None, typer.Option("--permission", help="A permission that it must give; repeat for more.")
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(help="The Origin that it came with; without one, a key for pages of some origins is not good."),
    ] = None,
) -> None:
    """Tell whether a secret is good, and for what; exits with 1 where it is not."""
    verdict = connection.client.keys.verify(_read_secret(secret_file), permissions=permission, origin=origin)
    answer = "yes" if verdict.valid else f"no: {verdict.code}"
    described = key_fields(connection, verdict.key) if verdict.key is not None else []
    show(connection, verdict, [("valid", answer), ("allows", listed(verdict.permissions)), *described])
    if not verdict.valid:
        raise typer.Exit(ExitStatus.FAILED)


def _read_secret(file: Path | None) -> str:
    """Read the secret, typed unseen where there is a terminal; what is around it is not part of it."""
    try:
        if file is not None:
            text = file.read_text()
        elif sys.stdin.isatty():
            text = typer.prompt("Secret", hide_input=True, err=True)
        else:
            text = sys.stdin.read()
    except (OSError, UnicodeDecodeError) as error:
        complain(f"{file}: {error.strerror if isinstance(error, OSError) else 'is no text'}")
        raise typer.Exit(ExitStatus.USAGE) from None
    return text.strip()
