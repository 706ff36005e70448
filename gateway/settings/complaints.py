"""From what pydantic found to sentences for an operator: what the setting must be, and what it is.

Invariant: no complaint names a Python type, a pydantic term or an address of its manual, none repeats a password, and
one mistake is complained about once. Turned down: passing pydantic's messages on, which say "Input should be a valid
tuple" about a list that was written as a text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.settings import kinds
from gateway.settings.key_path import nearest, overlap
from gateway.settings.kinds import Kind, Shape
from gateway.settings.model import Settings
from gateway.settings.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    from gateway.settings.key_path import KeyPath

MOST_LISTED = 6


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong at `path`. `meant` is the setting that a misspelt name was probably meant to be."""

    path: KeyPath
    reason: str
    meant: KeyPath | None = None


def complaints(errors: Sequence[ErrorDetails]) -> list[Complaint]:
    """Translate what validating `Settings` found."""
    found = [_complaint(error) for error in errors]
    misspelt = {complaint.meant for complaint in found if complaint.meant}
    return [
        complaint
        for complaint, error in zip(found, errors, strict=True)
        if not _is_consequence(complaint.path, error, errors)
        and not (error["type"] == "missing" and complaint.path in misspelt)
    ]


def _is_consequence(path: KeyPath, error: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """Tell whether a list is only too short because its wrong items do not count."""
    return error["type"] == "too_short" and any(
        other is not error and len(other["loc"]) > len(path) and overlap(path, other["loc"]) for other in errors
    )


def _complaint(error: ErrorDetails) -> Complaint:
    path = error["loc"]
    if error["type"] == "extra_forbidden":
        return _unknown(path)
    kind, description = _place(path)
    context: Mapping[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "missing":
            reason = f"is missing: {_uncapitalised(description).rstrip('.')}"
        case "value_error":
            reason = str(context["error"])
        case "too_short":
            reason = "must not be empty" if context["min_length"] == 1 else f"needs {context['min_length']} entries"
        case "string_too_short":
            reason = "must not be empty"
        case "too_long":
            reason = f"must have at most {context['max_length']} entries"
        case _:
            reason = f"must be {_expected(path, kind)}, not {quoted(error['input'])}"
    return Complaint(path, reason)


def _uncapitalised(sentence: str) -> str:
    """Return it as a part of another sentence; an abbreviation, such as PEM, keeps its capitals."""
    return sentence if sentence[1:2].isupper() else sentence[:1].lower() + sentence[1:]


def _expected(path: KeyPath, kind: Kind) -> str:
    if kind.shape is Shape.LIST and isinstance(path[-1], int):
        return Shape.TEXT.value  # an item: all our lists are of texts
    if kind.shape is Shape.LIST:
        return "a list of texts, in brackets"
    if kind.shape is Shape.TABLE or (kind.shape is Shape.TABLES and isinstance(path[-1], int)):
        return f"a table, written {kinds.header(path)}"
    if kind.shape is Shape.TABLES:
        return f"a list of tables, each written {kinds.header(path)}"
    return kind.rule()


def _place(path: KeyPath) -> tuple[Kind, str]:
    """Return the kind and description of the field that a path leads to or into."""
    model: type[BaseModel] = Settings
    kind, description = Kind(Shape.TABLE, model=Settings), ""
    for name in (part for part in path if isinstance(part, str)):
        kind = kinds.fields(model)[name]
        description = model.model_fields[name].description or ""
        model = kind.model or model
    return kind, description


def _unknown(path: KeyPath) -> Complaint:
    name, above = str(path[-1]), path[:-1]
    model = _place(above)[0].model or Settings
    known = kinds.fields(model)
    meant = nearest(name, known)
    if meant:
        return Complaint(path, f"is not a setting; did you mean {meant}?", (*above, meant))
    for table, inner in kinds.walk(Settings):
        if name in kinds.fields(inner):
            return Complaint(path, f"is not a setting here; it belongs to {kinds.header(table)}")
    if not above:
        listed = ", ".join(kinds.header((table,)) for table in known)
        return Complaint(path, f"is not a setting; there are: {listed}")
    listed = f"; there are: {', '.join(known)}" if len(known) <= MOST_LISTED else ""
    return Complaint(path, f"is not a setting{listed}")
