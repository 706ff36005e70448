"""Finds the gateway key in a request: X-API-KEY, or Authorization with the Bearer scheme (RFC 6750 section 2.1).

Invariant: at most one key is presented. An Authorization field that is not one of our keys is the upstream's business
when X-API-KEY carries the key, and travels on untouched; two different keys of ours are refused, since two readers
could pick different ones. Reads the head alone: no clock, no store.
"""

import re

from gateway.keys.secret import BODY_CHARACTERS
from gateway.policies.contract import PolicySubject
from gateway.policies.refusal import Refusal

_CONFLICT = Refusal(
    400,
    "conflicting_credentials",
    "X-API-KEY and Authorization carry two different keys of this gateway; send one of them.",
)


def token_in(value: bytes, *, bare: bool) -> bytes | None:
    """The key in an Authorization value: after `Bearer` in any case, or with `bare` the whole of a single word."""
    if value[:7].lower() == b"bearer ":
        return value[7:].strip()
    return value if bare and len(value.split()) == 1 else None


class Credentials:
    """Sets `secret` and `passes_authorization`."""

    __slots__ = ("_bare", "_form")

    def __init__(self, key_prefix: str, *, bare_authorization: bool) -> None:
        """`bare_authorization` also takes a key that stands in Authorization without a scheme."""
        self._form = re.compile(re.escape(key_prefix.encode()) + rb"[0-9A-Za-z]{%d}" % BODY_CHARACTERS)
        self._bare = bare_authorization

    def check(self, exchange: PolicySubject) -> Refusal | None:
        """Refuses only two different keys in one request."""
        head = exchange.head
        secret = head.api_key or None
        if head.authorization is None:
            exchange.secret = secret
            return None
        token = token_in(head.authorization, bare=self._bare)
        exchange.secret = secret or token
        if token is not None and exchange.secret == token:
            return None
        exchange.passes_authorization = not self.holds_our_key(head.authorization)
        # What looks like a key of ours and is not the one presented stays here; beside another key it is a conflict.
        return None if exchange.passes_authorization or secret is None else _CONFLICT

    def holds_our_key(self, value: bytes) -> bool:
        """Whether an Authorization value has something in it with the form of this gateway's keys, however put."""
        return self._form.search(value) is not None


class StrippedCredentials:
    """For routes that ask for no key: a key that a client sends all the same must not reach the upstream."""

    __slots__ = ("_finder",)

    def __init__(self, finder: Credentials) -> None:
        self._finder = finder

    def check(self, exchange: PolicySubject) -> None:
        """Never refuses; keeps an Authorization field that is no key of ours."""
        authorization = exchange.head.authorization
        if authorization is not None:
            exchange.passes_authorization = not self._finder.holds_our_key(authorization)
