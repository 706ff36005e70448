"""`gateway members`: the people of the organization.

Invariant: whoever goes, their keys do not stay behind: the command says what becomes of them, or asks.
"""

from typing import Annotated, Literal

import typer

from gateway.cli.connection import Connection, connected
from gateway.cli.keys import Permission
from gateway.cli.options import Cursor, IdempotencyKey, IfMatch, Limit, Yes, chosen_permissions
from gateway.cli.owners import MemberReference, member_id
from gateway.cli.references import no_secret
from gateway.cli.removal import Keys, MoveTo, Wishes, decide, warn_of_moved
from gateway.cli.views import MEMBER_HEADS, keys_left, member_fields, member_row, show, show_page, show_with_key

Role = Literal["admin", "member"]
ExternalId = Annotated[str | None, typer.Option("--external-id", help="What another system calls them.")]

app = typer.Typer(help="The members of the organization.", no_args_is_help=True)


@app.command("list")
@connected
def list_members(
    connection: Connection,
    search: Annotated[str | None, typer.Option(help="The beginning of an e-mail address.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> None:
    """List members."""
    page = connection.client.members.page(search=search, cursor=cursor, limit=limit)
    show_page(connection, page, MEMBER_HEADS, [member_row(each) for each in page.items])


@app.command()
@connected
def add(
    connection: Connection,
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="Their e-mail address.")],
    role: Annotated[Role | None, typer.Option(help="Default: member.")] = None,
    permission: Permission = None,
    no_permissions: Annotated[bool, typer.Option("--no-permissions", help="They may do nothing yet.")] = False,
    external_id: ExternalId = None,
    with_key: Annotated[
        bool, typer.Option("--with-key", help="Make their first key too; hand its secret on to them.")
    ] = False,
    key_name: Annotated[str | None, typer.Option(help="The name of that key.")] = None,
    key_expires: Annotated[str | None, typer.Option(help="When that key ends.")] = None,
    idempotency_key: IdempotencyKey = None,
) -> None:
    """Add a member."""
    added = connection.client.members.add(
        email,
        role=role,
        permissions=chosen_permissions(permission, none=no_permissions),
        external_id=external_id,
        with_key=with_key or key_name is not None or key_expires is not None,
        key_name=key_name,
        key_expires=key_expires,
        idempotency_key=idempotency_key,
    )
    show_with_key(connection, added, added.key, member_fields(added))


@app.command("show")
@connected
def show_member(connection: Connection, member: MemberReference) -> None:
    """Show one member."""
    found = connection.client.members.get(member_id(connection.client, member))
    show(connection, found, member_fields(found))


@app.command()
@connected
def update(
    connection: Connection,
    member: MemberReference,
    email: Annotated[str | None, typer.Option(callback=no_secret, help="Their e-mail address.")] = None,
    role: Annotated[Role | None, typer.Option(help="What they are.")] = None,
    permission: Permission = None,
    no_permissions: Annotated[bool, typer.Option("--no-permissions", help="They may do nothing any more.")] = False,
    external_id: ExternalId = None,
    if_match: IfMatch = None,
) -> None:
    """Change what is given; it counts at once for all of their keys."""
    from gateway.client import UNCHANGED

    granted = chosen_permissions(permission, none=no_permissions)
    changed = connection.client.members.update(
        member_id(connection.client, member),
        email=UNCHANGED if email is None else email,
        role=UNCHANGED if role is None else role,
        permissions=UNCHANGED if granted is None else granted,
        external_id=UNCHANGED if external_id is None else external_id or None,
        if_match=if_match,
    )
    show(connection, changed, member_fields(changed))


@app.command()
@connected
def remove(
    connection: Connection, member: MemberReference, keys: Keys = None, move_to: MoveTo = None, yes: Yes = False
) -> None:
    """Remove a member; says what becomes of their keys."""
    client = connection.client
    found = client.members.get(member_id(client, member))
    decision = decide(client, found.id, f"the member {found.email}", Wishes(keys, move_to, yes))
    removed = client.members.remove(found.id, keys=decision.keys, move_to=decision.move_to)
    show(connection, removed, [*member_fields(removed), *keys_left(removed.keys)])
    warn_of_moved(removed.keys)
