"""Names: one clean line, e-mail addresses in one spelling, and a folded form for searching."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.keys import naming
from gateway.keys.secret import generate

if TYPE_CHECKING:
    from collections.abc import Callable

PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # "I want", which has a non-joiner in it


@given(st.text(max_size=140))
def test_a_clean_name_is_one_printable_line_and_cleaning_it_again_changes_nothing(text: str) -> None:
    try:
        name = naming.clean_name(text)
    except ValueError:
        return
    assert name == text.strip() == naming.clean_name(name)
    assert 1 <= len(name) <= 128
    assert naming.is_printable(name)
    name.encode()  # no lone surrogates: it can be stored and sent


@pytest.mark.parametrize("text", ["👩\u200d💻 build", PERSIAN, "क्\u200dष"])
def test_joiners_are_kept_where_scripts_and_emoji_need_them(text: str) -> None:
    assert naming.clean_name(text) == text


@pytest.mark.parametrize(
    "text",
    ["CI\u200d", "\u200dCI", "C\u200dI", "é\u200d\u200dé", "é\u200d", "é\u200d ", "\u200b", "\u2060x", "\ufeffx"],
)
def test_what_is_invisible_is_refused_so_that_no_two_names_look_the_same_by_it(text: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        naming.clean_name(text)


@pytest.mark.parametrize("text", ["", "   ", "a\nb", "a\x00b", "a" * 129, "\ud800", "a\u202eb"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        naming.clean_name(text)


def test_a_description_may_be_empty_or_have_lines_but_no_control_characters() -> None:
    assert naming.clean_description("  ") == ""
    assert naming.clean_description(" one\ntwo\t2 ") == "one\ntwo\t2"
    for text in ("a\x1b[31m", "a" * 1001, "\ud800"):
        with pytest.raises(ValueError, match="printable"):
            naming.clean_description(text)


def test_email_addresses_have_one_spelling() -> None:
    assert naming.clean_email(" Ada@Example.COM ") == "ada@example.com"
    for text in ("ada", "@example.com", "ada@", "a b@example.com", "ada@ex\nample.com", "a" * 250 + "@x.org"):
        with pytest.raises(ValueError, match="e-mail"):
            naming.clean_email(text)


def test_the_folded_form_ignores_case_beyond_ascii() -> None:
    assert naming.folded("STRASSE Ä") == naming.folded("straße ä")
    assert naming.folded(PERSIAN) == naming.folded(PERSIAN.replace("\u200c", ""))
    assert naming.folded("\uff23\uff29") == "ci"  # full width


def test_a_reference_is_an_id_an_address_or_a_name() -> None:
    assert naming.clean_reference(" Ada@example.com ") == "Ada@example.com"
    for text in ("", " ", "a" * 255, "a\x00", "\ud800"):
        with pytest.raises(ValueError, match="must be an id, an e-mail address"):
            naming.clean_reference(text)


@pytest.mark.parametrize("clean", [naming.clean_name, naming.clean_description, naming.clean_email])
def test_a_secret_is_no_name_of_anything(clean: Callable[[str], str]) -> None:
    """Names are shown in lists, kept in the trail and sent to the API behind the gateway."""
    with pytest.raises(ValueError, match="secret"):
        clean(f"for {generate('sk_live_')} @x")


def test_an_address_does_not_grow_when_it_is_folded() -> None:
    """U+FDFA folds to eighteen characters, and cursors are made of folded names."""
    with pytest.raises(ValueError, match="e-mail"):
        naming.clean_email("\ufdfa" * 100 + "@example.com")
