"""Why a request is not let through: the one shape in which every part of the data plane says no.

Invariant: `code` is stable and documented; `detail` is public text that never holds a credential or an address of the
inside. A refusal is the client's fault or a stated limit; a failure of ours or of the upstream has the same shape with
a status from 500 up.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of the gateway's own (RFC 9457 problem details)."""

    status: int
    code: str
    detail: str
    fields: tuple[tuple[str, str], ...] = ()
    """Further response fields, such as WWW-Authenticate or Retry-After."""


STORE_UNAVAILABLE = Refusal(
    503,
    "key_store_unavailable",
    "The key store cannot be asked at the moment, so the key could not be checked. Try again shortly.",
    (("Retry-After", "1"),),
)
"""Never told as a bad key."""
