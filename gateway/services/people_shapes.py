"""What services return about people, service accounts and organizations, field for field what the admin API shows.

Invariant: nothing here carries a secret but the `key` of an answer that made one, an `IssuedKey`, whose `repr` hides
it. A thing that has gone is answered with its last state, and with what became of what belonged to it.
"""

from datetime import datetime

from gateway.keys.authority import Role
from gateway.services.shapes import IssuedKey, Key, Organization, OwnerShape, Shape


class Member(Shape):
    """A person of an organization."""

    id: str
    organization_id: str
    email: str
    """In lower case; unique among the members of the organization."""
    role: Role
    """How far permissions reach: the whole organization, or what is the member's own."""
    permissions: tuple[str, ...]
    """What each of the member's keys may do at most, at this moment."""
    external_id: str | None
    """What another system calls the member; sent upstream."""
    created_at: datetime
    version: int
    """Grows with each change; the ETag."""


class InvitedMember(Member):
    """A new member, and the first key that was asked for along with them."""

    key: IssuedKey | None
    """To be handed to the member; null unless `first_key` asked for it."""


class KeysLeft(Shape):
    """What became of the keys of an owner who was removed."""

    revoked: int
    moved: int
    moved_to: OwnerShape | None
    """Whose they are now; null unless they were moved."""


class RemovedMember(Member):
    """The last state of a member, and what became of their keys."""

    keys: KeysLeft


class MemberPage(Shape):
    """One page of members; `next_cursor` is null on the last one."""

    items: tuple[Member, ...]
    next_cursor: str | None
    """Give it as `cursor` to get the next page."""


class ServiceAccount(Shape):
    """An owner of keys that is no person: a pipeline, a service."""

    id: str
    organization_id: str
    name: str
    """Unique among the service accounts of the organization."""
    description: str
    permissions: tuple[str, ...]
    """What each of its keys may do at most, at this moment."""
    external_id: str | None
    """What another system calls it; sent upstream."""
    created_at: datetime
    version: int
    """Grows with each change; the ETag."""


class RemovedServiceAccount(ServiceAccount):
    """The last state of a service account, and what became of its keys."""

    keys: KeysLeft


class ServiceAccountPage(Shape):
    """One page of service accounts; `next_cursor` is null on the last one."""

    items: tuple[ServiceAccount, ...]
    next_cursor: str | None
    """Give it as `cursor` to get the next page."""


class FoundedOrganization(Organization):
    """A new organization with its first admin, and the key to hand to them."""

    member: Member | None
    """Null only in a repeated answer, once the organization has changed the member."""
    key: IssuedKey | None
    """Null only in a repeated answer, once the organization has changed the key."""


class OrganizationPage(Shape):
    """One page of organizations; `next_cursor` is null on the last one."""

    items: tuple[Organization, ...]
    next_cursor: str | None
    """Give it as `cursor` to get the next page."""


class MyOwner(OwnerShape):
    """Whose key the call was made with, as far as that bounds what the key may do."""

    role: Role | None
    """admin or member; null for a service account."""
    permissions: tuple[str, ...]
    """What the owner holds."""
    external_id: str | None


class MyOrganization(Shape):
    """The organization of the key that the call was made with."""

    id: str
    name: str
    external_id: str | None
    operator: bool
    """Whether it is the organization that operates this gateway."""


class Me(Shape):
    """Who the calling key is, and what it may do."""

    key: Key
    owner: MyOwner
    organization: MyOrganization
    permissions: tuple[str, ...]
    """What the key may do: what its own list and its owner both allow."""
    uses_recorded: bool
    """Whether the gateway records requests; where it does not, `last_used` of keys says nothing."""
