"""Lexical rules that requests and responses share (RFC 9110 section 5, RFC 9112 section 2).

Invariant: every check here is a whole-string check that runs in C (`bytes.translate`, a compiled expression); nothing
loops over bytes in Python. Turned down: llhttp, see `docs/decisions.md`.
"""

import re
from typing import Final

_ALPHANUMERIC: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TOKEN_BYTES: Final = b"!#$%&'*+-.^_`|~" + _ALPHANUMERIC
"""tchar, RFC 9110 section 5.6.2."""
_LINE_BYTES: Final = bytes(byte for byte in range(256) if byte == ord("\t") or (byte >= ord(" ") and byte != 0x7F))  # noqa: PLR2004  DEL
"""What may stand between two line endings: HTAB, SP, VCHAR, obs-text (RFC 9110 section 5.5)."""
# Tables that change what is not allowed, and nothing else. Deleting what is allowed says the same at six times the
# price: `bytes.translate` makes a table of its arguments in each call.
_TOKEN: Final = bytes(byte if byte in _TOKEN_BYTES else ord("!") for byte in range(256))
_LINE: Final = bytes(byte if byte in _LINE_BYTES else ord("?") for byte in range(256))

_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9\-._~!$&'()*+;=]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?",
)
"""uri-host [":" port], RFC 9110 section 7.2. Percent codes in a host are refused, as no resolver wants them, and so is
a comma: it goes on in X-Forwarded-Host, where it would part a list whose first member no route here was asked about."""

_HOST_LIMIT_BYTES: Final = 253 + len(":65535")
"""A DNS name is no longer (RFC 1035 section 2.3.4), and hosts are remembered and compared label by label."""
_LINE_MEMO_LIMIT: Final = 4096
_LINE_MEMO_BYTES: Final = 160
_NAME_MEMO_LIMIT: Final = 1024
_NAME_MEMO_BYTES: Final = 64

Special = list[bytes | None]
"""The values of the fields that the gateway judges, by their kind; None where there is none."""


def is_token(text: bytes) -> bool:
    """Whether `text` is a non-empty token."""
    return bool(text) and text.translate(_TOKEN) == text


def is_line(text: bytes) -> bool:
    """Whether `text` holds nothing but what may stand within a line."""
    return text.translate(_LINE) == text


def is_host(text: bytes) -> bool:
    """Whether `text` is `host[:port]` with a port below 65536."""
    if len(text) > _HOST_LIMIT_BYTES or _HOST.fullmatch(text) is None:
        return False
    port = text[text.rfind(b":") + 1 :] if text[-1:] != b"]" and b":" in text else b""
    return not port or int(port) < 65536  # noqa: PLR2004  the size of a TCP port


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


class RepeatedField(Exception):
    """A field stands twice that must not; `str()` is its name."""


class FieldLines:
    """What a field line is, by the line as it came: one dict hit for every line that was judged before.

    The answer is its kind and, for a special kind, its value; for kind 0, an ordinary field that travels on, the line
    written anew as `name: value`. Clients and upstreams send nearly the same lines again and again, so a head of known
    lines costs a hash and a comparison per line, and is judged no less strictly.

    Names are folded before they are looked up: in case, and `_` to `-`, which WSGI and CGI servers cannot tell apart.
    A special name spelt with `_` is `dropped`: it must neither steer the gateway nor reach an upstream that reads it as
    the real one. A `whole` kind keeps its line, since its fields differ in name. A `noted` kind does, too, and travels
    on like an ordinary field. `unremembered` kinds hold credentials: their names are remembered, never their lines. A
    memo is emptied when it is full, since others choose what is in it.
    """

    __slots__ = ("_dropped", "_lines", "_names", "_noted", "_once", "_size", "_special", "_unremembered", "_whole")

    def __init__(
        self,
        special: dict[bytes, int],
        once: dict[int, str],
        *,
        dropped: int,
        whole: int = -1,
        noted: int = -1,
        unremembered: frozenset[int] = frozenset(),
    ) -> None:
        """`once`: the kinds that must not repeat, with their names."""
        self._special = special
        self._once = once
        self._size = max(special.values()) + 1
        self._dropped = dropped
        self._whole = whole
        self._noted = noted
        self._unremembered = unremembered
        self._lines: dict[bytes, tuple[int, bytes]] = {}
        self._names: dict[bytes, int] = {}

    def read(self, lines: list[bytes]) -> tuple[list[bytes], Special]:
        """The ordinary fields of a head as lines, and the values of the special ones by kind.

        `lines[0]` is the start line, which is left alone. Repeated special fields become one list. Raises
        RepeatedField, or ValueError for what is no field line.
        """
        forwarded: list[bytes] = []
        special: Special = [None] * self._size
        known = self._lines
        for index in range(1, len(lines)):
            line = lines[index]
            judged = known.get(line)
            if judged is None:
                judged = self._judge(line)
            kind, text = judged
            if not kind:
                forwarded.append(text)
                continue
            if kind == self._noted:
                forwarded.append(text)
            before = special[kind]
            special[kind] = text if before is None else self._repeated(kind, before, text)
        return forwarded, special

    def _repeated(self, kind: int, before: bytes, text: bytes) -> bytes:
        if kind in self._once:
            raise RepeatedField(self._once[kind])
        return before + (b"\r\n" if kind == self._whole else b", ") + text

    def _judge(self, line: bytes) -> tuple[int, bytes]:
        """Judge a line that is new; raises ValueError when it is no field line (RFC 9112 section 5)."""
        name, colon, value = line.partition(b":")
        if not colon or not is_line(value):
            raise ValueError(line)
        kind = self._names.get(name, -1)
        if kind < 0:
            kind = self._judge_name(name)
        value = value.strip(b" \t")
        keeps_line = kind in {0, self._whole, self._noted}
        judged = kind, b"%b: %b" % (name, value) if keeps_line else value
        if kind not in self._unremembered and len(line) <= _LINE_MEMO_BYTES:
            if len(self._lines) >= _LINE_MEMO_LIMIT:
                self._lines.clear()
            self._lines[line] = judged
        return judged

    def _judge_name(self, name: bytes) -> int:
        """The kind of a field of this name: no space before the colon, no folding (RFC 9112 sections 5.1 and 5.2)."""
        if not is_token(name):
            raise ValueError(name)
        kind = self._special.get(name.lower().replace(b"_", b"-"), 0)
        if kind and name.find(b"_") >= 0:
            kind = self._dropped if kind != self._noted else 0
        if len(self._names) >= _NAME_MEMO_LIMIT:
            self._names.clear()
        if len(name) <= _NAME_MEMO_BYTES:
            self._names[name] = kind
        return kind
