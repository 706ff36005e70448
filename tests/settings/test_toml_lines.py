"""Keys are found on their own line, in every notation that TOML has."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.toml_lines import lines_of_keys

EVERY_NOTATION = '''\
# comment with [brackets] and = signs
top = 1
a.b . "c d" = 2  # = [x]
text = """
[not.a.table]
key = "no"
\\""""""
raw = \'\'\'
x = 1\'\'\'
list = [
  1, # ]
  "]", { y = 2, z = [3] },
]
[server]
"quoted \\"key\\"" = 'a = b # c'
[[rows]]
name = "first"
[rows.inner]
deep = 1
[[rows.inner2]]
p = 1
[[rows.inner2]]
p = 2
[[ rows ]]
name = "second"
inner = { x = 1 }
date = 1979-05-27 07:32:00
'''


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_every_notation_is_found_on_its_line(ending: str) -> None:
    """Comments, strings of all kinds and lists over several lines do not shift or invent keys."""
    tomllib.loads(EVERY_NOTATION)
    assert lines_of_keys(EVERY_NOTATION.replace("\n", ending)) == {
        ("top",): 2,
        ("a",): 3,
        ("a", "b"): 3,
        ("a", "b", "c d"): 3,
        ("text",): 4,
        ("raw",): 8,
        ("list",): 10,
        ("server",): 14,
        ("server", 'quoted "key"'): 15,
        ("rows",): 16,
        ("rows", 0): 16,
        ("rows", 0, "name"): 17,
        ("rows", 0, "inner"): 18,
        ("rows", 0, "inner", "deep"): 19,
        ("rows", 0, "inner2"): 20,
        ("rows", 0, "inner2", 0): 20,
        ("rows", 0, "inner2", 0, "p"): 21,
        ("rows", 0, "inner2", 1): 22,
        ("rows", 0, "inner2", 1, "p"): 23,
        ("rows", 1): 24,
        ("rows", 1, "name"): 25,
        ("rows", 1, "inner"): 26,
        ("rows", 1, "date"): 27,
    }


def test_a_dotted_key_is_followed_as_far_down_as_settings_reach() -> None:
    """Each part on its way has a line of its own: all parts of thousands would cost their square in memory."""
    lines = lines_of_keys(".".join(["a"] * 2000) + " = 1\nb = 2")
    assert lines["a", "a", "a"] == 1
    assert lines["b",] == 2
    assert len(lines) < 20


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)


@given(st.dictionaries(texts, st.dictionaries(texts, texts, max_size=4), max_size=4))
def test_any_keys_are_found_where_they_were_written(tables: dict[str, dict[str, str]]) -> None:
    """Whatever the keys and values hold: brackets, quotes, equals signs, nothing."""
    lines: list[str] = []
    expected: dict[tuple[str, ...], int] = {}
    for table, values in tables.items():
        lines.append(f"[{json.dumps(table, ensure_ascii=False)}]")
        expected[table,] = len(lines)
        for key, value in values.items():
            lines.append(f"{json.dumps(key, ensure_ascii=False)} = {json.dumps(value, ensure_ascii=False)}")
            expected[table, key] = len(lines)
    text = "\n".join(lines)
    assert tomllib.loads(text) == tables
    assert lines_of_keys(text) == expected
