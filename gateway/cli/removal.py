"""Removing a member or a service account: what becomes of their keys is decided before anything goes.

Invariant: no key is revoked or moved that nobody has decided about. Where the options do not say what becomes of live
keys, somebody at a terminal is asked, before the confirmation, which repeats it; where nobody can be asked, or --yes
says not to, the command names the options and changes nothing.
"""

import sys
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from gateway.cli.confirmation import confirm
from gateway.cli.exits import ExitStatus, complain
from gateway.cli.output import shown
from gateway.cli.owners import account_id
from gateway.cli.references import no_secret, refuse_secret

if TYPE_CHECKING:
    from gateway.client import Client
    from gateway.client.shapes import KeysLeft

Keys = Annotated[
    Literal["revoke", "move"] | None,
    typer.Option("--keys", help="What becomes of live keys: revoke them, or move them (--move-to)."),
]
MoveTo = Annotated[
    str | None,
    typer.Option("--move-to", callback=no_secret, help="The service account to move live keys to: its name or id."),
]


class Wishes(NamedTuple):
    """The options of a removal, as they were given."""

    keys: Literal["revoke", "move"] | None
    move_to: str | None
    yes: bool


class Decision(NamedTuple):
    """What becomes of the keys, for the client; `keys` is None where there are none."""

    keys: Literal["revoke", "move"] | None
    move_to: str | None


def decide(client: "Client", owner_id: str, what: str, wishes: Wishes) -> Decision:
    """Return what becomes of the keys of `what`, after a yes to the removal.

    Exits with USAGE where a choice is missing and nobody can be asked, or where the choices contradict each other; with
    NOT_FOUND where there is no such heir; with FAILED after a no.
    """
    if wishes.keys == "revoke" and wishes.move_to is not None:
        complain("--keys revoke and --move-to contradict each other")
        raise typer.Exit(ExitStatus.USAGE)
    keys, heir = _choice(client, owner_id, what, wishes)
    decision = Decision(keys, None if heir is None else account_id(client, heir))
    if not wishes.yes:
        confirm("Remove", what, _consequence(keys, heir))
    return decision


def warn_of_moved(left: "KeysLeft") -> None:
    """Say what a move leaves to do: the secrets are still known to whoever knew them."""
    if left.moved and left.moved_to is not None:
        complain("whoever held the secrets of the moved keys can still use them")
        complain("rotate them now: gateway keys rotate ID")
        complain(f"their ids: gateway keys list --owner {left.moved_to.id}")


def _choice(
    client: "Client", owner_id: str, what: str, wishes: Wishes
) -> tuple[Literal["revoke", "move"] | None, str | None]:
    """Return what is to become of the keys, and the heir as named; asks for what the options leave open."""
    if wishes.keys == "revoke":
        return "revoke", None
    if wishes.move_to is not None:
        return "move", wishes.move_to
    if wishes.keys is None and not _may_have_live_keys(client, owner_id):
        return None, None
    if wishes.yes or not sys.stdin.isatty():
        yes = "" if wishes.yes else ", and with --yes"
        complain(f"say what becomes of the live keys of {shown(what)}")
        complain(f"repeat the command with --keys revoke, or with --keys move --move-to ACCOUNT{yes}")
        raise typer.Exit(ExitStatus.USAGE)
    if wishes.keys is None and _asked_verb(what) == "revoke":
        return "revoke", None
    heir = str(typer.prompt("To which service account (name or id)?", err=True)).strip()
    return "move", refuse_secret("ACCOUNT", heir)


def _asked_verb(what: str) -> str:
    """Ask until it is one of the two; an end of the input aborts."""
    complain(f"what becomes of the live keys of {shown(what)}: revoke them, or move them to a service account?")
    while True:
        answer = str(typer.prompt("revoke or move?", err=True)).strip().lower()
        if answer in {"revoke", "move"}:
            return answer


def _may_have_live_keys(client: "Client", owner_id: str) -> bool:
    """Tell whether keys have to be decided about, as the API counts them; where the caller may not see keys, yes."""
    from gateway.client import PermissionDeniedError

    try:
        return any(
            client.keys.page(owner=owner_id, status=status, limit=1).items
            for status in ("active", "disabled", "expired")  # all but revoked
        )
    except PermissionDeniedError:
        return True


def _consequence(keys: Literal["revoke", "move"] | None, heir: str | None) -> str:
    if keys == "revoke":
        return "their live keys will be revoked"
    return "" if heir is None else f"their live keys will move to the service account {heir!r}"
