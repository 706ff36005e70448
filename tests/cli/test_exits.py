"""Exit statuses are a contract: each kind of expected error has its number, and ends in lines, never in a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.cli.exits import ExitStatus, complain, status_of
from gateway.errors import (
    ConfigProblem,
    ConfigurationError,
    Conflict,
    FieldError,
    GatewayError,
    Invalid,
    NotAllowed,
    NotFound,
    StoreBusy,
    Unreachable,
)

if TYPE_CHECKING:
    from tests.cli.conftest import Gateway


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (GatewayError("x"), 1),
        (Conflict("x"), 1),
        (Invalid([FieldError("name", "is empty")]), 2),
        (NotFound("x"), 3),
        (NotAllowed("x"), 4),
        (Unreachable("x"), 5),
        (StoreBusy("x"), 5),
        (ConfigurationError([ConfigProblem("file", "key", "reason")]), 78),
    ],
)
def test_each_kind_of_error_has_its_status(error: GatewayError, status: int) -> None:
    assert status_of(error) == status


def test_the_numbers_are_those_that_scripts_rely_on() -> None:
    assert [status.value for status in ExitStatus] == [0, 1, 2, 3, 4, 5, 78]


def test_an_expected_error_is_one_line_on_stderr_and_nothing_on_stdout(gateway: Gateway) -> None:
    Path("data").write_text("in the way")
    outcome = gateway("init", "--org", "Acme", "--admin", "a@example.com")
    assert (outcome.status, outcome.out) == (5, "")
    assert outcome.err.startswith("gateway: ")
    assert len(outcome.err.splitlines()) == 1


def test_no_message_moves_the_cursor_or_begins_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    complain("two\nlines \x1b[2J\r\u2028gateway: forged\udcff\n")
    assert capsys.readouterr().err == ("gateway: two\ngateway: lines \\u001b[2J\\r\\u2028gateway: forged\\udcff\n")


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["init"], ["keys", "list", "--limit", "0"], ["keys", "list", "--status", "odd"]]
)
def test_wrong_usage_is_status_2(gateway: Gateway, arguments: list[str]) -> None:
    outcome = gateway(*arguments)
    assert (outcome.status, outcome.out) == (2, "")


def test_no_command_at_all_prints_the_help(gateway: Gateway) -> None:
    outcome = gateway()
    assert "keys" in outcome.out + outcome.err
    assert gateway("--version").out.startswith("keygate ")
