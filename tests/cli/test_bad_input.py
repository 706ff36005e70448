"""What people type wrong, or with bad intentions: refused with the rule, or kept and shown as what it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Gateway

pytestmark = pytest.mark.usefixtures("api")

REFUSED = {
    "empty": "",
    "spaces": "   ",
    "over-long": "x" * 129,
    "far over-long": "x" * 100_000,
    "escape": "a\x1b[2Jb",
    "line feed": "a\nb",
    "bell": "a\x07",
    "c1 control": "a\x9b31m",
    "right-to-left override": "invoice\u202egpj.exe",
    "isolate": "a\u2066b",
    "line separator": "a\u2028b",
    "private use": "a\ue000",
    "unassigned": "a\U000e0fff",
}
KEPT = {
    "Hebrew": "אבג 12",
    "Arabic": "سنة",
    "emoji": "🚀 CI/CD 👍🏽",
    "flag": "🇩🇪 office",
    "Chinese": "钥匙",
    "combining": "cafe\u0301",
    "as long as may be": "x" * 128,
    "markup": "[bold]<b>{x}%s$(id)`id`\\n'\"",
}


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED.keys())
def test_a_name_that_is_none_is_refused_with_the_rule(gateway: Gateway, name: str) -> None:
    for command in (("keys", "create"), ("service-accounts", "create"), ("orgs", "create", "--admin", "a@example.com")):
        outcome = gateway(*command, "--", name)
        assert (outcome.status, outcome.out) == (2, "")
        assert outcome.err.startswith("gateway: name: ")
        assert outcome.err.removesuffix("\n").isprintable()


@pytest.mark.parametrize("name", KEPT.values(), ids=KEPT.keys())
def test_a_name_of_any_alphabet_is_kept_found_and_shown_in_line(gateway: Gateway, name: str) -> None:
    made = gateway("keys", "create", name, "--json").json
    assert made["name"] == name
    found = gateway("keys", "list", "--search", name[:3], "--json").json["items"]
    assert [key["id"] for key in found] == [made["id"]]
    table = gateway("keys", "list", "--search", name).out.splitlines()
    assert name in table[1]
    assert all(line.isprintable() for line in (each.replace("\u2068", "").replace("\u2069", "") for each in table))
    assert name in gateway("keys", "show", made["id"]).out
    assert f"the key {name!r}"[:20] in gateway("keys", "revoke", made["id"], typing="n\n").err


def test_a_description_of_several_lines_stays_one_field(gateway: Gateway) -> None:
    made = gateway("keys", "create", "CI", "--description", "one\nstatus  revoked\ttwo", "--json").json
    assert made["description"] == "one\nstatus  revoked\ttwo"
    shown = gateway("keys", "show", made["id"]).out
    assert "description  one\\nstatus  revoked\\ttwo\n" in shown


def _in(**duration: float) -> str:
    return (datetime.now(UTC) + timedelta(**duration)).isoformat(timespec="seconds").replace("+00:00", "Z")


@pytest.mark.parametrize(
    "expires",
    [
        "2020-01-31",
        "2020-01-31T12:00:00Z",
        "2099-01-31T12:00:00",  # which zone?
        "2099-02-30",
        "2099-13-01T00:00:00Z",
        "31.1.2099",
        "tomorrow",
        "5d",
        "",
        "1" * 1000,
        "2099-01-31T25:00:00Z",
    ],
)
@pytest.mark.parametrize("verb", ["create", "update"])
def test_a_date_that_is_past_or_none_is_refused_with_what_is_allowed(gateway: Gateway, verb: str, expires: str) -> None:
    words = ("create", "CI") if verb == "create" else ("update", gateway("keys", "create", "x", "--json").json["id"])
    outcome = gateway("keys", *words, "--expires", expires)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("gateway: expires: ")


@pytest.mark.parametrize("expires", ["never", "1y", "4y", "2099-01-31", "2099-01-31T12:00:00+02:00"])
def test_a_date_beyond_the_maximum_is_refused_with_the_latest_that_is_allowed(gateway: Gateway, expires: str) -> None:
    gateway("orgs", "update", "--max-expiry", "30d")
    outcome = gateway("keys", "create", "CI", "--expires", expires)
    assert (outcome.status, outcome.out) == (2, "")
    latest = datetime.now(UTC) + timedelta(days=30)
    assert any(day.date().isoformat() in outcome.err for day in (latest, latest - timedelta(minutes=5))), outcome.err


def test_the_longest_life_that_is_allowed_is_allowed(gateway: Gateway) -> None:
    gateway("orgs", "update", "--max-expiry", "30d")
    for expires in ("30d", "1h", _in(days=29)):
        assert gateway("keys", "create", "CI", "--expires", expires).status == 0


def test_everything_that_is_wrong_is_said_at_once(gateway: Gateway) -> None:
    outcome = gateway(
        *("keys", "create", "a\x1b", "--description", "\x00" * 3, "--expires", "2020-01-01", "--permission", "x"),
        *("--permission", "orders:read", "--origin", "not an origin"),
    )
    assert (outcome.status, outcome.out) == (2, "")
    fields = [line.split()[1].partition(".")[0].rstrip(":") for line in outcome.err.splitlines()]
    assert sorted(fields) == ["allowed_origins", "description", "expires", "name", "permissions"]


@pytest.mark.parametrize(
    "email", ["", "nobody", "a@", "@b", "a b@example.com", "a\u202e@example.com", "x" * 260 + "@example.com"]
)
def test_an_address_that_is_none_is_refused_with_the_rule(gateway: Gateway, email: str) -> None:
    outcome = gateway("members", "add", "--", email)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("gateway: email: ")
    assert outcome.err.removesuffix("\n").isprintable()
