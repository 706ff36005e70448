"""Idempotency-Key and If-Match: read to the letter, and refused where they cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.control.api.conditions import NEVER_MATCHES, entity_tag, expected_version, idempotency_key

if TYPE_CHECKING:
    from gateway.errors import FieldError


def headers(name: str, *values: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict([(name, value) for value in values]))


@pytest.mark.parametrize(
    ("value", "version"),
    [
        ('"3"', 3),
        (entity_tag(812), 812),
        ("*", None),
        ('W/"3"', NEVER_MATCHES),  # a weak tag never matches strongly (RFC 9110 section 13.1.1)
        ('"03"', NEVER_MATCHES),
        ('"abc"', NEVER_MATCHES),
        ('""', NEVER_MATCHES),
    ],
)
def test_an_entity_tag_names_the_version_or_never_matches(value: str, version: int | None) -> None:
    faults: list[FieldError] = []
    assert expected_version(headers("If-Match", value), faults) == version
    assert faults == []


@pytest.mark.parametrize("values", [("3",), ('"3", "4"',), ("",), ('"3"', '"3"'), ('"' + "1" * 65 + '"',), ('"é"',)])
def test_what_is_no_entity_tag_is_refused(values: tuple[str, ...]) -> None:
    faults: list[FieldError] = []
    assert expected_version(headers("If-Match", *values), faults) is None
    assert [fault.field for fault in faults] == ["If-Match"]


@pytest.mark.parametrize("value", ["a", "!" * 255, "5f2c1b1e-6d8d-4f5e-9f0a-1b2c3d4e5f60"])
def test_an_idempotency_key_is_visible_ascii(value: str) -> None:
    faults: list[FieldError] = []
    assert idempotency_key(headers("Idempotency-Key", value), faults) == value
    assert faults == []


@pytest.mark.parametrize("values", [("",), ("a b",), ("!" * 256,), ("é",), ("a", "a"), ("a\udcff",)])
def test_another_idempotency_key_is_refused(values: tuple[str, ...]) -> None:
    faults: list[FieldError] = []
    assert idempotency_key(headers("Idempotency-Key", *values), faults) is None
    assert [fault.field for fault in faults] == ["Idempotency-Key"]


def test_without_the_fields_there_is_no_condition() -> None:
    faults: list[FieldError] = []
    assert expected_version(headers("X"), faults) is None
    assert idempotency_key(headers("X"), faults) is None
    assert faults == []
