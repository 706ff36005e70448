"""Names: one clean line, e-mail addresses in one spelling, and a folded form for searching."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.keys import naming


@given(st.text(max_size=140))
def test_a_clean_name_is_one_printable_line_and_cleaning_it_again_changes_nothing(text: str) -> None:
    try:
        name = naming.clean_name(text)
    except ValueError:
        return
    assert name == text.strip() == naming.clean_name(name)
    assert 1 <= len(name) <= 128
    assert name.isprintable()
    name.encode()  # no lone surrogates: it can be stored and sent


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
