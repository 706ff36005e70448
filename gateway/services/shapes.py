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

    model_config = ConfigDict(frozen=True, extra="forbid")


class ActorShape(Shape):
    """Who did it: `API Key: …`, `Member: …` or `System`; `id` is null for the system."""

    id: str | None
    text: str


class OwnerShape(Shape):
    """Whose key it is. `name`: the e-mail of a member, the name of a service account."""

    id: str
    kind: OwnerKind
    name: str


class LastUse(Shape):
    """The newest request that was made with the key."""

    at: datetime
    address: str
    user_agent: str | None


class Key(Shape):
    """A key as everybody who may see it sees it. `permissions` is null where it inherits its owner's."""

    id: str
    organization_id: str
    name: str
    description: str
    prefix: str | None
    tail: str | None
    status: Status
    expires_soon: bool
    permissions: tuple[str, ...] | None
    owner: OwnerShape
    created_at: datetime
    created_by: ActorShape
    expires_at: datetime | None
    disabled_at: datetime | None
    disabled_by: ActorShape | None
    revoked_at: datetime | None
    revoked_by: ActorShape | None
    revoked_reason: str | None
    last_used: LastUse | None
    version: int


class Warned(Shape):
    """Something that was done as asked, and may not be what was meant."""

    code: Literal["name_in_use"]
    detail: str


class IssuedKey(Key):
    """A key together with its secret: shown once, stored nowhere."""

    secret: str = Field(repr=False)
    warnings: tuple[Warned, ...] = ()


class KeyPage(Shape):
    """One page of a list; `next_cursor` is null on the last one."""

    items: tuple[Key, ...]
    next_cursor: str | None


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
