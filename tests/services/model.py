"""What keys, people and organizations may do, said a second time: with sets and a clock, without lists, rows or SQL.

A permission is the set of all that it allows, where `other` stands for every name that nobody mentions: to cover is to
be a superset, to have in common is to intersect. An operation is its checks, each with the code that the services must
refuse with, in their order; it returns what happens then, to whatever the services have made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.keys.expiry import add_months

Atoms = frozenset[str]
Effect = Callable[[Any], None]  # Any: what the service has made or changed
ACTIONS: Final = {
    "docs": ["read", "write", "other"],
    "other": ["read", "write", "other"],
    "gateway": ["read", "keys", "members", "admin", "other"],
}
GATEWAY: Final = frozenset({"gateway:read", "gateway:keys", "gateway:members", "gateway:admin"})


def atoms(permissions: Iterable[str]) -> Atoms:
    found: set[str] = set()
    for resource, action in (each.split(":") for each in permissions):
        for name in ("docs", "other") if resource == "*" else (resource,):
            found |= {f"{name}:{each}" for each in (ACTIONS[name] if action == "*" else [action])}
    return frozenset(found)


class Refused(Exception):
    """What the services must answer."""


def check(condition: object, code: str) -> None:
    if not condition:
        raise Refused(code)


def change(thing: object, **fields: object) -> None:
    for name, value in fields.items():
        setattr(thing, name, value)


def retire(thing: object, keys: Iterable[object], **fields: object) -> None:
    change(thing, removed=True)
    for key in keys:
        change(key, **fields)


@dataclass
class Organization:
    id: str
    operator: bool = False
    removed: bool = False
    create_admin: bool = False
    revoke_admin: bool = False


@dataclass
class Owner:
    id: str
    home: Organization
    role: str | None  # None: a service account
    holds: Atoms
    removed: bool = False


@dataclass
class Key:
    id: str
    owner: Owner
    own: Atoms | None  # None: inherits
    expires: datetime | None
    disabled: bool = False
    disabled_by: Owner | None = None
    revoked: bool = False
    secrets: dict[str, datetime | None] = field(default_factory=dict)  # and until when they are good

    @property
    def holds(self) -> Atoms:
        return self.owner.holds if self.own is None else self.own & self.owner.holds

    @property
    def reaches_all(self) -> bool:
        return self.owner.role == "admin" or (self.owner.role is None and "gateway:admin" in self.owner.holds)

    @property
    def operates(self) -> bool:
        return self.owner.home.operator and self.reaches_all and "gateway:admin" in self.holds

    def may(self, *subjects: str) -> None:
        check(self.holds & {f"gateway:{each}" for each in subjects}, "insufficient_permissions")

    def covers(self, own: Atoms | None, owner: Owner) -> None:
        inherits = self.own is None and owner.holds <= self.owner.holds
        check(inherits if own is None else own <= self.holds, "permission_escalation")

    def grants(self, permissions: Iterable[str], before: Atoms = frozenset()) -> None:
        added = [atoms([each]) for each in permissions if not atoms([each]) <= before]
        check(all(each <= self.holds for each in added), "permission_escalation")


@dataclass
class Model:
    now: datetime
    organizations: dict[str, Organization] = field(default_factory=dict)
    owners: dict[str, Owner] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)

    def status(self, key: Key) -> str:
        if key.revoked:
            return "revoked"
        if key.expires is not None and key.expires <= self.now:
            return "expired"
        return "disabled" if key.disabled else "active"

    def standing(self, secret: str) -> tuple[Key | None, str]:
        """The key, and "active" or the code that whoever presents the secret is refused with."""
        for key in self.keys.values():
            if secret in key.secrets:
                until, status = key.secrets[secret], self.status(key)
                if status == "active":
                    return key, "active" if until is None or until > self.now else "expired_api_key"
                return key, f"{status}_api_key"
        return None, "invalid_api_key"

    def sees(self, by: Key, thing: Organization | Owner | Key) -> bool:
        if isinstance(thing, Organization):
            return not thing.removed and (thing is by.owner.home or by.operates)
        owner, gone = (thing.owner, thing.id not in self.keys) if isinstance(thing, Key) else (thing, thing.removed)
        return not gone and owner.home is by.owner.home and (by.reaches_all or owner is by.owner)

    # Keys

    def make_key(self, by: Key, owner: Owner, own: Atoms | None, end: datetime | None) -> Effect:
        by.may("keys")
        check(by.reaches_all or not by.owner.home.create_admin, "admin_required")
        check(self.sees(by, owner), "owner_not_found")
        check(owner.role is None or owner is by.owner, "secret_belongs_to_owner")
        by.covers(own, owner)
        return lambda made: self.add_key(made, owner, own, end)

    def add_key(self, made: Any, owner: Owner, own: Atoms | None, end: datetime | None) -> None:  # noqa: ANN401
        self.keys[made.id] = Key(made.id, owner, own, end, secrets={made.secret: None})

    def touch(self, by: Key, key: Key, *, final: bool = True) -> None:
        by.may("keys")
        check(self.sees(by, key), "key_not_found")
        check(final or not key.revoked, "key_revoked")

    def update_key(self, by: Key, key: Key, own: Atoms | None, end: datetime | None) -> Effect:
        self.touch(by, key, final=False)
        wider = key.own is not None and (own is None or not own <= key.own)
        longer = key.expires is not None and (end is None or end > key.expires)
        if wider or longer:
            check(by.reaches_all or not by.owner.home.create_admin, "admin_required")
            check(key.owner.role is None or key.owner is by.owner, "secret_belongs_to_owner")
            by.covers(own, key.owner)
        return lambda _: change(key, own=own, expires=end)

    def switch(self, by: Key, key: Key, *, disabled: bool) -> Effect:
        self.touch(by, key, final=False)
        if key.disabled and not disabled:
            check(by.reaches_all or key.disabled_by is key.owner, "admin_required")
            by.covers(key.own, key.owner)
        return lambda _: change(key, disabled=disabled, disabled_by=key.disabled_by if key.disabled else by.owner)

    def end(self, by: Key, key: Key, *, delete: bool) -> Effect:
        self.touch(by, key)
        check(by.reaches_all or not by.owner.home.revoke_admin, "admin_required")
        left = {each.id: each for each in self.keys.values() if each is not key}
        return lambda _: change(self, keys=left) if delete else change(key, revoked=True)

    def rotate(self, by: Key, key: Key, grace: timedelta) -> Effect:
        self.touch(by, key)
        check(key.owner.role is None or key.owner is by.owner, "secret_belongs_to_owner")
        by.covers(key.own, key.owner)
        check(not key.revoked, "key_revoked")
        check(self.status(key) != "expired", "key_expired")
        check(not any(until and until > self.now for until in key.secrets.values()), "rotation_in_progress")
        end = min(self.now + grace, key.expires or datetime.max.replace(tzinfo=self.now.tzinfo))
        old = {secret: end for secret, until in key.secrets.items() if until is None and end > self.now}
        return lambda made: change(key, secrets={**old, made.secret: None})

    def finish(self, by: Key, key: Key) -> Effect:
        self.touch(by, key)
        kept = {secret: until for secret, until in key.secrets.items() if until is None or until <= self.now}
        return lambda _: change(key, secrets=kept)

    # People

    def add_owner(self, by: Key, role: str | None, permissions: Iterable[str], *, first_key: bool) -> Effect:
        by.may("members")
        check(by.reaches_all, "admin_required")
        if role == "admin":
            by.may("admin")
        by.grants(permissions)
        owner = Owner("", by.owner.home, role, atoms(permissions))
        if first_key:
            by.may("keys")
            by.covers(None, owner)
        return lambda made: self.employ(made, owner)

    def employ(self, made: Any, owner: Owner) -> None:  # noqa: ANN401
        self.owners[made.id] = owner
        owner.id = made.id
        if getattr(made, "key", None) is not None:
            self.add_key(made.key, owner, None, add_months(self.now, 12))

    def find(self, by: Key, owner: Owner) -> None:
        by.may("members")
        check(self.sees(by, owner), "service_account_not_found" if owner.role is None else "member_not_found")
        check(by.reaches_all, "admin_required")

    def keeps_an_admin(self, owner: Owner, role: str | None, holds: Atoms) -> None:
        others = [each for each in self.owners.values() if each.home is owner.home and each is not owner]
        left = [(role, holds), *((each.role, each.holds) for each in others if not each.removed)]
        was = owner.role == "admin" and owner.holds >= GATEWAY
        check(not was or any(role == "admin" and holds >= GATEWAY for role, holds in left), "last_admin")

    def update_owner(self, by: Key, owner: Owner, role: str | None, permissions: Iterable[str] | None) -> Effect:
        self.find(by, owner)
        holds = owner.holds if permissions is None else atoms(permissions)
        if role == "admin" != owner.role:
            by.may("admin")
        self.keeps_an_admin(owner, role, holds)
        by.grants(permissions or (), owner.holds)
        return lambda _: change(owner, role=role, holds=holds)

    def remove_owner(self, by: Key, owner: Owner, choice: str | None, heir: Owner) -> Effect:
        self.find(by, owner)
        check(choice != "move" or heir is not owner, "invalid")
        check(owner is not by.owner, "own_account")
        left = [key for key in self.keys.values() if key.owner is owner and not key.revoked]
        check(choice or not left, "keys_need_a_choice")
        if choice == "move":
            check(heir.role is None and self.sees(by, heir), "service_account_not_found")
            for key in left:
                by.covers(key.own, heir)
        self.keeps_an_admin(owner, None, owner.holds)
        what: dict[str, object] = {"owner": heir} if choice == "move" else {"revoked": True}
        return lambda _: retire(owner, left, **what)

    # Organizations

    def govern(self, by: Key, organization: Organization, **rules: bool) -> Effect:
        by.may("admin")
        check(self.sees(by, organization), "organization_not_found")
        check(by.reaches_all, "admin_required")
        return lambda _: change(organization, **rules)

    def found(self, by: Key) -> Effect:
        by.may("admin")
        check(by.operates, "operator_required")
        return self.establish

    def establish(self, made: Any, *, operator: bool = False) -> None:  # noqa: ANN401
        self.organizations[made.id] = Organization(made.id, operator)
        self.employ(made.member, Owner("", self.organizations[made.id], "admin", atoms(["*:*", "gateway:*"])))
        self.add_key(made.key, self.owners[made.member.id], None, add_months(self.now, 12))

    def close(self, by: Key, organization: Organization) -> Effect:
        by.may("admin")
        check(self.sees(by, organization), "organization_not_found")
        check(by.operates, "operator_required")
        check(not organization.operator, "operator_organization")
        gone = [key for key in self.keys.values() if key.owner.home is organization]
        return lambda _: retire(organization, gone, revoked=True)
