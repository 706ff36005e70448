"""What anybody may try on anybody's keys, people and organizations, and what the model says comes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from gateway.services import shapes
from gateway.services.people_shapes import Member, ServiceAccount
from tests.services.life import PAGE, PROBES, Life, chosen
from tests.services.model import Effect, Key, Model, Organization, Owner, atoms, check

if TYPE_CHECKING:
    from gateway.services.actor import Caller

Operation = Callable[..., Awaitable[object]]
List = tuple[str, ...]

NUMBER: Final = range(1 << 16)
BOTH: Final = (True, False)
PERMISSIONS: Final[Sequence[List]] = (
    (), ("docs:read",), ("docs:*",), ("*:*",), ("*:read", "gateway:read"), ("gateway:*",), ("*:*", "gateway:*"),
    ("*:*", "gateway:read", "gateway:keys"), ("docs:*", "gateway:keys"), ("docs:read", "gateway:keys"),
    ("*:*", "gateway:members"), ("gateway:members", "gateway:keys"), ("docs:*", "gateway:admin", "gateway:read"),
    ("gateway:admin", "gateway:members", "gateway:keys", "docs:*"), ("gateway:read",),
)  # fmt: skip
LISTS: Final = (None, None, None, *PERMISSIONS)
LIVES: Final = {"1h": timedelta(hours=1), "1d": timedelta(days=1), "30d": timedelta(days=30), "never": None}
GRACES: Final = {"0": timedelta(0), "1h": timedelta(hours=1), "24h": timedelta(hours=24)}
ROLES: Final = ("admin", "member", "member", None)
CHOICES: Final = ("revoke", "move", "move", None)
MOST_ORGANIZATIONS: Final = 4
ENDINGS: Final = ("someone_ends_a_key", "someone_removes_an_organization", "time_passes")  # else walks are short
HOURS: Final = (1, 1, 1, 2, 2, 24, 24, 24 * 30)

MOVES: Final[dict[str, dict[str, Sequence[Any]]]] = {}
Rule = TypeVar("Rule", bound=Callable[..., None])


def move(**pools: Sequence[Any]) -> Callable[[Rule], Rule]:
    """Make a rule whose arguments come from these pools, whether hypothesis draws them or `random` does."""

    def remember(function: Rule) -> Rule:
        MOVES[function.__name__] = pools
        drawn: dict[str, Any] = {name: st.sampled_from(pool) for name, pool in pools.items()}
        made: Rule = rule(**drawn)(function)  # type: ignore[no-untyped-call]
        return made

    return remember


class LifeOfKeys(Life):
    """Two organizations from the start; everything that services do to keys, people and organizations."""

    # What there is from the start

    @initialize()
    def found_two_organizations(self) -> None:
        """Each with an admin, a member, two service accounts, and a key for each of them but the last."""
        for name, operator in (("Acme", True), ("Globex", False)):
            made = self.run(self.organizations.initialise(name, "admin@example.com"))
            self.model.establish(Founded(made.organization.id, made.member, made.key), operator=operator)
            self.remember()
            secret = str(made.key.secret)
            self.add_owner(secret, "member", ("*:*", "gateway:read", "gateway:keys"), first_key=True)
            self.add_owner(secret, None, ("docs:*", "gateway:keys"), first_key=False)
            self.make_key(secret, list(self.model.owners.values())[-1], None, "never")
            self.add_owner(secret, None, ("*:*", "gateway:*"), first_key=False)

    # Keys

    @move(who=NUMBER, whose=NUMBER, own=LISTS, life=tuple(LIVES))
    def someone_makes_a_key(self, who: int, whose: int, own: List | None, life: str) -> None:
        secret = self.caller(who)
        self.make_key(secret, self.owner(whose, secret), own, life)

    def make_key(self, secret: str, owner: Owner, own: List | None, life: str) -> None:
        body = {"name": "Key", "owner": owner.id, "expires": life, "permissions": None if own is None else list(own)}
        self.attempt(
            secret,
            lambda caller: self.keys.create(caller, body),
            lambda by: self.model.make_key(by, owner, own_atoms(own), self.end_of(life)),
            owner.id,
        )

    def end_of(self, life: str) -> datetime | None:
        lasting = LIVES[life]
        return None if lasting is None else self.clock.now + lasting

    @move(who=NUMBER, which=NUMBER, own=LISTS, life=tuple(LIVES), fields=("permissions", "expires", "both"))
    def someone_changes_a_key(self, who: int, which: int, own: List | None, life: str, fields: str) -> None:
        secret = self.caller(who)
        key = self.key(which, secret)
        body: dict[str, object] = {"permissions": own if own is None else list(own), "expires": life}
        resulting, end = own_atoms(own), self.end_of(life)
        if fields == "permissions":
            del body["expires"]
            end = key.expires
        elif fields == "expires":
            del body["permissions"]
            resulting = key.own
        self.attempt(
            secret,
            lambda caller: self.keys.update(caller, key.id, body),
            lambda by: self.model.update_key(by, key, resulting, end),
            key.id,
        )

    @move(who=NUMBER, which=NUMBER)
    def someone_binds_a_key_to_a_page(self, who: int, which: int) -> None:
        """From which everybody here calls, so that they can go on with it."""
        secret = self.caller(who)
        key = self.key(which, secret)

        def effect(by: Key) -> Effect:
            self.model.update_key(by, key, key.own, key.expires)  # or it is refused
            return lambda _: self.bound.update([key.id])

        self.attempt(
            secret, lambda caller: self.keys.update(caller, key.id, {"allowed_origins": [PAGE]}), effect, key.id
        )

    @move(who=NUMBER, which=NUMBER, disabled=BOTH)
    def someone_switches_a_key(self, who: int, which: int, *, disabled: bool) -> None:
        secret = self.caller(who)
        key, switch = self.key(which, secret), self.keys.disable if disabled else self.keys.enable
        self.attempt(
            secret,
            lambda caller: switch(caller, key.id),
            lambda by: self.model.switch(by, key, disabled=disabled),
            key.id,
        )

    @move(who=NUMBER, which=NUMBER, delete=BOTH)
    def someone_ends_a_key(self, who: int, which: int, *, delete: bool) -> None:
        secret = self.caller(who)
        key, end = self.key(which, secret), self.keys.delete if delete else self.keys.revoke
        self.attempt(
            secret,
            lambda caller: end(caller, key.id),
            lambda by: self.model.end(by, key, delete=delete),
            key.id,
        )

    @move(who=NUMBER, which=NUMBER, grace=tuple(GRACES))
    def someone_rotates_a_key(self, who: int, which: int, grace: str) -> None:
        secret = self.caller(who)
        key = self.key(which, secret)
        self.attempt(
            secret,
            lambda caller: self.keys.rotate(caller, key.id, {"grace": grace}),
            lambda by: self.model.rotate(by, key, GRACES[grace]),
            key.id,
        )

    @move(who=NUMBER, which=NUMBER)
    def someone_finishes_a_rotation(self, who: int, which: int) -> None:
        secret = self.caller(who)
        key = self.key(which, secret)
        self.attempt(
            secret,
            lambda caller: self.keys.finish_rotation(caller, key.id),
            lambda by: self.model.finish(by, key),
            key.id,
        )

    # People

    @move(who=NUMBER, role=ROLES, permissions=PERMISSIONS, first_key=BOTH)
    def someone_adds_an_owner(self, who: int, role: str | None, permissions: List, *, first_key: bool) -> None:
        self.add_owner(self.caller(who), role, permissions, first_key=first_key and role is not None)

    def add_owner(self, secret: str, role: str | None, permissions: List, *, first_key: bool) -> None:
        self.count += 1
        body: dict[str, object] = {"permissions": list(permissions)}
        create: Operation = self.service_accounts.create if role is None else self.members.create
        if role is None:
            body["name"] = f"No. {self.count}"
        else:
            body |= {"email": f"m{self.count}@example.com", "role": role, "first_key": first_key}
        self.attempt(
            secret,
            lambda caller: create(caller, body),
            lambda by: self.model.add_owner(by, role, permissions, first_key=first_key),
        )

    @move(who=NUMBER, whose=NUMBER, role=ROLES, permissions=LISTS)
    def someone_changes_an_owner(self, who: int, whose: int, role: str | None, permissions: List | None) -> None:
        secret = self.caller(who)
        owner = self.owner(whose, secret)
        role = owner.role and (role or owner.role)
        body: dict[str, object] = {} if permissions is None else {"permissions": list(permissions)}
        if role is not None:
            body["role"] = role
        update = self.service_accounts.update if owner.role is None else self.members.update
        self.attempt(
            secret,
            lambda caller: update(caller, owner.id, body),
            lambda by: self.model.update_owner(by, owner, role, permissions),
            owner.id,
        )

    @move(who=NUMBER, whose=NUMBER, heir=NUMBER, choice=CHOICES)
    def someone_removes_an_owner(self, who: int, whose: int, heir: int, choice: str | None) -> None:
        secret = self.caller(who)
        owner, to = self.owner(whose, secret), self.heir(heir, secret)
        body = {} if choice is None else {"keys": choice}
        if choice == "move":
            body["move_to"] = to.id
        remove = self.service_accounts.remove if owner.role is None else self.members.remove
        self.attempt(
            secret,
            lambda caller: remove(caller, owner.id, body),
            lambda by: self.model.remove_owner(by, owner, choice, to),
            *(owner.id, to.id),
        )

    # Organizations, and time

    @move(who=NUMBER, which=NUMBER, create_admin=BOTH, revoke_admin=BOTH)
    def someone_changes_the_rules(self, who: int, which: int, *, create_admin: bool, revoke_admin: bool) -> None:
        secret = self.caller(who)
        home = self.organization(which, secret)
        body = {"keys_create_requires_admin": create_admin, "keys_revoke_requires_admin": revoke_admin}
        self.attempt(
            secret,
            lambda caller: self.organizations.update(caller, home.id, body),
            lambda by: self.model.govern(by, home, create_admin=create_admin, revoke_admin=revoke_admin),
            home.id,
        )

    @move(who=NUMBER)
    def someone_founds_an_organization(self, who: int) -> None:
        if len(self.model.organizations) == MOST_ORGANIZATIONS:
            return
        self.count += 1
        body = {"name": f"No. {self.count}", "admin": "admin@example.com"}
        self.attempt(self.caller(who), lambda caller: self.organizations.create(caller, body), self.model.found)

    @move(who=NUMBER, which=NUMBER)
    def someone_removes_an_organization(self, who: int, which: int) -> None:
        secret = self.caller(who)
        home = self.organization(which, secret)
        self.attempt(
            secret,
            lambda caller: self.organizations.delete(caller, home.id),
            lambda by: self.model.close(by, home),
            home.id,
        )

    @move(hours=HOURS)
    def time_passes(self, hours: int) -> None:
        self.clock.now += timedelta(hours=hours)
        self.model.now = self.clock.now

    # Looking

    @move(who=NUMBER)
    def someone_looks_around(self, who: int) -> None:
        """Every list holds what the model says is in reach, as the model says it is."""
        secret, model = self.caller(who), self.model
        keys, organizations = model.keys.values, model.organizations.values
        self.look(secret, "keys", self.keys.list, lambda by: {
            key.id: (key.owner.id, key.own, model.status(key)) for key in keys() if model.sees(by, key)
        })  # fmt: skip
        self.look(secret, "members", self.members.list, partial(owners_told, model, people=True))
        self.look(secret, "members", self.service_accounts.list, partial(owners_told, model, people=False))
        self.look(secret, "admin", self.organizations.list, lambda by: {
            each.id: each.create_admin for each in organizations() if model.sees(by, each)
        })  # fmt: skip
        self.attempt(secret, lambda caller: self.audit.list(caller, limit=1000), partial(self.reads, "admin"))
        self.attempt(secret, lambda caller: self.authenticator.me(caller, uses_recorded=True), self.is_told)

    def look(self, secret: str, subject: str, listing: Operation, told: Callable[[Key], dict[str, object]]) -> None:
        self.attempt(secret, lambda caller: listing(caller, limit=1000), partial(self.lists, subject, told))

    def lists(self, subject: str, told: Callable[[Key], dict[str, object]], by: Key) -> Effect:
        by.may("read", subject)
        return lambda page: equals({each.id: shown(each) for each in page.items}, told(by))

    def reads(self, subject: str, by: Key) -> Effect:
        by.may("read", subject)
        return lambda _: None

    def is_told(self, by: Key) -> Effect:
        return lambda me: equals((me.key.id, atoms(me.permissions)), (by.id, by.holds))

    @move(who=NUMBER, which=NUMBER, kind=("key", "owner", "organization"))
    def someone_looks_at_one_thing(self, who: int, which: int, kind: str) -> None:
        secret = self.caller(who)
        choose: dict[str, Callable[[int, str], Key | Owner | Organization]]
        choose = {"key": self.key, "owner": self.owner, "organization": self.organization}
        thing = choose[kind](which, secret)
        show, subject, code = self.shows(thing)

        def expect(by: Key) -> Effect:
            by.may("read", subject)
            check(self.model.sees(by, thing), code)
            return lambda found: equals(found.id, thing.id)

        self.attempt(secret, lambda caller: show(caller, thing.id), expect, thing.id)

    def shows(self, thing: object) -> tuple[Callable[[Caller, str], Awaitable[object]], str, str]:
        match thing:
            case Key():
                return self.keys.show, "keys", "key_not_found"
            case Owner(role=None):
                return self.service_accounts.show, "members", "service_account_not_found"
            case Owner():
                return self.members.show, "members", "member_not_found"
            case _:
                return self.organizations.show, "admin", "organization_not_found"

    @move(who=NUMBER, which=NUMBER, wanted=PROBES)
    def someone_verifies_a_secret(self, who: int, which: int, wanted: str) -> None:
        rotated_out = [old for key in self.model.keys.values() for old, until in key.secrets.items() if until]
        secret = chosen((rotated_out if which % 2 else []) or list(self.issued), which // 2)

        def expect(by: Key) -> Effect:
            by.may("read", "keys")
            key, standing = self.model.standing(secret)
            if key is None or key.owner.home is not by.owner.home:
                return lambda found: equals((found.code, found.key), ("invalid_api_key", None))
            lacks = "active" if wanted in key.holds else "insufficient_permissions"
            return lambda found: equals(found.code or "active", lacks if standing == "active" else standing)

        body = {"key": secret, "permissions": [wanted], "origin": PAGE}
        self.attempt(self.caller(who), lambda caller: self.keys.verify(caller, body), expect)


def own_atoms(own: List | None) -> frozenset[str] | None:
    return None if own is None else atoms(own)


def owners_told(model: Model, by: Key, *, people: bool) -> dict[str, object]:
    seen = [each for each in model.owners.values() if model.sees(by, each)]
    return {each.id: (each.role, each.holds) for each in seen if (each.role is not None) is people}


def shown(thing: object) -> object:
    """What the model says of a thing, said by a shape."""
    match thing:
        case shapes.Key():
            return thing.owner.id, own_atoms(thing.permissions), thing.status
        case Member():
            return thing.role, atoms(thing.permissions)
        case ServiceAccount():
            return None, atoms(thing.permissions)
        case shapes.Organization():
            return thing.keys_create_requires_admin
        case _:
            raise TypeError(type(thing))


def equals(found: object, expected: object) -> None:
    assert found == expected


@dataclass
class Founded:
    """What `gateway init` has made, as the model takes it."""

    id: str
    member: Any
    key: Any
