"""`gateway status` and `gateway reload`: a table, every problem on a line, and a status that scripts can rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gateway.cli.status import _remarks
from gateway.client import Client, ConflictError
from gateway.client.shapes import Reloaded, Status

if TYPE_CHECKING:
    from tests.admin_api import AdminApi
    from tests.cli.conftest import Gateway

COUNTED = ("entries", "damaged_bytes", "unrecorded_refusals", "dropped_segments", "ndjson_failures", "workers_blocked")
RECORDING: dict[str, Any] = {
    "active": True,
    "lag_seconds": 0.0,
    "store_reachable": True,
    "spool_bytes": 100,
    "waiting_bytes": 79,
    "spool_limit_bytes": 100,
    **dict.fromkeys(COUNTED, 0),
}


def test_status_is_a_line_for_each_worker_of_each_node(gateway: Gateway, api: AdminApi) -> None:
    assert api.secret
    heads, own, other = gateway("status").out.splitlines()
    assert heads.split()[:7] == ["NODE", "HOST", "WORKER", "PID", "APPLIED", "LAG", "FEED"]
    assert own.split() == ["n1", "here", "worker-0", "100", "7", "0", "store", "10", "3", "2", "1", "3", "0s"]
    assert other.split() == ["n2", "there", "worker-0", "200", "5", "2", *["-"] * 7]


def test_status_as_json_is_what_the_api_says(gateway: Gateway, api: AdminApi) -> None:
    assert gateway("status", "--json").json["node"] == "n1"
    assert api.secret


@pytest.mark.parametrize(
    ("told", "remark"),
    [
        ({"workers_ready": 0}, "warning: 0 of 1 workers of this node are ready"),
        ({"store": {"reachable": False, "head": None}}, "warning: the store does not answer"),
        (
            {"redis": {"reachable": False, "complete": False, "relayed": None, "rebuilds": 0}},
            "warning: Redis does not answer; workers ask the store",
        ),
        (
            {"redis": {"reachable": True, "complete": False, "relayed": 3, "rebuilds": 0}},
            "warning: the key table in Redis is being built; workers ask the store",
        ),
        (
            {"recording": RECORDING | {"workers_blocked": 2}},
            "warning: 2 workers refuse requests, which they have no room to record",
        ),
        (
            {"recording": RECORDING | {"store_reachable": False}},
            "warning: the store takes no records of requests; they wait on this machine's disk",
        ),
        (
            {"recording": RECORDING | {"waiting_bytes": 80}},
            "warning: 80 % of the room for records that wait is taken (audit.spool_limit_mebibytes)",
        ),
        (
            {"recording": RECORDING | {"damaged_bytes": 1}},
            "warning: records of requests are lost; see gateway audit verify",
        ),
        (
            {"recording": RECORDING | {"dropped_segments": 1}},
            "warning: records of requests are lost; see gateway audit verify",
        ),
    ],
)
def test_what_is_away_is_a_warning(gateway: Gateway, api: AdminApi, told: dict[str, Any], remark: str) -> None:
    well = gateway("status", "--json").json
    assert api.secret
    for usual in (well, well | {"recording": RECORDING}):
        assert [each for each in _remarks(Status.read(usual)) if each.startswith("warning")] == []
    assert remark in _remarks(Status.read(well | told))


def test_reload_says_what_changed(gateway: Gateway, api: AdminApi) -> None:
    outcome = gateway("reload")
    assert (outcome.out, outcome.err) == ("reloaded; changed: cache.max_entries\n", "")
    assert gateway("reload", "--json").json == {"changed": ["cache.max_entries"], "warnings": []}
    assert api.secret


@pytest.mark.usefixtures("api")
def test_a_reload_of_files_alone_says_so_and_warns_of_them(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that was renewed is no setting that has changed."""
    told = Reloaded(changed=(), warnings=("x names y, which expires soon",))
    monkeypatch.setattr(Client, "reload", lambda _: told)
    outcome = gateway("reload")
    assert outcome.out == "no setting has changed; every process was replaced and read its files again\n"
    assert outcome.err == "gateway: warning: x names y, which expires soon\n"


@pytest.mark.parametrize(
    ("code", "status"),
    [("bad_configuration", 78), ("restart_required", 78), ("reload_in_progress", 1), ("reload_failed", 1)],
)
def test_a_reload_that_is_refused_names_every_problem(
    gateway: Gateway, api: AdminApi, monkeypatch: pytest.MonkeyPatch, code: str, status: int
) -> None:
    def refuse(_: Client) -> None:
        raise ConflictError("a.toml:3: x: is bad\nb: y: is worse", code=code, status=409)

    monkeypatch.setattr(Client, "reload", refuse)
    outcome = gateway("reload")
    assert (outcome.status, outcome.out) == (status, "")
    assert outcome.err == "gateway: a.toml:3: x: is bad\ngateway: b: y: is worse\n"
    assert api.secret
