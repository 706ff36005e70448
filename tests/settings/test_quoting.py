"""What somebody else wrote is repeated on one line, printable, short, and without its password."""

import time
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.quoting import between_quotes, printable, quoted, redact, shortened

anything = st.text(st.characters(exclude_categories=[]))  # lone surrogates too: bytes that were no UTF-8


@given(anything)
def test_whatever_went_in_prints_on_one_line_and_can_be_encoded(text: str) -> None:
    for shown in (printable(text), quoted(text)):
        assert shown.isprintable()
        assert shown.splitlines() == ([shown] if shown else [])
        shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\u001b[2Jb"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x9b31m", "\\u009b31m"),
        ("\u202eab", "\\u202eab"),
        ("\udcff", "\\udcff"),
        ("\U000e0001", "\\U000e0001"),
        ("Größe 寸 \\n", "Größe 寸 \\n"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped_and_the_rest_is_not(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_between_quotes_it_reads_back_to_the_same(text: str) -> None:
    """A value can be copied from a message into the file."""
    assert tomllib.loads(f'a = "{between_quotes(text)}"')["a"] == text


@given(anything, st.integers(10, 100))
def test_what_is_too_long_keeps_its_beginning_and_its_end(text: str, longest: int) -> None:
    for whole in (text, text * 50):
        shown = shortened(whole, longest)
        assert shown == whole or (len(shown) == longest and shown[0] == whole[0] and shown[-1] == whole[-1])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        (3, "3"),
        (2.5, "2.5"),
        ({}, "a table"),
        ([1], "a list"),
        ('a "b"', '"a \\"b\\""'),
        pytest.param(-(16**9000), "a far longer number", id="long"),
        (10**59, str(10**59)),
    ],
)
def test_other_values_are_said_in_the_words_of_toml(value: object, shown: str) -> None:
    assert quoted(value) == shown


def test_a_long_value_is_not_repeated_whole() -> None:
    assert len(quoted("a" * 100_000)) < 70
    assert len(quoted("\x1b" * 100_000)) < 400


def test_the_password_of_an_address_is_not_shown() -> None:
    """Whichever setting it stands in, however odd the password is, and wherever the value is cut."""
    for password in ("hunter2", "hunter2@x", "a/hunter2", "hunter2:y", "a\nhunter2"):
        assert redact(f"postgresql://me:{password}@db/a") == "postgresql://me:***@db/a"
    assert redact("redis://:hunter2@host:6379/0") == "redis://:***@host:6379/0"
    assert redact("postgresql://db/a?user=me&password=hunter2&x=1").endswith("?user=me&password=***&x=1")
    assert redact("http://api:9000") == "http://api:9000"
    assert "hunter2" not in quoted(f"postgresql://me:hunter2{'x' * 500}@db/a")


@pytest.mark.parametrize("part", ["://", "://:", "://a:", "@", "&password="])
def test_a_long_value_is_looked_through_in_one_go(part: str) -> None:
    """A variable may hold 128 KB; in a time that grew with its square, that would be most of a minute."""
    begun = time.process_time()
    redact(part * 50_000)
    redact("@" + part * 50_000)
    assert time.process_time() - begun < 1
