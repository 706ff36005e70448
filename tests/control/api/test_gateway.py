"""`/v1/status` and `/v1/reload`: for who operates the gateway alone, and told in the trail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import Conflict, StoreUnavailable
from gateway.keys.authority import Authority
from gateway.services.actor import Actor, Caller
from tests.administration import OTHER, OWN, Supervisor, administration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.control.api.conftest import Api

OPERATOR = Caller(
    Authority("org_1", "mem_1", "member", "admin", "key_1", None, ("gateway:*",), operator=True),
    Actor("key_1", "API Key: x"),
)


class Trail:
    """Cannot be written."""

    def __init__(self) -> None:
        self.told: list[Sequence[str]] = []

    async def record(self, _caller: Caller, changed: Sequence[str]) -> None:
        self.told.append(changed)
        raise StoreUnavailable("The store is away.")


async def test_the_status_lists_own_workers_first_with_what_they_count(api: Api) -> None:
    status = await api.done("GET", "/v1/status")
    assert [each["node"] for each in status["workers"]] == [OWN.node, OTHER.node]
    own, other = status["workers"]
    assert (own["applied"], own["lag"], own["own"], own["silent_seconds"]) == (7, 0, True, 0.25)
    assert (own["figures"]["hits"], own["figures"]["misses"], own["figures"]["hits_absent"]) == (10, 3, 2)
    assert (other["lag"], other["own"], other["figures"]) == (2, False, None)
    assert (status["store"], status["redis"]) == ({"reachable": True, "head": 7}, None)
    assert status["settings_loaded_at"] == "2026-03-01T12:00:00Z"


async def test_a_reload_says_what_changed_and_is_told_in_the_trail(api: Api) -> None:
    assert await api.done("POST", "/v1/reload") == {"changed": ["cache.max_entries"], "warnings": []}
    event = (await api.done("GET", "/v1/audit?action=gateway.reload"))["items"][0]
    assert event["target"] == {"kind": "gateway", "id": "gateway", "name": "gateway"}
    assert event["after"] == {"changed": ["cache.max_entries"]}
    assert event["actor"]["id"] == api.ids["admin's key"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/status"), ("POST", "/v1/reload")])
@pytest.mark.parametrize("by", ["stranger", "robot"])
async def test_nobody_but_the_operators_people_may(api: Api, method: str, path: str, by: str) -> None:
    answer = await api.call(method, path, by=by)
    assert answer.status == 403
    assert answer.code == ("operator_required" if by == "stranger" else "insufficient_permissions")


@pytest.mark.parametrize("by", ["limited", "member"])
async def test_reading_is_enough_for_the_status_and_not_for_a_reload(api: Api, by: str) -> None:
    assert (await api.call("GET", "/v1/status", by=by)).status == 200
    assert (await api.call("POST", "/v1/reload", by=by)).code == "insufficient_permissions"


@pytest.mark.parametrize("code", ["bad_configuration", "restart_required", "reload_in_progress", "reload_failed"])
async def test_a_reload_that_is_refused_is_a_conflict_that_names_every_problem(code: str) -> None:
    outcome: dict[str, Any] = {"ok": False, "code": code, "problems": ["One.", "Two."], "changed": []}
    supervisor = Supervisor(outcome)
    made = administration(None, supervisor=supervisor)  # type: ignore[arg-type]  # no event is written
    with pytest.raises(Conflict) as caught:
        await made.reload(OPERATOR)
    assert (caught.value.code, caught.value.detail) == (code, "One.\nTwo.")


async def test_a_reload_is_done_although_its_trace_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    trail = Trail()
    made = administration(None)  # type: ignore[arg-type]  # another trail is put in
    monkeypatch.setattr(made, "_trail", trail)
    assert (await made.reload(OPERATOR)).changed == ("cache.max_entries",)
    assert trail.told == [("cache.max_entries",)]
