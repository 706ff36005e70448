"""What can go wrong, said once for every part: the command line, the admin API and the proxy.

Invariant: `detail` is a public sentence (what, where, how to mend it) that may be shown to anybody who can make the
call; `internal` is for our own log alone, and neither ever holds a secret or a digest. `code` is a stable token that
programs may compare.

The alternative turned down: one exception with a status number. HTTP statuses and exit codes are the business of the
edges (`control`, `cli`), which map these classes; the layers below know neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class GatewayError(Exception):
    """An expected failure. `code` is a stable token, `detail` the public sentence, `internal` for the log alone."""

    default_code = "failed"

    def __init__(self, detail: str, *, code: str | None = None, internal: str = "") -> None:
        """Keep the public sentence apart from what only our own log may know."""
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.internal = internal


class Unauthenticated(GatewayError):
    """Nobody is known to be calling: no key was presented, or one that is not good. `code` says which."""

    default_code = "invalid_api_key"


class NotFound(GatewayError):
    """The thing named does not exist, or belongs to another organization (the two must look the same)."""

    default_code = "not_found"


class NotAllowed(GatewayError):
    """The caller is known and may not do this."""

    default_code = "not_allowed"


class Conflict(GatewayError):
    """The request is well formed, and the present state of the thing does not allow it."""

    default_code = "conflict"


class PreconditionFailed(GatewayError):
    """The thing is no longer as the caller last saw it: look again, and decide again."""

    default_code = "version_mismatch"


class Unreachable(GatewayError):
    """Something this process depends on did not answer. Never the fault of a key or of a caller."""

    default_code = "unreachable"


class StoreBusy(Unreachable):
    """The store is held by a writer at this moment. The same call may succeed right away: try again, elsewhere."""

    default_code = "key_store_busy"


class StoreUnavailable(Unreachable):
    """The store cannot be read or written: missing, unreadable, damaged, full."""

    default_code = "key_store_unavailable"


class RedisUnavailable(Unreachable):
    """Redis cannot be asked, or refuses what is asked of it: what it would have said is read from the store."""

    default_code = "redis_unavailable"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One bad field of a request: its name (dotted where nested) and the rule it breaks, as a public sentence."""

    field: str
    rule: str


class Invalid(GatewayError):
    """A request with bad fields; `fields` names every one of them, not just the first."""

    default_code = "invalid"

    def __init__(
        self, fields: Sequence[FieldError], *, detail: str | None = None, code: str | None = None, internal: str = ""
    ) -> None:
        """Build the sentence from the fields unless a better one is given."""
        super().__init__(
            detail or "; ".join(f"{each.field}: {each.rule}" for each in fields), code=code, internal=internal
        )
        self.fields = list(fields)


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One problem of the configuration. `source`: file (with line where known), variable or flag; `key`: the path."""

    source: str
    key: str
    reason: str


class ConfigurationError(GatewayError):
    """The settings cannot be used; `problems` holds every problem at once, so that one look is enough to mend them."""

    default_code = "bad_configuration"

    def __init__(self, problems: Sequence[ConfigProblem], *, internal: str = "") -> None:
        """Say every problem on a line of its own."""
        super().__init__("\n".join(f"{each.source}: {each.key}: {each.reason}" for each in problems), internal=internal)
        self.problems = list(problems)
