"""How text that somebody else wrote is repeated in a message: on one line, printable, short, and without a password.

Invariant: nothing that comes out of here can move a cursor, colour a terminal, begin another line or turn the reading
direction, whatever went in; non-UTF-8 bytes, which reach Python as lone surrogates, can be encoded again. Turned down:
`repr`, which people take for the spelling of a setting, and which leaves the length as it is; and leaving this to
whatever prints: there are several, a log and a terminal among them.
"""

from __future__ import annotations

import re

MAX_QUOTED_CHARACTERS = 60  # enough to be recognised by
MAX_SUGGESTED_CHARACTERS = 200  # what is to be copied should be whole, as paths mostly are
_MAX_NUMBER_BITS = 200  # about 60 digits; Python refuses to write numbers of some thousands
_SHORT_ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def printable(text: str) -> str:
    """Return the text with each character that does not print as itself escaped, as TOML escapes."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def between_quotes(text: str) -> str:
    """Return the text as it is written between the quotes of TOML, and mostly of JSON."""
    return printable(text.replace("\\", "\\\\").replace('"', '\\"'))


def shortened(text: str, longest: int) -> str:
    """Return the text, its middle replaced by … where it is too long: of a file's name, the end matters too."""
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 1]}…{text[-tail:]}"


def quoted(value: object, *, longest: int = MAX_QUOTED_CHARACTERS) -> str:
    """Say what was found, as short as it can be recognised by, and never with a password in it."""
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return "a table"
        case list() | tuple():
            return "a list"
        case str():
            return f'"{between_quotes(shortened(redact(value), longest))}"'
        case int() if value.bit_length() > _MAX_NUMBER_BITS:
            return "a far longer number"
        case _:
            return shortened(str(value), longest)


def redact(text: str) -> str:
    """Hide the password of an address such as "postgresql://user:password@host", and a `password=` option."""
    # Only what stands before the last @ can be a password; looking there alone keeps the time linear in the length.
    before, at, after = text.rpartition("@")
    text = re.sub(r"(://[^:/?#\s]*):.*", r"\1:***", before, count=1, flags=re.DOTALL) + at + after
    return re.sub(r"(?i)([?&;](?:[a-z_]*password|passwd|pwd)=)[^&]*", r"\1***", text)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return _SHORT_ESCAPES.get(character) or (f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")  # noqa: PLR2004
