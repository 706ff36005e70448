"""`gateway keys`: changes by id, JSON in the admin API's shapes, tables for people, and no accident that is final."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Gateway

    Acme = dict[str, Any]

SHAPE = {
    *("id", "organization_id", "name", "description", "prefix", "tail", "status", "expires_soon", "permissions"),
    *("owner", "created_at", "created_by", "expires_at", "disabled_at", "disabled_by", "revoked_at", "revoked_by"),
    *("revoked_reason", "last_used", "version"),
}


@pytest.fixture
def key(gateway: Gateway, acme: Acme) -> dict[str, Any]:
    """A key beside the admin's."""
    assert acme
    return gateway("keys", "create", "CI", "--json").json


def test_create_prints_the_secret_once(gateway: Gateway, acme: Acme) -> None:
    made = gateway(
        *("keys", "create", "CI", "--description", "builds", "--expires", "7d", "--owner", "a@example.com"),
        *("--permission", "orders:read", "--permission", "orders:list", "--org", acme["organization"]["id"], "--json"),
    ).json
    assert made.keys() == SHAPE | {"secret", "warnings"}
    assert made["permissions"] == ["orders:read", "orders:list"]
    assert (made["name"], made["description"], made["status"]) == ("CI", "builds", "active")
    assert made["secret"].endswith(made["tail"])
    shown = gateway("keys", "show", made["id"], "--json")
    assert shown.json.keys() == SHAPE
    assert made["secret"] not in shown.out


def test_create_for_people_prints_the_secret_and_warns_of_a_twin(gateway: Gateway, key: dict[str, Any]) -> None:
    outcome = gateway("keys", "create", key["name"])
    assert outcome.out.startswith("secret")
    assert "warning: Another key" in outcome.err


def test_without_an_expiry_the_organization_s_default_of_a_year_counts(key: dict[str, Any]) -> None:
    assert int(key["expires_at"][:4]) == int(key["created_at"][:4]) + 1


def test_list_filters_and_pages(gateway: Gateway, key: dict[str, Any]) -> None:
    for name in ("alpha", "beta"):
        gateway("keys", "create", name)
    first = gateway("keys", "list", "--limit", "2", "--json").json
    assert [item["name"] for item in first["items"]] == ["beta", "alpha"]
    rest = gateway("keys", "list", "--limit", "2", "--cursor", first["next_cursor"], "--json").json
    assert [item["name"] for item in rest["items"]] == ["CI", "Admin key"]
    assert rest["next_cursor"] is None
    found = gateway("keys", "list", "--search", key["tail"], "--json").json["items"]
    assert [item["id"] for item in found] == [key["id"]]
    assert gateway("keys", "list", "--status", "revoked", "--json").json["items"] == []
    assert len(gateway("keys", "list", "--owner", "a@example.com", "--json").json["items"]) == 4


def test_the_table_has_a_line_per_key_and_says_when_there_are_more(gateway: Gateway, key: dict[str, Any]) -> None:
    outcome = gateway("keys", "list", "--limit", "1")
    head, line = outcome.out.splitlines()
    assert head.split() == ["ID", "NAME", "TAIL", "STATUS", "OWNER", "EXPIRES", "LAST", "USED"]
    assert line.split()[:5] == [key["id"], "CI", key["tail"], "active", "a@example.com"]
    assert outcome.err.startswith("gateway: there are more: --cursor ")


def test_disable_and_enable_answer_with_the_key(gateway: Gateway, key: dict[str, Any]) -> None:
    disabled = gateway("keys", "disable", key["id"], "--json").json
    assert (disabled["status"], disabled["disabled_by"]["text"]) == ("disabled", "System")
    assert gateway("keys", "enable", key["id"], "--json").json["status"] == "active"
    assert "status       disabled" in gateway("keys", "disable", key["id"]).out


@pytest.mark.parametrize("verb", ["revoke", "delete"])
def test_what_is_final_is_refused_where_nobody_can_be_asked(gateway: Gateway, key: dict[str, Any], verb: str) -> None:
    outcome = gateway("keys", verb, key["id"])
    assert (outcome.status, outcome.out) == (2, "")
    assert "--yes" in outcome.err
    assert gateway("keys", "show", key["id"], "--json").json["status"] == "active"


@pytest.mark.parametrize("verb", ["revoke", "delete"])
def test_a_no_at_the_terminal_changes_nothing(gateway: Gateway, key: dict[str, Any], verb: str) -> None:
    outcome = gateway("keys", verb, key["id"], typing="n\n")
    assert outcome.status == 1
    assert key["tail"] in outcome.err
    assert gateway("keys", "show", key["id"], "--json").json["status"] == "active"


def test_a_yes_at_the_terminal_revokes(gateway: Gateway, key: dict[str, Any]) -> None:
    outcome = gateway("keys", "revoke", key["id"], "--reason", "leaked", "--json", typing="y\n")
    revoked = json.loads(outcome.out)
    assert (revoked["status"], revoked["revoked_reason"]) == ("revoked", "leaked")


def test_delete_prints_the_key_a_last_time(gateway: Gateway, key: dict[str, Any]) -> None:
    assert gateway("keys", "delete", key["id"], "--yes", "--json").json["id"] == key["id"]
    for verb in ("show", "disable", "enable"):
        assert gateway("keys", verb, key["id"]).status == 3


def test_a_revoked_key_cannot_come_back(gateway: Gateway, key: dict[str, Any]) -> None:
    gateway("keys", "revoke", key["id"], "--yes")
    outcome = gateway("keys", "enable", key["id"])
    assert outcome.status == 1
    assert "final" in outcome.err


def test_which_organization_is_meant_has_to_be_said_where_there_are_two(gateway: Gateway, acme: Acme) -> None:
    gateway("init", "--org", "Other", "--admin", "o@example.com")
    assert gateway("keys", "list").status == 1
    items = gateway("keys", "list", "--org", "Acme", "--json").json["items"]
    assert [item["organization_id"] for item in items] == [acme["organization"]["id"]]
    assert gateway("keys", "list", "--org", "Nobody").status == 3
