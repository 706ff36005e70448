"""Who makes a change: what they may do, and how the audit trail and `created_by` name them.

Invariant: the text is exactly `API Key: <name>`, `Member: <e-mail>` or `System`, taken down when the change is made:
a trail must read the same after its actors were renamed or are gone. Joining names in at reading time was turned down.
"""

from dataclasses import dataclass
from typing import Final

from gateway.keys.authority import Authority


@dataclass(frozen=True, slots=True)
class Actor:
    """`id` is that of the key or member, None for the system. Address and request id are of the call, where known.

    `owner_id` is whose key it is, or the member: by it people find what was done in their name.
    """

    id: str | None
    text: str
    address: str | None = None
    request_id: str | None = None
    owner_id: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever calls a service: their authority as the store has it at the time of the call, and their name."""

    authority: Authority
    actor: Actor


SYSTEM: Final = Actor(id=None, text="System")
"""Whoever can open the store's file itself: `gateway init` on the gateway's own machine."""
