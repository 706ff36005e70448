"""`gateway check` and `gateway config`: every problem at once, every value with its origin, the schema as committed."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.certificates import issued

if TYPE_CHECKING:
    from tests.cli.conftest import Gateway

CONFIG = Path(__file__).parents[2] / "config"


def test_check_accepts_what_run_accepts(gateway: Gateway) -> None:
    Path("g.toml").write_text('[[upstreams]]\nname = "api"\ntargets = ["http://127.0.0.1:9000"]\n')
    outcome = gateway("check", "--config", "g.toml")
    assert (outcome.status, outcome.out) == (0, "The settings are valid: 1 upstream(s), 1 route(s).\n")


@pytest.mark.parametrize(("days", "told"), [(5, "which expires on "), (60, "")])
def test_check_warns_of_a_certificate_that_ends_soon_and_succeeds(gateway: Gateway, days: int, told: str) -> None:
    pair = issued(days=days)
    Path("g.toml").write_text(
        '[[upstreams]]\nname = "api"\ntargets = ["http://127.0.0.1:9000"]\n'
        f'[server.tls]\ncertificate_file = "{pair.certificate}"\nprivate_key_file = "{pair.key}"\n'
    )
    outcome = gateway("check", "--config", "g.toml")
    assert (outcome.status, outcome.out) == (0, "The settings are valid: 1 upstream(s), 1 route(s).\n")
    assert outcome.err.startswith("gateway: warning: server.tls.certificate_file names ") == bool(told)
    assert told in outcome.err


def test_check_names_each_problem_on_a_line_of_its_own(gateway: Gateway) -> None:
    Path("g.toml").write_text('[server]\nworkers = 0\nlisen = "x"\n')
    outcome = gateway("check", "--config", "g.toml")
    assert (outcome.status, outcome.out) == (78, "")
    lines = outcome.err.splitlines()
    assert all(line.startswith("gateway: ") for line in lines)
    for key in ("server.workers", "server.lisen", "upstreams"):
        assert len([line for line in lines if key in line.split(": ", 3)[2]]) == 1


def test_the_file_may_be_named_by_the_environment(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_CONFIG", "nowhere.toml")
    outcome = gateway("config", "show")
    assert outcome.status == 78
    assert "nowhere.toml" in outcome.err


def test_show_prints_toml_that_can_be_loaded_again(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY__CACHE__POSITIVE_TTL_SECONDS", "7")
    shown = gateway("config", "show")
    assert tomllib.loads(shown.out)["cache"]["positive_ttl_seconds"] == 7
    Path("again.toml").write_text(shown.out)
    assert gateway("config", "show", "--config", "again.toml").out == shown.out


def test_show_says_where_a_value_came_from(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY__CACHE__POSITIVE_TTL_SECONDS", "7")
    lines = gateway("config", "show", "--origin").out.splitlines()
    (line,) = [line for line in lines if line.startswith("positive_ttl_seconds")]
    assert "GATEWAY__CACHE__POSITIVE_TTL_SECONDS" in line


def test_schema_prints_the_committed_schema(gateway: Gateway) -> None:
    printed = gateway("config", "schema").out
    assert json.loads(printed) == json.loads((CONFIG / "gateway.schema.json").read_text())
