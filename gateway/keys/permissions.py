"""Permissions: `resource:action`, where either part may be `*`.

Invariant: `*` never matches the resource `gateway`. Who may do everything in the APIs behind the gateway may still not
administer the gateway itself; that has to be granted by name (`gateway:keys`, `gateway:*`).

There are no deny rules, no hierarchy (`a.b:read` is a resource of its own, not a part of `a`) and no wildcards inside a
part: what a list of permissions allows can be read off it, and one list covers another exactly when each of its entries
is covered by a single entry of the other. That holds because the set of names is open: no union of named entries can
ever exhaust a `*`.
"""

import re
from collections.abc import Iterable
from typing import Final

from gateway.keys.quoting import has_form_of_secret, quoted

RESERVED_RESOURCE: Final = "gateway"
MAX_PERMISSION_CHARACTERS: Final = 129
_PART: Final = re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}", re.ASCII)


def validate(text: str) -> None:
    """Raise ValueError, with a public sentence, unless `text` is a well-formed permission."""
    parts = text.split(":")
    if len(parts) != 2:  # noqa: PLR2004 - resource and action
        message = f"{quoted(text)} is not of the form resource:action, such as documents:read or documents:*"
        raise ValueError(message)
    for name, part in zip(("resource", "action"), parts, strict=True):
        if has_form_of_secret(part):
            raise ValueError("must not hold a key's secret")
        if not _PART.fullmatch(part):
            message = (
                f"the {name} of {quoted(text)} must be * or 1 to 64 letters, digits, '_', '-' or '.', "
                "beginning with a letter or digit"
            )
            raise ValueError(message)


def allows(granted: Iterable[str], wanted: str) -> bool:
    """Tell whether one of the granted permissions allows `wanted` (which may hold `*` itself: then all of it).

    A text without both parts is never allowed, whatever is granted.
    """
    resource, _, action = wanted.partition(":")
    if not resource or not action or ":" in action:
        return False
    matching: tuple[str, ...]
    if resource == RESERVED_RESOURCE:
        matching = (wanted, f"{resource}:*")
    else:
        matching = (wanted, f"{resource}:*", f"*:{action}", "*:*")
    return any(grant in matching for grant in granted)


def both_allow(own: Iterable[str] | None, owner: Iterable[str], wanted: str) -> bool:
    """Tell whether a key's own list (None: it inherits) and what its owner holds both allow `wanted`."""
    return allows(owner, wanted) and (own is None or allows(own, wanted))


def covers(granted: Iterable[str], wanted: Iterable[str]) -> bool:
    """Tell whether `granted` allows everything that `wanted` allows: nobody can hand on more than they hold."""
    held = tuple(granted)
    return all(allows(held, each) for each in wanted)


def common(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    """Return the list that allows exactly what both lists allow, in the order of the first, nothing said twice.

    What two entries have in common is one entry (`docs:*` and `*:read`: `docs:read`) or nothing, so a list can say it.
    """
    others = tuple(second)
    shared = dict.fromkeys(met for each in first for other in others if (met := _meeting(each, other)) is not None)
    return tuple(each for each in shared if not allows((other for other in shared if other != each), each))


def _meeting(first: str, second: str) -> str | None:
    """Return the permission that allows what both of these allow, None where nothing does."""
    parts = []
    for one, other in zip(first.split(":"), second.split(":"), strict=True):
        if one != other and "*" not in {one, other}:
            return None
        parts.append(other if one == "*" else one)
    met = ":".join(parts)
    return met if allows((first,), met) and allows((second,), met) else None  # `*` does not meet `gateway`
