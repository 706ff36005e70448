"""Makes many inputs of one: a message as a list of its productions, and what can be done wrong at each of them.

hypothesis finds the messages, at 1-3 ms each; this makes hundreds of derived inputs of each at a few µs, from a seed
that hypothesis draws as well, so that all of a run follows from one number. Invariant: pure, and no input depends on
another one.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

Piece = tuple[str, bytes]
"""The name of a production, and its bytes. Names that mutations know: end, space, name, value, number, hex, data."""

_ENDS: Final = [
    *(b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n ", b"\r\n\t", b"\0\r\n", b"", b"\r\n\r\n", b"\n\n", b" \r\n", b"\r \n"),
    *(b"\x0b\r\n", b"\x85", b"\r\n\n", b"\r\0\n", b"\xe2\x80\xa8", b"\x0c", b"\r\n\x0b", b"\t\r\n"),
]
_SPACES: Final = [b"", b"  ", b"\t", b"\x0b", b"\x0c", b"\xa0", b"\0", b"\r", b"\r\n ", b" \t", b"\x1f", b"%20", b"+"]
_BYTES: Final = [
    *(b"\0", b"\r", b"\n", b"\t", b" ", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\xff", b"\xa0", b"\xc4\xb0", b":", b";"),
    *(b",", b'"', b"\\", b"/", b"//", b"%", b"%2f", b"%2e", b"%00", b"%0d%0a", b"_", b"-", b"+", b"0", b"#", b"?"),
    *(b"@", b"[", b"]", b"(", b"\x1b", b"\r\n", b"\r\n\r\n", b"..", b"\\x0d", b"\xe2\x84\xaa", b"\x01", b"="),
]
_SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


def mutated(pieces: Sequence[Piece], chance: Random, lines: Sequence[bytes]) -> list[Piece]:
    """The message with one to three mistakes. `lines`: fields that are worth a try."""
    changed = list(pieces)
    if changed[0][0] == "context" and chance.random() < 0.3:
        _replace(changed, 0, bytes([chance.randrange(256)]))
    for _ in range(chance.choice((1, 1, 1, 1, 2, 2, 3))):
        if not changed:
            break
        chance.choice(_OPERATIONS)(changed, chance, lines)
    return changed


def joined(pieces: Sequence[Piece]) -> bytes:
    return b"".join([text for _, text in pieces])


def cut(stream: bytes, chance: Random) -> list[bytes]:
    """The stream in two to six pieces; cuts like line ends and the borders of messages."""
    size = len(stream)
    if size < 2:
        return [stream]
    edges = {chance.randrange(1, size) for _ in range(chance.choice((1, 1, 2, 3, 5)))}
    if chance.random() < 0.5:
        ends = [match.start() for match in re.finditer(rb"[\r\n]", stream)]
        edges |= {min(max(chance.choice(ends) + chance.choice((0, 1, 2)), 1), size - 1)} if ends else set()
    bounds = [0, *sorted(edges), size]
    return [stream[start:end] for start, end in itertools.pairwise(bounds)]


# --- one mistake each -------------------------------------------------------------------------------------------------


def _at(pieces: list[Piece], chance: Random, *names: str) -> int:
    """One of the productions of these names, or any where there is none."""
    found = [at for at, (name, _) in enumerate(pieces) if name in names]
    return chance.choice(found) if found else chance.randrange(len(pieces))


def _replace(pieces: list[Piece], at: int, text: bytes) -> None:
    pieces[at] = (pieces[at][0], text)


def _end(pieces: list[Piece], chance: Random, _: Sequence[bytes]) -> None:
    _replace(pieces, _at(pieces, chance, "end"), chance.choice(_ENDS))


def _space(pieces: list[Piece], chance: Random, _: Sequence[bytes]) -> None:
    _replace(pieces, _at(pieces, chance, "space"), chance.choice(_SPACES))


def _number(pieces: list[Piece], chance: Random, _: Sequence[bytes]) -> None:
    at = _at(pieces, chance, "number", "hex")
    text = pieces[at][1]
    base = 16 if pieces[at][0] == "hex" else 10
    value = int(text, base) if re.fullmatch(rb"[0-9a-fA-F]+" if base == 16 else rb"[0-9]+", text) else 5
    plain = b"%x" if base == 16 else b"%d"
    variants: list[bytes] = [
        *(b"+" + text, b"-" + text, b"0" + text, b"0x" + text, text + b" ", b" " + text, text + b"\t", text + b"L"),
        *(plain % (value + 1), plain % max(value - 1, 0), plain % (value + 2), plain % (value * 16), b"", b"0", b"-0"),
        *(text + b"," + text, text + b", " + text, text + b";", b"0" * 16 + text, b"0" * 15 + text, text + b".0"),
        *(b"1" + b"0" * 16, b"f" * 16, b"f" * 17, b"1" + b"0" * 15 + text[:1], b"9" * 19, b"9" * 18, b"1_0"),
        *(plain % (value + (1 << 32)), plain % (value + (1 << 64)), b"\xd9\xa5", b"\xb2", b'"' + text + b'"'),
        *(b"101", b"100", b"199", b"204", b"205", b"304", b"099", b"600", text + text[-1:]),  # where it is a status
        *(text + b"\0", text + b"\x0b", b"\x0c" + text, b"1e1", text + b"\r", text.upper(), b"5 5", text + b" \t"),
    ]
    _replace(pieces, at, chance.choice(variants))


def _name(pieces: list[Piece], chance: Random, _: Sequence[bytes]) -> None:
    at = _at(pieces, chance, "name")
    text = pieces[at][1]
    variants: list[bytes] = [
        *(
            text + b" ",
            b" " + text,
            text + b"\t",
            text.replace(b"-", b"_"),
            text.upper(),
            text.lower(),
            text.swapcase(),
        ),
        *(text + b"\0", b"\0" + text, b"\x0b" + text, text + b"\x0b", text + b"\r", b"\r" + text, b"\n" + text, b""),
        *(text + b"\xff", b"\xef\xbb\xbf" + text, text.replace(b"-", b"\xe2\x80\x90"), text[:-1], text + b"s"),
        *(b"X-" + text, text + b":", text.replace(b"-", b""), b'"' + text + b'"', text + b"(c)", text.title()),
    ]
    _replace(pieces, at, chance.choice(variants))


def _byte_in(pieces: list[Piece], chance: Random, _: Sequence[bytes]) -> None:
    at = chance.randrange(len(pieces))
    text = pieces[at][1]
    where = chance.randrange(len(text) + 1)
    _replace(pieces, at, text[:where] + chance.choice(_BYTES) + text[where:])


def _byte_out(pieces: list[Piece], chance: Random, _: Sequence[bytes]) -> None:
    at = chance.randrange(len(pieces))
    text = pieces[at][1]
    where = chance.randrange(len(text) + 1)
    _replace(pieces, at, text[:where] + text[where + chance.choice((1, 1, 2)) :])


def _byte_changed(pieces: list[Piece], chance: Random, _: Sequence[bytes]) -> None:
    at = chance.randrange(len(pieces))
    text = bytearray(pieces[at][1])
    if text:
        where = chance.randrange(len(text))
        text[where] = chance.choice((text[where] ^ 0x20, text[where] ^ 0x80, chance.randrange(256), text[where] ^ 1))
        _replace(pieces, at, bytes(text))


def _dropped(pieces: list[Piece], chance: Random, _: Sequence[bytes]) -> None:
    del pieces[chance.randrange(len(pieces))]


def _doubled(pieces: list[Piece], chance: Random, _: Sequence[bytes]) -> None:
    at = chance.randrange(len(pieces))
    pieces[at:at] = pieces[at : at + chance.choice((1, 1, 2, 5))]


def _swapped(pieces: list[Piece], chance: Random, _: Sequence[bytes]) -> None:
    one, other = chance.randrange(len(pieces)), chance.randrange(len(pieces))
    pieces[one], pieces[other] = pieces[other], pieces[one]


def _line_added(pieces: list[Piece], chance: Random, lines: Sequence[bytes]) -> None:
    starts = [at + 1 for at, (name, _) in enumerate(pieces) if name == "end"]
    if starts:
        pieces.insert(chance.choice(starts), ("line", chance.choice(lines) + b"\r\n"))


def _lines_added(pieces: list[Piece], chance: Random, lines: Sequence[bytes]) -> None:
    for _ in range(chance.choice((2, 2, 3))):
        _line_added(pieces, chance, lines)


def _long(pieces: list[Piece], chance: Random, _: Sequence[bytes]) -> None:
    at = _at(pieces, chance, "value", "path", "name", "data", "extension")
    text = pieces[at][1]
    _replace(pieces, at, text + (text[-1:] or b"x") * chance.choice((100, 200, 256, 600, 2100)))


def _many(pieces: list[Piece], chance: Random, _: Sequence[bytes]) -> None:
    at = _at(pieces, chance, "end") + 1
    pieces[at:at] = [("line", b"x-%d: y\r\n" % number) for number in range(chance.choice((5, 20, 24)))]


def _truncated(pieces: list[Piece], chance: Random, _: Sequence[bytes]) -> None:
    del pieces[chance.randrange(len(pieces)) :]


def _switched(pieces: list[Piece], chance: Random, _: Sequence[bytes]) -> None:
    """A response agrees to what may not have been asked for."""
    ends = [at for at, (name, _) in enumerate(pieces) if name == "end"]
    if pieces[0][0] == "context" and ends:
        pieces.insert(ends[0] + 1, ("line", b"Upgrade: " + chance.choice((b"websocket", b"h2c")) + b"\r\n"))
        _replace(pieces, _at(pieces[: ends[0]], chance, "number"), b"101")


def _more(pieces: list[Piece], chance: Random, _: Sequence[bytes]) -> None:
    surplus = [_SMUGGLED, b"\r\n", b"x", b"0\r\n\r\n", b"\0", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"\n"]
    pieces.insert(chance.choice((len(pieces), chance.randrange(len(pieces) + 1))), ("more", chance.choice(surplus)))


_OPERATIONS: Final[list[Callable[[list[Piece], Random, Sequence[bytes]], None]]] = [
    *(_end, _end, _space, _number, _number, _number, _name, _name, _byte_in, _byte_in, _byte_out, _byte_changed),
    *(_dropped, _doubled, _swapped, _line_added, _line_added, _line_added, _lines_added, _long, _many, _truncated),
    *(_more, _switched),
]
