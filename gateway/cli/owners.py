"""Which member or service account is meant: an id, or what people call them.

Invariant: a name stands for an owner only where it is exactly theirs; the beginning of one never picks somebody to
remove. Whoever is named by an id is not looked up first.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.exits import ExitStatus, complain
from gateway.cli.references import no_secret
from gateway.keys.identifiers import is_id
from gateway.keys.naming import folded

if TYPE_CHECKING:
    from gateway.client import Client

MemberReference = Annotated[
    str, typer.Argument(metavar="MEMBER", callback=no_secret, help="The member's e-mail address or id (mem_…).")
]
AccountReference = Annotated[
    str, typer.Argument(metavar="ACCOUNT", callback=no_secret, help="The service account's name or id (sva_…).")
]


def member_id(client: "Client", reference: str) -> str:
    """Return the id; exits with NOT_FOUND where there is no such member."""
    if is_id("mem", reference):
        return reference
    found = [each.id for each in client.members.list(search=reference) if folded(each.email) == folded(reference)]
    return _only(found, "member", reference)


def account_id(client: "Client", reference: str) -> str:
    """Return the id; exits with NOT_FOUND where there is no such service account, with FAILED where there are two."""
    if is_id("sva", reference):
        return reference
    accounts = client.service_accounts.list(search=reference)
    return _only([each.id for each in accounts if folded(each.name) == folded(reference)], "service account", reference)


def _only(found: list[str], kind: str, reference: str) -> str:
    match found:
        case [only]:
            return only
        case []:
            complain(f"there is no {kind} {reference[:64]!r}")
            raise typer.Exit(ExitStatus.NOT_FOUND)
    complain(f"there are {len(found)} of the name {reference[:64]!r}; say which by its id: {', '.join(found)}")
    raise typer.Exit(ExitStatus.FAILED)
