"""Who makes a change, as the audit trail and `created_by` name them.

Invariant: the text is exactly `API Key: <name>`, `Member: <e-mail>` or `System`, taken down when the change is made:
a trail must read the same after its actors were renamed or are gone. Joining names in at reading time was turned down.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Actor:
    """`id` is that of the key or member, None for the system. Address and request id are of the call, where known."""

    id: str | None
    text: str
    address: str | None = None
    request_id: str | None = None


SYSTEM: Final = Actor(id=None, text="System")
"""Whoever can open the store's file itself: the command line on the gateway's own machine."""
