"""`gateway keys disable|enable|revoke|delete|rotate|finish-rotation`, `gateway rotate`: no accident that is final."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.admin_api import AdminApi
    from tests.cli.conftest import Gateway, Outcome

    Key = dict[str, Any]


def _valid(gateway: Gateway, secret: str) -> bool:
    return gateway("keys", "verify", piped=secret).status == 0


def _secret(outcome: Outcome) -> str:
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("secret ")]
    return line.split()[1]


def test_disable_and_enable_answer_with_the_key(gateway: Gateway, key: Key) -> None:
    disabled = gateway("keys", "disable", key["id"], "--json").json
    assert (disabled["status"], disabled["disabled_by"]["text"]) == ("disabled", "API Key: Admin key")
    assert not _valid(gateway, key["secret"])
    assert gateway("keys", "enable", key["id"], "--json").json["status"] == "active"
    assert _valid(gateway, key["secret"])
    assert "status       disabled" in gateway("keys", "disable", key["id"]).out


@pytest.mark.parametrize("verb", ["revoke", "delete"])
def test_what_is_final_is_refused_where_nobody_can_be_asked(gateway: Gateway, key: Key, verb: str) -> None:
    outcome = gateway("keys", verb, key["id"])
    assert (outcome.status, outcome.out) == (2, "")
    assert "--yes" in outcome.err
    assert gateway("keys", "show", key["id"], "--json").json["status"] == "active"


@pytest.mark.parametrize("verb", ["revoke", "delete"])
def test_a_no_at_the_terminal_changes_nothing(gateway: Gateway, key: Key, verb: str) -> None:
    """And the question says whose key it is, and whether anybody would miss it."""
    outcome = gateway("keys", verb, key["id"], typing="n\n")
    assert outcome.status == 1
    assert key["tail"] in outcome.err
    assert f"{key['id']}: when it was last used is not recorded yet\n" in outcome.err
    assert gateway("keys", "show", key["id"], "--json").json["status"] == "active"


def test_a_yes_at_the_terminal_revokes(gateway: Gateway, key: Key) -> None:
    outcome = gateway("keys", "revoke", key["id"], "--reason", "leaked", "--json", typing="y\n")
    revoked = json.loads(outcome.out)
    assert (revoked["status"], revoked["revoked_reason"]) == ("revoked", "leaked")


def test_delete_prints_the_key_a_last_time(gateway: Gateway, key: Key) -> None:
    assert gateway("keys", "delete", key["id"], "--yes", "--json").json["id"] == key["id"]
    for verb in ("show", "disable", "enable"):
        assert gateway("keys", verb, key["id"]).status == 3


def test_a_revoked_key_cannot_come_back(gateway: Gateway, key: Key) -> None:
    gateway("keys", "revoke", key["id"], "--yes")
    outcome = gateway("keys", "enable", key["id"])
    assert outcome.status == 1
    assert "final" in outcome.err


def test_a_rotation_prints_the_new_secret_and_what_is_left_to_do(gateway: Gateway, key: Key) -> None:
    rotated = gateway("keys", "rotate", key["id"], "--grace", "1h")
    secret = _secret(rotated)
    assert secret != key["secret"]
    assert f"gateway keys finish-rotation {key['id']}" in rotated.err
    assert _valid(gateway, secret)
    assert _valid(gateway, key["secret"])
    assert "when it was last used is not recorded yet" in rotated.err
    shown = dict(line.split("  ", 1) for line in gateway("keys", "show", key["id"]).out.splitlines())
    assert (shown["old used"].strip(), shown["last used"].strip()) == ("not recorded", "not recorded")
    again = gateway("keys", "rotate", key["id"])
    assert (again.status, again.out) == (1, "")
    assert gateway("keys", "finish-rotation", key["id"], "--json").json["previous_secret"] is None
    assert _valid(gateway, secret)
    assert not _valid(gateway, key["secret"])


@pytest.mark.usefixtures("api")
def test_a_rotation_tells_how_to_check_a_secret_that_is_for_pages(gateway: Gateway) -> None:
    made = gateway("keys", "create", "page", "--origin", "https://a.example", "--json").json
    rotated = gateway("keys", "rotate", made["id"])
    (step,) = [line for line in rotated.err.splitlines() if "2. check" in line]
    command = step.partition(": gateway keys verify ")[2].split()
    assert gateway("keys", "verify", *command, piped=_secret(rotated)).status == 0


def test_a_rotation_without_grace_has_nothing_left_to_do(gateway: Gateway, key: Key) -> None:
    rotated = gateway("keys", "rotate", key["id"], "--grace", "0")
    assert "no good any more" in rotated.err
    assert "finish-rotation" not in rotated.err
    assert not _valid(gateway, key["secret"])


def test_the_guide_ends_the_old_secret_after_a_yes(gateway: Gateway, key: Key) -> None:
    guided = gateway("rotate", key["id"], typing="\ny\n")
    assert guided.status == 0
    assert f"the old secret (…{key['tail']}): when it was last used is not recorded yet\n" in guided.err
    assert "quiet" not in guided.err
    assert _valid(gateway, _secret(guided))
    assert not _valid(gateway, key["secret"])


def test_the_guide_can_be_left_and_goes_on_where_it_was_left(gateway: Gateway, key: Key) -> None:
    left = gateway("rotate", key["id"], typing="\nn\nn\n")
    assert left.status == 0
    assert "repeat this command" in left.err
    assert _valid(gateway, key["secret"])
    again = gateway("rotate", key["id"], typing="\nn\ny\n\ny\n")
    assert "being rotated already" in again.err
    assert _secret(left) not in again.out + again.err
    assert _valid(gateway, _secret(left))
    assert not _valid(gateway, key["secret"])


def test_without_a_terminal_the_guide_rotates_and_asks_nothing(gateway: Gateway, key: Key) -> None:
    rotated = gateway("rotate", key["id"], "--json").json
    assert rotated["previous_secret"]["tail"] == key["tail"]


def test_a_member_s_secret_is_theirs(gateway: Gateway, api: AdminApi) -> None:
    """Not even an admin gets one: the exit status is that of what is not allowed."""
    added = gateway("members", "add", "bob@example.com", "--with-key", "--json").json
    refused = gateway("keys", "rotate", added["key"]["id"])
    assert (refused.status, refused.out) == (4, "")
    gateway.use(api.url, added["key"]["secret"])
    assert gateway("keys", "rotate", added["key"]["id"]).status == 0
