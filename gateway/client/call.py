"""One call: what is asked, and how its answer is read. Both are pure; sending is the transport's.

Invariant: an answer comes out as the shape that the call names, or as an `APIError`, whatever the bytes were: a page
of HTML from something in between is no JSON, and its status still says what to do about it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Generic, TypeVar

from pydantic import ValidationError

from gateway.client.errors import APIError, FieldProblem, error_class
from gateway.client.requests import Json
from gateway.client.shapes import Shape

AnyShape = TypeVar("AnyShape", bound=Shape)

UNEXPECTED: Final = "unexpected_answer"
_LONGEST_TOKEN: Final = 128


@dataclass(frozen=True, slots=True)
class Call(Generic[AnyShape]):
    """`repeatable`: carried out twice it does no more than once, so it may be sent again when no answer came."""

    method: str
    path: str
    shape: type[AnyShape]
    query: Mapping[str, str | int | None] = field(default_factory=dict)
    body: Mapping[str, Json] | None = field(default=None, repr=False)  # may hold a secret to verify
    fields: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False

    @property
    def content(self) -> bytes | None:
        """The body's bytes."""
        return None if self.body is None else json.dumps(self.body).encode()

    @property
    def header_fields(self) -> dict[str, str]:
        """The header fields of this call alone."""
        about_body = {} if self.body is None else {"Content-Type": "application/json"}
        return {"Accept": "application/json", **about_body, **self.fields}

    @property
    def parameters(self) -> dict[str, str]:
        """The query parameters that are given."""
        return {name: str(value) for name, value in self.query.items() if value is not None}

    def read(self, status: int, request_id: str | None, content: bytes) -> AnyShape:
        """Return the answer's shape; raises APIError."""
        document = _document(content)
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise _refusal(status, request_id, document)
        if document is None:
            raise APIError("The answer is not JSON.", code=UNEXPECTED, status=status, request_id=request_id)
        try:
            return self.shape.read(document)
        except ValidationError as error:
            wrong = ", ".join(".".join(map(str, each["loc"])) for each in error.errors(include_input=False))
            detail = f"The answer is not of the expected shape: {wrong}."
        raise APIError(detail, code=UNEXPECTED, status=status, request_id=request_id)


def _document(content: bytes) -> dict[str, object] | None:
    """Return the JSON object, or None for anything else."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _refusal(status: int, request_id: str | None, document: dict[str, object] | None) -> APIError:
    problem = document or {}
    code, detail = problem.get("code"), problem.get("detail")
    if not isinstance(code, str) or not isinstance(detail, str):
        text = f"The answer, of status {status}, is not one of the admin API's. Is this its address?"
        return error_class(status)(text, code=UNEXPECTED, status=status, request_id=request_id)
    return error_class(status)(
        detail,
        code=code[:_LONGEST_TOKEN],
        status=status,
        request_id=_text(problem.get("request_id")) or request_id,
        errors=_field_problems(problem.get("errors")),
    )


def _field_problems(errors: object) -> list[FieldProblem]:
    listed = errors if isinstance(errors, list) else []
    return [
        FieldProblem(field=each["field"], rule=each["rule"])
        for each in listed
        if isinstance(each, dict) and _text(each.get("field")) is not None and _text(each.get("rule")) is not None
    ]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
