"""Lexical rules that requests and responses share (RFC 9110 section 5, RFC 9112 section 2).

Invariant: every check here is a whole-string check that runs in C (`bytes.translate`, a compiled expression); nothing
loops over bytes in Python. Turned down: llhttp's per-field callbacks, which cost as much as this (see
`docs/decisions.md`) and leave duplicates, bare line endings and nominated fields to be judged a second time.
"""

import re
from typing import Final

_ALPHANUMERIC: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TOKEN_BYTES: Final = b"!#$%&'*+-.^_`|~" + _ALPHANUMERIC
"""tchar, RFC 9110 section 5.6.2."""

LINE_BYTES: Final = bytes(byte for byte in range(256) if byte == 0x09 or (byte >= 0x20 and byte != 0x7F))
"""What may stand between two line endings: HTAB, SP, VCHAR, obs-text (RFC 9110 section 5.5)."""

_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?",
)
"""uri-host [":" port], RFC 9110 section 7.2; percent codes in a host are refused, as no resolver wants them."""

_FIELD_NAME_MEMO_LIMIT: Final = 4096


def is_token(text: bytes) -> bool:
    """Whether `text` is a non-empty token."""
    return bool(text) and not text.translate(None, TOKEN_BYTES)


def is_host(text: bytes) -> bool:
    """Whether `text` is `host[:port]` with a port below 65536."""
    if _HOST.fullmatch(text) is None:
        return False
    port = text[text.rfind(b":") + 1 :] if text[-1:] != b"]" and b":" in text else b""
    return not port or int(port) < 65536  # noqa: PLR2004  the size of a TCP port


def has_clean_lines(section: bytes, line_endings: int) -> bool:
    """Whether `section` holds legal bytes and exactly `line_endings` CRLF pairs: no bare CR or LF, NUL, control byte.

    The caller split the section at CRLF, so it knows how many pairs there are; every other CR or LF makes the rest
    that `translate` leaves longer than two bytes per pair.
    """
    return len(section.translate(None, LINE_BYTES)) == 2 * line_endings


def has_regular_spaces(section: bytes) -> bool:
    """Whether no value can begin or end in white space beyond the one space after its colon.

    `find`, not `in`: `bytes in bytes` raises and clears an exception inside CPython first, ten times the search itself.
    """
    return (
        0x09 not in section
        and section.find(b"  ") < 0
        and section.find(b" \r\n") < 0
        and section[-1:] != b" "
    )


def decimal(text: bytes) -> int:
    """Content-Length as RFC 9110 section 8.6 has it, without leading zeros; -1 when it is anything else.

    18 digits bound it: more would overflow the 64-bit counters of the software around us.
    """
    if not text.isdigit() or len(text) > 18 or (text[0] == 0x30 and len(text) > 1):  # noqa: PLR2004
        return -1
    return int(text)


def list_tokens(value: bytes) -> list[bytes]:
    """The lower-case members of a comma-separated field (RFC 9110 section 5.6.1), empty ones left out."""
    return [token for member in value.lower().split(b",") if (token := member.strip(b" \t"))]


class FieldNames(dict[bytes, int]):
    """What to do with a field, by its name as it was spelt: one dict hit for every spelling seen before.

    A name that is new is checked to be a token, folded (case, and `_` for `-`, which WSGI and CGI servers cannot tell
    apart) and remembered; the memo is bounded, since clients choose the names. A special name spelt with `_` is
    `dropped`: it must neither steer the gateway nor reach an upstream that reads it as the real one.
    """

    __slots__ = ("_dropped", "_special")

    def __init__(self, special: dict[bytes, int], dropped: int) -> None:
        super().__init__()
        self._special = special
        self._dropped = dropped

    def __missing__(self, name: bytes) -> int:
        """Classify `name`; raises ValueError when it is no token."""
        if not is_token(name):
            raise ValueError(name)
        kind = self._special.get(name.lower().replace(b"_", b"-"), 0)
        if kind and b"_" in name:
            kind = self._dropped
        if len(self) < _FIELD_NAME_MEMO_LIMIT:
            self[name] = kind
        return kind
