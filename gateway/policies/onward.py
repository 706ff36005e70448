"""Keeps an Authorization field from travelling on when it holds a key of this gateway that does not look like one.

Keys that were imported have the form of another system, so `credentials` cannot tell them from a token that is the
upstream's business. Invariant: what the store knows as a key never reaches an upstream, whatever its form; while the
store cannot be asked, the field stays here, since a request that the upstream refuses can be repeated and a key that
leaked cannot be taken back. A token that is not known costs one look-up per `negative_ttl_seconds`.
"""

from collections.abc import Awaitable

from gateway.cache.key_cache import Entry, KeyCache, NotHeld
from gateway.errors import StoreUnavailable
from gateway.keys.secret import MAX_SECRET_BYTES, digest
from gateway.policies.contract import Outcome, PolicySubject
from gateway.policies.refusal import Refusal


class Onward:
    """Clears `passes_authorization`."""

    __slots__ = ("_cache",)

    def __init__(self, cache: KeyCache) -> None:
        self._cache = cache

    def check(self, exchange: PolicySubject) -> Outcome:
        """Never refuses."""
        value = exchange.head.authorization
        if value is None or not exchange.passes_authorization:
            return None
        # Everything behind the scheme, however the two are parted: so it is with the keys that `credentials` takes.
        token = value.split(None, 1)[-1] if value else value
        if len(token) > MAX_SECRET_BYTES:
            return None
        token_digest = digest(token)
        known = self._cache.find(token_digest, exchange.now)
        if known is NotHeld.MISS:
            try:
                found = self._cache.look_up(token_digest)
            except StoreUnavailable:
                exchange.passes_authorization = False
                return None
            if found is not None and not isinstance(found, Entry):
                return self._when_found(exchange, found)
            exchange.passes_authorization = found is None
        else:
            exchange.passes_authorization = known is NotHeld.ABSENT
        return None

    async def _when_found(self, exchange: PolicySubject, found: Awaitable[Entry | None]) -> Refusal | None:
        try:
            exchange.passes_authorization = await found is None
        except StoreUnavailable:
            exchange.passes_authorization = False
        return None
