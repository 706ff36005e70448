"""The path of a setting, such as `routes[1].upstream`, and the nearest name to a misspelt one.

Invariant: two different paths never read the same. Indexes count from 0, as everywhere in programs; the line number
that goes with a path is what people look at.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from gateway.settings.quoting import between_quotes

if TYPE_CHECKING:
    from collections.abc import Iterable

KeyPath = tuple[str | int, ...]


def written(path: KeyPath) -> str:
    """Return the path as text."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{between_quotes(part)}"'
            text += f".{bare}" if text else bare
    return text


def overlap(one: KeyPath, other: KeyPath) -> bool:
    """Tell whether one path is the other or lies within it."""
    return all(left == right for left, right in zip(one, other, strict=False))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the name that was probably meant, if one is near enough."""
    candidates = list(known)
    lowered = {candidate.lower(): candidate for candidate in candidates}
    plain = name.lower().replace("-", "_")
    if plain in lowered:
        return lowered[plain]
    found = difflib.get_close_matches(plain, lowered, n=1, cutoff=0.6)
    if found:
        return lowered[found[0]]
    return next((candidate for candidate in candidates if len(plain) > 3 and candidate.startswith(plain)), None)  # noqa: PLR2004
