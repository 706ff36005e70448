"""What a policy sees of a request, and what it may answer.

A policy is `check(exchange) -> Refusal | None`, or an awaitable of that only when it must wait; it decides, and the
exchange acts. Adding one is a file beside this one and a line in `pipeline.py`. Turned down: middlewares around each
other, whose order is in nobody's view and which cost a frame each.
"""

from collections.abc import Awaitable
from typing import Protocol

from gateway.cache.key_cache import Entry
from gateway.policies.refusal import Refusal

Outcome = Refusal | Awaitable[Refusal | None] | None


class RouteRules(Protocol):
    """What a route demands of a credential."""

    @property
    def optional(self) -> bool:
        """Whether a request without a credential may pass."""

    @property
    def permissions(self) -> tuple[str, ...]:
        """All of these are needed."""


class PresentedFields(Protocol):
    """The fields of a request head: credentials as received, None where there is none, and the ordinary ones."""

    @property
    def api_key(self) -> bytes | None:
        """The value of X-API-KEY."""

    @property
    def authorization(self) -> bytes | None:
        """The value of Authorization."""

    @property
    def forwarded(self) -> list[bytes]:
        """The ordinary fields as `name: value`."""


class PolicySubject(Protocol):
    """A request under judgement. Policies read `head` and `route`, and write the rest."""

    @property
    def head(self) -> PresentedFields:
        """What the client sent."""

    @property
    def route(self) -> RouteRules:
        """The rules that apply."""

    now: float
    """The loop's clock when the request came."""
    secret: bytes | None
    """The gateway key that was presented; None without one."""
    passes_authorization: bool
    """Whether the Authorization field is not ours and travels on."""
    known: Entry | None
    """The key that was presented, good or not; None where none was, or none has that secret. For the record."""
    entry: Entry | None
    """The key that was found good; None for an anonymous request."""


class Policy(Protocol):
    """One check."""

    def check(self, exchange: PolicySubject) -> Outcome:
        """Judge a request."""
