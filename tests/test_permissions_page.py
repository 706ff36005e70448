"""docs/permissions.md: what it says of the gateway's permissions and of attempts to escalate is what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from gateway.control.api.operations import OPERATIONS
from gateway.control.api.refusals import STATUSES
from gateway.keys.authority import GATEWAY_PERMISSIONS
from gateway.services.people_requests import ADMIN_PERMISSIONS, DEFAULT_MEMBER_PERMISSIONS, CreateServiceAccount

PAGE: Final = (Path(__file__).parents[1] / "docs" / "permissions.md").read_text()


def test_it_names_every_permission_of_the_gateway() -> None:
    rows = re.findall(r"^\| `(gateway:\w+)` \|", PAGE, re.MULTILINE)
    assert tuple(rows) == GATEWAY_PERMISSIONS
    assert {each for operation in OPERATIONS for each in operation.permissions} == set(GATEWAY_PERMISSIONS)


@pytest.mark.parametrize(("status", "code"), sorted(set(re.findall(r"(\d{3}) `([a-z_]+)`", PAGE))))
def test_every_refusal_that_it_names_has_that_status(status: str, code: str) -> None:
    assert STATUSES[code] == int(status)


def test_the_defaults_are_those_of_the_code() -> None:
    sentence = PAGE[PAGE.index("A new member holds") :]
    member, admin, account = re.split(r"a new admin|a new service account", sentence)[:3]
    assert tuple(re.findall(r"`([^`]+)`", member)) == DEFAULT_MEMBER_PERMISSIONS
    assert tuple(re.findall(r"`([^`]+)`", admin)) == ADMIN_PERMISSIONS
    assert account.startswith(" nothing")
    assert CreateServiceAccount(name="x").permissions == ()


def test_only_the_first_question_needs_no_permission() -> None:
    assert [operation.name for operation in OPERATIONS if not operation.permissions] == ["me"]
