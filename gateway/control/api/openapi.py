"""The OpenAPI 3.1 document, made from the table of operations and the models that services use themselves.

Invariant: the document has no source of its own, so it cannot say something else than the code does. It is committed
as docs/openapi.json, so that a change of the API shows in a review; `python -m gateway.control.api.openapi` writes it
anew, and a test fails while the two differ. Every code that an operation may refuse with is part of its schema.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic import create_model
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from gateway import __version__
from gateway.control.api.conditions import IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_PATTERN, IF_MATCH, IF_MATCH_PATTERN
from gateway.control.api.operation import PREFIX
from gateway.control.api.operations import OPERATIONS, SUBJECTS
from gateway.control.api.problems import MEDIA_TYPE, Problem
from gateway.control.api.propagation import PropagationShape
from gateway.control.api.refusals import MEANINGS, codes_by_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import BaseModel
    from pydantic.json_schema import JsonSchemaMode
    from pydantic_core import core_schema

    from gateway.control.api.operation import Operation
    from gateway.services.shapes import Shape

Json = dict[str, Any]  # a JSON object, which has no narrower type

_Shared = dict[tuple[int, tuple[str, ...]], tuple[str, Json]]  # status and codes → name and answer

_REFERENCE: Final = "#/components/schemas/{model}"
_REFERENCES: Final = re.compile(r"#/components/schemas/(\w+)")
_DESCRIPTION: Final = """\
Keys, their owners and their organizations, and the trail of what was done to them.

Send a key with each call, as `X-API-KEY: <key>` or `Authorization: Bearer <key>`. What it may do follows from its own
permissions and its owner's, both; see permissions.md. Things of another organization do not exist here (404).

Every change answers after it is committed, with the thing as it is afterwards and `propagation`: how many workers
follow it already. Lists come in pages: pass `next_cursor` of one page as `cursor` of the next, until it is null.
Refusals are `application/problem+json`; errors.md has each `code` with cause and cure."""

_HEADERS: Final[Json] = {
    "X-Request-ID": {
        "description": "The name of this call in the log and in the trail.",
        "required": True,
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "The version, for If-Match.",
        "required": True,
        "schema": {"type": "string", "pattern": r'^"[0-9]+"$'},
    },
    "Location": {"description": "Where it is.", "required": True, "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait.", "required": True, "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "What is asked for.", "required": True, "schema": {"type": "string"}},
}


@cache
def document() -> Json:
    """Return the document; not to be changed."""
    schemas, references = _schemas()
    shared = _shared_refusals(references)
    paths: Json = {}
    for operation in OPERATIONS:
        paths.setdefault(PREFIX + operation.path, {})[operation.method.lower()] = _operation(
            operation, references, shared
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Keygate admin API",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The control listener; by default http://127.0.0.1:8081"}],
        "tags": [{"name": name, "description": description} for name, description in SUBJECTS.items()],
        "security": [{"key": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": dict(shared.values()),
            "headers": _HEADERS,
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-KEY"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def text() -> bytes:
    """Return the document as it is committed."""
    return orjson.dumps(document(), option=orjson.OPT_INDENT_2) + b"\n"


class _Schemas(GenerateJsonSchema):
    """Without titles that repeat names; and an answer always has all of its fields, whatever their defaults."""

    def field_title_should_be_set(self, schema: object) -> bool:
        del schema
        return False

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,  # noqa: FBT001 - pydantic's
    ) -> bool:
        return self.mode == "serialization" or super().field_is_required(field, total)


def _schemas() -> tuple[Json, dict[type[BaseModel], Json]]:
    """Return all schemas by name, and the reference to each model that an operation names."""
    modes: dict[type[BaseModel], JsonSchemaMode] = {Problem: "validation"}
    for operation in OPERATIONS:
        modes[_answered(operation)] = "serialization"
        if operation.body is not None:
            modes[operation.body] = "validation"
    keyed, whole = models_json_schema(list(modes.items()), ref_template=_REFERENCE, schema_generator=_Schemas)
    references = {model: keyed[model, mode] for model, mode in modes.items()}
    schemas = whole["$defs"]
    for operation in OPERATIONS:
        if operation.method == "PATCH" and operation.body is not None:
            _forget_defaults(schemas[operation.body.__name__])
    return _reachable(schemas, references.values()), references


def _forget_defaults(schema: Json) -> None:
    """Of a change: what is left out stays as it is, whatever a model holds in its place."""
    for each in schema["properties"].values():
        each.pop("default", None)


def _reachable(schemas: Json, roots: Iterable[Json]) -> Json:
    """Return the schemas that something refers to, by name; models leave traces of inner types of theirs."""
    found: set[str] = set()
    waiting = set(_REFERENCES.findall(str(list(roots))))
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= set(_REFERENCES.findall(str(schemas[name]))) - found
    return {name: schemas[name] for name in sorted(found)}


def _answered(operation: Operation) -> type[Shape]:
    return _with_propagation(operation.answers) if operation.changes else operation.answers


@cache
def _with_propagation(shape: type[Shape]) -> type[Shape]:
    """What a change answers with: the shape, and how far the change has come."""
    name = f"Changed{shape.__name__}"
    return create_model(name, __base__=shape, __doc__=shape.__doc__, propagation=(PropagationShape, ...))


def _operation(operation: Operation, references: dict[type[BaseModel], Json], shared: _Shared) -> Json:
    described: Json = {
        "operationId": operation.name,
        "tags": [operation.subject],
        "summary": operation.summary,
        "description": _full_description(operation),
        "x-permissions": list(operation.permissions),
    }
    if parameters := list(_parameters(operation)):
        described["parameters"] = parameters
    if operation.takes_body:
        schema = references[operation.body] if operation.body else {"type": "object", "additionalProperties": False}
        content = {"application/json": {"schema": schema}}
        described["requestBody"] = {"required": operation.body_required, "content": content}
    described["responses"] = _successes(operation, references)
    for status, codes in codes_by_status(operation).items():
        found = shared.get((status, codes))
        answer = {"$ref": f"#/components/responses/{found[0]}"} if found else _refusal(status, codes, references)
        described["responses"][str(status)] = answer
    return described


def _full_description(operation: Operation) -> str:
    names = " or ".join(f"`{each}`" for each in operation.permissions)
    needs = f"Needs {names}." if names else "Any good key will do."
    return f"{operation.description}\n\n{needs}".strip()


def _parameters(operation: Operation) -> Iterator[Json]:
    if "{id}" in operation.path:
        yield {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    for each in operation.query:
        yield {"name": each.name, "in": "query", "description": each.description, "schema": each.schema}
    if operation.makes:
        description = "Makes the call safe to repeat for 24 hours: a repetition answers 200, with `secret` null."
        yield _header(IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_PATTERN, description)
    if operation.conditional:
        yield _header(IF_MATCH, IF_MATCH_PATTERN, "Change only the version with this ETag, else 412.")


def _header(name: str, pattern: str, description: str) -> Json:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string", "pattern": pattern}}


def _successes(operation: Operation, references: dict[type[BaseModel], Json]) -> Json:
    statuses = {"200": "Done."}
    if operation.makes:
        statuses = {"200": "Made by an earlier call with this Idempotency-Key.", "201": "Made."}
    elif operation.changes:
        statuses = {"200": "Changed, or so already.", "202": "Changed; some workers have not said yet that they know."}
    headers = ["X-Request-ID"]
    headers += ["ETag"] if operation.versioned else []
    headers += ["Location"] if operation.makes else []
    content = {"application/json": {"schema": references[_answered(operation)]}}
    return {
        status: {"description": description, "headers": _headers(*headers), "content": content}
        for status, description in statuses.items()
    }


def _shared_refusals(references: dict[type[BaseModel], Json]) -> _Shared:
    """Return, for each status, the refusal that most operations share, and its name."""
    counted = Counter(item for each in OPERATIONS for item in codes_by_status(each).items())
    shared: _Shared = {}
    for (status, codes), count in counted.most_common():
        name = f"Refused{status}"
        if count > 1 and name not in {known for known, _ in shared.values()}:
            shared[status, codes] = (name, _refusal(status, codes, references))
    return dict(sorted(shared.items(), key=lambda item: item[1][0]))


def _refusal(status: int, codes: tuple[str, ...], references: dict[type[BaseModel], Json]) -> Json:
    headers = ["X-Request-ID", *{401: ["WWW-Authenticate"], 503: ["Retry-After"]}.get(status, [])]
    schema = references[Problem] | {"properties": {"code": {"enum": list(codes)}, "status": {"const": status}}}
    return {
        "description": "\n".join(f"- `{code}`: {MEANINGS[code]}" for code in codes),
        "headers": _headers(*headers),
        "content": {MEDIA_TYPE: {"schema": schema}},
    }


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def main() -> None:
    """Write docs/openapi.json of the checkout that this file is in, or the file that is named."""
    default = Path(__file__).parents[3] / "docs" / "openapi.json"
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    path.write_bytes(text())


if __name__ == "__main__":
    main()
