"""Identifiers: a word for the kind, and 128 bits that sort by the time they were made.

    key_06f3k2v9g8000q7zt5m1hdxw3c        48 bits milliseconds · 16 bits counter · 64 bits random, in 26 characters

Invariant: text order is creation order (exactly within a process, to the clock's precision between processes). Lists
page by id, and new rows are appended to the end of an index instead of scattered over it. The layout is that of a
UUIDv7 (RFC 9562) with a counter; the alphabet is Crockford's base32 in lower case, which sorts as its values do and has
no characters that people confuse.

Turned down: a number from the database (tells strangers how many keys there are) and a plain UUID (does not sort).
The random part is drawn anew each time, so that a forked process cannot repeat its parent's identifiers.
"""

import re
import secrets
import threading
import time
from typing import Final, Literal

Kind = Literal["key", "sec", "org", "mem", "sva", "evt"]

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_CHARACTERS: Final = 26  # 130 bits, of which 128 are used
_COUNTER_LIMIT: Final = 1 << 16
_AFTER_KIND: Final = re.compile(f"_[{_ALPHABET}]{{{_CHARACTERS}}}")


class _Sequence:
    """The last (millisecond, counter) given out; moves forward even where the clock steps back."""

    __slots__ = ("_counter", "_lock", "_millisecond")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._millisecond = 0
        self._counter = 0

    def next(self, millisecond: int) -> tuple[int, int]:
        with self._lock:
            if millisecond > self._millisecond:
                self._millisecond, self._counter = millisecond, 0
            elif self._counter + 1 < _COUNTER_LIMIT:
                self._counter += 1
            else:
                self._millisecond, self._counter = self._millisecond + 1, 0
            return self._millisecond, self._counter


_sequence = _Sequence()


def new_id(kind: Kind) -> str:
    """Return a new identifier, greater than every one this process made before."""
    millisecond, counter = _sequence.next(time.time_ns() // 1_000_000)
    number = (millisecond << 80) | (counter << 64) | secrets.randbits(64)
    characters = [_ALPHABET[(number >> shift) & 31] for shift in range((_CHARACTERS - 1) * 5, -1, -5)]
    return f"{kind}_{''.join(characters)}"


def is_id(kind: Kind, text: str) -> bool:
    """Tell whether the text has the form of an identifier of this kind; whether there is such a thing, it does not."""
    return text.startswith(kind) and _AFTER_KIND.fullmatch(text, len(kind)) is not None
