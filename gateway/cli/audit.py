"""`gateway audit`: who changed what."""

from typing import Annotated

import typer

from gateway.cli.connection import Connection, connected
from gateway.cli.options import Cursor, Limit
from gateway.cli.references import no_secret
from gateway.cli.views import EVENT_HEADS, event_row, show_page

app = typer.Typer(help="The audit trail.", no_args_is_help=True)


@app.command("list")
@connected
def list_events(
    connection: Connection,
    actor: Annotated[
        str | None,
        typer.Option(
            callback=no_secret,
            help="Only by this key (its id), by all keys of this owner (e-mail, name or id), or by 'system'.",
        ),
    ] = None,
    action: Annotated[str | None, typer.Option(help="Only this, such as key.revoke.")] = None,
    key: Annotated[str | None, typer.Option(callback=no_secret, help="Only of this key: its id.")] = None,
    target: Annotated[str | None, typer.Option(callback=no_secret, help="Only of this thing: its id.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="From this RFC 3339 date-time on.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Until this RFC 3339 date-time.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> None:
    """List changes, newest first. --json has what was before and after."""
    page = connection.client.events.page(
        actor=actor, action=action, key=key, target=target, since=since, until=until, cursor=cursor, limit=limit
    )
    show_page(connection, page, EVENT_HEADS, [event_row(each) for each in page.items])
