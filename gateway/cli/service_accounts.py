"""`gateway service-accounts`: owners of keys that are no people."""

from typing import Annotated

import typer

from gateway.cli.connection import Connection, connected
from gateway.cli.keys import Description, Permission
from gateway.cli.members import ExternalId
from gateway.cli.options import Cursor, IdempotencyKey, IfMatch, Limit, Yes, chosen_permissions
from gateway.cli.owners import AccountReference, account_id
from gateway.cli.references import no_secret
from gateway.cli.removal import Keys, MoveTo, Wishes, decide, warn_of_moved
from gateway.cli.views import (
    SERVICE_ACCOUNT_HEADS,
    keys_left,
    service_account_fields,
    service_account_row,
    show,
    show_page,
)

app = typer.Typer(help="The service accounts of the organization.", no_args_is_help=True)


@app.command("list")
@connected
def list_accounts(
    connection: Connection,
    search: Annotated[str | None, typer.Option(help="The beginning of a name.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> None:
    """List service accounts."""
    page = connection.client.service_accounts.page(search=search, cursor=cursor, limit=limit)
    show_page(connection, page, SERVICE_ACCOUNT_HEADS, [service_account_row(each) for each in page.items])


@app.command()
@connected
def create(
    connection: Connection,
    name: Annotated[str, typer.Argument(metavar="NAME", callback=no_secret, help="What people call it.")],
    description: Description = None,
    permission: Annotated[
        list[str] | None, typer.Option("--permission", help="What its keys may hold at most; repeat for more.")
    ] = None,
    external_id: ExternalId = None,
    idempotency_key: IdempotencyKey = None,
) -> None:
    """Make a service account."""
    made = connection.client.service_accounts.create(
        name,
        description=description,
        permissions=permission,
        external_id=external_id,
        idempotency_key=idempotency_key,
    )
    show(connection, made, service_account_fields(made))


@app.command("show")
@connected
def show_account(connection: Connection, account: AccountReference) -> None:
    """Show one service account."""
    found = connection.client.service_accounts.get(account_id(connection.client, account))
    show(connection, found, service_account_fields(found))


@app.command()
@connected
def update(
    connection: Connection,
    account: AccountReference,
    name: Annotated[str | None, typer.Option(callback=no_secret, help="What people call it.")] = None,
    description: Description = None,
    permission: Permission = None,
    no_permissions: Annotated[bool, typer.Option("--no-permissions", help="It may do nothing any more.")] = False,
    external_id: ExternalId = None,
    if_match: IfMatch = None,
) -> None:
    """Change what is given; it counts at once for all of its keys."""
    from gateway.client import UNCHANGED

    granted = chosen_permissions(permission, none=no_permissions)
    changed = connection.client.service_accounts.update(
        account_id(connection.client, account),
        name=UNCHANGED if name is None else name,
        description=UNCHANGED if description is None else description,
        permissions=UNCHANGED if granted is None else granted,
        external_id=UNCHANGED if external_id is None else external_id or None,
        if_match=if_match,
    )
    show(connection, changed, service_account_fields(changed))


@app.command()
@connected
def remove(
    connection: Connection, account: AccountReference, keys: Keys = None, move_to: MoveTo = None, yes: Yes = False
) -> None:
    """Remove a service account; says what becomes of its keys."""
    client = connection.client
    found = client.service_accounts.get(account_id(client, account))
    decision = decide(client, found.id, f"the service account {found.name!r}", Wishes(keys, move_to, yes))
    removed = client.service_accounts.remove(found.id, keys=decision.keys, move_to=decision.move_to)
    show(connection, removed, [*service_account_fields(removed), *keys_left(removed.keys)])
    warn_of_moved(removed.keys)
