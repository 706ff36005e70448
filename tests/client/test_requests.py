"""How arguments become what is sent: None, UNCHANGED and nothing are three things, and an id leads nowhere else."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from gateway.client import InvalidArgument
from gateway.client.requests import UNCHANGED, body, first_key, idempotency_fields, moment, new_body, path

SECRET = "sk_" + "x" * 49


def test_an_update_sends_what_is_given_null_included() -> None:
    assert body(name="x", permissions=None, description=UNCHANGED) == {"name": "x", "permissions": None}


def test_a_create_leaves_defaults_to_the_gateway() -> None:
    assert new_body(name="x", permissions=None, expires=None) == {"name": "x"}
    assert new_body(permissions=[]) == {"permissions": []}  # which is not the default


def test_whatever_can_be_walked_through_is_a_list() -> None:
    assert new_body(permissions=(each for each in ("a:b", "c:d"))) == {"permissions": ["a:b", "c:d"]}


def test_moments_are_written_as_the_gateway_reads_them() -> None:
    assert moment(date(2030, 1, 31)) == "2030-01-31"
    assert moment(datetime(2030, 1, 31, 12, tzinfo=UTC)) == "2030-01-31T12:00:00+00:00"
    assert moment("7d") == "7d"
    assert body(expires=date(2030, 1, 31)) == {"expires": "2030-01-31"}


@pytest.mark.parametrize("segment", ["", ".", "..", "a/b", "a?b", "a#b", "a%2fb", "a b", "\n", "é", "x" * 41, SECRET])
def test_an_id_leads_nowhere_else_and_is_no_secret(segment: str) -> None:
    """Which would stand in the logs of whatever sees the URL, or the complaint."""
    with pytest.raises(InvalidArgument) as caught:
        path("keys", segment)
    assert str(caught.value) == "that is not an id"


def test_an_idempotency_key_is_made_anew_for_each_call() -> None:
    assert idempotency_fields(None) != idempotency_fields(None)
    assert idempotency_fields("mine") == {"Idempotency-Key": "mine"}
    with pytest.raises(ValueError, match="printable"):
        idempotency_fields("a\r\nb")


def test_a_first_key_is_as_usual_or_as_told() -> None:
    assert first_key(None, None) is True
    assert first_key("laptop", "7d") == {"name": "laptop", "expires": "7d"}
