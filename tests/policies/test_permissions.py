"""Whether a good key may use a route: what the route needs, the key's own list and its owner's must both allow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cache.key_cache import Entry
from gateway.keys.permissions import allows
from gateway.policies.challenges import Challenges
from gateway.policies.identity import identity_fields
from gateway.policies.permissions import Permissions
from tests.policies.subject import Rules, Subject
from tests.proxy.harness import record
from tests.proxy.profiles import scaled

POLICY = Permissions(Challenges("gateway", generic=False))


def entry(own: tuple[str, ...] | None, owner: tuple[str, ...]) -> Entry:
    """A good key with these permissions."""
    found = record(permissions=own, owner_permissions=owner)
    return Entry(found, identity_fields(found), 0.0, 0.0, 60.0)


def judge(subject_entry: Entry | None, *needed: str) -> str | None:
    """The code of the refusal."""
    subject = Subject(route=Rules(permissions=needed))
    subject.entry = subject_entry
    refusal = POLICY.check(subject)
    return refusal.code if refusal else None


@pytest.mark.parametrize(
    ("own", "owner", "needed", "good"),
    [
        (None, ("*:*",), ("orders:read",), True),
        (None, ("orders:read",), ("orders:read",), True),
        (None, ("orders:read",), ("orders:write",), False),
        (None, (), ("orders:read",), False),
        (None, ("orders:*",), ("orders:read", "orders:write"), True),
        (None, ("orders:*",), ("orders:read", "users:read"), False),
        (None, ("*:read",), ("orders:read", "users:read"), True),
        (("orders:read",), ("*:*",), ("orders:read",), True),
        (("orders:read",), ("*:*",), ("orders:write",), False),
        (("orders:read",), ("users:read",), ("orders:read",), False),
        (("*:*",), ("orders:read",), ("orders:read",), True),
        (("*:*",), ("orders:read",), ("users:read",), False),
        ((), ("*:*",), ("orders:read",), False),
        (("orders:read",), ("orders:write",), ("orders:read", "orders:write"), False),
        (None, ("*:*",), ("gateway:keys",), False),
        (("gateway:*",), ("*:*",), ("gateway:keys",), False),
        (("gateway:*",), ("gateway:keys",), ("gateway:keys",), True),
    ],
)
def test_both_lists_must_allow_it(
    own: tuple[str, ...] | None, owner: tuple[str, ...], needed: tuple[str, ...], *, good: bool
) -> None:
    held = entry(own, owner)
    expected = None if good else "insufficient_permissions"
    assert judge(held, *needed) == expected
    assert judge(held, *needed) == expected, "remembered the same"


def test_what_one_route_was_granted_grants_no_other() -> None:
    held = entry(None, ("orders:read", "users:read"))
    assert judge(held, "orders:read") is None
    assert judge(held, "orders:write") == "insufficient_permissions"
    assert judge(held, "orders:read", "orders:write") == "insufficient_permissions"
    assert judge(held, "users:read") is None
    assert judge(held, "orders:read", "users:read") is None


def test_an_anonymous_request_lacks_every_permission() -> None:
    assert judge(None, "orders:read") == "missing_api_key"


NAMES = st.sampled_from(["a:r", "a:w", "b:r", "gateway:r"])
GRANTS = st.lists(st.sampled_from(["a:r", "a:*", "*:r", "*:*", "b:r", "gateway:r", "gateway:*"]), max_size=3).map(tuple)


@settings(max_examples=scaled(200), deadline=None)
@given(st.none() | GRANTS, GRANTS, st.lists(st.lists(NAMES, min_size=1, max_size=3).map(tuple), min_size=1, max_size=4))
def test_any_order_of_routes_is_judged_as_each_alone(
    own: tuple[str, ...] | None, owner: tuple[str, ...], routes: list[tuple[str, ...]]
) -> None:
    held = entry(own, owner)
    for needed in routes:
        good = all(allows(owner, each) and (own is None or allows(own, each)) for each in needed)
        assert (judge(held, *needed) is None) is good
