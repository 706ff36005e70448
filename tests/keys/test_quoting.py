"""What messages repeat, and what they do not."""

from __future__ import annotations

import pytest

from gateway.keys.quoting import MAX_QUOTED_CHARACTERS, has_form_of_secret, quoted
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
