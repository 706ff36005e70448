"""What services return, field for field what the admin API and `--json` show. Names, types and tokens are a contract.

Invariant: only `IssuedKey` ever carries a secret, and only the call that made the secret returns one; its `repr` hides
it. Times are aware, in UTC, and come out as RFC 3339. One shape per thing was preferred to letting each edge (command
line, API, console) pick columns of its own.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.keys.record import OwnerKind, Status


class Shape(BaseModel):
    """Frozen, and closed: a field that is not declared here does not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ActorShape(Shape):
    """Who did it, as they were called then."""

    id: str | None
    """The key or member; null for the system."""
    text: str
    """`API Key: <name>`, `Member: <e-mail>` or `System`."""


class OwnerShape(Shape):
    """Whose key it is."""

    id: str
    kind: OwnerKind
    name: str
    """The e-mail address of a member, the name of a service account."""


class LastUse(Shape):
    """A request that was made with the key."""

    at: datetime
    address: str
    """Where it came from."""
    user_agent: str | None
    """What the client called itself, if it did."""


class PreviousSecret(Shape):
    """The secret that was rotated out and is still valid."""

    tail: str | None
    """Its last characters."""
    valid_until: datetime
    """From then on it is refused."""
    last_used: LastUse | None
    """The newest request made with it; null: none."""


class Key(Shape):
    """A key as everybody who may see it sees it."""

    id: str
    organization_id: str
    name: str
    description: str
    prefix: str | None
    """What the secret begins with; null where an import did not say."""
    tail: str | None
    """The last characters of the secret; null where an import did not say."""
    status: Status
    """The first that fits: revoked, expired, disabled, active."""
    expires_soon: bool
    """Active, and in the last 14 days."""
    permissions: tuple[str, ...] | None
    """What the key may do, as far as its owner may as well; null: whatever its owner may."""
    allowed_origins: tuple[str, ...] | None
    """Pages of which origins may use the key in a browser; null: not bound to any."""
    owner: OwnerShape
    created_at: datetime
    created_by: ActorShape
    expires_at: datetime | None
    """The key is refused from then on; null: never."""
    disabled_at: datetime | None
    disabled_by: ActorShape | None
    revoked_at: datetime | None
    revoked_by: ActorShape | None
    revoked_reason: str | None
    last_used: LastUse | None
    """The newest request, by whichever secret; null: no use is recorded."""
    secret_last_used: LastUse | None
    """The newest request made with the present secret; null: none since it was made."""
    previous_secret: PreviousSecret | None
    """After a rotation, until the grace period is over or was finished."""
    imported: bool
    """Whether the key came from another system, by the SHA-256 of its secret."""
    version: int
    """Grows with each change; the ETag."""


class Warned(Shape):
    """Something that was done as asked, and may not be what was meant."""

    code: Literal["name_in_use"]
    detail: str


class IssuedKey(Key):
    """A key together with its secret: shown once, stored nowhere."""

    secret: str | None = Field(repr=False)
    """The whole secret, in the answer to the call that made it and in no other; null where `code` says why."""
    code: Literal["secret_already_issued"] | None = None
    """Set where the request repeats one that was carried out, by its Idempotency-Key."""
    warnings: tuple[Warned, ...] = ()


class ImportedKey(Key):
    """A key of another system, as it was taken on."""

    warnings: tuple[Warned, ...] = ()


class KeyPage(Shape):
    """One page of a list."""

    items: tuple[Key, ...]
    next_cursor: str | None
    """Where the next page begins; null on the last one."""


VerificationCode = Literal[
    "invalid_api_key",
    "revoked_api_key",
    "expired_api_key",
    "disabled_api_key",
    "origin_not_allowed",
    "insufficient_permissions",
]


class Verification(Shape):
    """What a presented secret is good for."""

    valid: bool
    """Whether a request with it, from the `origin` that was given, would be let through by the proxy."""
    code: VerificationCode | None
    """Why not; null where it is valid."""
    key: Key | None
    """The key; null where the secret is unknown in this organization."""
    permissions: tuple[str, ...]
    """All that the key may do at this moment: nothing unless it is active, and used on a page that it is for."""


class Organization(Shape):
    """An organization and its rules for keys. `default_expiry` and `max_expiry` are presets; null: no bound."""

    id: str
    name: str
    external_id: str | None
    default_expiry: str
    max_expiry: str | None
    keys_create_requires_admin: bool
    keys_revoke_requires_admin: bool
    created_at: datetime
    version: int


class OrganizationName(Shape):
    """As `gateway init` shows it."""

    id: str
    name: str


class MemberName(Shape):
    """As `gateway init` shows it."""

    id: str
    email: str


class Initialised(Shape):
    """What `gateway init` made."""

    organization: OrganizationName
    member: MemberName
    key: IssuedKey
