"""Who may do what, over HTTP: reach (404), permission and role (403), and that nobody gives more than they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.control.api.conftest import Api

STORES = ("sqlite", "postgres")

WITHOUT_REACH = [
    ("GET", ""),
    ("PATCH", ""),
    ("DELETE", ""),
    ("POST", "/disable"),
    ("POST", "/enable"),
    ("POST", "/revoke"),
    ("POST", "/rotate"),
    ("POST", "/finish-rotation"),
]


@pytest.mark.parametrize(("method", "below"), WITHOUT_REACH)
async def test_a_member_does_not_see_keys_of_others(api: Api, method: str, below: str) -> None:
    answer = await api.call(method, api.of("robot's key") + below, {}, by="member")
    assert (answer.status, answer.code) == (404, "key_not_found")


async def test_a_member_lists_their_own_keys_and_themselves(api: Api) -> None:
    keys = await api.done("GET", "/v1/keys", by="member")
    assert [key["id"] for key in keys["items"]] == [api.ids["member's key"]]
    members = await api.done("GET", "/v1/members", by="member")
    assert [member["id"] for member in members["items"]] == [api.ids["member"]]
    assert (await api.done("GET", "/v1/service-accounts", by="member"))["items"] == []
    assert (await api.call("GET", api.of("admin"), by="member")).status == 404
    other = await api.call("GET", "/v1/keys?owner=ada@example.com", by="member")
    assert (other.status, other.code) == (404, "owner_not_found")


async def test_a_limited_key_does_what_its_list_allows_and_no_more(api: Api) -> None:
    assert (await api.call("GET", "/v1/keys", by="limited")).status == 200
    refused = await api.call("POST", "/v1/keys", {"name": "x"}, by="limited")
    assert (refused.status, refused.code) == (403, "insufficient_permissions")
    assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]


async def test_a_key_without_any_gateway_permission_still_learns_who_it_is(api: Api) -> None:
    me = await api.done("GET", "/v1/me", by="robot")
    assert me["key"]["id"] == api.ids["robot's key"]
    assert me["owner"]["kind"] == "service_account"
    assert me["organization"]["name"] == "Acme"
    assert me["permissions"] == ["orders:read"]
    for path in ("/v1/keys", "/v1/members", "/v1/audit", "/v1/permissions", "/v1/organizations"):
        assert (await api.call("GET", path, by="robot")).code == "insufficient_permissions"


async def test_an_admin_ends_a_member_s_key_and_never_takes_its_secret(api: Api) -> None:
    refused = await api.call("POST", api.of("member's key", "rotate"))
    assert (refused.status, refused.code) == (403, "secret_belongs_to_owner")
    made = await api.call("POST", "/v1/keys", {"name": "x", "owner": "mia@example.com"})
    assert (made.status, made.code) == (403, "secret_belongs_to_owner")
    assert (await api.call("POST", api.of("member's key", "revoke"))).status == 200
    refused = await api.call("GET", "/v1/me", by="member")
    assert (refused.status, refused.code) == (401, "revoked_api_key")


async def test_nobody_gives_more_than_they_hold(api: Api) -> None:
    body = {"name": "x", "permissions": ["gateway:admin"]}
    refused = await api.call("POST", "/v1/keys", body, by="member")
    assert (refused.status, refused.code) == (403, "permission_escalation")
    narrow = await api.done("POST", "/v1/keys", {"name": "n", "permissions": ["gateway:keys", "a:read"]}, by="member")
    api.keys["narrow"] = narrow["secret"]
    for wanted in (None, ["a:*"], ["*:*"], ["b:read"]):
        refused = await api.call("POST", "/v1/keys", {"name": "x", "permissions": wanted}, by="narrow")
        assert (refused.status, refused.code) == (403, "permission_escalation"), wanted
    wider = await api.call("PATCH", f"/v1/keys/{narrow['id']}", {"permissions": ["a:*"]}, by="narrow")
    assert wider.code == "permission_escalation"
    stronger = await api.call("POST", api.of("member's key", "rotate"), by="narrow")
    assert stronger.code == "permission_escalation"


async def test_a_change_of_an_owner_counts_for_their_keys_at_once(api: Api) -> None:
    await api.done("PATCH", api.of("member"), {"permissions": ["a:read"]})
    assert (await api.call("GET", "/v1/keys", by="member")).code == "insufficient_permissions"
    assert (await api.done("GET", "/v1/me", by="member"))["permissions"] == ["a:read"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/members", {"email": "x@example.com"}),
        ("POST", "/v1/service-accounts", {"name": "x"}),
    ],
)
async def test_what_is_an_admin_s_is_403_to_a_member_with_the_permission(
    api: Api, method: str, path: str, body: dict[str, object]
) -> None:
    await api.done("PATCH", api.of("member"), {"permissions": ["*:*", "gateway:*"]})
    answer = await api.call(method, path, body, by="member")
    assert (answer.status, answer.code) == (403, "admin_required")


async def test_rules_of_the_organization_leave_keys_to_admins(api: Api) -> None:
    rules = {"keys_create_requires_admin": True, "keys_revoke_requires_admin": True}
    changed = await api.call("PATCH", api.of("organization"), rules)
    assert (changed.status, changed.json["keys_create_requires_admin"]) == (200, True)
    assert (await api.call("POST", "/v1/keys", {"name": "x"}, by="member")).code == "admin_required"
    assert (await api.call("POST", api.of("member's key", "revoke"), by="member")).code == "admin_required"
    assert (await api.call("DELETE", api.of("member's key"), by="member")).code == "admin_required"
    assert (await api.call("POST", api.of("member's key", "disable"), by="member")).status == 200


async def test_the_operator_alone_keeps_the_list_of_organizations_and_sees_into_none(api: Api) -> None:
    made = await api.call("POST", "/v1/organizations", {"name": "Third", "admin": "tom@example.com"})
    third = made.json
    assert (made.status, made.headers["Location"]) == (201, f"/v1/organizations/{third['id']}")
    assert third["member"]["email"] == "tom@example.com"
    api.keys["tom"] = third["key"]["secret"]
    assert (await api.done("GET", "/v1/me", by="tom"))["organization"]["operator"] is False
    refused = await api.call("POST", "/v1/organizations", {"name": "x", "admin": "x@example.com"}, by="tom")
    assert (refused.status, refused.code) == (403, "operator_required")
    listed = await api.done("GET", "/v1/organizations", by="tom")
    assert [each["id"] for each in listed["items"]] == [third["id"]]
    assert len((await api.done("GET", "/v1/organizations"))["items"]) == 3
    assert (await api.call("GET", f"/v1/keys/{third['key']['id']}")).status == 404
    assert (await api.call("GET", f"/v1/members/{third['member']['id']}")).status == 404
    assert (await api.call("DELETE", f"/v1/organizations/{third['id']}")).status == 200
    assert (await api.call("GET", "/v1/me", by="tom")).code == "revoked_api_key"
    own = await api.call("DELETE", api.of("organization"))
    assert (own.status, own.code) == (409, "operator_organization")


async def test_the_trail_of_others_is_not_read(api: Api) -> None:
    everything = (await api.done("GET", "/v1/audit"))["items"]
    own = (await api.done("GET", "/v1/audit", by="member"))["items"]
    assert {event["target"]["id"] for event in own} == {api.ids["member"], api.ids["member's key"]}
    assert len(everything) > len(own)
    strange = (await api.done("GET", "/v1/audit?limit=1000", by="stranger"))["items"]
    assert not {event["id"] for event in everything} & {event["id"] for event in strange}


async def test_permissions_are_listed_by_where_they_come_from(api: Api) -> None:
    listed = (await api.done("GET", "/v1/permissions", by="limited"))["items"]
    found = {each["permission"]: each["source"] for each in listed}
    assert found == {
        "gateway:read": "gateway",
        "gateway:keys": "gateway",
        "gateway:members": "gateway",
        "gateway:admin": "gateway",
        "orders:read": "route",
        "*:*": "granted",
        "gateway:*": "granted",
    }
