"""What is said of the last use of a key.

Invariant: no text claims that a key was never used where the gateway does not record uses; somebody would end it for
that. The words for a key without a known use are chosen here and nowhere else.
"""

from typing import TYPE_CHECKING, Final

from gateway.cli.output import moment

if TYPE_CHECKING:
    from gateway.cli.connection import Connection
    from gateway.client.shapes import LastUse

# For a field, and as a sentence.
_NEVER: Final = ("never used", "it was never used")
_NOT_KNOWN: Final = ("not recorded", "when it was last used is not recorded")


def last_used_text(connection: "Connection", last_used: "LastUse | None") -> str:
    """When and from where, for a field."""
    return _without_a_use(connection)[0] if last_used is None else f"{moment(last_used.at)} from {last_used.address}"


def last_used_sentence(connection: "Connection", last_used: "LastUse | None") -> str:
    """The same as a sentence about "it", without a full stop."""
    if last_used is None:
        return _without_a_use(connection)[1]
    return f"it was last used {last_used_text(connection, last_used)}"


def _without_a_use(connection: "Connection") -> tuple[str, str]:
    return _NEVER if connection.uses_recorded else _NOT_KNOWN
