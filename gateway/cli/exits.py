"""Exit statuses, a contract with scripts, and how an expected error becomes one.

Invariant: every GatewayError ends as printable lines on stderr, each beginning with "gateway: ", and one of these
numbers; a traceback means a bug. Statuses chosen by the commands themselves were turned down: two of them would soon
disagree.
"""

from enum import IntEnum

import typer

from gateway.errors import ConfigurationError, GatewayError, Invalid, NotAllowed, NotFound, Unreachable
from gateway.settings.quoting import printable


class ExitStatus(IntEnum):
    """78 is sysexits' EX_CONFIG."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    UNREACHABLE = 5
    CONFIGURATION = 78


_STATUSES: tuple[tuple[type[GatewayError], ExitStatus], ...] = (
    (ConfigurationError, ExitStatus.CONFIGURATION),
    (NotFound, ExitStatus.NOT_FOUND),
    (NotAllowed, ExitStatus.NOT_ALLOWED),
    (Unreachable, ExitStatus.UNREACHABLE),
    (Invalid, ExitStatus.USAGE),  # what was typed breaks a rule, which only the service knows
)


def status_of(error: GatewayError) -> ExitStatus:
    """The status for an error; FAILED for what has none of its own."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), ExitStatus.FAILED)


def complain(text: str) -> None:
    """Write a message for people, on stderr, so that stdout holds nothing but what was asked for.

    Of what a message repeats, line feeds alone reach the terminal as they are.
    """
    for line in text.strip("\n").split("\n"):
        typer.echo(f"gateway: {printable(line)}", err=True)
