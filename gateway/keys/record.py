"""What one secret means to a worker, and the status that follows from it.

Invariant: a status is derived from three moments and the clock, and is stored nowhere; so no sweeper has to run for a
key to expire, and no two places can disagree. A stored status column was turned down for exactly that.

Moments are unix seconds (UTC) as floats: on the hot path they are compared with a clock that is read once per loop
turn.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

OwnerKind = Literal["member", "service_account"]

EXPIRES_SOON_SECONDS = 14 * 86_400


@dataclass(frozen=True, slots=True)
class CredentialRecord:
    """The key, its owner and its organization as they stood when the record was read.

    `permissions` is None where the key inherits its owner's; a request always needs the owner's permissions as well.
    `secret_valid_until` is None unless the secret was rotated out and lives on for its grace period. `allowed_origins`
    is None where the key is not bound to pages of certain origins.
    """

    digest: bytes = field(repr=False)
    secret_id: str
    secret_valid_until: float | None
    key_id: str
    key_name: str
    version: int
    expires_at: float | None
    disabled_at: float | None
    revoked_at: float | None
    permissions: tuple[str, ...] | None
    organization_id: str
    organization_external_id: str | None
    owner_kind: OwnerKind
    owner_id: str
    owner_name: str
    owner_external_id: str | None
    owner_permissions: tuple[str, ...]
    allowed_origins: tuple[str, ...] | None = None


class Status(StrEnum):
    """What a key is at one moment. Revoked is final; expired and disabled can be mended."""

    ACTIVE = "active"
    REVOKED = "revoked"
    EXPIRED = "expired"
    DISABLED = "disabled"


def status(*, revoked_at: float | None, expires_at: float | None, disabled_at: float | None, now: float) -> Status:
    """Return the first that fits: revoked, expired, disabled, active. A key is expired from `expires_at` on."""
    if revoked_at is not None:
        return Status.REVOKED
    if expires_at is not None and now >= expires_at:
        return Status.EXPIRED
    if disabled_at is not None:
        return Status.DISABLED
    return Status.ACTIVE


def expires_soon(*, revoked_at: float | None, expires_at: float | None, disabled_at: float | None, now: float) -> bool:
    """Tell whether an active key is in the last 14 days of its life."""
    if expires_at is None or expires_at - now > EXPIRES_SOON_SECONDS:
        return False
    current = status(revoked_at=revoked_at, expires_at=expires_at, disabled_at=disabled_at, now=now)
    return current is Status.ACTIVE
