"""The body of a request is read exactly: one object, no name twice, nothing that JSON or UTF-8 does not have."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.api.json_body import MAX_DEPTH, MalformedJson, read_object

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_every_object_that_json_can_say_comes_out_as_it_was(value: dict[str, object]) -> None:
    assert read_object(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a": 1} x', "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": Infinity}', "not JSON"),
        (b'{"a": 1e999}', "not JSON"),
        (b'{"a": 01}', "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b'{"a": "\\ud800"}', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not JSON"),
        (nested(MAX_DEPTH + 1), f"more than {MAX_DEPTH} deep"),
        (nested(500), f"more than {MAX_DEPTH} deep"),
        (b'{"a": 1, "a": 1}', "twice"),
        (b'{"a": 1, "\\u0061": 2}', "twice"),
        (b'{"b": [{"a": 1, "a": 2}]}', "twice"),
        (b"[]", "not an array"),
        (b"null", "not null"),
        (b'"a"', "not a string"),
        (b"true", "not a boolean"),
        (b"1.5", "not a number"),
    ],
)
def test_what_is_no_json_object_is_refused_with_the_reason(text: bytes, reason: str) -> None:
    with pytest.raises(MalformedJson, match=reason):
        read_object(text)


def test_an_object_may_be_as_deep_as_the_limit() -> None:
    assert read_object(nested(MAX_DEPTH))


@pytest.mark.parametrize(
    "text", [b'{"key": "sk_secret" "b"}', b'{"key": "sk_secret', b'{"sk_secret": 1, "sk_secret": 2}']
)
def test_a_reason_never_repeats_what_was_sent(text: bytes) -> None:
    with pytest.raises(MalformedJson) as caught:
        read_object(text)
    assert "secret" not in str(caught.value)


@given(st.binary(max_size=200))
def test_whatever_arrives_is_an_object_or_malformed(text: bytes) -> None:
    with contextlib.suppress(MalformedJson):
        read_object(text)
