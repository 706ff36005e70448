"""Permissions: the grammar, what a list allows, and when one list covers another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.keys import permissions

RESOURCES = ["documents", "corpora", "gateway", "elsewhere"]
ACTIONS = ["read", "write", "other"]
concrete = st.builds("{}:{}".format, st.sampled_from(RESOURCES), st.sampled_from(ACTIONS))
patterns = st.builds("{}:{}".format, st.sampled_from([*RESOURCES[:3], "*"]), st.sampled_from([*ACTIONS[:2], "*"]))
lists = st.lists(patterns, max_size=4)


def model(grant: str, wanted: str) -> bool:
    """Say again, naively, what one grant allows of one concrete permission."""
    (resource, action), (on, what) = grant.split(":"), wanted.split(":")
    return resource in ([on] if on == "gateway" else [on, "*"]) and action in {what, "*"}


@given(lists, concrete)
def test_a_list_allows_what_one_of_its_entries_allows(granted: list[str], wanted: str) -> None:
    assert permissions.allows(granted, wanted) is any(model(grant, wanted) for grant in granted)


@given(lists, lists)
def test_a_list_covers_another_exactly_when_it_allows_all_that_the_other_allows(
    held: list[str], asked: list[str]
) -> None:
    """`elsewhere` and `other` are names that no entry mentions: they stand for the open set of all other names."""
    everything = [f"{resource}:{action}" for resource in RESOURCES for action in ACTIONS]
    expected = all(permissions.allows(held, each) for each in everything if permissions.allows(asked, each))
    assert permissions.covers(held, asked) is expected


@given(lists, lists, lists)
def test_covering_is_reflexive_and_transitive(one: list[str], two: list[str], three: list[str]) -> None:
    assert permissions.covers(one, one)
    if permissions.covers(one, two) and permissions.covers(two, three):
        assert permissions.covers(one, three)


@given(lists)
def test_nothing_covers_only_nothing(asked: list[str]) -> None:
    assert permissions.covers([], asked) is (not asked)


@given(lists, lists, concrete | patterns)
def test_what_two_lists_have_in_common_is_what_both_allow_and_no_more(
    one: list[str], two: list[str], wanted: str
) -> None:
    both = permissions.common(one, two)
    assert permissions.allows(both, wanted) is (permissions.allows(one, wanted) and permissions.allows(two, wanted))


@given(lists, lists)
def test_what_two_lists_have_in_common_is_said_once(one: list[str], two: list[str]) -> None:
    both = permissions.common(one, two)
    assert not any(permissions.allows([other for other in both if other != each], each) for each in both)
    assert len(set(both)) == len(both)


def test_a_star_never_reaches_the_gateway_itself() -> None:
    assert not permissions.allows(["*:*", "*:keys"], "gateway:keys")
    assert permissions.allows(["gateway:*"], "gateway:keys")
    assert not permissions.covers(["*:*"], ["gateway:*"])


@given(st.text(max_size=12))
def test_a_text_without_both_parts_is_never_allowed(text: str) -> None:
    parts = text.split(":")
    if len(parts) != 2 or not all(parts):
        assert not permissions.allows(["*:*", "gateway:*"], text)


@given(concrete | patterns)
def test_well_formed_permissions_are_valid(text: str) -> None:
    permissions.validate(text)


@pytest.mark.parametrize(
    "text",
    ["", "read", ":", "a:", ":b", "a:b:c", "a b:c", "doc*:read", "*", "**:*", "-a:b", "é:b", "a:b\n", "a" * 65 + ":b"],
)
def test_malformed_permissions_are_refused_with_the_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"resource|action"):
        permissions.validate(text)


def test_an_endless_text_is_not_repeated_endlessly() -> None:
    with pytest.raises(ValueError, match="resource") as caught:
        permissions.validate("x" * 10_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("own", "owner", "allowed"),
    [
        (None, ("docs:read",), True),
        (None, ("docs:write",), False),
        (("docs:*",), ("*:read",), True),
        (("docs:read",), (), False),
        ((), ("*:*",), False),
    ],
)
def test_a_key_and_its_owner_must_both_allow(
    own: tuple[str, ...] | None, owner: tuple[str, ...], *, allowed: bool
) -> None:
    assert permissions.both_allow(own, owner, "docs:read") is allowed
