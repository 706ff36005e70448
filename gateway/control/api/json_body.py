"""Reads a JSON object exactly: what two readers could take for two different things is refused.

orjson judges the grammar (RFC 8259 to the letter: no NaN, no infinite number, no lone surrogate, no byte order mark),
and in so doing bounds the depth; it keeps the last of two equal names without a word. So the standard library reads the
text a second time and tells of names that stand twice (RFC 8259 section 4 leaves their meaning open). It alone was
turned down: it takes NaN, 1e999 and half a surrogate pair, each of which fails later and further inside. Reading twice
costs less than 1 % of a change.

Invariant: what comes out can be written back as UTF-8 and JSON, and is at most `MAX_DEPTH` deep. A reason names a
place, never what stands there: it may be a secret.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_DEPTH: Final = 16


class MalformedJson(ValueError):
    """The text is no JSON object; the message is a public sentence that says why."""


def read_object(text: bytes) -> Mapping[str, object]:
    """Return the object. Raises MalformedJson."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedJson(f"The body is not JSON: {error.msg}, line {error.lineno} column {error.colno}.") from None
    if not isinstance(value, dict):
        raise MalformedJson(f"The body must be a JSON object, not {_kind(value)}.")
    if not _is_shallow(value):
        raise MalformedJson(f"The body is nested more than {MAX_DEPTH} deep.")
    read: dict[str, object] = json.loads(text, object_pairs_hook=_without_doubles)
    return read


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedJson("The body names a field of an object twice.")
    return found


def _is_shallow(value: object) -> bool:
    level: list[object] = [value]  # the scalars inside the innermost object are one level more, and then comes nothing
    for _ in range(MAX_DEPTH + 2):
        if not level:
            return True
        level = [inner for outer in level for inner in _inner(outer)]
    return False


def _inner(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return {list: "an array", str: "a string", bool: "a boolean"}.get(type(value), "a number")
