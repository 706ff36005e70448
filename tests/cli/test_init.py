"""`gateway init`: the first organization, once; the secret is printed once and kept nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Gateway
    from tests.servers.postgres import PostgresServer


@pytest.fixture
def acme(gateway: Gateway) -> dict[str, Any]:
    """What `gateway init --json` printed for the first organization."""
    return gateway("init", "--org", "Acme", "--admin", "a@example.com", "--json").json


def test_json_has_the_promised_shape(acme: dict[str, Any]) -> None:
    assert set(acme) == {"organization", "member", "key"}
    assert acme["organization"].keys() == {"id", "name"}
    assert acme["member"] == {"id": acme["member"]["id"], "email": "a@example.com"}
    assert acme["key"]["secret"].startswith("sk_")
    assert acme["key"]["owner"]["id"] == acme["member"]["id"]


def test_people_get_the_secret_on_stdout_and_the_warning_beside_it(gateway: Gateway) -> None:
    outcome = gateway("init", "--org", "Acme", "--admin", "a@example.com")
    assert outcome.status == 0
    (secret,) = [line.split()[1] for line in outcome.out.splitlines() if line.startswith("secret")]
    assert secret.startswith("sk_")
    store, secret_kept = outcome.err.splitlines()
    assert store == f"gateway: the store is {Path.cwd()}/data/gateway.db; the gateway has to run with this one"
    assert secret_kept == "gateway: keep the secret now: only its hash is stored, and it is never shown again"
    assert secret.encode() not in Path("data/gateway.db").read_bytes()


def test_a_second_organization_of_the_same_name_is_refused(gateway: Gateway, acme: dict[str, Any]) -> None:
    outcome = gateway("init", "--org", acme["organization"]["name"], "--admin", "b@example.com")
    assert (outcome.status, outcome.out) == (1, "")
    assert "exists already" in outcome.err
    assert "--another-key" in outcome.err


def test_a_lost_key_is_replaced_where_the_store_is(gateway: Gateway, acme: dict[str, Any]) -> None:
    again = gateway("init", "--org", "Acme", "--admin", "a@example.com", "--another-key", "--json").json
    assert (again["organization"], again["member"]) == (acme["organization"], acme["member"])
    assert again["key"]["id"] != acme["key"]["id"]
    assert again["key"]["secret"].startswith("sk_")
    outcome = gateway("init", "--org", "Acme", "--admin", "b@example.com", "--another-key")
    assert (outcome.status, outcome.out) == (3, "")
    assert "no admin of" in outcome.err


def test_a_lost_key_is_not_looked_for_in_a_new_store(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = gateway("init", "--org", "Acme", "--admin", "a@example.com", "--another-key")
    assert (outcome.status, outcome.out) == (3, "")
    assert f"no store at {Path.cwd()}/data/gateway.db" in outcome.err
    assert not Path("data").exists()
    Path("file").touch()
    monkeypatch.setenv("GATEWAY__STORE__URL", "sqlite:///file/gateway.db")  # what is wrong is not that nothing is there
    outcome = gateway("init", "--org", "Acme", "--admin", "a@example.com", "--another-key")
    assert (outcome.status, outcome.out) == (5, "")
    assert "file/gateway.db cannot be opened" in outcome.err


def test_every_wrong_field_is_named_and_no_store_is_made_for_it(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY__STORE__URL", "sqlite:///data/new.db")
    outcome = gateway("init", "--org", "", "--admin", "nobody")
    assert outcome.status == 2
    assert "org:" in outcome.err
    assert "admin:" in outcome.err
    assert not (tmp_path / "data").exists()


def test_it_makes_the_first_organization_in_postgresql_too(gateway: Gateway, postgres: PostgresServer) -> None:
    name = postgres.new_database()
    init = ("init", "--org", "Acme", "--admin", "a@example.com")
    Path("g.toml").write_text(f'[store]\nurl = "{postgres.url(name)}"\n')
    assert gateway(*init, "--json", "--config", "g.toml").json["key"]["secret"].startswith("sk_")
    assert postgres.execute("SELECT name FROM organizations", name) == "Acme"
    again = gateway(*init, "--config", "g.toml")
    assert (again.status, again.out) == (1, "")
    assert "exists already" in again.err


def test_a_database_that_cannot_be_reached_is_one_line_without_its_password(gateway: Gateway) -> None:
    Path("g.toml").write_text('[store]\nurl = "postgresql://me:hunter2@127.0.0.1:1/keygate"\n')
    outcome = gateway("init", "--org", "Acme", "--admin", "a@example.com", "--config", "g.toml")
    assert outcome.status != 0
    assert "127.0.0.1:1/keygate cannot be reached" in outcome.err
    assert "hunter2" not in outcome.out + outcome.err


def test_the_store_and_the_key_prefix_are_those_of_the_settings(gateway: Gateway) -> None:
    Path("g.toml").write_text('[store]\nurl = "sqlite:///other/keys.db"\n[auth]\nkey_prefix = "sk_test_"\n')
    outcome = gateway("init", "--org", "Acme", "--admin", "a@example.com", "--json", "--config", "g.toml")
    assert outcome.json["key"]["secret"].startswith("sk_test_")
    assert Path("other/keys.db").exists()
    assert not Path("data").exists()
