"""What is said of the last use of a key: what is known, and "never" only where every use is recorded."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from gateway.cli.connection import Connection
from gateway.cli.last_use import last_used_sentence, last_used_text
from gateway.client import APIError
from gateway.client.shapes import LastUse

if TYPE_CHECKING:
    from gateway.client import Client
    from gateway.client.shapes import Me

ROOT = Path(__file__).parents[2]
USE = LastUse(at=datetime(2030, 1, 31, tzinfo=UTC), address="192.0.2.1", user_agent=None)


class Asked:
    """A client that is asked who calls; None: it is refused."""

    def __init__(self, recorded: bool | None) -> None:  # noqa: FBT001 - what is answered
        self.recorded = recorded
        self.times = 0

    def me(self) -> Me:
        self.times += 1
        if self.recorded is None:
            raise APIError("The key is gone.", code="invalid_api_key", status=401, request_id=None)
        return cast("Me", SimpleNamespace(uses_recorded=self.recorded))


def connection(asked: Asked, *, json: bool = False) -> Connection:
    return Connection(cast("Client", asked), json)


def test_a_use_is_told_with_its_time_and_address_and_nobody_is_asked() -> None:
    asked = Asked(recorded=True)
    assert last_used_text(connection(asked), USE) == "2030-01-31T00:00:00Z from 192.0.2.1"
    assert last_used_sentence(connection(asked), USE) == "it was last used 2030-01-31T00:00:00Z from 192.0.2.1"
    assert asked.times == 0


def test_without_a_use_it_was_never_used_where_uses_are_recorded() -> None:
    asked = Asked(recorded=True)
    known = connection(asked)
    assert last_used_text(known, None) == "never used"
    assert last_used_sentence(known, None) == "it was never used"
    assert asked.times == 1


@pytest.mark.parametrize("recorded", [False, None])
def test_where_they_are_not_or_nobody_can_tell_nothing_is_claimed(recorded: bool | None) -> None:  # noqa: FBT001
    assert last_used_text(connection(Asked(recorded)), None) == "not recorded"
    assert last_used_sentence(connection(Asked(recorded)), None) == "when it was last used is not recorded"


def test_for_json_nobody_is_asked() -> None:
    asked = Asked(recorded=True)
    last_used_text(connection(asked, json=True), None)
    assert asked.times == 0


def test_the_words_stand_in_one_place() -> None:
    for path in (ROOT / "gateway" / "cli").glob("*.py"):
        claims = re.findall(r"never used|(?<!-)unused(?![-_])\b|\bis quiet", path.read_text())
        assert bool(claims) is (path.name == "last_use.py"), path
