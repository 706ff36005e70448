"""What commands print on stdout: a table or a list of fields for people, the admin API's JSON for programs.

Invariant: the JSON is what the API sent. For people, no text that somebody gave to a thing can do more than be read:
what does not print is escaped, and what is written from right to left is kept from reordering the columns beside it.
Widths are those of terminals, in which one sign may take two cells or none.

Rich tables were turned down: they wrap and colour by what they think of the terminal, and what people see in one should
be what they can grep in another.
"""

import codecs
import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, TextIO

import typer

from gateway.settings.quoting import printable

Row = tuple[str, ...]

_FIRST_STRONG_ISOLATE: Final = "\u2068"
_POP_ISOLATE: Final = "\u2069"


def print_json(document: Mapping[str, object]) -> None:
    """The answer as one JSON document; characters that do not print are escaped, which changes nothing it says.

    So is all but ASCII where stdout has another encoding than UTF-8: what that lacks would be escaped in Python's way.
    """
    text = json.dumps(document, indent=2, ensure_ascii=not _takes_every_character(sys.stdout))
    typer.echo("".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text))


def print_table(heads: Row, rows: Iterable[Row]) -> None:
    """Columns as wide as their widest cell; the last one is not padded."""
    lines = [heads, *(tuple(map(shown, row)) for row in rows)]
    widths = [max(map(_cells, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(_padded(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """One field a line, named, values below each other; a field without a value has no line."""
    present = [(name, value) for name, value in fields if value]
    width = max(len(name) for name, _ in present)
    for name, value in present:
        typer.echo(f"{name.ljust(width)}  {shown(value)}")


def shown(text: str) -> str:
    """The text as it may stand on a terminal: on one line, and with no influence on what stands beside it."""
    safe = printable(text)
    if any(unicodedata.bidirectional(character) in {"R", "AL"} for character in safe):
        return f"{_FIRST_STRONG_ISOLATE}{safe}{_POP_ISOLATE}"  # Unicode Standard Annex 9, section 2.4
    return safe


def listed(texts: Sequence[str]) -> str:
    """A list in a field."""
    return ", ".join(texts) or "none"


def moment(at: datetime | None) -> str:
    """RFC 3339, to the second, in UTC; empty for none."""
    return "" if at is None else at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _takes_every_character(stream: TextIO) -> bool:
    return codecs.lookup(stream.encoding or "utf-8").name == "utf-8"


def _cells(text: str) -> int:
    """How many cells of a terminal the text takes. Rich knows Unicode's tables; Typer has it installed anyway."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _cells(text))
