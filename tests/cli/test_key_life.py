"""`gateway keys disable|enable|revoke|delete|rotate|finish-rotation`, `gateway rotate`: no accident that is final."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.admin_api import AdminApi

if TYPE_CHECKING:
    from pathlib import Path

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
    assert f"{key['id']}: it was never used\n" in outcome.err
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
    assert "it was never used" in rotated.err
    shown = dict(line.split("  ", 1) for line in gateway("keys", "show", key["id"]).out.splitlines())
    assert (shown["old used"].strip(), shown["last used"].strip()) == ("never used", "never used")
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
    assert f"the old secret (…{key['tail']}): it was never used\n" in guided.err
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


def _used(api: AdminApi, key_id: str, *, by: str) -> None:
    """Write down a use as the recorder does: of the key, and of its present or its previous secret."""
    kind = "IS NULL" if by == "present" else "IS NOT NULL"
    with closing(sqlite3.connect(api.store, timeout=5)) as store, store:
        ((secret_id,),) = store.execute(
            f"SELECT id FROM key_secrets WHERE key_id = ? AND valid_until {kind}",  # noqa: S608 - one of two words
            (key_id,),
        ).fetchall()
        address = f"192.0.2.{1 if by == 'present' else 2}"
        moment = 1_000_000_000_000_000 + (1_000_000 if by == "present" else 0)
        store.execute("INSERT INTO secret_uses VALUES (?, ?, ?, 'curl')", (secret_id, moment, address))
        store.execute(
            "UPDATE key_uses SET used = 1, idle_since = max(idle_since * used, ?), address = ? WHERE key_id = ?",
            (moment, address, key_id),
        )


@pytest.mark.parametrize("verb", ["revoke", "delete"])
def test_who_ends_a_key_is_told_when_and_from_where_it_was_last_used(
    gateway: Gateway, api: AdminApi, key: Key, verb: str
) -> None:
    _used(api, key["id"], by="present")
    outcome = gateway("keys", verb, key["id"], typing="n\n")
    assert f"{key['id']}: it was last used 2001-09-09T01:46:41Z from 192.0.2.1\n" in outcome.err
    (line,) = [line for line in gateway("keys", "list").out.splitlines() if key["id"] in line]
    assert line.endswith("2001-09-09T01:46:41Z from 192.0.2.1")


def test_a_rotation_tells_the_last_use_of_each_of_the_two_secrets(gateway: Gateway, api: AdminApi, key: Key) -> None:
    gateway("keys", "rotate", key["id"])
    _used(api, key["id"], by="previous")
    old = "2001-09-09T01:46:40Z from 192.0.2.2"
    guided = gateway("rotate", key["id"], typing="\nn\nn\n")
    assert f"the old secret (…{key['tail']}): it was last used {old}\n" in guided.err
    _used(api, key["id"], by="present")
    shown = dict(line.split("  ", 1) for line in gateway("keys", "show", key["id"]).out.splitlines())
    assert shown["old used"].strip() == old
    assert shown["last used"].strip() == "2001-09-09T01:46:41Z from 192.0.2.1"
    told = gateway("keys", "show", key["id"], "--json").json
    assert [use["address"] for use in (told["secret_last_used"], told["previous_secret"]["last_used"])] == [
        "192.0.2.1",
        "192.0.2.2",
    ]


def test_keys_are_found_by_how_long_they_were_not_used(gateway: Gateway, api: AdminApi, key: Key) -> None:
    """A key that was never used counts from when it was made."""
    assert gateway("keys", "list", "--unused-days", "1", "--json").json["items"] == []
    _used(api, key["id"], by="present")
    listed = gateway("keys", "list", "--unused-days", "1", "--json").json["items"]
    assert [each["id"] for each in listed] == [key["id"]]


def test_where_uses_are_not_recorded_no_text_says_never(gateway: Gateway, tmp_path: Path) -> None:
    with AdminApi(tmp_path, recording=False) as api:
        gateway.use(api.url, api.secret)
        key = gateway("keys", "create", "CI", "--json").json
        assert gateway("keys", "list").out.count("not recorded") == 2
        outcomes = [gateway("keys", "rotate", key["id"]), gateway("keys", "revoke", key["id"], typing="n\n")]
        for outcome in outcomes:
            assert "when it was last used is not recorded\n" in outcome.err
            assert "never" not in outcome.err.replace("never shown again", "")


def test_a_key_that_ends_itself_is_told_so(gateway: Gateway, api: AdminApi) -> None:
    """Then nobody can ask any more whether uses are recorded, and nothing is claimed."""
    own = gateway("keys", "create", "own", "--json").json
    gateway.use(api.url, own["secret"])
    outcome = gateway("keys", "delete", own["id"], "--yes")
    assert (outcome.status, outcome.err) == (0, "")
    assert "not recorded" in outcome.out
