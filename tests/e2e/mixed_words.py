"""What the clients and the API of the mixed load agree on: tokens, what comes back for them, and which faults it has.

Invariant: everything about a request follows from its number alone, so that both sides know every byte without having
told each other, and an answer that belongs to another request cannot be taken for the right one. It imports nothing of
the gateway: the two processes see the checkout, which may be another gateway than the one under test.
"""

from __future__ import annotations

import hashlib
import random
from typing import Final

PREFIX: Final = "/m/"
TOKEN_BYTES: Final = 16
LARGE_BYTES: Final = 1 << 20
_SHIFTS: Final = 8191
_BLOCK: Final = random.Random(6).randbytes(LARGE_BYTES + 4096 + _SHIFTS)  # noqa: S311 - the same in both processes
_SIZES: Final = {"ten": 10_240, "download": LARGE_BYTES, "abandoned": LARGE_BYTES, "short-body": 3000}

FAULTS: Final[dict[str, frozenset[str]]] = {
    "reset-in-head": frozenset({"502 upstream_unreachable"}),
    "close-unanswered": frozenset({"502 upstream_unreachable"}),
    "close-unanswered-post": frozenset({"502 upstream_unreachable"}),
    "stall": frozenset({"504 upstream_timeout"}),
    "stall-in-body": frozenset({"abort"}),
    "short-body": frozenset({"abort", "502 upstream_unreachable"}),  # a reset may overtake what was sent before it
    "short-chunks": frozenset({"abort"}),
    "bad-chunk": frozenset({"abort", "502 upstream_invalid_response"}),
    "surplus": frozenset({"502 upstream_invalid_response"}),
    "garbage": frozenset({"502 upstream_invalid_response"}),
}
"""The kinds of requests for which the API fails, and what their clients may see then; `abort` is a visible end."""
SURVIVED: Final = frozenset({"close-unanswered", "surplus"})
"""May be answered rightly all the same: by the one safe retry, and without the surplus."""
SUMMED: Final = frozenset({"post", "post-chunked", "expect", "upload", "upload-chunked", "close-unanswered-post"})
"""Answered with the digest of what came."""


def token_of(number: int) -> bytes:
    return b"%0*d" % (TOKEN_BYTES, number)


def payload(number: int, size: int) -> bytes:
    """A body that begins with the token and is unlike the next ones."""
    start = number % _SHIFTS
    return token_of(number) + _BLOCK[start : start + size - TOKEN_BYTES]


def summary(number: int, key: bytes, owner: bytes, size: int, digest: str) -> bytes:
    """What is answered about a body."""
    return b"%b %b %b %d %b" % (token_of(number), key, owner, size, digest.encode())


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def event(number: int, position: int) -> bytes:
    return b"data: %b %04d\n\n" % (token_of(number), position)


def events_of(number: int) -> int:
    return 3 + number % 12


def answer_body(kind: str, number: int, key: bytes, owner: bytes) -> bytes:
    """The whole body of the right answer, for those that do not sum up what came."""
    if kind == "events":
        return b"".join(event(number, position) for position in range(events_of(number)))
    if kind in {"no-content", "not-modified", "socket"}:
        return b""
    if kind in _SIZES:
        return payload(number, _SIZES[kind])
    if kind in {"chunks", "until-close", "short-chunks", "bad-chunk", "stall-in-body"}:
        return payload(number, 600 + number % 3000)
    return b"%b %b %b" % (token_of(number), key, owner)
