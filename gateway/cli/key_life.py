"""`gateway keys`: stop, start, rotate and end keys.

Invariant: what cannot be taken back asks first, and says what is known of the key's last use: that is
what tells whether anybody will notice.
"""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gateway.cli.confirmation import confirm
from gateway.cli.connection import Connection, connected
from gateway.cli.exits import complain
from gateway.cli.keys import KeyId, show_issued
from gateway.cli.last_use import last_used_sentence
from gateway.cli.options import Yes
from gateway.cli.output import moment
from gateway.cli.views import key_fields, show

if TYPE_CHECKING:
    from gateway.client.shapes import IssuedKey, Key

Grace = Annotated[
    Literal["0", "1h", "24h", "7d"] | None,
    typer.Option("--grace", help="How long the old secret stays good. Default: 24h."),
]

app = typer.Typer()  # its commands join those of `keys`


@app.command()
@connected
def disable(connection: Connection, key_id: KeyId) -> None:
    """Stop a key until it is enabled again."""
    changed = connection.client.keys.disable(key_id)
    show(connection, changed, key_fields(connection, changed))


@app.command()
@connected
def enable(connection: Connection, key_id: KeyId) -> None:
    """Let a disabled key work again."""
    changed = connection.client.keys.enable(key_id)
    show(connection, changed, key_fields(connection, changed))


@app.command()
@connected
def revoke(
    connection: Connection,
    key_id: KeyId,
    reason: Annotated[str | None, typer.Option(help="Why; kept with the key.")] = None,
    yes: Yes = False,
) -> None:
    """End a key for good; it stays in the list."""
    if not yes:
        _confirm("Revoke", connection, connection.client.keys.get(key_id))
    changed = connection.client.keys.revoke(key_id, reason=reason)
    show(connection, changed, key_fields(connection, changed))


@app.command()
@connected
def delete(connection: Connection, key_id: KeyId, yes: Yes = False) -> None:
    """Remove a key for good, from the list too. Prints it a last time."""
    if not yes:
        _confirm("Delete", connection, connection.client.keys.get(key_id))
    deleted = connection.client.keys.delete(key_id)
    show(connection, deleted, key_fields(connection, deleted))


@app.command()
@connected
def rotate(connection: Connection, key_id: KeyId, grace: Grace = None) -> None:
    """Give a key a new secret, printed once. The old one stays good for a while."""
    show_rotated(connection, connection.client.keys.rotate(key_id, grace=grace))


@app.command("finish-rotation")
@connected
def finish_rotation(connection: Connection, key_id: KeyId) -> None:
    """End the old secret of a rotated key now."""
    changed = connection.client.keys.finish_rotation(key_id)
    show(connection, changed, key_fields(connection, changed))


def show_rotated(connection: Connection, rotated: "IssuedKey") -> None:
    """Print the key with its new secret, and what is left to do."""
    show_issued(connection, rotated)
    previous = rotated.previous_secret
    if previous is None:
        complain("the old secret is no good any more")
        return
    complain(f"the old secret (…{previous.tail or ''}) is good until {moment(previous.valid_until)}; until then:")
    complain("1. put the new one wherever the old one is used")
    page = f" --origin {rotated.allowed_origins[0]}" if rotated.allowed_origins else ""
    complain(f"2. check that it is good: gateway keys verify{page}")
    complain(
        f"3. make sure that nothing uses the old one any more; {last_used_sentence(connection, previous.last_used)}"
    )
    complain(f"4. then end it: gateway keys finish-rotation {rotated.id}")


def _confirm(verb: str, connection: Connection, key: "Key") -> None:
    known = f"{key.id}: {last_used_sentence(connection, key.last_used)}"
    confirm(verb, f"the key {key.name!r} of {key.owner.name} (…{key.tail or ''})", known)
