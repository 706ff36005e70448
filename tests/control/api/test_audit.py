"""What is on record, over HTTP: requests beside changes, counted and verified, by people with different powers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gateway.keys.request_entry import Outcome
from tests.memory_audit_store import SPOOL, entry

if TYPE_CHECKING:
    from tests.control.api.conftest import Api

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def ask(api: Api, whose: str, **given: Any) -> None:  # noqa: ANN401 - whatever an entry has
    """A request with a key of `ids` comes on record; with none of them it belongs to nobody."""
    owners = {"admin's key": "admin", "member's key": "member", "robot's key": "service account"}
    number = len(api.requests.entries)
    if whose in owners:
        given |= {"key_id": api.ids[whose], "key_name": whose, "organization_id": api.ids["organization"]}
        given |= {"owner_id": api.ids[owners[whose]]}
    at = (api.clock.now - EPOCH) // timedelta(microseconds=1)
    await api.requests.write(SPOOL, [entry(**{"at": at, "number": number, "request_id": whose, **given})])


async def test_requests_and_changes_are_one_list_with_one_cursor(api: Api) -> None:
    for _ in range(3):
        api.clock.advance(seconds=1)
        await ask(api, "admin's key", user_agent="curl", address="192.0.2.1")
        api.clock.advance(seconds=1)
        await api.done("PATCH", api.of("member"), {"external_id": api.clock.now.isoformat()})
    found, cursor = [], ""
    while True:
        page = await api.done("GET", f"/v1/audit?limit=2{cursor}")
        found += page["items"]
        cursor = f"&cursor={page['next_cursor']}"
        if page["next_cursor"] is None:
            break
    whole = await api.done("GET", "/v1/audit?limit=1000")
    assert found == whole["items"]
    assert [each["kind"] for each in found[:6]] == ["change", "request"] * 3
    assert found[1]["request"]["user_agent"] == "curl"
    assert found[0]["request"] is None


async def test_everybody_reads_what_is_theirs(api: Api) -> None:
    for whose in ("admin's key", "member's key", "robot's key", "nobody"):
        api.clock.advance(seconds=1)
        await ask(api, whose)
    seen = {
        "admin": ["nobody", "robot's key", "member's key", "admin's key"],
        "limited": ["admin's key"],
        "member": ["member's key"],
        "stranger": [],
    }
    for by, expected in seen.items():
        items = (await api.done("GET", "/v1/audit?kind=request", by=by))["items"]
        assert [each["request_id"] for each in items] == expected, by
    assert (await api.call("GET", "/v1/audit", by="robot")).code == "insufficient_permissions"


async def test_whoever_is_given_the_id_of_an_answer_finds_what_was_asked(api: Api) -> None:
    """A change by the admin API's own answer, a request by the proxy's; and nobody finds another's."""
    longest = "5" * 128  # that a trusted proxy's may be
    await ask(api, "member's key", request_id=longest)
    changed = await api.call("PATCH", api.of("member"), {"external_id": "new"})
    for request_id, kind in ((changed.headers["X-Request-ID"], "change"), (longest, "request")):
        (found,) = (await api.done("GET", f"/v1/audit?request_id={request_id}"))["items"]
        assert (found["kind"], found["request_id"]) == (kind, request_id)
        assert (await api.done("GET", f"/v1/audit?request_id={request_id}", by="stranger"))["items"] == []


async def test_filters_of_requests(api: Api) -> None:
    await ask(api, "member's key", status=404)
    await ask(api, "member's key", status=403, outcome=Outcome.REFUSED, code="insufficient_permissions")
    key = api.ids["member's key"]
    for query, count in {
        "status=404": 1,
        "status=4xx": 2,
        "status=refused": 1,
        "code=insufficient_permissions": 1,
        f"key={key}&kind=request": 2,
        "actor=mia@example.com": 2,
        "status=4xx&to=2026-01-01T00:00:00Z": 0,
        "status=4xx&from=0001-01-01T00:00:00Z": 2,
    }.items():
        assert len((await api.done("GET", f"/v1/audit?{query}"))["items"]) == count, query


@pytest.mark.parametrize("query", ["kind=changes", "status=teapot", "status=", "kind=", "outcome=refused", "code="])
async def test_a_filter_that_is_none_is_named(api: Api, query: str) -> None:
    answer = await api.call("GET", f"/v1/audit?{query}")
    assert (answer.status, answer.code) == (400, "invalid")
    assert [each["field"] for each in answer.json["errors"]] == [query.partition("=")[0]]


async def test_counts_need_no_more_than_reading(api: Api) -> None:
    assert await api.done("GET", "/v1/audit/counts", by="member") == {"items": []}
    answer = await api.call("GET", "/v1/audit/counts?from=2020-01-01T00:00:00Z")
    assert [each["field"] for each in answer.json["errors"]] == ["to"]


async def test_verification_is_the_operators(api: Api) -> None:
    assert (await api.done("GET", "/v1/audit/verify"))["complete"] is True
    assert (await api.call("GET", "/v1/audit/verify", by="stranger")).code == "operator_required"
    assert (await api.call("GET", "/v1/audit/verify", by="member")).code == "insufficient_permissions"


async def test_me_says_whether_uses_are_recorded(api: Api) -> None:
    assert (await api.done("GET", "/v1/me", by="member"))["uses_recorded"] is True
