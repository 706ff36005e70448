"""Decides whether a good key may use this route.

Invariant: each permission of the route must be allowed by the key's own list and by what its owner holds now; a key
without a list of its own inherits. The outcome is remembered in the cache entry, which dies with any change of either.
"""

from functools import lru_cache

from gateway.cache.key_cache import Entry
from gateway.keys.permissions import both_allow
from gateway.policies.challenges import Challenges
from gateway.policies.contract import PolicySubject
from gateway.policies.refusal import Refusal


class Permissions:
    """Reads `entry`. An anonymous request on an optional route with permissions lacks them."""

    __slots__ = ("_challenges",)

    def __init__(self, challenges: Challenges) -> None:
        self._challenges = challenges

    def check(self, exchange: PolicySubject) -> Refusal | None:
        """See the module."""
        needed = exchange.route.permissions
        entry = exchange.entry
        if entry is None:
            return self._challenges.missing
        if needed in entry.allowed:
            return None
        if not _holds(entry, needed):
            return self._challenges.insufficient(needed)
        entry.allowed = _shared((*entry.allowed, needed))
        return None


def _holds(entry: Entry, needed: tuple[str, ...]) -> bool:
    return all(both_allow(entry.permissions, entry.owner_permissions, permission) for permission in needed)


@lru_cache(maxsize=4096)
def _shared(allowed: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """One object for all keys with the same outcome: a set of its own would be a quarter of an entry's memory."""
    return allowed
