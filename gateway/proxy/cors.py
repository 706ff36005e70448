"""Lets pages of other origins use a route (Fetch Standard, section 3.2 "CORS protocol"; `[routes.cors]`).

Invariants: a preflight is answered here, without a key, and is never forwarded. What an upstream says about CORS is
replaced, as it cannot know who may call the gateway. `*` never goes together with credentials: the origin itself is
named then. An answer that depends on the Origin field says so (`Vary`).
"""

from typing import Final

from gateway.policies.fields import values
from gateway.proxy.grammar import is_token
from gateway.settings.model import CorsSettings

_ALWAYS_ALLOWED: Final = ("X-API-KEY", "Authorization", "Content-Type")
"""What a keyed request needs; `*` does not cover Authorization (Fetch Standard, section 3.2.3)."""
_ALWAYS_EXPOSED: Final = ("X-Request-ID", "Retry-After", "WWW-Authenticate")
_UPSTREAMS_OWN: Final = b"access-control-"


class Cors:
    """What one route says to pages of other origins."""

    __slots__ = ("_answer_fields", "_any_origin", "_credentials", "_methods", "_origins", "_preflight_fields")

    def __init__(self, settings: CorsSettings, tenant_header: str | None) -> None:
        self._origins = frozenset(origin.encode() for origin in settings.allow_origins)
        self._any_origin = b"*" in self._origins
        self._credentials = [b"Access-Control-Allow-Credentials: true"] if settings.allow_credentials else []
        self._methods = ", ".join(settings.allow_methods).encode()
        tenant = [tenant_header] if tenant_header else []
        allowed = ", ".join(dict.fromkeys([*_ALWAYS_ALLOWED, *tenant, *settings.allow_headers]))
        exposed = ", ".join(dict.fromkeys([*_ALWAYS_EXPOSED, *settings.expose_headers]))
        self._preflight_fields = [
            b"Access-Control-Allow-Headers: " + allowed.encode(),
            b"Access-Control-Max-Age: %d" % settings.max_age_seconds,
        ]
        self._answer_fields = [b"Access-Control-Expose-Headers: " + exposed.encode()]

    def origin(self, forwarded: list[bytes]) -> bytes | None:
        """The origin that a request comes from, if its pages may use the route."""
        origins = values(forwarded, b"origin")
        if len(origins) != 1 or not (self._any_origin or origins[0] in self._origins):
            return None
        return origins[0]

    def answer_fields(self, origin: bytes | None) -> list[bytes]:
        """What an answer says to a page of `origin`; None: one that may not read it."""
        if origin is None:
            return [b"Vary: Origin"]
        return [*self._grant(origin), *self._answer_fields]

    def preflight_fields(self, origin: bytes | None, method: bytes) -> list[bytes]:
        """What a preflight for `method` is answered."""
        if origin is None or not method:
            return [b"Vary: Origin"]
        methods = self._methods or method
        return [*self._grant(origin), b"Access-Control-Allow-Methods: " + methods, *self._preflight_fields]

    def _grant(self, origin: bytes) -> list[bytes]:
        if self._any_origin and not self._credentials:
            return [b"Access-Control-Allow-Origin: *"]
        return [b"Access-Control-Allow-Origin: " + origin, b"Vary: Origin", *self._credentials]


def preflight_method(forwarded: list[bytes]) -> bytes | None:
    """The method that an OPTIONS request asks about, if it is a preflight (it has an Origin and names one).

    Empty where it names several, or none that can be a method: no browser does, and it is granted nothing.
    """
    methods = values(forwarded, b"access-control-request-method")
    if not methods or not values(forwarded, b"origin"):
        return None
    return methods[0] if len(methods) == 1 and is_token(methods[0]) else b""


def without_cors(forwarded: list[bytes]) -> list[bytes]:
    """The lines of a response but for those about CORS."""
    return [line for line in forwarded if line[: len(_UPSTREAMS_OWN)].lower() != _UPSTREAMS_OWN]
