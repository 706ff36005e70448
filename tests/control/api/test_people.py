"""Members and service accounts, over HTTP: added, changed, removed, with a choice for their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.control.api.conftest import Api

STORES = ("sqlite", "postgres")


async def test_a_member_comes_with_a_first_key_where_that_is_asked_for(api: Api) -> None:
    plain = await api.call("POST", "/v1/members", {"email": "Tom@Example.com"})
    assert (plain.status, plain.json["email"], plain.json["key"]) == (201, "tom@example.com", None)
    assert plain.headers["Location"] == f"/v1/members/{plain.json['id']}"
    headers = [("Idempotency-Key", "k")]
    body = {"email": "uma@example.com", "first_key": {"name": "For Uma", "expires": "1d"}}
    first = await api.call("POST", "/v1/members", body, headers=headers)
    again = await api.call("POST", "/v1/members", body, headers=headers)
    assert (first.status, again.status) == (201, 200)
    assert first.json["key"]["name"] == "For Uma"
    assert again.json["key"]["code"] == "secret_already_issued"
    assert first.json["key"]["secret"] not in again.content.decode()
    api.keys["uma"] = first.json["key"]["secret"]
    assert (await api.done("GET", "/v1/me", by="uma"))["owner"]["name"] == "uma@example.com"


async def test_an_address_in_use_is_a_conflict(api: Api) -> None:
    answer = await api.call("POST", "/v1/members", {"email": "MIA@example.com"})
    assert (answer.status, answer.code) == (409, "member_exists")
    answer = await api.call("POST", "/v1/service-accounts", {"name": "Robot"})
    assert (answer.status, answer.code) == (409, "service_account_exists")


async def test_people_are_found_and_changed(api: Api) -> None:
    found = await api.done("GET", "/v1/members?search=MI")
    assert [member["id"] for member in found["items"]] == [api.ids["member"]]
    shown = await api.call("GET", api.of("member"))
    assert shown.headers["ETag"] == '"1"'
    changed = await api.call("PATCH", api.of("member"), {"role": "admin"}, headers=[("If-Match", '"1"')])
    assert (changed.status, changed.json["role"], changed.headers["ETag"]) == (200, "admin", '"2"')
    lost = await api.call("PATCH", api.of("member"), {"role": "member"}, headers=[("If-Match", '"1"')])
    assert (lost.status, lost.code) == (412, "version_mismatch")
    account = await api.done("PATCH", api.of("service account"), {"description": "Builds"})
    assert account["description"] == "Builds"
    assert (await api.done("GET", "/v1/service-accounts?search=rob"))["items"] == [
        {name: value for name, value in account.items() if name != "propagation"}
    ]


async def test_a_removal_asks_what_becomes_of_the_keys(api: Api) -> None:
    undecided = await api.call("DELETE", api.of("member"))
    assert (undecided.status, undecided.code) == (409, "keys_need_a_choice")
    assert "1 key" in undecided.json["detail"]
    removed = await api.done("DELETE", api.of("member") + "?keys=revoke")
    assert removed["keys"] == {"revoked": 1, "moved": 0, "moved_to": None}
    assert (await api.call("GET", api.of("member"))).status == 404
    assert (await api.call("GET", "/v1/me", by="member")).code == "revoked_api_key"


async def test_keys_move_to_a_service_account(api: Api) -> None:
    removed = await api.done("DELETE", f"{api.of('member')}?keys=move&move_to={api.ids['service account']}")
    assert removed["keys"]["moved"] == 1
    assert (await api.done("GET", "/v1/me", by="member"))["owner"]["id"] == api.ids["service account"]


@pytest.mark.parametrize("query", ["keys=burn", "keys=move", "move_to=sva_x", "keys=revoke&move_to=sva_x"])
async def test_a_choice_that_makes_no_sense_is_refused(api: Api, query: str) -> None:
    answer = await api.call("DELETE", f"{api.of('member')}?{query}")
    assert (answer.status, answer.code) == (400, "invalid")


async def test_an_organization_always_keeps_an_admin(api: Api) -> None:
    for body in ({"role": "member"}, {"permissions": ["*:*"]}):
        answer = await api.call("PATCH", api.of("admin"), body)
        assert (answer.status, answer.code) == (409, "last_admin")
    answer = await api.call("DELETE", api.of("admin") + "?keys=revoke")
    assert (answer.status, answer.code) == (409, "own_account")


async def test_a_service_account_is_made_and_removed(api: Api) -> None:
    made = await api.call("POST", "/v1/service-accounts", {"name": "CI", "permissions": ["orders:read"]})
    assert (made.status, made.headers["Location"]) == (201, f"/v1/service-accounts/{made.json['id']}")
    removed = await api.done("DELETE", f"/v1/service-accounts/{made.json['id']}")
    assert removed["keys"] == {"revoked": 0, "moved": 0, "moved_to": None}
