"""What is said of the last use of a key.

Invariant: no text claims that a key is not used; somebody would end it for that. The words for a key without a known
use are chosen here and nowhere else.
"""

from typing import TYPE_CHECKING, Final

from gateway.cli.output import moment

if TYPE_CHECKING:
    from gateway.client.shapes import LastUse

# For a field, and as a sentence. Once the gateway records uses: "never used", "it was never used".
_WITHOUT_A_USE: Final = ("not recorded", "when it was last used is not recorded yet")


def last_used_text(last_used: "LastUse | None") -> str:
    """When and from where, for a field."""
    return _WITHOUT_A_USE[0] if last_used is None else f"{moment(last_used.at)} from {last_used.address}"


def last_used_sentence(last_used: "LastUse | None") -> str:
    """The same as a sentence about "it", without a full stop."""
    return _WITHOUT_A_USE[1] if last_used is None else f"it was last used {last_used_text(last_used)}"
