"""What messages repeat, and what they do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.keys.quoting import _SECRET, MAX_QUOTED_CHARACTERS, has_form_of_secret, holds_secret, quoted
from gateway.keys.secret import generate


@pytest.mark.parametrize("prefix", ["sk_", "sk_live_", "K_"])
@pytest.mark.parametrize("around", ["{}", "key {}", "{} ", "Bearer {}:read", "{}{}"])
def test_a_secret_is_never_repeated_wherever_it_stands(prefix: str, around: str) -> None:
    secret = generate(prefix)
    said = quoted(around.format(secret, secret))
    assert not any(secret[at : at + 8] in said for at in range(len(prefix), len(secret) - 8))


def test_a_mistyped_secret_is_one_too() -> None:
    secret = generate("sk_")
    assert has_form_of_secret(secret[:-1] + ("a" if secret[-1] != "a" else "b"))


@pytest.mark.parametrize(
    "text", ["key_01m7y700b40005hnh29h59y1pb", "orders", "ada@example.com", "x" * MAX_QUOTED_CHARACTERS]
)
def test_anything_else_is_repeated_in_quotes(text: str) -> None:
    assert quoted(text) == repr(text)


def test_what_is_long_is_cut_and_what_is_no_text_is_escaped() -> None:
    assert quoted("x" * 1000) == repr("x" * MAX_QUOTED_CHARACTERS + "…")
    assert quoted("a\x1b[31m\n") == "'a\\x1b[31m\\n'"


@given(st.lists(st.sampled_from(["sk", "_", "0", "1" * 48, "a" * 49, "é", " ", "Z", "1" * 49])).map("".join))
def test_a_secret_is_found_within_a_text_wherever_its_form_is(text: str) -> None:
    assert holds_secret(text) == (_SECRET.search(text) is not None)


def test_looking_for_one_takes_no_longer_than_a_long_text_deserves() -> None:
    """A body of a mebibyte may be one word; with the square of its length, this would take a quarter of an hour."""
    assert not holds_secret("x" * (1 << 20))
    assert not holds_secret("_x" * (1 << 19))
    assert not holds_secret("0x_" * (1 << 18))
