"""What kind of value a setting takes, read off the model: for parsing text, for saying the rule, for the reference.

Invariant: the sentence an operator reads after a mistake and the one in the reference are the same, `rule()`, and both
come from the annotation and bounds that pydantic checks. Turned down: pydantic's own messages, which speak of inputs,
tuples and Python types to people who wrote TOML.
"""

from __future__ import annotations

import json
import re
import types
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from gateway.settings.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic.fields import FieldInfo

    from gateway.settings.key_path import KeyPath

MAX_DIGITS = 60
GROUPED_FROM = 10_000
_TABLE_LISTS = (("upstreams",), ("routes",))
_WHOLE = re.compile(r"[+-]?[0-9](_?[0-9])*", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9](_?[0-9])*(\.[0-9]+)?", re.ASCII)


class Shape(Enum):
    """The TOML type of a value."""

    BOOLEAN = "true or false"
    WHOLE = "a whole number"
    NUMBER = "a number"
    TEXT = "text"
    LIST = "a list"
    TABLE = "a table"
    TABLES = "a list of tables"


@dataclass(frozen=True, slots=True)
class Kind:
    """A shape with its bounds. `lowest` and `highest` belong to the range unless `above_lowest`."""

    shape: Shape
    optional: bool = False
    choices: tuple[str, ...] = ()
    lowest: float | None = None
    highest: float | None = None
    above_lowest: bool = False
    model: type[BaseModel] | None = None

    def rule(self) -> str:
        """Return what a value has to be, to follow "must be"."""
        if self.choices:
            *others, last = (json.dumps(choice) for choice in self.choices)
            return f"{', '.join(others)} or {last}"
        if self.lowest is None or self.shape in {Shape.TEXT, Shape.LIST}:
            return self.shape.value
        lowest, highest = number(self.lowest), number(self.highest or self.lowest)
        return f"{self.shape.value} " + (
            f"above {lowest}, up to {highest}" if self.above_lowest else f"from {lowest} to {highest}"
        )


@cache
def fields(model: type[BaseModel]) -> dict[str, Kind]:
    """Return the kind of each field of a table, in the order of the model."""
    return {name: _bounded(_kind(info.annotation), info) for name, info in model.model_fields.items()}


def walk(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    """Yield every table below `model` with its path, outer before inner; a list of tables counts as one table."""
    for name, kind in fields(model).items():
        if kind.model is not None:
            yield (*above, name), kind.model
            yield from walk(kind.model, (*above, name))


def at(model: type[BaseModel], path: Iterable[str]) -> Kind:
    """Return the kind of what a path of names below `model` leads to."""
    kind = Kind(Shape.TABLE, model=model)
    for name in path:
        kind = fields(kind.model or model)[name]
    return kind


def header(path: KeyPath) -> str:
    """Return the line that opens a table in TOML. Indexes do not show in it."""
    names = tuple(str(part) for part in path if isinstance(part, str))
    return f"[[{names[0]}]]" if names in _TABLE_LISTS else f"[{'.'.join(names)}]"


def parse(text: str, kind: Kind) -> object:
    """Read a value written outside TOML: in an environment variable, a flag, or a file that one names.

    Raises ValueError with the rest of a sentence. Bounds are the model's to check.
    """
    stripped = text.strip()
    if kind.optional and not stripped:
        return None
    if kind.shape is Shape.TEXT:
        return text
    if kind.shape in {Shape.LIST, Shape.TABLES, Shape.TABLE}:
        return _parse_list(stripped, kind)
    if kind.shape is Shape.BOOLEAN and stripped in {"true", "false"}:
        return stripped == "true"
    if kind.shape is Shape.WHOLE and _WHOLE.fullmatch(stripped) and len(stripped) <= MAX_DIGITS:
        return int(stripped)
    if kind.shape is Shape.NUMBER and _NUMBER.fullmatch(stripped):
        return float(stripped)
    reason = f"must be {kind.rule()}, not {quoted(text)}"
    raise ValueError(reason)


def number(value: float) -> str:
    """Write a number as TOML reads it too: no ".0", thousands apart from 10_000 on."""
    return f"{value:_.16g}" if abs(value) >= GROUPED_FROM else f"{value:.16g}"


def _kind(annotation: Any) -> Kind:  # noqa: ANN401 - an annotation has no common type
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin in {Union, types.UnionType}:
        return replace(_kind(arguments[0]), optional=True)
    if origin is Literal:
        return Kind(Shape.TEXT, choices=arguments)
    if origin is tuple:
        item = _kind(arguments[0])
        return Kind(Shape.TABLES, model=item.model) if item.model else Kind(Shape.LIST)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Kind(Shape.TABLE, model=annotation)
    return Kind({bool: Shape.BOOLEAN, int: Shape.WHOLE, float: Shape.NUMBER, str: Shape.TEXT}[annotation])


def _bounded(kind: Kind, info: FieldInfo) -> Kind:
    lowest = above = highest = None
    for bound in info.metadata:
        lowest = getattr(bound, "ge", lowest)
        above = getattr(bound, "gt", above)
        highest = getattr(bound, "le", highest)
    return replace(kind, lowest=lowest if above is None else above, highest=highest, above_lowest=above is not None)


def _parse_list(text: str, kind: Kind) -> object:
    if text.startswith(("[", "{")):
        try:
            return json.loads(text)
        except ValueError:
            reason = "must be JSON where it begins with a bracket, and cannot be read as such"
            raise ValueError(reason) from None
        except RecursionError:
            reason = "is nested too deeply"
            raise ValueError(reason) from None
    if kind.shape is not Shape.LIST:
        reason = f"must be {kind.shape.value}, written as JSON"
        raise ValueError(reason)
    return [item.strip() for item in text.split(",")] if text else []
