"""Requests: every fault at once, each with its rule, nothing kept of what was sent, and a schema that says the same."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import FieldError, Invalid
from gateway.keys.expiry import ExpiryRules
from gateway.services import key_request, requests
from gateway.services.key_request import CreateKey, ImportKey, RevokeKey, RotateKey, UpdateKey, VerifyKey
from gateway.services.requests import RequestContext, validate

MODELS = (CreateKey, ImportKey, RevokeKey, RotateKey, UpdateKey, VerifyKey)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONTEXT = RequestContext(ExpiryRules("1y", "30d"), NOW)

texts = st.text(st.characters())  # lone surrogates as well, which JSON can hold
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


def faults(model: type[requests.Request], body: dict[str, object]) -> list[FieldError]:
    with pytest.raises(Invalid) as caught:
        validate(model, body, CONTEXT)
    assert caught.value.__cause__ is caught.value.__context__ is None
    return caught.value.fields


@settings(deadline=None)
@given(st.sampled_from(MODELS), st.data())
def test_whatever_is_sent_is_either_clean_or_named_with_sentences_that_can_be_sent_back(
    model: type[requests.Request], data: st.DataObject
) -> None:
    names = st.sampled_from(sorted(model.model_fields)) | st.text(st.characters(), max_size=5)
    body: dict[str, object] = data.draw(st.dictionaries(names, values, max_size=5))
    with contextlib.suppress(Invalid):
        assert validate(model, body, CONTEXT).model_fields_set <= set(body)
        return
    for fault in faults(model, body):
        json.dumps([fault.field, fault.rule], ensure_ascii=False).encode()
        assert fault.field
        assert fault.rule[0].islower() or fault.rule[0] in "'\"", fault
        assert len(fault.rule) < 400


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        ({}, "name", "is required"),
        ({"name": 5}, "name", "must be a string"),
        ({"name": None}, "name", "must be a string"),
        ({"name": "x", "permissions": "a:b"}, "permissions", "must be a list"),
        ({"name": "x", "permissions": {"a:b": 1}}, "permissions", "must be a list"),
        ({"name": "x", "permissions": ["a:b"] * 101}, "permissions", "must have at most 100 entries"),
        ({"name": "x", "permissions": ["a:b", 1]}, "permissions.1", "must be a string"),
        (
            {"name": "x", "allowed_origins": ["https://a.example"] * 21},
            "allowed_origins",
            "must have at most 20 entries",
        ),
        ({"name": "x", "colour": "red"}, "colour", "is not a field of this request"),
        ({"name": "x", "\ud800": 1}, "(a field's name)", "must be well-formed Unicode text"),
        ({"name": "\ud800"}, "name", "must be 1 to 128 printable characters"),
        ({"name": "x" + " " * 128}, "name", "must be 1 to 128 characters"),
        ({"name": "x", "expires": 30}, "expires", "must be a string"),
    ],
)
def test_each_kind_of_fault_has_its_sentence(body: dict[str, object], field: str, rule: str) -> None:
    assert faults(CreateKey, body) == [FieldError(field, rule)]


def test_whole_numbers_are_not_booleans_texts_or_fractions() -> None:
    body = {"name": "x", "sha256": "0" * 64}
    for value in (True, "128", 128.0):
        assert faults(ImportKey, {**body, "entropy_bits": value}) == [
            FieldError("entropy_bits", "must be a whole number")
        ]
    assert faults(ImportKey, {**body, "entropy_bits": 127}) == [FieldError("entropy_bits", "must be at least 128")]
    assert faults(ImportKey, {**body, "entropy_bits": 5000}) == [FieldError("entropy_bits", "must be at most 4096")]


def test_of_a_body_full_of_faults_a_hundred_are_told() -> None:
    assert len(faults(CreateKey, {f"field {n}": n for n in range(1000)})) == requests.MAX_FAULTS


def test_a_secret_that_was_sent_is_in_no_error_and_no_repr() -> None:
    assert "s3cret" not in repr(validate(VerifyKey, {"key": "s3cret"}))
    with pytest.raises(Invalid) as caught:
        validate(VerifyKey, {"key": "s3cret" * 100, "permissions": ["x"]})
    assert "s3cret" not in repr(caught.value.fields) + str(caught.value)


def test_an_expiry_needs_the_organizations_rules() -> None:
    with pytest.raises(TypeError):
        validate(CreateKey, {"name": "x", "expires": "1d"})


@pytest.mark.parametrize("model", MODELS)
def test_every_field_has_a_description_and_every_text_and_list_a_bound(model: type[requests.Request]) -> None:
    """What the API's documentation is made from."""
    schema = model.model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["description"]
    for name, field in schema.get("properties", {}).items():
        assert field.get("description"), name
        for part in _parts(field):
            if part.get("type") == "string" and "enum" not in part:
                assert "maxLength" in part, name
            if part.get("type") == "array":
                assert "maxItems" in part, name
            if part.get("type") == "integer":
                assert {"minimum", "maximum"} <= set(part), name


def _parts(schema: dict[str, Any]) -> list[dict[str, Any]]:  # Any: JSON Schema
    inner = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])]
    return [schema, *(part for each in inner for part in _parts(each))]


@pytest.mark.parametrize(
    ("model", "field", "text", "fits"),
    [
        (CreateKey, "permissions", "docs:read", True),
        (CreateKey, "permissions", "docs", False),
        (CreateKey, "permissions", "docs:re ad", False),
        (CreateKey, "allowed_origins", "https://app.example.com:8443", True),
        (CreateKey, "allowed_origins", "https://app.example.com/", False),
        (ImportKey, "sha256", "A" * 43 + "=", True),
        (ImportKey, "sha256", "A" * 45, False),
    ],
)
def test_the_patterns_of_the_schema_say_what_is_checked(
    model: type[requests.Request], field: str, text: str, *, fits: bool
) -> None:
    [pattern] = {
        part["pattern"] for part in _parts(model.model_json_schema()["properties"][field]) if "pattern" in part
    }
    assert (re.search(pattern, text) is not None) is fits
    body: dict[str, object] = {"name": "x", "sha256": "0" * 64, "entropy_bits": 128}
    body = body if model is ImportKey else {"name": "x"}
    body[field] = text if field == "sha256" else [text]
    if fits:
        validate(model, body, CONTEXT)
    else:
        assert faults(model, body)[0].field.startswith(field)


def test_a_digest_is_read_in_each_spelling() -> None:
    for text in ("ff" * 32, "FF" * 32, "/" * 42 + "8=", "_" * 42 + "8"):
        assert key_request.digest_from_text(text) == b"\xff" * 32
