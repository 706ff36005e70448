"""docs/errors.md: every code that can be answered, with its status, cause and cure; and no code that there is not."""

from __future__ import annotations

import ast
import re
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from gateway.control.api.refusals import STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = (ROOT / "docs" / "errors.md").read_text()
CODE: Final = re.compile(r"[a-z]+(?:_[a-z]+)*")
# Calls that take a code by its place: of which argument it is.
BY_PLACE: Final = {"Refusal": 1, "Refused": 1, "_invalid": 0, "_forbidden": 0, "malformed": 2}
NO_REFUSALS: Final = {"secret_already_issued", "name_in_use"}  # said beside a success


def rows() -> dict[str, list[str]]:
    """Code → the other cells of its row, of all tables on the page."""
    found: dict[str, list[str]] = {}
    for line in PAGE.splitlines():
        if match := re.fullmatch(r"\| `([a-z_]+)` \| (.*) \|", line):
            assert match[1] not in found, f"{match[1]} is there twice"
            found[match[1]] = [cell.strip() for cell in match[2].split(" | ")]
    return found


def constants(node: ast.AST | None) -> Iterator[str]:
    """Texts in an expression that have the form of a code."""
    for each in ast.walk(node) if node is not None else ():
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and CODE.fullmatch(each.value):
            yield each.value


def raised(tree: ast.Module) -> Iterator[str]:
    """Codes that a file gives to errors and refusals."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args, keywords=keywords):
                for keyword in keywords:
                    if keyword.arg == "code":
                        yield from constants(keyword.value)
                place = BY_PLACE.get(name)
                if place is not None and len(args) > place:
                    yield from constants(args[place])
            case ast.Assign(targets=[ast.Name(id="default_code")], value=value):
                yield from constants(value)
            case ast.FunctionDef(args=ast.arguments(args=arguments, defaults=defaults)) if defaults:
                for argument, default in zip(arguments[-len(defaults) :], defaults, strict=True):
                    if argument.arg == "code":
                        yield from constants(default)


def codes_of(*parts: str) -> set[str]:
    """Codes that occur in these parts of the package."""
    paths = (path for part in parts for path in (ROOT / "gateway" / part).rglob("*.py"))
    return {code for path in paths for code in raised(ast.parse(path.read_text()))}


def codes() -> set[str]:
    """Codes that occur in the package, and those that the admin API promises."""
    return codes_of(".") | set(STATUSES)


def test_what_services_refuse_with_is_promised_by_the_admin_api() -> None:
    assert sorted(codes_of("services") - set(STATUSES) - NO_REFUSALS) == []


def test_every_code_has_its_cause_and_cure() -> None:
    assert sorted(codes() - set(rows())) == []


def test_every_code_of_the_page_occurs() -> None:
    assert sorted(set(rows()) - codes()) == []


@pytest.mark.parametrize("code", sorted(rows()))
def test_a_row_says_when_why_and_what_to_do(code: str) -> None:
    status, cause, cure = rows()[code]
    assert status == "none" or {HTTPStatus(int(each)) for each in status.split(", ")}
    assert cause.endswith(".")
    assert cure.endswith(".")


@pytest.mark.parametrize("code", sorted(STATUSES))
def test_the_status_is_that_of_the_admin_api(code: str) -> None:
    assert str(STATUSES[code]) in rows()[code][0].split(", ")
