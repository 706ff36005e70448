"""How a message repeats what somebody wrote where the name of a thing belongs.

Invariant: what comes out is one printable, bounded piece of text, and never a secret: people paste one where its id
belongs, and messages end up in logs. The form is looked for with any prefix, as that is a setting, and with any
checksum, as typed.
"""

import re
from typing import Final

from gateway.keys.secret import BODY_CHARACTERS

MAX_QUOTED_CHARACTERS: Final = 128
_MAX_FIELD_NAME_CHARACTERS: Final = 64
_SECRET: Final = re.compile(rf"[A-Za-z][A-Za-z0-9_]*_[0-9A-Za-z]{{{BODY_CHARACTERS}}}")
# The same in parts: searching for the whole takes time with the square of a long word's length.
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_BODY: Final = re.compile(rf"_[0-9A-Za-z]{{{BODY_CHARACTERS}}}")


def has_form_of_secret(text: str) -> bool:
    """Tell whether this looks like a secret of this or another gateway."""
    return _SECRET.fullmatch(text) is not None


def holds_secret(text: str) -> bool:
    """Tell whether something in it looks like a secret."""
    return any(_BODY.search(text, word.start() + 1, word.end()) for word in _WORD.finditer(text))


def quoted(text: str) -> str:
    """Return the text in quotes, its beginning where it is long; for what holds a secret, words in its place."""
    if holds_secret(text):
        return "(a key's secret, which is not repeated here)"
    return repr(text if len(text) <= MAX_QUOTED_CHARACTERS else text[:MAX_QUOTED_CHARACTERS] + "…")


def field_name(text: str) -> str:
    """Return the name of a field as an error names it: without quotes, printable, bounded, never a secret."""
    if holds_secret(text):
        return "(a key's secret)"
    beginning = text[:_MAX_FIELD_NAME_CHARACTERS]
    return beginning if beginning.isprintable() else ascii(beginning)[1:-1]
