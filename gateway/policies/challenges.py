"""The refusals that ask for a (better) key, with their challenges (RFC 9110 section 11.6.1, RFC 6750 section 3).

Built once from the settings. With `error_detail = "generic"` a key that is expired, revoked or disabled looks like an
unknown one to its holder.
"""

from gateway.keys.record import Status
from gateway.keys.refused import INACTIVE, MALFORMED, MISSING, UNKNOWN, WRONG_ORIGIN
from gateway.policies.refusal import Refusal


class Challenges:
    """Every 401, and the 403 of a missing permission."""

    __slots__ = (
        "_generic",
        "_inactive",
        "_invalid_fields",
        "_realm",
        "malformed",
        "missing",
        "unknown",
        "wrong_organization",
        "wrong_origin",
    )

    def __init__(self, realm: str, *, generic: bool) -> None:
        self._generic = generic
        self._realm = realm.replace("\\", "\\\\").replace('"', '\\"')
        self._invalid_fields = self._challenge(', error="invalid_token"')
        self.missing = Refusal(401, "missing_api_key", MISSING, self._challenge(""))
        self.malformed = self._invalid("invalid_api_key", MALFORMED)
        self.unknown = self._invalid("invalid_api_key", UNKNOWN)
        self.wrong_organization = self._forbidden(
            "wrong_organization", "The API key belongs to another organization than the one that the request names."
        )
        self.wrong_origin = self._forbidden("origin_not_allowed", WRONG_ORIGIN)
        self._inactive = {state: self._invalid(code, detail) for state, (code, detail) in INACTIVE.items()}

    def inactive(self, state: Status) -> Refusal:
        """Why a known key may not be used now; one that was active when it was looked up has expired since."""
        return self.unknown if self._generic else self._inactive.get(state, self._inactive[Status.EXPIRED])

    def insufficient(self, permissions: tuple[str, ...]) -> Refusal:
        """The key is good and may not do this."""
        scope = " ".join(permissions)
        return Refusal(
            403,
            "insufficient_permissions",
            f"This needs the permission {', '.join(permissions)}, which the API key or its owner does not hold.",
            self._challenge(f', error="insufficient_scope", scope="{scope}"'),
        )

    def _forbidden(self, code: str, detail: str) -> Refusal:
        return Refusal(403, code, detail, self._challenge(', error="insufficient_scope"'))

    def _invalid(self, code: str, detail: str) -> Refusal:
        return Refusal(401, code, detail, self._invalid_fields)

    def _challenge(self, error: str) -> tuple[tuple[str, str], ...]:
        return (
            ("WWW-Authenticate", f'Bearer realm="{self._realm}"{error}'),
            ("WWW-Authenticate", f'ApiKey realm="{self._realm}"'),
        )
