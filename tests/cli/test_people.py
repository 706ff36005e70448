"""`gateway members`, `service-accounts`, `orgs`, `audit`, `whoami`, `permissions`: all operations, by id or name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.admin_api import AdminApi
    from tests.cli.conftest import Gateway

    Shape = dict[str, Any]


@pytest.fixture
def bob(gateway: Gateway, api: AdminApi) -> Shape:
    """A member with a key."""
    wishes = ("--key-name", "laptop", "--key-expires", "7d")
    return gateway("members", "add", "Bob@example.com", *wishes, "--admin-url", api.url, "--json").json


@pytest.fixture
def robot(gateway: Gateway, api: AdminApi) -> Shape:
    wishes = ("--permission", "*:*")
    return gateway("service-accounts", "create", "Robot", *wishes, "--admin-url", api.url, "--json").json


def test_a_member_is_added_with_a_key_to_hand_on(gateway: Gateway, api: AdminApi, bob: Shape) -> None:
    assert (bob["email"], bob["role"], bob["key"]["name"]) == ("bob@example.com", "member", "laptop")
    gateway.use(api.url, bob["key"]["secret"])
    me = gateway("whoami", "--json").json
    assert (me["owner"]["id"], me["owner"]["role"], me["key"]["name"]) == (bob["id"], "member", "laptop")


@pytest.mark.usefixtures("api")
def test_people_see_the_secret_of_a_first_key_and_are_told_to_hand_it_on(gateway: Gateway) -> None:
    outcome = gateway("members", "add", "eve@example.com", "--with-key")
    assert outcome.out.startswith("secret")
    assert "hand the secret on now" in outcome.err
    assert "secret" not in gateway("members", "add", "joe@example.com").out


def test_members_are_listed_shown_and_changed_by_e_mail_or_id(gateway: Gateway, bob: Shape) -> None:
    assert [each["email"] for each in gateway("members", "list", "--json").json["items"]] == [
        "bob@example.com",
        "admin@example.com",
    ]
    for reference in (bob["id"], "BOB@example.com"):
        assert gateway("members", "show", reference, "--json").json["id"] == bob["id"]
    changed = gateway("members", "update", "bob@example.com", "--permission", "orders:read", "--json").json
    assert changed["permissions"] == ["orders:read"]
    assert (
        gateway("members", "update", "bob@example.com", "--external-id", "b-1", "--json").json["external_id"] == "b-1"
    )
    cleared = gateway("members", "update", "bob@example.com", "--external-id", "", "--json").json
    assert cleared["external_id"] is None
    assert "bob@example.com" in gateway("members", "list", "--search", "bo").out


@pytest.mark.usefixtures("bob", "robot")
@pytest.mark.parametrize("group", ["members", "service-accounts"])
def test_the_beginning_of_a_name_is_nobody_s(gateway: Gateway, group: str) -> None:
    outcome = gateway(group, "remove", "bo" if group == "members" else "Ro", "--yes")
    assert (outcome.status, outcome.out) == (3, "")


def test_who_goes_leaves_no_key_behind(gateway: Gateway, bob: Shape, robot: Shape) -> None:
    undecided = gateway("members", "remove", "bob@example.com", "--yes")
    assert (undecided.status, undecided.out) == (2, "")
    assert gateway("members", "show", bob["id"]).status == 0
    moved = gateway(
        *("members", "remove", "bob@example.com", "--keys", "move", "--move-to", "robot", "--yes", "--json")
    ).json
    assert (moved["keys"]["moved"], moved["keys"]["moved_to"]["id"]) == (1, robot["id"])
    assert gateway("keys", "show", bob["key"]["id"], "--json").json["owner"]["id"] == robot["id"]
    removed = gateway("service-accounts", "remove", "Robot", "--keys", "revoke", "--yes")
    assert "keys         1 revoked" in removed.out
    assert gateway("keys", "show", bob["key"]["id"], "--json").json["status"] == "revoked"


@pytest.mark.usefixtures("bob", "robot")
@pytest.mark.parametrize("group", ["members", "service-accounts"])
def test_a_removal_asks_first(gateway: Gateway, group: str) -> None:
    reference = "bob@example.com" if group == "members" else "Robot"
    asked = gateway(group, "remove", reference, "--keys", "revoke", typing="n\n")
    assert asked.status == 1
    assert "nothing was changed" in asked.err
    assert gateway(group, "remove", reference).status == 2
    assert gateway(group, "show", reference).status == 0


def _account_with_key(gateway: Gateway, group: str) -> tuple[str, Shape]:
    """Return how one of the kind is named, and a live key of theirs."""
    if group == "members":
        return "bob@example.com", gateway("members", "add", "bob@example.com", "--with-key", "--json").json["key"]
    gateway("service-accounts", "create", "Old", "--permission", "orders:read")
    return "Old", gateway("keys", "create", "of Old", "--owner", "Old", "--json").json


GROUPS = pytest.mark.parametrize("group", ["members", "service-accounts"])


@GROUPS
def test_without_a_terminal_a_removal_names_the_options_that_are_missing(
    gateway: Gateway, robot: Shape, group: str
) -> None:
    reference, key = _account_with_key(gateway, group)
    for options, missing in (((), True), (("--yes",), False), (("--keys", "move", "--yes"), False)):
        outcome = gateway(group, "remove", reference, *options)
        assert (outcome.status, outcome.out) == (2, "")
        assert "--keys revoke, or with --keys move --move-to ACCOUNT" in outcome.err
        assert ("--yes" in outcome.err) is missing
    contradiction = gateway(group, "remove", reference, "--keys", "revoke", "--move-to", robot["id"], "--yes")
    assert (contradiction.status, contradiction.out) == (2, "")
    assert gateway("keys", "show", key["id"], "--json").json["status"] == "active"


@GROUPS
@pytest.mark.usefixtures("robot")
def test_at_a_terminal_a_removal_asks_for_the_keys_before_the_confirmation(gateway: Gateway, group: str) -> None:
    reference, key = _account_with_key(gateway, group)
    outcome = gateway(group, "remove", reference, typing="perhaps\nrevoke\ny\n")
    assert outcome.status == 0
    assert outcome.err.index("what becomes of the live keys") < outcome.err.index("their live keys will be revoked")
    assert "keys         1 revoked" in outcome.out
    assert "gateway keys rotate" not in outcome.err
    assert gateway("keys", "show", key["id"], "--json").json["status"] == "revoked"


@GROUPS
def test_moved_keys_are_to_be_rotated(gateway: Gateway, robot: Shape, group: str) -> None:
    """Asked or told to move: who held the secrets still does."""
    reference, key = _account_with_key(gateway, group)
    outcome = gateway(group, "remove", reference, typing="move\nrobot\ny\n")
    assert outcome.status == 0
    assert "their live keys will move to the service account 'robot'" in outcome.err
    assert "whoever held the secrets of the moved keys can still use them" in outcome.err
    assert "rotate them now: gateway keys rotate ID" in outcome.err
    owned = gateway("keys", "list", "--owner", robot["id"], "--json").json["items"]
    assert f"gateway keys list --owner {robot['id']}" in outcome.err
    assert [each["id"] for each in owned] == [key["id"]]


@GROUPS
@pytest.mark.parametrize("typed", ["revoke\nn\n", "move\nrobot\nn\n", "move\nnobody\n", "", "move\n", "SECRET"])
@pytest.mark.usefixtures("robot")
def test_a_removal_that_is_left_changes_nothing(gateway: Gateway, group: str, typed: str) -> None:
    reference, key = _account_with_key(gateway, group)
    secret: str = key["secret"]
    outcome = gateway(group, "remove", reference, typing=f"move\n{secret}\n" if typed == "SECRET" else typed)
    assert outcome.status in {1, 2, 3}
    assert outcome.out.strip() == ""  # click's question leaves a space there
    assert secret not in outcome.err
    assert gateway(group, "show", reference).status == 0
    assert gateway("keys", "show", key["id"], "--json").json["status"] == "active"


@GROUPS
@pytest.mark.usefixtures("api")
def test_who_has_no_live_keys_is_removed_without_a_choice(gateway: Gateway, group: str) -> None:
    reference, key = _account_with_key(gateway, group)
    gateway("keys", "revoke", key["id"], "--yes")
    outcome = gateway(group, "remove", reference, typing="y\n")
    assert outcome.status == 0
    assert "keys         none" in outcome.out


@GROUPS
def test_who_may_not_see_keys_has_to_say_what_becomes_of_them(gateway: Gateway, api: AdminApi, group: str) -> None:
    reference, _ = _account_with_key(gateway, group)
    limited = gateway("keys", "create", "people", "--permission", "gateway:members", "--json").json
    gateway.use(api.url, limited["secret"])
    assert gateway(group, "remove", reference, "--yes").status == 2
    assert gateway(group, "remove", reference, "--keys", "revoke", "--yes").status == 0


@pytest.mark.usefixtures("api")
def test_a_member_may_be_added_who_may_do_nothing_yet(gateway: Gateway) -> None:
    assert gateway("members", "add", "new@example.com", "--no-permissions", "--json").json["permissions"] == []


def test_a_service_account_is_made_changed_and_found(gateway: Gateway, robot: Shape) -> None:
    assert gateway("service-accounts", "list", "--json").json["items"][0]["id"] == robot["id"]
    changed = gateway(
        *("service-accounts", "update", "robot", "--name", "Crane", "--description", "lifts", "--no-permissions"),
        "--json",
    ).json
    assert (changed["name"], changed["description"], changed["permissions"]) == ("Crane", "lifts", [])
    assert gateway("service-accounts", "show", "Crane", "--json").json["id"] == robot["id"]
    assert gateway("keys", "create", "of the crane", "--owner", "Crane", "--no-permissions").status == 0


def test_the_rules_of_one_s_own_organization_need_no_id(gateway: Gateway, api: AdminApi) -> None:
    changed = gateway(
        "orgs", "update", "--max-expiry", "30d", "--default-expiry", "7d", "--admins-create", "--json"
    ).json
    assert (changed["max_expiry"], changed["default_expiry"]) == ("30d", "7d")
    assert changed["keys_create_requires_admin"]
    shown = gateway("orgs", "show").out
    assert "7d by default, at most 30d" in shown
    assert api.made.organization.id in shown
    assert gateway("orgs", "update", "--max-expiry", "never", "--json").json["max_expiry"] is None
    assert not gateway("orgs", "update", "--everybody-creates", "--json").json["keys_create_requires_admin"]


def test_the_operator_founds_lists_and_ends_organizations(gateway: Gateway, api: AdminApi) -> None:
    made = gateway("orgs", "create", "Other", "--admin", "o@example.com", "--external-id", "o-1", "--json").json
    assert made["key"]["secret"].startswith("sk_")
    names = [each["name"] for each in gateway("orgs", "list", "--json").json["items"]]
    assert sorted(names) == ["Acme", "Other"]
    assert gateway("orgs", "delete", made["id"]).status == 2
    assert gateway("orgs", "delete", made["id"], "--yes").status == 0
    gateway.use(api.url, made["key"]["secret"])
    assert gateway("whoami").status == 4


@pytest.mark.usefixtures("api")
def test_an_organization_is_printed_with_its_admin_s_secret_once(gateway: Gateway) -> None:
    outcome = gateway("orgs", "create", "Other", "--admin", "o@example.com")
    assert outcome.out.startswith("secret")
    assert "hand the secret on now" in outcome.err


def test_another_organization_does_not_exist(gateway: Gateway, api: AdminApi) -> None:
    """For who is not the operator; and no key of another one ever shows."""
    made = gateway("orgs", "create", "Other", "--admin", "o@example.com", "--json").json
    gateway.use(api.url, made["key"]["secret"])
    assert gateway("orgs", "show", api.made.organization.id).status == 3
    assert gateway("keys", "show", api.made.key.id).status == 3
    assert [each["name"] for each in gateway("orgs", "list", "--json").json["items"]] == ["Other"]


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("text", ["Acme", "org_", "../keys"])
def test_an_organization_is_meant_by_its_id(gateway: Gateway, text: str) -> None:
    assert gateway("orgs", "show", text).status == 2


def test_the_audit_trail_names_who_did_what(gateway: Gateway, api: AdminApi, bob: Shape) -> None:
    lines = gateway("audit", "list", "--action", "member.create").out.splitlines()
    assert lines[0].split() == ["AT", "ACTOR", "ACTION", "TARGET", "RESULT", "ADDRESS"]
    assert "API Key: Admin key" in lines[1]
    assert f"bob@example.com ({bob['id']})" in lines[1]
    everything = gateway("audit", "list", "--actor", api.made.key.id, "--json").json["items"]
    assert {each["action"] for each in everything} >= {"member.create", "key.create"}
    assert gateway("audit", "list", "--key", bob["key"]["id"], "--json").json["items"]
    assert gateway("audit", "list", "--target", bob["id"], "--json").json["items"]
    assert gateway("audit", "list", "--to", "2020-01-01T00:00:00Z", "--json").json["items"] == []
    assert gateway("audit", "list", "--from", "2020-01-01T00:00:00Z", "--limit", "1").err.startswith(
        "gateway: there are"
    )
    assert gateway("audit", "list", "--from", "yesterday").status == 2


def test_whoami_says_whose_the_key_is_and_what_it_may(gateway: Gateway, api: AdminApi) -> None:
    out = gateway("whoami").out
    assert f"Acme ({api.made.organization.id})" in out
    assert f"admin@example.com (admin member, {api.made.member.id})" in out
    assert "gateway:*" in out


@pytest.mark.usefixtures("api")
def test_permissions_are_listed_with_their_source(gateway: Gateway) -> None:
    assert "orders:read" in gateway("permissions").out
    known = {each["permission"]: each["source"] for each in gateway("permissions", "--json").json["items"]}
    assert known["orders:read"] == "route"
    assert known["gateway:keys"] == "gateway"
