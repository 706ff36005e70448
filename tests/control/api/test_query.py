"""Query parameters: known ones become values, everything else is named with its rule, all at once."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from multidict import MultiDict

from gateway.control.api import query
from gateway.control.api.query import read_query
from gateway.errors import FieldError

KNOWN = (
    query.choice("status", ["active", "revoked"], "Which."),
    query.text("search", "What.", max_characters=5),
    query.whole_number("limit", 1, 1000, "How many.", default=50),
    query.moment("from", "Since when."),
)


def read(*pairs: tuple[str, str]) -> tuple[dict[str, object], list[FieldError]]:
    faults: list[FieldError] = []
    return dict(read_query(KNOWN, MultiDict(pairs), faults)), faults


def test_known_parameters_become_values() -> None:
    given = [("status", "active"), ("search", "añ🙂"), ("limit", "1000"), ("from", "2030-01-31T12:00:00+02:00")]
    moment = datetime(2030, 1, 31, 10, tzinfo=UTC)
    assert read(*given) == ({"status": "active", "search": "añ🙂", "limit": 1000, "from": moment}, [])


def test_nothing_given_is_nothing_asked_for() -> None:
    assert read() == ({}, [])


def test_every_fault_is_named_at_once() -> None:
    _, faults = read(("status", "old"), ("limit", "0"), ("page", "2"), ("search", "a"), ("search", "b"))
    assert faults == [
        FieldError("status", "must be one of active, revoked"),
        FieldError("limit", "must be a whole number, 1 to 1000"),
        FieldError("page", "is not known here; known are status, search, limit, from"),
        FieldError("search", "must be given once"),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("status", ""),
        ("status", "Active"),
        ("limit", ""),
        ("limit", "-1"),
        ("limit", "1.0"),
        ("limit", "+1"),
        ("limit", " 1"),
        ("limit", "\u0661"),
        ("limit", "9" * 5000),
        ("search", ""),
        ("search", "abcdef"),
        ("search", "a\x00b"),
        ("search", "a\nb"),
        ("from", "2030-01-31"),
        ("from", "2030-01-31T12:00:00"),
        ("from", "2030-02-31T12:00:00Z"),
        ("from", "0001-01-01T00:00:00+23:59"),
        ("from", "now"),
    ],
)
def test_a_bad_value_is_refused_under_its_name(name: str, text: str) -> None:
    values, faults = read((name, text))
    assert values == {}
    assert [fault.field for fault in faults] == [name]


def test_of_very_many_faults_some_are_told() -> None:
    _, faults = read(*((str(number), "") for number in range(1000)))
    assert len(faults) == query.MAX_FAULTS


def test_the_name_of_an_unknown_parameter_is_shown_safely() -> None:
    _, faults = read(("a\x1b[31m" + "b" * 500, "1"))
    assert faults[0].field.isprintable()
    assert len(faults[0].field) < 200
    assert query.read_query((), MultiDict(a="1"), faults) == {}
    assert faults[-1].rule == "is not known here; no query parameter is"
