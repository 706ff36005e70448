"""Refuses a request that names another organization than the one its key belongs to (`auth.tenant_header`).

Invariant: every field of that name has to agree, in any spelling, since the upstream may read any of them. A request
that does not name an organization is not refused: the key itself says which one it is.
"""

from gateway.policies.challenges import Challenges
from gateway.policies.contract import PolicySubject
from gateway.policies.fields import values
from gateway.policies.refusal import Refusal


class Tenant:
    """Reads `entry`. What a client calls its organization may be its id or its `external_id`."""

    __slots__ = ("_challenges", "_header")

    def __init__(self, challenges: Challenges, header: str) -> None:
        self._challenges = challenges
        self._header = header.lower().replace("_", "-").encode()

    def check(self, exchange: PolicySubject) -> Refusal | None:
        """See the module."""
        entry = exchange.entry
        if entry is None:
            return None
        named = values(exchange.head.forwarded, self._header)
        if not named:
            return None
        own = {entry.organization_id.encode(), (entry.organization_external_id or entry.organization_id).encode()}
        return None if own.issuperset(named) else self._challenges.wrong_organization
