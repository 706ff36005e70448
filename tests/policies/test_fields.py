"""A field is found in every spelling that some server behind the gateway may read it in, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policies.fields import values
from tests.proxy.profiles import scaled

NAME = "access-control-request-method"


@pytest.mark.parametrize(
    "spelt",
    [
        NAME,
        NAME.upper(),
        NAME.title(),
        NAME.replace("-", "_"),
        NAME.title().replace("-", "_", 1),
        NAME.swapcase().replace("-", "_"),
    ],
)
def test_in_any_case_and_with_underscores(spelt: str) -> None:
    assert values([b"Accept: */*", spelt.encode() + b": PUT", b"X: y"], NAME.encode()) == [b"PUT"]


def test_all_of_them_in_their_order_and_as_they_are() -> None:
    lines = [b"Origin: https://a", b"ORIGIN: ", b"X-Origin: no", b"Origin2: no", b"Origi: no", b"origin: b: Origin: c"]
    assert values(lines, b"origin") == [b"https://a", b"", b"b: Origin: c"]


@pytest.mark.parametrize("line", [b"X: origin: a", b"origin", b"", b"origins: a", b"orig-in: a"])
def test_nothing_that_is_called_otherwise(line: bytes) -> None:
    assert not values([line], b"origin")


@settings(max_examples=scaled(200), deadline=None)
@given(
    st.lists(st.tuples(st.text("xX-_", min_size=1, max_size=4), st.text("xX:-_ ", max_size=4)), max_size=5),
    st.text("x-", min_size=1, max_size=4),
)
def test_it_is_what_taking_each_line_apart_finds(fields: list[tuple[str, str]], name: str) -> None:
    lines = [f"{key}: {value}".encode() for key, value in fields]
    expected = [value.encode() for key, value in fields if key.lower().replace("_", "-") == name]
    assert values(lines, name.encode()) == expected
