"""A secret of its own for every place that a client could put one, and a search that says which of them got out.

Invariant: every place has another canary, so what is found names the place that leaked. Found is any run of twelve
characters of it, in either case, of its SHA-256 in hexadecimal and base64, and any twelve bytes of the digest itself:
a log that shortens, splits or lowers what it quotes is no less of a leak. Turned down: one secret for all places.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from gateway.keys.secret import digest, generate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

RUN: Final = 12
PREFIX: Final = "sk_"


class Canaries:
    """Makes secrets, and finds them."""

    def __init__(self) -> None:
        self.places: set[str] = set()
        self._texts: dict[bytes, str] = {}
        self._digests: dict[bytes, str] = {}

    def new(self, place: str) -> str:
        """Return a secret that no store knows, for this place alone."""
        assert place not in self.places, place
        secret = generate(PREFIX)
        self.watch(place, secret)
        return secret

    def watch(self, place: str, secret: str) -> None:
        """Look for this one as well, which is a key that works; of its digest the store may know."""
        self.places.add(place)
        made = digest(secret.encode())
        for text in (secret.encode(), made.hex().encode(), base64.b64encode(made), base64.urlsafe_b64encode(made)):
            self.watch_text(place, text)
        self._digests.update(dict.fromkeys(_runs(made), place))

    def watch_text(self, place: str, text: bytes) -> None:
        """Another form that a secret was sent in, as base64 of it."""
        self._texts.update(dict.fromkeys(_runs(text.lower()), place))

    def found(self, data: bytes) -> set[str]:
        """The places whose canary is in it."""
        lower = data.lower()
        ends = range(RUN, len(data) + 1)
        texts = {self._texts.get(lower[end - RUN : end]) for end in ends}
        digests = {self._digests.get(data[end - RUN : end]) for end in ends}
        return {place for place in texts | digests if place is not None}

    def found_in(self, files: Iterable[Path]) -> dict[str, set[str]]:
        """Where something was found, by the names of the files."""
        found = {str(file): self.found(file.read_bytes()) for file in files}
        return {name: places for name, places in found.items() if places}


def _runs(text: bytes) -> list[bytes]:
    return [text[begin : begin + RUN] for begin in range(len(text) - RUN + 1)]
