"""The line on which each key of a TOML file stands, which `tomllib` does not say.

Invariant: for a text that `tomllib` accepts, every table and key is found at its own line (keys of inline tables at the
line where the outer one stands, and those far below what any setting reaches not at all); the text is never judged
here. Turned down: a TOML library that keeps positions (tomlkit), a dependency five times the size of this for the sake
of error messages; and guessing by searching for the key's name, which finds the wrong one of several upstreams.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.settings.key_path import KeyPath

# Parts of a dotted key that are told apart; no setting has more. A line of thousands would cost their square in memory.
_DEEPEST = 16

# One token of a TOML text. Multi-line strings first, as their delimiters begin like those of plain ones; up to two
# quotes may stand right before the closing three.
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\[\]{}=\n]"
    r"|[^\[\]{}=\n\"'#]+",
    re.DOTALL,
)


def lines_of_keys(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) of every table and key of a valid TOML text; entries of table lists by their index."""
    lines: dict[KeyPath, int] = {}
    entries: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, statement in _statements(text):
        if statement.startswith("["):
            repeated = statement.startswith("[[")
            path = _through_entries(_keys(statement.strip("[] \t\r")), entries, last_is_entry=repeated)
            if repeated:
                list_path = path
                entries[list_path] = entries.get(list_path, -1) + 1
                lines.setdefault(list_path, line)
                path = (*list_path, entries[list_path])
            table = path
            lines.setdefault(table, line)
            continue
        path = table
        for key in _keys(statement):
            path = (*path, key)
            lines.setdefault(path, line)
    return lines


def _through_entries(keys: list[str], entries: dict[KeyPath, int], *, last_is_entry: bool) -> KeyPath:
    """Lead a header's path through the newest entry of each list on its way, as TOML means it."""
    path: KeyPath = ()
    for position, key in enumerate(keys, start=1):
        path = (*path, key)
        if path in entries and not (last_is_entry and position == len(keys)):
            path = (*path, entries[path])
    return path


def _keys(dotted: str) -> list[str]:
    """Split a dotted key by reading it as TOML: quotes, escapes and spaces come out right by themselves."""
    keys: list[str] = []
    inner: object = tomllib.loads(f"{dotted} = 0")
    while isinstance(inner, dict) and len(keys) < _DEEPEST:
        [(key, inner)] = inner.items()
        keys.append(key)
    return keys


def _statements(text: str) -> list[tuple[int, str]]:
    """Return each table header, whole, and each key, without its value, with the line it begins on."""
    statements = []
    line, depth, pending, in_value = 1, 0, "", False
    for match in _TOKEN.finditer(text.replace("\r\n", "\n")):
        part = match.group()
        if part == "=" and not in_value:
            statements.append((line, pending.strip()))
            pending, in_value = "", True
        elif in_value and part in "[{":
            depth += 1
        elif in_value and part in "]}":
            depth -= 1
        elif part == "\n" and depth == 0:
            if pending.strip():
                statements.append((line, pending.strip()))
            pending, in_value = "", False
        elif not in_value and not part.startswith("#"):
            pending += part
        line += part.count("\n")
    if pending.strip():
        statements.append((line, pending.strip()))
    return statements
