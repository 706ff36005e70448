"""What a credential may do in the gateway, and that no chain of hand-ons ever yields more than it began with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.keys.authority import ADMIN, GATEWAY_PERMISSIONS, KEYS, MEMBERS, READ, Authority
from gateway.keys.permissions import allows, validate
from tests.proxy.profiles import scaled

EVERYTHING = ("*:*", "gateway:*")
ADMIN_MEMBER = Authority(
    organization_id="org_1",
    owner_id="mem_1",
    owner_kind="member",
    role="admin",
    key_id="key_1",
    key_permissions=None,
    owner_permissions=EVERYTHING,
    operator=False,
)
MEMBER = replace(ADMIN_MEMBER, role="member", owner_permissions=("*:*", READ, KEYS))
SERVICE_ACCOUNT = replace(ADMIN_MEMBER, owner_kind="service_account", role=None, owner_permissions=("docs:read",))

# Few names, so that lists often overlap; `open:never` is granted by wildcards alone.
PERMISSION = st.sampled_from(
    ["*:*", "docs:*", "*:read", "docs:read", "docs:write", "logs:read", "gateway:*", *GATEWAY_PERMISSIONS]
)
ASKED = st.one_of(PERMISSION, st.just("open:never"))
GRANTS = st.lists(PERMISSION, max_size=4, unique=True).map(tuple)
LISTS = st.one_of(st.none(), GRANTS)
AUTHORITIES = st.builds(
    replace,
    st.sampled_from([ADMIN_MEMBER, MEMBER, SERVICE_ACCOUNT]),
    key_permissions=LISTS,
    owner_permissions=GRANTS,
    operator=st.booleans(),
)


def grant_allows(grant: str, asked: str) -> bool:
    return allows((grant,), asked)


def test_the_gateways_permissions_are_well_formed_and_its_own() -> None:
    for permission in GATEWAY_PERMISSIONS:
        validate(permission)
        assert permission.startswith("gateway:")


@pytest.mark.parametrize(
    ("own", "owners", "allowed"),
    [
        (None, (KEYS,), True),
        ((KEYS,), (KEYS,), True),
        (("gateway:*",), (KEYS,), True),
        ((KEYS,), ("gateway:*",), True),
        ((), (KEYS,), False),
        ((KEYS,), (), False),
        ((READ,), (KEYS,), False),
        (("*:*",), (KEYS,), False),
        (None, ("*:*",), False),
    ],
)
def test_both_the_key_and_its_owner_must_allow_an_operation(
    own: tuple[str, ...] | None, owners: tuple[str, ...], *, allowed: bool
) -> None:
    """`*` never means the gateway itself."""
    caller = replace(MEMBER, key_permissions=own, owner_permissions=owners)
    assert caller.allows(KEYS) is allowed


def test_who_may_change_a_subject_may_read_it_and_gateway_read_reads_all_of_them() -> None:
    keeper = replace(MEMBER, key_permissions=(KEYS,))
    assert keeper.may_read(KEYS)
    assert not keeper.may_read(MEMBERS)
    assert all(replace(MEMBER, key_permissions=(READ,)).may_read(subject) for subject in (KEYS, MEMBERS, ADMIN))
    assert not replace(MEMBER, key_permissions=("*:*",)).may_read(KEYS)


def test_the_reach_is_the_organization_for_admins_and_for_service_accounts_with_gateway_admin() -> None:
    assert ADMIN_MEMBER.administers
    assert not MEMBER.administers
    assert not replace(MEMBER, owner_permissions=EVERYTHING).administers, "permissions are no role"
    assert not SERVICE_ACCOUNT.administers
    assert not replace(SERVICE_ACCOUNT, owner_permissions=("*:*",)).administers
    assert replace(SERVICE_ACCOUNT, owner_permissions=(ADMIN,)).administers


def test_a_limited_key_of_an_admin_reaches_far_and_may_do_little() -> None:
    limited = replace(ADMIN_MEMBER, key_permissions=("docs:read",))
    assert limited.administers
    assert not any(limited.allows(permission) for permission in GATEWAY_PERMISSIONS)


@pytest.mark.parametrize(
    ("caller", "operates"),
    [
        (replace(ADMIN_MEMBER, operator=True), True),
        (ADMIN_MEMBER, False),
        (replace(ADMIN_MEMBER, operator=True, key_permissions=(KEYS, MEMBERS, READ)), False),
        (replace(MEMBER, operator=True, owner_permissions=EVERYTHING), False),
        (replace(SERVICE_ACCOUNT, operator=True, owner_permissions=(ADMIN,)), True),
        (replace(SERVICE_ACCOUNT, operator=True), False),
    ],
)
def test_organizations_are_operated_by_admins_of_the_operator_with_gateway_admin(
    caller: Authority, *, operates: bool
) -> None:
    assert caller.operates is operates


@settings(max_examples=scaled(300))
@given(caller=AUTHORITIES, asked=ASKED)
def test_what_is_shown_as_held_is_what_is_allowed(caller: Authority, asked: str) -> None:
    assert caller.allows(asked) is any(grant_allows(each, asked) for each in caller.permissions)


@pytest.mark.parametrize(
    ("own", "wanted", "owners", "may"),
    [
        (None, None, ("*:*", READ), True),
        (None, ("docs:read",), EVERYTHING, True),
        (("docs:*",), ("docs:read",), EVERYTHING, True),
        (("docs:read",), ("docs:*",), EVERYTHING, False),
        (("docs:read",), ("docs:write",), EVERYTHING, False),
        (("docs:read",), None, (), False),
        (("*:*", "gateway:*"), None, (), False),
        (None, ("gateway:members",), EVERYTHING, False),
        (None, None, EVERYTHING, False),
        (None, ("*:*",), (), True),
        (None, (), EVERYTHING, True),
    ],
    ids=[
        "all of the same",
        "less",
        "less than a list",
        "wider than the list",
        "beside the list",
        "inherit from a limited key",
        "inherit from a key limited to everything",
        "the gateway beyond what the owner holds",
        "inherit from an owner who holds more",
        "a list the owner does not hold yet",
        "nothing",
    ],
)
def test_a_key_hands_on_what_it_holds_itself_and_no_more(
    own: tuple[str, ...] | None, wanted: tuple[str, ...] | None, owners: tuple[str, ...], *, may: bool
) -> None:
    caller = replace(MEMBER, key_permissions=own)
    assert caller.may_hand_on(wanted, owners) is may


@settings(max_examples=scaled(300))
@given(maker=AUTHORITIES, wanted=LISTS, owners=GRANTS, grown=GRANTS, asked=ASKED)
def test_what_was_handed_on_never_allows_more_than_its_maker(
    maker: Authority, wanted: tuple[str, ...] | None, owners: tuple[str, ...], grown: tuple[str, ...], asked: str
) -> None:
    """A list stays within its maker's even if the new key's owner is given more later."""
    if not maker.may_hand_on(wanted, owners):
        return
    later = owners if wanted is None else (*owners, *grown)
    made = replace(maker, key_permissions=wanted, owner_permissions=later)
    assert maker.allows(asked) or not made.allows(asked)


@settings(max_examples=scaled(300))
@given(first=AUTHORITIES, lists=st.lists(st.tuples(LISTS, GRANTS), max_size=4), asked=ASKED)
def test_a_chain_of_keys_making_keys_never_climbs(
    first: Authority, lists: list[tuple[tuple[str, ...] | None, tuple[str, ...]]], asked: str
) -> None:
    current = first
    for wanted, owners in lists:
        if current.may_hand_on(wanted, owners):
            current = replace(current, key_permissions=wanted, owner_permissions=owners)
    assert first.allows(asked) or not current.allows(asked)


@settings(max_examples=scaled(300))
@given(caller=AUTHORITIES, limit=GRANTS, asked=ASKED, wanted=LISTS, owners=GRANTS)
def test_a_limit_on_a_key_never_adds_anything(
    caller: Authority, limit: tuple[str, ...], asked: str, wanted: tuple[str, ...] | None, owners: tuple[str, ...]
) -> None:
    limited, unlimited = replace(caller, key_permissions=limit), replace(caller, key_permissions=None)
    assert unlimited.allows(asked) or not limited.allows(asked)
    assert unlimited.may_hand_on(wanted, owners) or not limited.may_hand_on(wanted, owners)
    assert unlimited.operates or not limited.operates
    assert unlimited.administers == limited.administers


@settings(max_examples=scaled(200))
@given(caller=AUTHORITIES)
def test_a_key_may_always_hand_on_exactly_itself(caller: Authority) -> None:
    """Else nobody could rotate the key that they call with, where its list is within its owner's permissions."""
    own = caller.key_permissions
    if own is None or caller.holds(own):
        assert caller.may_hand_on(own, caller.owner_permissions)
