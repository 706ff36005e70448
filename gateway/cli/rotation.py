"""`gateway rotate`: a rotation from beginning to end, at a terminal: create, switch, verify, finish.

Invariant: nothing is ended without a yes, and leaving at any point is safe: the old secret is good until its time, and
the same command goes on where it was left. Without a terminal it does what `gateway keys rotate` does.
"""

import sys
from typing import TYPE_CHECKING

import typer

from gateway.cli.connection import Connection, connected
from gateway.cli.exits import complain
from gateway.cli.key_life import Grace, show_rotated
from gateway.cli.keys import KeyId
from gateway.cli.last_use import last_used_sentence
from gateway.cli.output import moment
from gateway.cli.views import key_fields, show

if TYPE_CHECKING:
    from gateway.client.shapes import PreviousSecret


@connected
def rotate(connection: Connection, key_id: KeyId, grace: Grace = None) -> None:
    """Rotate a key step by step: a new secret, and the end of the old one when nothing uses it any more."""
    guided = sys.stdin.isatty() and not connection.json
    key = connection.client.keys.get(key_id)
    previous = key.previous_secret
    if previous is None or not guided:
        rotated = connection.client.keys.rotate(key_id, grace=grace)
        show_rotated(connection, rotated)
        previous = rotated.previous_secret
    else:
        complain(f"{key.id} is being rotated already; the newer secret is the one that ends in {key.tail or '…'}")
    if previous is not None and guided:
        _finish(connection, key_id, previous)


def _finish(connection: Connection, key_id: str, previous: "PreviousSecret") -> None:
    """Ask until the old secret may go, or is left to its time; an end of the input is a no."""
    while True:
        typer.prompt("Press Enter when the new secret is in use", default="", show_default=False, err=True)
        current = connection.client.keys.get(key_id).previous_secret
        if current is None:
            complain("the old secret has come to its end meanwhile")
            return
        complain(f"the old secret (…{current.tail or ''}): {last_used_sentence(connection, current.last_used)}")
        complain("whatever still uses it will be turned away when it ends")
        if typer.confirm("End the old secret now?", err=True):
            changed = connection.client.keys.finish_rotation(key_id)
            show(connection, changed, key_fields(connection, changed))
            return
        if not typer.confirm("Look again later, here?", err=True):
            complain(f"it is good until {moment(previous.valid_until)}; to end it earlier, repeat this command")
            return
