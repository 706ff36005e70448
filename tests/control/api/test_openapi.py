"""The OpenAPI document: what is committed is what the code says, and it describes every operation whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jsonschema_rs
import pytest

from gateway.control.api import openapi
from gateway.control.api.operation import PREFIX
from gateway.control.api.operations import OPERATIONS, SUBJECTS
from gateway.control.api.refusals import MEANINGS, STATUSES, codes_by_status
from gateway.keys.authority import GATEWAY_PERMISSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.control.api.operation import Operation

COMMITTED: Final = Path(__file__).parents[3] / "docs" / "openapi.json"
DOCUMENT: Final = openapi.document()


def described(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][PREFIX + operation.path][operation.method.lower()]
    return found


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """The node, or what it refers to."""
    while "$ref" in node and len(node) == 1:
        target = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def texts(node: object) -> Iterator[tuple[str, str]]:
    """Every text in the document with the name it stands under."""
    if isinstance(node, dict):
        for name, value in node.items():
            if isinstance(value, str):
                yield name, value
            yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)


def test_what_is_committed_is_what_the_code_says() -> None:
    """If not: `python -m gateway.control.api.openapi` writes it."""
    assert COMMITTED.read_bytes() == openapi.text()


def test_the_command_writes_the_document(tmp_path: Path) -> None:
    path = tmp_path / "openapi.json"
    subprocess.run([sys.executable, "-m", "gateway.control.api.openapi", str(path)], check=True)
    assert path.read_bytes() == openapi.text()


def test_it_holds_every_operation_and_no_other() -> None:
    ids = [operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    assert sorted(ids) == sorted(each.name for each in OPERATIONS)
    assert len(set(ids)) == len(ids)
    assert {operation.subject for operation in OPERATIONS} == set(SUBJECTS)


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    references = {value for name, value in texts(DOCUMENT) if name == "$ref"}
    for reference in references:
        assert resolved({"$ref": reference}) is not None
    schemas = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert schemas == {each for each in references if "/schemas/" in each}


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_every_schema_is_json_schema_2020_12(name: str) -> None:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **DOCUMENT["components"]["schemas"][name]}
    jsonschema_rs.meta.validate(schema)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_an_operation_says_what_it_needs_and_every_way_it_may_end(operation: Operation) -> None:
    found = described(operation)
    for permission in operation.permissions:
        assert permission in GATEWAY_PERMISSIONS
        assert f"`{permission}`" in found["description"]
    expected = {str(status): codes for status, codes in codes_by_status(operation).items()}
    refusals = {status: resolved(answer) for status, answer in found["responses"].items() if status >= "400"}
    for status, answer in refusals.items():
        schema = answer["content"]["application/problem+json"]["schema"]
        assert tuple(schema["properties"]["code"]["enum"]) == expected.pop(status)
    assert not expected
    successes = set(found["responses"]) - set(refusals)
    assert successes == ({"200", "201"} if operation.makes else {"200", "202"} if operation.changes else {"200"})


def test_a_change_answers_with_the_thing_and_how_far_it_has_come() -> None:
    for operation in OPERATIONS:
        schema = described(operation)["responses"]["200"]["content"]["application/json"]["schema"]
        assert ("propagation" in resolved(schema)["required"]) is operation.changes


def test_an_answer_always_has_all_of_its_fields() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        if re.match(r"(Create|Update|Import|Revoke|Rotate|Verify|FirstKey)", name) or "properties" not in schema:
            continue
        missing = set(schema["properties"]) - set(schema.get("required", ()))
        assert missing == ({"errors"} if name == "Problem" else set()), name


def test_every_code_of_an_operation_is_known_and_every_known_code_is_used() -> None:
    used = {code for each in OPERATIONS for codes in codes_by_status(each).values() for code in codes}
    assert used == set(MEANINGS) == set(STATUSES)
    for operation in OPERATIONS:
        assert set(operation.refusals) <= used, operation.name
