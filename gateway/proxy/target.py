"""The request target (RFC 9112 section 3.2): its form, and the one path that routes match on and the upstream gets.

Invariant: a target that two readers could understand differently is refused or flagged, never guessed at. Percent codes
of unreserved characters are decoded and repeated slashes merged (RFC 3986 section 6.2.2.2), so that `/%61dmin` and
`//admin` cannot walk around a rule for `/admin`. Turned down: `urllib`, which accepts and repairs.
"""

import re
from collections.abc import Callable
from itertools import permutations
from typing import Final, NamedTuple

from gateway.proxy.grammar import is_host

PLAIN_PATH: Final = rb"/[A-Za-z0-9\-._~!$&'()*+,=:@/]*"
"""Characters that mean the same to everyone; dot segments and `//` are looked for apart."""

_PERCENT: Final = re.compile(rb"%([0-9A-Fa-f]{2})?")
_UNRESERVED: Final = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._~")
_SCHEME: Final = re.compile(rb"https?://", re.IGNORECASE)
_ILLEGAL: Final = re.compile(rb"[^!-\"$-~]")
_SLASHES: Final = re.compile(rb"/{2,}")
_PARAMETERS: Final = re.compile(rb";[^/]*")


# What a path may have that only some routes accept, as bits.
ENCODED_SLASH: Final = 1
SEMICOLON: Final = 2
"""Plain or coded: who decodes first and then cuts, as Shiro did (CVE-2020-13933), cannot tell them apart."""


class Target(NamedTuple):
    """A judged target. `raw_path` and `path` differ where normalisation changed something."""

    authority: bytes | None
    raw_path: bytes
    path: bytes
    query: bytes
    """With its `?`, or empty."""
    traits: int


def read_target(text: bytes, method: bytes) -> Target:
    """Take a target apart; raises ValueError whose text says what is wrong with it."""
    if _ILLEGAL.search(text):
        message = "the target has a fragment, a space, a control or a non-ASCII byte"
        raise ValueError(message)
    authority = None
    if text[:1] != b"/":
        if text == b"*":
            if method != b"OPTIONS":
                message = "the asterisk form is for OPTIONS alone"
                raise ValueError(message)
            return Target(None, text, text, b"", 0)
        authority, text = _split_absolute(text)
    raw_path, mark, query = text.partition(b"?")
    path, traits = normalise(raw_path)
    return Target(authority, raw_path, path, mark + query, traits)


def _split_absolute(text: bytes) -> tuple[bytes, bytes]:
    scheme = _SCHEME.match(text)
    if scheme is None:
        message = "the target is neither a path nor an http(s) URL"
        raise ValueError(message)
    rest = text[scheme.end() :]
    end = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    authority, rest = rest[:end], rest[end:]
    if not is_host(authority):
        message = "the authority of the target is no host[:port]"
        raise ValueError(message)
    return authority.lower(), rest if rest[:1] == b"/" else b"/" + rest


def normalise(path: bytes) -> tuple[bytes, int]:
    """The path as routes and upstreams see it, and its traits; raises ValueError whose text says what is wrong."""
    traits = 0
    if b"\\" in path:
        message = "the path has a backslash"
        raise ValueError(message)
    if b"%" in path:
        path = _PERCENT.sub(_decode_unreserved, path)
        if b"%2F" in path:
            traits |= ENCODED_SLASH
    if b"//" in path:
        path = _SLASHES.sub(b"/", path)
    if b"/." in path and _has_dot_segment(path):
        message = "the path has a dot segment, plain or encoded"
        raise ValueError(message)
    if traits & ENCODED_SLASH and _has_dot_segment(_decode_slashes(path)):
        message = "the path has a dot segment between encoded slashes"
        raise ValueError(message)
    if b";" in path or b"%3B" in path:
        traits |= SEMICOLON
    return path, traits


def other_readings(path: bytes) -> list[bytes]:
    """A path with traits as servers read it that decode slashes or semicolons, cut segments there, or several of these.

    In any order: what is decoded first ends a segment or is cut at, what is cut off first is never decoded.
    """
    readings = []
    for steps in _ORDERS:
        reading = path
        for step in steps:
            reading = step(reading)
        readings.append(_SLASHES.sub(b"/", reading))
    return readings


def _decode_slashes(path: bytes) -> bytes:
    return path.replace(b"%2F", b"/")


def _decode_semicolons(path: bytes) -> bytes:
    return path.replace(b"%3B", b";")


def _cut(path: bytes) -> bytes:
    return _PARAMETERS.sub(b"", path)


_ORDERS: Final[list[tuple[Callable[[bytes], bytes], ...]]] = [
    *(each for count in (1, 2, 3) for each in permutations((_decode_slashes, _decode_semicolons, _cut), count)),
    (_cut, _decode_slashes, _decode_semicolons, _cut),  # a container, then a filter that reads what the container made
]


def _has_dot_segment(path: bytes) -> bool:
    """Whether someone could read `.` or `..` in it; `..;x` counts, coded or not.

    Servlet containers cut a segment at its semicolon before they resolve dots.
    """
    return any(segment in {b".", b".."} for segment in _cut(_decode_semicolons(path)).split(b"/"))


def _decode_unreserved(code: re.Match[bytes]) -> bytes:
    digits = code.group(1)
    if digits is None:
        message = "the path has a broken percent code"
        raise ValueError(message)
    byte = int(digits, 16)
    if byte in _UNRESERVED:
        return bytes((byte,))
    if byte < 0x20 or byte in {0x5C, 0x7F}:  # noqa: PLR2004  control bytes and the backslash
        message = "the path has an encoded control byte or backslash"
        raise ValueError(message)
    return b"%" + digits.upper()
