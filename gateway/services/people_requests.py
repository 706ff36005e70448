"""What may be asked about people, service accounts and organizations, field by field with its rule.

Invariant: as in `requests`: what is validated is clean, and what is wrong is said all at once. In a change (`Update…`)
a field that is not given stays as it is, and null clears a field that may be empty; which fields were given is the
model's own knowledge (`given`), so that no value has to stand for "not given".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from gateway.keys.authority import KEYS, READ, Role
from gateway.services.requests import (
    Description,
    Email,
    Expires,
    ExternalId,
    Name,
    PermissionSet,
    Preset,
    Request,
)

ADMIN_PERMISSIONS = ("*:*", "gateway:*")  # `*` never matches the gateway itself, so that is granted by name
DEFAULT_MEMBER_PERMISSIONS = ("*:*", READ, KEYS)

FinitePreset = Literal["1h", "1d", "7d", "30d", "6mo", "1y", "2y", "4y"]


class FirstKey(Request):
    """The first key of a new member: it inherits what they hold."""

    name: Name | None = None
    """Default: `First key of <e-mail>`."""
    expires: Expires | None = None
    """A preset, a date or a date-time with its zone. Default: the organization's."""


@dataclass(frozen=True, slots=True)
class _BooleanToo:
    """Says in the schema that true stands for an empty object, and false for null."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Add the boolean to what there is."""
        return {"anyOf": [{"type": "boolean"}, *handler(schema)["anyOf"]]}


def _object_for_boolean(value: object) -> object:
    if isinstance(value, bool):
        return {} if value else None
    return value


class CreateMember(Request):
    """A person to be added to the organization."""

    email: Email
    """Unique among the members of the organization, in any case."""
    role: Role = "member"
    """How far permissions reach: the whole organization, or what is the member's own."""
    permissions: PermissionSet | None = None
    """What the member's keys may do at most. Default: `*:*`, `gateway:read`, `gateway:keys`; for admins everything."""
    external_id: ExternalId | None = None
    """What another system calls the member; sent upstream. Unique in the organization."""
    first_key: Annotated[FirstKey | None, BeforeValidator(_object_for_boolean), _BooleanToo()] = None
    """Makes a key for the member, to be handed to them: true, or an object with what it should be like."""

    @property
    def granted(self) -> tuple[str, ...]:
        """Return the permissions, or the default of the role."""
        if self.permissions is not None:
            return self.permissions
        return ADMIN_PERMISSIONS if self.role == "admin" else DEFAULT_MEMBER_PERMISSIONS


class UpdateMember(Request):
    """Changes of a member; what is not given stays as it is."""

    email: Email = Field(default_factory=str)
    """Unique among the members of the organization, in any case."""
    role: Role = Field(default_factory=lambda: "member")
    """How far permissions reach: the whole organization, or what is the member's own."""
    permissions: PermissionSet = Field(default_factory=tuple)
    """What the member's keys may do at most, all of them, from this change on."""
    external_id: ExternalId | None = Field(default_factory=lambda: None)
    """What another system calls the member; null clears it."""


class CreateServiceAccount(Request):
    """A service account to be added to the organization."""

    name: Name
    """Unique among the service accounts of the organization."""
    description: Description = ""
    """What it is for; may have several lines."""
    permissions: PermissionSet = ()
    """What its keys may do at most. Default: nothing."""
    external_id: ExternalId | None = None
    """What another system calls it; sent upstream. Unique in the organization."""


class UpdateServiceAccount(Request):
    """Changes of a service account; what is not given stays as it is."""

    name: Name = Field(default_factory=str)
    """Unique among the service accounts of the organization."""
    description: Description = Field(default_factory=str)
    """What it is for; may have several lines."""
    permissions: PermissionSet = Field(default_factory=tuple)
    """What its keys may do at most, all of them, from this change on."""
    external_id: ExternalId | None = Field(default_factory=lambda: None)
    """What another system calls it; null clears it."""


class CreateOrganization(Request):
    """An organization to be founded, with its first admin."""

    name: Name
    """Unique among the organizations of this gateway."""
    admin: Email
    """E-mail address of the first admin, who gets all permissions and a key."""
    external_id: ExternalId | None = None
    """What another system calls the organization; compared with the tenant header. Unique."""
    default_expiry: Preset = "1y"
    """How long a key lives that asks for nothing."""
    max_expiry: FinitePreset | None = None
    """The longest life of a key; null: no bound."""


class UpdateOrganization(Request):
    """Changes of an organization; what is not given stays as it is. Name and external id are the operator's."""

    name: Name = Field(default_factory=str)
    """Unique among the organizations of this gateway. Changed by the operator alone."""
    external_id: ExternalId | None = Field(default_factory=lambda: None)
    """What another system calls the organization; null clears it. Changed by the operator alone."""
    default_expiry: Preset = Field(default_factory=lambda: "1y")
    """How long a key lives that asks for nothing."""
    max_expiry: FinitePreset | None = Field(default_factory=lambda: None)
    """The longest life of a key from now on, whatever is asked for; null: no bound. Present keys stay as they are."""
    keys_create_requires_admin: bool = Field(default_factory=bool)
    """Whether admins alone make keys."""
    keys_revoke_requires_admin: bool = Field(default_factory=bool)
    """Whether admins alone revoke and delete keys."""


class RemoveOwner(Request):
    """How to remove a member or a service account: what becomes of their keys."""

    keys: Literal["revoke", "move"] | None = None
    """Needed where there are keys that are not revoked."""
    move_to: Annotated[str, Field(max_length=254)] | None = None
    """The id of the service account that the keys are moved to."""


def given(request: BaseModel) -> Mapping[str, Any]:  # Any: each field has its own type
    """Return the fields that the body has."""
    return {name: getattr(request, name) for name in request.model_fields_set}
