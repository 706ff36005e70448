"""A yes before what cannot be taken back.

Invariant: it happens only after a yes, typed at a terminal or given as --yes. Without a terminal there is nobody to
ask, so the command refuses rather than guesses.
"""

import sys

import typer

from gateway.cli.exits import ExitStatus, complain
from gateway.cli.output import shown


def confirm(verb: str, what: str, known: str = "") -> None:
    """Go on only after a yes to "`verb` `what` for good?"; `known` is said before.

    Exits with USAGE where nobody can be asked, with FAILED after a no.
    """
    if not sys.stdin.isatty():
        complain(f"{verb} cannot be undone, and there is no terminal to ask at: repeat the command with --yes")
        raise typer.Exit(ExitStatus.USAGE)
    if known:
        complain(known)
    if not typer.confirm(f"{verb} {shown(what)} for good?", err=True):
        complain("nothing was changed")
        raise typer.Exit(ExitStatus.FAILED)
