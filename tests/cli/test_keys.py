"""`gateway keys`: make, find, change and judge keys; JSON in the admin API's shapes, tables for people."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.admin_api import AdminApi
    from tests.cli.conftest import Gateway

    Key = dict[str, Any]

SHAPE = {
    *("id", "organization_id", "name", "description", "prefix", "tail", "status", "expires_soon", "permissions"),
    *("allowed_origins", "owner", "created_at", "created_by", "expires_at", "disabled_at", "disabled_by"),
    *("revoked_at", "revoked_by", "revoked_reason", "last_used", "secret_last_used", "previous_secret", "imported"),
    "version",
}


def test_create_prints_the_secret_once(gateway: Gateway, api: AdminApi) -> None:
    made = gateway(
        *("keys", "create", "CI", "--description", "builds", "--expires", "7d", "--owner", "admin@example.com"),
        *(
            "--permission",
            "orders:read",
            "--permission",
            "orders:list",
            "--origin",
            "https://app.example.com",
            "--json",
        ),
    ).json
    assert made.keys() == SHAPE | {"secret", "code", "warnings", "propagation"}
    assert made["permissions"] == ["orders:read", "orders:list"]
    assert made["allowed_origins"] == ["https://app.example.com"]
    assert (made["name"], made["description"], made["status"]) == ("CI", "builds", "active")
    assert made["created_by"] == {"id": api.made.key.id, "text": "API Key: Admin key"}
    assert made["secret"].endswith(made["tail"])
    shown = gateway("keys", "show", made["id"], "--json")
    assert shown.json.keys() == SHAPE
    assert made["secret"] not in shown.out


def test_create_for_people_prints_the_secret_and_warns_of_a_twin(gateway: Gateway, key: Key) -> None:
    outcome = gateway("keys", "create", key["name"])
    assert outcome.out.startswith("secret")
    assert "warning: Another key" in outcome.err
    assert "keep the secret now" in outcome.err


@pytest.mark.usefixtures("api")
def test_a_repeated_create_says_that_the_secret_was_shown(gateway: Gateway) -> None:
    first = gateway("keys", "create", "CI", "--idempotency-key", "of-mine", "--json").json
    again = gateway("keys", "create", "CI", "--idempotency-key", "of-mine")
    assert again.status == 0
    assert first["id"] in again.out
    assert first["secret"] not in again.out
    assert f"gateway keys rotate {first['id']}" in again.err


def test_a_key_without_permissions_is_not_one_that_inherits(gateway: Gateway, key: Key) -> None:
    assert key["permissions"] is None
    assert gateway("keys", "create", "nothing", "--no-permissions", "--json").json["permissions"] == []


def test_without_an_expiry_the_organization_s_default_of_a_year_counts(key: Key) -> None:
    assert int(key["expires_at"][:4]) == int(key["created_at"][:4]) + 1


def test_list_filters_sorts_and_pages(gateway: Gateway, key: Key) -> None:
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
    assert len(gateway("keys", "list", "--owner", "admin@example.com", "--json").json["items"]) == 4
    by_name = gateway("keys", "list", "--sort", "name", "--json").json["items"]
    assert [item["name"] for item in by_name] == ["Admin key", "alpha", "beta", "CI"]


def test_the_table_has_a_line_per_key_and_says_when_there_are_more(gateway: Gateway, key: Key) -> None:
    outcome = gateway("keys", "list", "--limit", "1")
    head, line = outcome.out.splitlines()
    assert head.split() == ["ID", "NAME", "TAIL", "STATUS", "OWNER", "EXPIRES", "LAST", "USED"]
    assert line.split()[:5] == [key["id"], "CI", key["tail"], "active", "admin@example.com"]
    assert line.endswith("never used")
    assert outcome.err.startswith("gateway: there are more: --cursor ")


def test_update_changes_what_is_given_and_nothing_else(gateway: Gateway, key: Key) -> None:
    changed = gateway("keys", "update", key["id"], "--name", "New", "--permission", "orders:read", "--json").json
    assert (changed["name"], changed["permissions"]) == ("New", ["orders:read"])
    assert changed["expires_at"] == key["expires_at"]
    assert gateway("keys", "update", key["id"], "--inherit", "--json").json["permissions"] is None
    assert gateway("keys", "update", key["id"], "--no-permissions", "--json").json["permissions"] == []
    assert gateway("keys", "update", key["id"], "--origin", "https://a.example", "--json").json["allowed_origins"]
    assert gateway("keys", "update", key["id"], "--any-origin", "--json").json["allowed_origins"] is None


def test_update_loses_no_race(gateway: Gateway, key: Key) -> None:
    assert gateway("keys", "update", key["id"], "--name", "a", "--if-match", str(key["version"])).status == 0
    lost = gateway("keys", "update", key["id"], "--name", "b", "--if-match", str(key["version"]))
    assert (lost.status, lost.out) == (1, "")


@pytest.mark.parametrize(
    "command",
    [
        ("keys", "create", "new"),
        ("keys", "import", "new", "--sha256", "0" * 64, "--entropy-bits", "256"),
        ("keys", "update", "key_" + "0" * 26),
        ("members", "add", "new@example.com"),
        ("members", "update", "admin@example.com"),
        ("service-accounts", "update", "sva_" + "0" * 26),
    ],
    ids=" ".join,
)
def test_a_permission_is_never_dropped_for_no_permissions(
    gateway: Gateway, api: AdminApi, command: tuple[str, ...]
) -> None:
    outcome = gateway(*command, "--permission", "orders:read", "--no-permissions")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == "gateway: --permission and --no-permissions contradict each other\n"
    assert len(gateway("keys", "list", "--admin-url", api.url, "--json").json["items"]) == 1


@pytest.mark.parametrize(
    ("flags", "order"),
    [
        ((), "-id"),
        (("--search", "k"), "name"),
        (("--status", "expires_soon"), "expires_at"),
        (("--status", "active"), "-id"),
    ],
)
def test_the_order_without_sort_is_the_one_that_help_tells(
    gateway: Gateway, api: AdminApi, flags: tuple[str, ...], order: str
) -> None:
    for name, expires in (("k2", "7d"), ("k1", "1d"), ("k3", "1h")):
        gateway("keys", "create", name, "--expires", expires, "--admin-url", api.url)
    items = gateway("keys", "list", *flags, "--json").json["items"]
    found = [item[order.removeprefix("-")] for item in items]
    assert found == sorted(found, reverse=order.startswith("-"))
    assert len(found) >= 3
    told = " ".join(gateway("keys", "list", "--help").out.split())
    assert "by name with --search;" in told
    assert told.count("newest first") == 1
    assert "else newest first." in told


@pytest.mark.parametrize(
    "flags",
    [
        ("--inherit", "--no-permissions"),
        ("--inherit", "--permission", "orders:read"),
        ("--origin", "https://a.example", "--any-origin"),
    ],
)
def test_wishes_that_contradict_each_other_are_wrong_usage(gateway: Gateway, key: Key, flags: tuple[str, ...]) -> None:
    outcome = gateway("keys", "update", key["id"], *flags)
    assert (outcome.status, outcome.out) == (2, "")


@pytest.mark.usefixtures("api")
def test_a_secret_of_another_system_is_imported_by_its_hash_and_verified(gateway: Gateway) -> None:
    secret = "another-system's-secret-0123456789abcdef"
    digest = hashlib.sha256(secret.encode()).hexdigest()
    made = gateway(
        *("keys", "import", "old one", "--sha256", digest, "--entropy-bits", "128", "--tail", secret[-6:], "--json")
    ).json
    assert (made["imported"], made["tail"]) == (True, secret[-6:])
    assert "secret" not in made
    verdict = gateway("keys", "verify", piped=f"{secret}\n")
    assert verdict.status == 0
    assert verdict.out.startswith("valid        yes\n")
    assert secret not in verdict.out + verdict.err


def test_an_import_warns_of_a_twin_as_a_create_does(gateway: Gateway, key: Key) -> None:
    command = ("keys", "import", key["name"], "--entropy-bits", "256", "--sha256")
    told = f"gateway: warning: Another key of the same owner, {key['id']}, has this name as well.\n"
    imported = gateway(*command, "0" * 64)
    assert imported.status == 0
    assert told in imported.err
    assert "warning" not in imported.out
    in_json = gateway(*command, "1" * 64, "--json")
    assert [each["code"] for each in in_json.json["warnings"]] == ["name_in_use"]
    assert "gateway: warning: Another key" in in_json.err


@pytest.mark.usefixtures("api")
def test_an_import_without_a_twin_warns_of_nothing(gateway: Gateway) -> None:
    imported = gateway("keys", "import", "alone", "--sha256", "0" * 64, "--entropy-bits", "256")
    assert imported.status == 0
    assert "name_in_use" not in imported.out
    assert "Another key" not in imported.err


@pytest.mark.usefixtures("api")
def test_verify_judges_the_origin(gateway: Gateway) -> None:
    made = gateway("keys", "create", "page", "--origin", "https://a.example", "--json").json
    for flags in ((), ("--origin", "https://b.example")):
        refused = gateway("keys", "verify", *flags, piped=made["secret"])
        assert refused.status == 1
        assert "origin_not_allowed" in refused.out
    assert gateway("keys", "verify", "--origin", "https://a.example", piped=made["secret"]).status == 0


def test_verify_says_no_with_a_reason_and_a_status(gateway: Gateway, key: Key) -> None:
    Path("secret").write_text(key["secret"] + "\n")
    assert gateway("keys", "verify", "--secret-file", "secret", "--permission", "orders:read").status == 0
    gateway("keys", "update", key["id"], "--permission", "orders:*")
    lacking = gateway("keys", "verify", "--secret-file", "secret", "--permission", "invoices:read")
    assert lacking.status == 1
    assert "insufficient_permissions" in lacking.out
    gateway("keys", "disable", key["id"])
    refused = gateway("keys", "verify", "--secret-file", "secret", "--json")
    assert refused.status == 1
    assert '"disabled_api_key"' in refused.out


def test_a_secret_typed_at_a_terminal_is_asked_for_and_not_shown(
    gateway: Gateway, api: AdminApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    def prompt(_text: str, **options: object) -> str:
        asked.append(options)
        return api.secret

    monkeypatch.setattr("typer.prompt", prompt)
    assert gateway("keys", "verify", typing="").status == 0
    assert [options["hide_input"] for options in asked] == [True]


@pytest.mark.usefixtures("api")
def test_a_secret_file_that_is_not_there_is_wrong_usage(gateway: Gateway) -> None:
    outcome = gateway("keys", "verify", "--secret-file", "nowhere")
    assert (outcome.status, outcome.out) == (2, "")
    assert "nowhere" in outcome.err
