"""What the calling credential may do in the gateway itself: which operations, on whose things, and what it may hand on.

    allows       may it do this kind of operation      key's own list and the owner's permissions, both, as at the proxy
    administers  on whose things                       the whole organization, or what is the owner's alone
    operates     on which organizations                all of them, or its own alone
    may_hand_on  with which outcome                    no key gives more than whoever made, rotated or widened it holds

Invariant: nothing here is remembered. An authority is what a key, its owner and their organization say at the moment of
a call, so a change of any of the three counts from the next call on. Whatever limits a key limits all four answers
except reach: an admin's limited key reaches the whole organization, and can do there only what its list allows.

Turned down: roles as bundles of permissions. A role says how far a permission reaches, never which there are, so "what
may this key do" has one answer to read off (its permissions), at the admin API and at the proxy alike.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from gateway.keys.permissions import allows, both_allow, common, covers
from gateway.keys.record import OwnerKind

READ: Final = "gateway:read"
KEYS: Final = "gateway:keys"
MEMBERS: Final = "gateway:members"
ADMIN: Final = "gateway:admin"
GATEWAY_PERMISSIONS: Final = (READ, KEYS, MEMBERS, ADMIN)

Role = Literal["admin", "member"]


@dataclass(frozen=True, slots=True)
class Authority:
    """The key, its owner and their organization, as far as they bound what a call may do.

    `role` is None for a service account. `key_permissions` is None for a key that inherits its owner's permissions.
    `operator` tells whether the organization is the one that runs this gateway.
    """

    organization_id: str
    owner_id: str
    owner_kind: OwnerKind
    role: Role | None
    key_id: str
    key_permissions: tuple[str, ...] | None
    owner_permissions: tuple[str, ...]
    operator: bool

    @property
    def permissions(self) -> tuple[str, ...]:
        """What is held: the one list that says what `allows` says."""
        if self.key_permissions is None:
            return self.owner_permissions
        return common(self.key_permissions, self.owner_permissions)

    def allows(self, permission: str) -> bool:
        """Tell whether the key's own list and its owner's permissions both allow it."""
        return both_allow(self.key_permissions, self.owner_permissions, permission)

    def may_read(self, subject: str) -> bool:
        """Tell whether things of this subject may be read: who may change them (`subject`) may read them as well."""
        return self.allows(READ) or self.allows(subject)

    @property
    def administers(self) -> bool:
        """Tell whether the reach is the whole organization: an admin, or a service account that holds gateway:admin.

        What may be done there is up to `allows`.
        """
        if self.owner_kind == "member":
            return self.role == "admin"
        return allows(self.owner_permissions, ADMIN)

    @property
    def operates(self) -> bool:
        """Tell whether the call may make, change and delete organizations. It never reaches into another one."""
        return self.operator and self.administers and self.allows(ADMIN)

    def holds(self, permissions: Iterable[str]) -> bool:
        """Tell whether all of these are held, by the key's own list and by the owner's permissions."""
        wanted = tuple(permissions)
        return covers(self.owner_permissions, wanted) and (
            self.key_permissions is None or covers(self.key_permissions, wanted)
        )

    def may_hand_on(self, permissions: tuple[str, ...] | None, owner_permissions: tuple[str, ...]) -> bool:
        """Tell whether a key with these permissions, of an owner with those, never gives more than is held here.

        A list is judged as it stands and not by what is left of it under the owner's permissions of today: they may
        grow. A key that inherits (None) grows with its owner, so only a key that is not limited itself can make one.
        """
        if permissions is None:
            return self.key_permissions is None and covers(self.owner_permissions, owner_permissions)
        return self.holds(permissions)
