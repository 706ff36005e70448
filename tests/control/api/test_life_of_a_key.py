"""The operations on keys, over HTTP: what each answers with, and which secret is where."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.control.api.conftest import Api

STORES = ("sqlite", "postgres")


async def test_a_key_is_made_with_its_place_its_version_and_its_secret_once(api: Api) -> None:
    answer = await api.call("POST", "/v1/keys", {"name": "New", "expires": "30d"})
    made = answer.json
    assert answer.status == 201
    assert answer.headers["Location"] == f"/v1/keys/{made['id']}"
    assert answer.headers["ETag"] == '"1"'
    assert made["secret"].endswith(made["tail"])
    assert made["created_by"] == {"id": api.ids["admin's key"], "text": "API Key: Admin key"}
    assert made["expires_at"] == "2026-03-31T12:00:00.250000Z"
    shown = await api.call("GET", f"/v1/keys/{made['id']}")
    assert shown.headers["ETag"] == '"1"'
    assert made["secret"] not in shown.content.decode()
    assert {name: value for name, value in made.items() if name in shown.json} == shown.json


async def test_every_bad_field_is_named_at_once_with_its_rule(api: Api) -> None:
    body = {"name": "", "description": 1, "expires": "2020-01-01", "permissions": ["x"], "colour": "red"}
    answer = await api.call("POST", "/v1/keys", body)
    assert (answer.status, answer.code) == (400, "invalid")
    named = {error["field"].split(".")[0]: error["rule"] for error in answer.json["errors"]}
    assert set(named) == set(body)
    assert named["name"] == "must be 1 to 128 printable characters"
    assert "2026-03-01" in named["expires"]  # the allowed range


@pytest.mark.parametrize("name", ["a" * 129, " ", "a\nb", "a\x00b", "\x1b[31mred", "\u202eevil"])
async def test_a_name_that_could_not_be_shown_is_refused(api: Api, name: str) -> None:
    answer = await api.call("POST", "/v1/keys", {"name": name})
    assert [error["field"] for error in answer.json["errors"]] == ["name"]


@pytest.mark.parametrize("name", ["a" * 128, "Größe 🙂", "مفتاح", "日本語"])
async def test_a_name_in_any_script_comes_back_as_it_was(api: Api, name: str) -> None:
    made = await api.done("POST", "/v1/keys", {"name": name})
    found = await api.done("GET", f"/v1/keys?search={name}")
    assert [(key["id"], key["name"]) for key in found["items"]] == [(made["id"], name)]


async def test_a_repeated_create_is_200_with_the_same_key_and_no_secret(api: Api) -> None:
    headers = [("Idempotency-Key", "once")]
    first = await api.call("POST", "/v1/keys", {"name": "New"}, headers=headers)
    again = await api.call("POST", "/v1/keys", {"name": "New"}, headers=headers)
    assert (first.status, again.status) == (201, 200)
    assert again.json["id"] == first.json["id"]
    assert (again.json["secret"], again.json["code"]) == (None, "secret_already_issued")
    assert again.headers["Location"] == first.headers["Location"]
    other = await api.call("POST", "/v1/keys", {"name": "Other"}, headers=headers)
    assert (other.status, other.code) == (409, "idempotency_key_reused")


async def test_a_change_with_if_match_loses_the_race_and_changes_nothing(api: Api) -> None:
    path = api.of("robot's key")
    changed = await api.call("PATCH", path, {"name": "B"}, headers=[("If-Match", '"1"')])
    assert (changed.status, changed.headers["ETag"], changed.json["name"]) == (200, '"2"', "B")
    lost = await api.call("PATCH", path, {"name": "C"}, headers=[("If-Match", '"1"')])
    assert (lost.status, lost.code) == (412, "version_mismatch")
    weak = await api.call("PATCH", path, {"name": "C"}, headers=[("If-Match", 'W/"2"')])
    assert weak.status == 412
    assert (await api.done("GET", path))["name"] == "B"
    assert (await api.call("PATCH", path, {"name": "C"}, headers=[("If-Match", "*")])).status == 200


async def test_a_field_that_is_left_out_stays_and_null_means_inherit(api: Api) -> None:
    path = api.of("robot's key")
    assert (await api.done("PATCH", path, {"description": "x"}))["permissions"] == ["orders:read"]
    assert (await api.done("PATCH", path, {"permissions": None}))["permissions"] is None
    assert (await api.done("GET", path))["description"] == "x"


async def test_the_states_of_a_key_follow_each_other(api: Api) -> None:
    path = api.of("robot's key")
    steps: list[tuple[str, dict[str, Any], str]] = [
        ("disable", {}, "disabled"),
        ("disable", {}, "disabled"),
        ("enable", {}, "active"),
        ("revoke", {"reason": "Left on a train"}, "revoked"),
        ("revoke", {}, "revoked"),
    ]
    for step, body, status in steps:
        assert (await api.done("POST", f"{path}/{step}", body))["status"] == status
    assert (await api.done("GET", path))["revoked_reason"] == "Left on a train"
    for step in ("enable", "disable", "rotate"):
        refused = await api.call("POST", f"{path}/{step}")
        assert (refused.status, refused.code) == (409, "key_revoked")
    gone = await api.done("DELETE", path)
    assert (gone["id"], gone["status"]) == (api.ids["robot's key"], "revoked")
    assert (await api.call("GET", path)).status == 404
    assert (await api.call("DELETE", path)).status == 404


async def test_a_rotation_has_both_secrets_until_it_is_finished(api: Api) -> None:
    rotated = await api.call("POST", api.of("robot's key", "rotate"), {"grace": "1h"})
    old, new = api.keys["robot"], rotated.json["secret"]
    assert rotated.status == 200
    assert new not in {old, None}
    assert rotated.json["previous_secret"]["tail"] == old[-6:]
    assert (await api.call("GET", "/v1/me", by="robot")).status == 200
    again = await api.call("POST", api.of("robot's key", "rotate"))
    assert (again.status, again.code) == (409, "rotation_in_progress")
    finished = await api.done("POST", api.of("robot's key", "finish-rotation"))
    assert finished["previous_secret"] is None
    assert (await api.call("GET", "/v1/me", by="robot")).status == 401
    api.keys["robot"] = new
    assert (await api.call("GET", "/v1/me", by="robot")).status == 200


async def test_the_old_secret_ends_with_its_grace_period(api: Api) -> None:
    await api.done("POST", api.of("robot's key", "rotate"), {"grace": "1h"})
    api.clock.advance(hours=1)
    refused = await api.call("GET", "/v1/me", by="robot")
    assert (refused.status, refused.code) == (401, "expired_api_key")


async def test_a_key_of_another_system_is_imported_by_its_digest_and_works(api: Api) -> None:
    api.keys["imported"] = "legacy-0123456789abcdef0123456789abcdef"
    digest = hashlib.sha256(api.keys["imported"].encode()).hexdigest()
    body = {"name": "Old", "sha256": digest, "entropy_bits": 128, "tail": "abcdef", "permissions": ["gateway:read"]}
    answer = await api.call("POST", "/v1/keys/import", body)
    assert (answer.status, answer.headers["Location"]) == (201, f"/v1/keys/{answer.json['id']}")
    assert "secret" not in answer.json
    assert digest not in answer.content.decode()
    assert (await api.done("GET", "/v1/me", by="imported"))["key"]["imported"] is True
    taken = await api.call("POST", "/v1/keys/import", body)
    assert (taken.status, taken.code) == (409, "digest_in_use")
    await api.done("DELETE", f"/v1/keys/{answer.json['id']}")
    retired = await api.call("POST", "/v1/keys/import", body)
    assert (retired.status, retired.code) == (409, "digest_retired")


async def test_a_secret_is_verified_and_that_of_another_organization_looks_unknown(api: Api) -> None:
    asked = {"key": api.keys["robot"], "permissions": ["orders:read"]}
    good = await api.done("POST", "/v1/keys/verify", asked)
    assert (good["valid"], good["code"], good["key"]["id"]) == (True, None, api.ids["robot's key"])
    assert good["permissions"] == ["orders:read"]
    lacking = await api.done("POST", "/v1/keys/verify", {**asked, "permissions": ["orders:write"]})
    assert (lacking["valid"], lacking["code"]) == (False, "insufficient_permissions")
    foreign = await api.done("POST", "/v1/keys/verify", asked, by="stranger")
    assert foreign == {"valid": False, "code": "invalid_api_key", "key": None, "permissions": []}


async def test_lists_are_filtered_sorted_and_paged(api: Api) -> None:
    everything = await api.done("GET", "/v1/keys?limit=1000")
    seen, cursor = [], ""
    while True:
        page = await api.done("GET", f"/v1/keys?limit=1{cursor}")
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == everything["items"]
    names = [key["name"] for key in (await api.done("GET", "/v1/keys?sort=name"))["items"]]
    assert names == sorted(names, key=str.casefold)
    by_tail = await api.done("GET", f"/v1/keys?search={api.keys['robot'][-6:]}")
    assert [key["id"] for key in by_tail["items"]] == [api.ids["robot's key"]]
    owned = await api.done("GET", "/v1/keys?owner=Robot&status=active")
    assert [key["id"] for key in owned["items"]] == [api.ids["robot's key"]]
    assert (await api.done("GET", "/v1/keys?status=revoked"))["items"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "status=old", "sort=size", "cursor=x", "unused_days=0"])
async def test_a_bad_filter_is_named(api: Api, query: str) -> None:
    answer = await api.call("GET", f"/v1/keys?{query}")
    assert (answer.status, answer.code) == (400, "invalid")
    assert [error["field"] for error in answer.json["errors"]] == [query.partition("=")[0]]


async def test_a_publishable_key_is_for_its_pages_alone(api: Api) -> None:
    made = await api.done("POST", "/v1/keys", {"name": "Page", "allowed_origins": ["https://app.example.com"]})
    api.keys["page"] = made["secret"]
    refused = await api.call("GET", "/v1/me", by="page")
    assert (refused.status, refused.code) == (403, "origin_not_allowed")
    allowed = await api.call("GET", "/v1/me", by="page", headers=[("Origin", "https://app.example.com")])
    assert allowed.status == 200
    both = [("Origin", "https://app.example.com"), ("Origin", "https://evil.example")]
    assert (await api.call("GET", "/v1/me", by="page", headers=both)).code == "origin_not_allowed"


async def test_an_expired_key_is_told_so(api: Api) -> None:
    made = await api.done("POST", "/v1/keys", {"name": "Short", "expires": "1h"})
    api.keys["short"] = made["secret"]
    api.clock.advance(hours=1)
    refused = await api.call("GET", "/v1/me", by="short")
    assert (refused.status, refused.code) == (401, "expired_api_key")
    assert (await api.done("GET", f"/v1/keys/{made['id']}"))["status"] == "expired"


async def test_making_a_key_of_the_name_of_another_warns(api: Api) -> None:
    made = await api.done("POST", "/v1/keys", {"name": "limited"})
    assert [warning["code"] for warning in made["warnings"]] == ["name_in_use"]


async def test_repeating_the_making_of_a_key_that_is_gone_makes_no_other(api: Api) -> None:
    headers = [("Idempotency-Key", "once")]
    first = await api.call("POST", "/v1/keys", {"name": "New"}, headers=headers)
    await api.done("DELETE", f"/v1/keys/{first.json['id']}")
    again = await api.call("POST", "/v1/keys", {"name": "New"}, headers=headers)
    assert (again.status, again.code) == (404, "key_not_found")
