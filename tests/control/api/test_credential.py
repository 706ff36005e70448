"""The key is found where the proxy finds it, and two different ones are a conflict."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.control.api.credential import presented_key
from gateway.errors import Invalid, Unauthenticated


def found(*fields: tuple[str, str], bare: bool = False) -> str | None:
    return presented_key(CIMultiDictProxy(CIMultiDict(fields)), bare_authorization=bare)


@pytest.mark.parametrize(
    "fields",
    [
        [("X-API-KEY", "sk_a")],
        [("x-api-key", "  sk_a\t")],
        [("Authorization", "Bearer sk_a")],
        [("Authorization", "bEaReR   sk_a ")],
        [("Authorization", "Bearer sk_a"), ("X-API-KEY", "sk_a")],
        [("Authorization", "Basic dTpw"), ("X-API-KEY", "sk_a")],
        [("Authorization", "Bearer "), ("X-API-KEY", "sk_a")],
    ],
)
def test_a_key_is_found_in_either_field(fields: list[tuple[str, str]]) -> None:
    assert found(*fields) == "sk_a"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("sk_a", "sk_a"), (" sk_a ", "sk_a"), ("Bearer sk_a", "sk_a"), ("Basic dTpw", None), ("Bearer", "Bearer")],
)
def test_a_key_without_a_scheme_is_found_where_the_settings_allow_it(value: str, expected: str | None) -> None:
    assert found(("Authorization", value), bare=True) == expected
    assert found(("X-API-KEY", "sk_a")) == found(("X-API-KEY", "sk_a"), ("Authorization", "sk_b"))
    with pytest.raises(Invalid):
        found(("X-API-KEY", "sk_a"), ("Authorization", "sk_b"), bare=True)


@pytest.mark.parametrize("fields", [[], [("X-API-KEY", " ")], [("Authorization", "Basic dTpw")], [("Cookie", "sk_a")]])
def test_no_key_is_none(fields: list[tuple[str, str]]) -> None:
    assert found(*fields) is None


@pytest.mark.parametrize(
    "fields",
    [
        [("X-API-KEY", "sk_a"), ("Authorization", "Bearer sk_b")],
        [("X-API-KEY", "sk_a"), ("X-API-KEY", "sk_b")],
        [("Authorization", "Bearer sk_a"), ("Authorization", "Bearer sk_b")],
    ],
)
def test_two_different_keys_are_a_conflict_that_repeats_neither(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(Invalid) as caught:
        found(*fields)
    assert caught.value.code == "conflicting_credentials"
    assert "sk_" not in caught.value.detail


def test_bytes_that_are_no_text_are_no_key() -> None:
    with pytest.raises(Unauthenticated):
        found(("X-API-KEY", "sk_\udcff"))
