"""What people see: columns that line up, and texts that can do nothing but be read."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest

from gateway.cli.output import listed, moment, print_fields, print_json, print_table, shown

# Names as somebody with bad intentions, or with another alphabet, would give them.
NAMES = {
    "clear screen": ("a\x1b[2Jb", "a\\u001b[2Jb"),
    "line feed": ("a\nb", "a\\nb"),
    "carriage return": ("a\rb", "a\\rb"),
    "c1 control": ("a\x9b31mb", "a\\u009b31mb"),
    "line separator": ("a\u2028b", "a\\u2028b"),
    "right-to-left override": ("a\u202egpj.exe", "a\\u202egpj.exe"),
    "right-to-left isolate": ("a\u2067b", "a\\u2067b"),
    "byte order mark": ("\ufeffa", "\\ufeffa"),
    "tag character": ("a\U000e0041", "a\\U000e0041"),
    "lone surrogate": ("a\udcff", "a\\udcff"),
    "Hebrew": ("אבגד", "\u2068אבגד\u2069"),
    "Arabic with digits": ("سنة 12", "\u2068سنة 12\u2069"),
    "emoji": ("🚀 CI", "🚀 CI"),
    "Chinese": ("钥匙", "钥匙"),
    "combining": ("e\u0301", "e\u0301"),
}


@pytest.mark.parametrize(("name", "seen"), NAMES.values(), ids=NAMES.keys())
def test_a_text_does_nothing_but_be_read(name: str, seen: str) -> None:
    assert shown(name) == seen


@pytest.mark.parametrize(
    ("name", "cells"),
    [("plain", 5), ("钥匙", 4), ("🚀", 2), ("e\u0301", 1), ("אבגד", 4), ("👍🏽", 2), ("🇩🇪", 2), ("❤️", 2)],
)
def test_columns_line_up_by_what_a_terminal_shows(name: str, cells: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "TAIL"), [(name, "tail"), ("a longer name", "tail")])
    _, first, second = capsys.readouterr().out.splitlines()
    assert second == "a longer name  tail"
    assert first == shown(name) + " " * (len("a longer name") - cells) + "  tail"


def test_a_field_is_one_line_and_one_without_a_value_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields([("name", "x"), ("description", "two\nlines"), ("reason", "")])
    assert capsys.readouterr().out == "name         x\ndescription  two\\nlines\n"


def test_json_says_the_same_and_escapes_what_does_not_print(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"names": [name for name, _ in NAMES.values() if not "\ud800" <= max(name) <= "\udfff"]}
    print_json(document)
    printed = capsys.readouterr().out
    assert json.loads(printed) == document
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert "אבגד" in printed


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "UTF8", "utf-16"])
def test_json_is_json_in_every_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python escapes what an encoding lacks in its own way, which beyond U+FFFF is no JSON."""
    document = {"name": "🚀 ключ é\x9b"}
    written = io.BytesIO()
    stdout = io.TextIOWrapper(written, encoding=encoding, errors="backslashreplace")
    monkeypatch.setattr("sys.stdout", stdout)
    print_json(document)
    stdout.flush()
    printed = written.getvalue().decode(encoding)
    assert json.loads(printed) == document
    assert ("🚀" in printed) is (encoding.lower().replace("-", "") == "utf8")


def test_moments_are_to_the_second_in_utc() -> None:
    assert moment(datetime(2030, 1, 31, 12, 0, 1, 500_000, tzinfo=UTC)) == "2030-01-31T12:00:01Z"
    assert moment(None) == ""


def test_an_empty_list_says_so() -> None:
    assert (listed([]), listed(["a:b", "c:d"])) == ("none", "a:b, c:d")
