"""How commands reach the admin API, and that what it refuses ends in lines on stderr and a status of the contract."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.client.scripted_server import HANG_UP, Scripted, ScriptedServer

if TYPE_CHECKING:
    from tests.admin_api import AdminApi
    from tests.cli.conftest import Gateway

KEY_ID = "key_" + "0" * 26


def _unused() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_options_come_before_the_environment(gateway: Gateway, api: AdminApi) -> None:
    gateway.use(_unused(), "of-the-environment")
    assert gateway("whoami", "--admin-url", api.url, "--api-key", api.secret).status == 0
    Path("key").write_text(f"{api.secret}\n")
    assert gateway("whoami", "--admin-url", api.url, "--api-key-file", "key").status == 0


def test_without_a_key_it_says_how_to_give_one(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_API_KEY", raising=False)
    outcome = gateway("keys", "list")
    assert (outcome.status, outcome.out) == (2, "")
    assert "GATEWAY_API_KEY" in outcome.err
    assert "--api-key-file" in outcome.err


def test_a_bad_address_of_the_environment_is_named_with_its_variable(gateway: Gateway) -> None:
    gateway.use("nowhere", "some-key")
    assert "GATEWAY_ADMIN_URL: " in gateway("whoami").err
    assert "GATEWAY_ADMIN_URL" not in gateway("whoami", "--admin-url", "ftp://a").err


@pytest.mark.parametrize(("text", "told"), [("id  key_1\nsecret  sk_1\n", "more than one line"), ("\n", "is empty")])
def test_a_file_that_holds_more_than_a_key_or_none_is_named(gateway: Gateway, text: str, told: str) -> None:
    """As the output of gateway init, saved whole."""
    Path("first-key.txt").write_text(text)
    outcome = gateway("whoami", "--api-key-file", "first-key.txt")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("gateway: first-key.txt: ")
    assert told in outcome.err
    assert "sk_1" not in outcome.err


@pytest.mark.parametrize(
    "options",
    [
        ("--api-key", "a", "--api-key-file", "b"),
        ("--api-key-file", "nowhere"),
        ("--api-key-file", "."),
        ("--api-key-file", "binary"),
        ("--api-key", "a b"),
        ("--api-key", "a", "--admin-url", "nowhere"),
    ],
)
def test_options_that_lead_nowhere_are_wrong_usage(gateway: Gateway, options: tuple[str, ...]) -> None:
    Path("binary").write_bytes(b"\xff\xfe\x00")
    outcome = gateway("whoami", *options)
    assert (outcome.status, outcome.out) == (2, "")
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize("key", ["a\nb", "caf\u00e9", "\u202e"])
@pytest.mark.usefixtures("api")
def test_an_idempotency_key_that_no_header_field_can_carry_is_wrong_usage(gateway: Gateway, key: str) -> None:
    outcome = gateway("keys", "create", "CI", "--idempotency-key", key)
    assert (outcome.status, outcome.out) == (2, "")
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize("characters", [10_000, 100_000])
@pytest.mark.usefixtures("api")
def test_a_search_that_is_far_too_long_is_wrong_usage(gateway: Gateway, characters: int) -> None:
    outcome = gateway("keys", "list", "--search", "x" * characters)
    assert (outcome.status, outcome.out) == (2, "")
    assert len(outcome.err) < 1000


def test_a_gateway_that_is_not_there_is_unreachable(gateway: Gateway) -> None:
    url = _unused()
    gateway.use(url, "some-key")
    outcome = gateway("keys", "list")
    assert (outcome.status, outcome.out) == (5, "")
    assert url in outcome.err


def test_a_key_that_is_no_good_is_not_allowed(gateway: Gateway, api: AdminApi) -> None:
    secret = "sk_" + "x" * 49
    gateway.use(api.url, secret)
    outcome = gateway("keys", "list")
    assert (outcome.status, outcome.out) == (4, "")
    assert secret not in outcome.err


@pytest.mark.usefixtures("api")
def test_what_is_not_there_is_not_found(gateway: Gateway) -> None:
    outcome = gateway("keys", "show", KEY_ID)
    assert (outcome.status, outcome.out) == (3, "")
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.usefixtures("api")
def test_every_bad_field_has_a_line(gateway: Gateway) -> None:
    outcome = gateway("keys", "create", "x" * 1000, "--expires", "someday", "--permission", "not a permission")
    assert (outcome.status, outcome.out) == (2, "")
    assert {line.split()[1].partition(".")[0].rstrip(":") for line in outcome.err.splitlines()} == {
        "name",
        "expires",
        "permissions",
    }


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        (Scripted.problem(409, "key_revoked", "The key is revoked."), 1, "The key is revoked."),
        (Scripted.problem(412, "version_mismatch", "Changed since."), 1, "Changed since."),
        (Scripted.problem(500, "internal_error", "A defect."), 1, "request r1"),
        (Scripted.problem(503, "key_store_busy", "Busy.", **{"Retry-After": "0"}), 5, "Busy."),
        (Scripted(200, b"<html>"), 5, "not JSON"),
        (Scripted(404, b"<html>"), 5, "Is this its address?"),
        (HANG_UP, 5, "look before you repeat it"),
    ],
)
def test_each_failure_has_its_status(gateway: Gateway, answer: Scripted, status: int, told: str) -> None:
    with ScriptedServer() as server:
        server.answers = [answer]
        gateway.use(server.url, "some-key")
        outcome = gateway("keys", "disable", KEY_ID)
    assert (outcome.status, outcome.out) == (status, "")
    assert told in outcome.err
    assert all(line.startswith("gateway: ") for line in outcome.err.splitlines())


def test_an_answer_cannot_drive_the_terminal(gateway: Gateway) -> None:
    with ScriptedServer() as server:
        server.answers = [Scripted.problem(409, "no", "a\x1b[2J\rb\u202e")]
        gateway.use(server.url, "some-key")
        err = gateway("keys", "disable", KEY_ID).err
    assert err.removesuffix("\n").isprintable()


def test_silent_workers_are_named(gateway: Gateway, key: dict[str, Any]) -> None:
    """With the moment from which on they certainly follow."""
    silent = [{"name": "worker-2", "until": "2030-01-01T00:01:00Z"}]
    propagation = {"seq": 9, "applied": 1, "of": 2, "milliseconds": 2000, "silent": silent}
    shape = {name: value for name, value in key.items() if name not in {"secret", "code", "warnings"}}
    with ScriptedServer() as server:
        server.answers = [Scripted.json({**shape, "propagation": propagation}, 202)]
        gateway.use(server.url, "some-key")
        outcome = gateway("keys", "disable", key["id"])
    assert outcome.status == 0
    assert "worker worker-2 has not answered yet; it follows at the latest at 2030-01-01T00:01:00Z" in outcome.err


@pytest.mark.parametrize("arguments", [["keys", "show"], ["keys", "disable"], ["rotate"], ["audit", "list", "--key"]])
def test_a_secret_in_the_place_of_an_id_is_never_repeated(
    gateway: Gateway, api: AdminApi, arguments: list[str]
) -> None:
    outcome = gateway(*arguments, api.secret)
    assert outcome.status == 2
    assert api.secret not in outcome.out + outcome.err
