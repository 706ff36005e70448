"""Decides whether the presented key is good: known, active, and not past its end.

Invariant: three answers, never two. A good key gives an entry, a bad one a 401, and a store that cannot be asked a 503;
an outage is never told to a client as a bad key. A hit in the worker's memory creates no task and reads one clock.
"""

from collections.abc import Awaitable

from gateway.cache.key_cache import Entry, KeyCache, NotHeld
from gateway.errors import StoreUnavailable
from gateway.keys.secret import MAX_SECRET_BYTES, Form, digest, form
from gateway.policies.challenges import Challenges
from gateway.policies.contract import Outcome, PolicySubject
from gateway.policies.refusal import STORE_UNAVAILABLE, Refusal


class KeyAuth:
    """Sets `entry`, and `known` where the key is one of ours, good or not."""

    __slots__ = ("_cache", "_challenges", "_prefix")

    def __init__(self, cache: KeyCache, challenges: Challenges, key_prefix: str) -> None:
        self._cache = cache
        self._challenges = challenges
        self._prefix = key_prefix.encode()

    def check(self, exchange: PolicySubject) -> Outcome:
        """See the module."""
        secret = exchange.secret
        if secret is None:
            return None if exchange.route.optional else self._challenges.missing
        if len(secret) > MAX_SECRET_BYTES:
            return self._challenges.malformed
        key_digest = digest(secret)
        entry = self._cache.find(key_digest, exchange.now)
        if isinstance(entry, Entry):
            return self._admit(exchange, entry)
        if entry is NotHeld.ABSENT:
            return self._unknown(secret)
        return self._look_up(exchange, secret, key_digest)

    def _admit(self, exchange: PolicySubject, entry: Entry) -> Refusal | None:
        exchange.known = entry
        if entry.active_until <= exchange.now:
            return self._challenges.inactive(entry.state)
        exchange.entry = entry
        return None

    def _unknown(self, secret: bytes) -> Refusal:
        genuine = form(secret, self._prefix) is Form.GENUINE
        return self._challenges.unknown if genuine else self._challenges.malformed

    def _look_up(self, exchange: PolicySubject, secret: bytes, key_digest: bytes) -> Outcome:
        if form(secret, self._prefix) is Form.BROKEN:
            return self._challenges.malformed
        try:
            found = self._cache.look_up(key_digest)
        except StoreUnavailable:
            return STORE_UNAVAILABLE
        if found is None:
            return self._unknown(secret)
        if isinstance(found, Entry):
            return self._admit(exchange, found)
        return self._when_found(exchange, secret, found)

    async def _when_found(
        self, exchange: PolicySubject, secret: bytes, found: Awaitable[Entry | None]
    ) -> Refusal | None:
        try:
            entry = await found
        except StoreUnavailable:
            return STORE_UNAVAILABLE
        return self._unknown(secret) if entry is None else self._admit(exchange, entry)
