"""Holds a key that stands in a web page to the pages that it was made for (`allowed_origins` of the key).

Invariant: such a key works only with exactly one Origin field (RFC 6454 section 7) that is on its list, byte for byte:
browsers write origins in one way. This stops other pages, not other programs, which may send any Origin they like; what
such a key may do is therefore up to its permissions.
"""

from gateway.policies.challenges import Challenges
from gateway.policies.contract import PolicySubject
from gateway.policies.fields import values
from gateway.policies.refusal import Refusal


class Origins:
    """Reads `entry`."""

    __slots__ = ("_challenges",)

    def __init__(self, challenges: Challenges) -> None:
        self._challenges = challenges

    def check(self, exchange: PolicySubject) -> Refusal | None:
        """See the module."""
        entry = exchange.entry
        if entry is None or entry.allowed_origins is None:
            return None
        origins = values(exchange.head.forwarded, b"origin")
        if len(origins) == 1 and origins[0].decode("latin-1") in entry.allowed_origins:
            return None
        return self._challenges.wrong_origin
