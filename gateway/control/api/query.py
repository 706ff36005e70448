"""Query parameters: what each operation knows, how a text becomes a value, and the schema that says so.

Invariant: a parameter that an operation does not know is refused by its name, as is one that is given twice: a
misspelled filter that is passed over shows more than was asked for. Every fault is told at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import FieldError
from gateway.keys.quoting import field_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from multidict import MultiMapping

Schema = dict[str, Any]  # a JSON Schema, which has no narrower type

MAX_TEXT_CHARACTERS: Final = 512
MAX_FAULTS: Final = 100  # of a query made of nothing but faults no more are told
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """One parameter. `read` turns the text into the value; its ValueError carries the rule."""

    name: str
    schema: Schema
    description: str
    read: Callable[[str], object]


def text(name: str, description: str, *, max_characters: int = MAX_TEXT_CHARACTERS) -> QueryParameter:
    """Describe a text of printable characters."""

    def read(value: str) -> str:
        if not 1 <= len(value) <= max_characters or not value.isprintable():
            raise ValueError(f"must be 1 to {max_characters} printable characters")
        return value

    return QueryParameter(name, {"type": "string", "minLength": 1, "maxLength": max_characters}, description, read)


def choice(name: str, choices: Iterable[str], description: str) -> QueryParameter:
    """Describe one of a few words."""
    known = tuple(choices)

    def read(value: str) -> str:
        if value not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return value

    return QueryParameter(name, {"type": "string", "enum": list(known)}, description, read)


def whole_number(name: str, lowest: int, highest: int, description: str, default: int | None = None) -> QueryParameter:
    """Describe a number without sign and fraction."""

    def read(value: str) -> int:
        if not _NUMBER.fullmatch(value) or not lowest <= int(value) <= highest:
            raise ValueError(f"must be a whole number, {lowest} to {highest}")
        return int(value)

    schema: Schema = {"type": "integer", "minimum": lowest, "maximum": highest}
    if default is not None:
        schema["default"] = default
    return QueryParameter(name, schema, description, read)


def moment(name: str, description: str) -> QueryParameter:
    """Describe a date-time with its zone."""

    def read(value: str) -> datetime:
        rule = "must be an RFC 3339 date-time with its zone, such as 2030-01-31T12:00:00Z"
        if not _MOMENT.fullmatch(value):
            raise ValueError(rule)
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            raise ValueError(rule) from None

    return QueryParameter(name, {"type": "string", "format": "date-time"}, description, read)


def read_query(
    known: Iterable[QueryParameter], given: MultiMapping[str], faults: list[FieldError]
) -> Mapping[str, Any]:  # Any: each operation knows its own
    """Return the values of what was given; faults are added to `faults`."""
    by_name = {parameter.name: parameter for parameter in known}
    values: dict[str, object] = {}
    for name in dict.fromkeys(given):
        if len(faults) >= MAX_FAULTS:
            break
        parameter = by_name.get(name)
        if parameter is None:
            faults.append(FieldError(field_name(name), _unknown(by_name)))
        elif len(given.getall(name)) > 1:
            faults.append(FieldError(name, "must be given once"))
        else:
            try:
                values[name] = parameter.read(given[name])
            except ValueError as error:
                faults.append(FieldError(name, str(error)))
    return values


def _unknown(known: Iterable[str]) -> str:
    names = ", ".join(known)
    return f"is not known here; known are {names}" if names else "is not known here; no query parameter is"
