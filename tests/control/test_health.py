"""`/healthz` and `/readyz`: what they answer, and that they tell nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from gateway.control.health import Health, Workers
from gateway.control.worker_counts import WorkerCounts
from gateway.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.test_utils import TestClient
    from pytest_aiohttp import AiohttpClient

    Client = TestClient[web.Request, web.Application]


async def readable() -> None:
    """A store that can be read."""


async def unreadable() -> None:
    raise StoreUnavailable("The key store /var/lib/x.db is gone.", internal="secret path")


@dataclass
class Recording:
    """What a recorder says of itself."""

    active: bool = True
    entries: int = 7
    lag_seconds: float | None = 0.5
    spool_bytes: int = 100
    waiting_bytes: int = 79
    limit_bytes: int = 100
    damaged_bytes: int = 3
    unrecorded_refusals: int = 5
    dropped_segments: int = 1
    store_away_seconds: float = 0.0
    sink_failures: int = 2


async def _client(aiohttp_client: AiohttpClient, health: Health) -> Client:
    application = web.Application()
    application.add_routes(health.routes())
    return await aiohttp_client(application)


async def test_healthz_is_ok_whatever_the_rest_does(aiohttp_client: AiohttpClient) -> None:
    client = await _client(aiohttp_client, Health(Workers(), unreadable))
    async with client.get("/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})


async def test_readyz_is_200_while_a_worker_serves_and_the_store_can_be_read(aiohttp_client: AiohttpClient) -> None:
    client = await _client(aiohttp_client, Health(Workers(ready=1, of=2), readable))
    async with client.get("/readyz") as answer:
        assert answer.status == 200
        assert await answer.json() == {"ready": True, "workers": {"ready": 1, "of": 2}, "reasons": [], "degraded": []}
        assert answer.headers["Cache-Control"] == "no-store"


async def test_readyz_names_every_reason_at_once_and_nothing_internal(aiohttp_client: AiohttpClient) -> None:
    client = await _client(aiohttp_client, Health(Workers(ready=0, of=2), unreadable))
    async with client.get("/readyz") as answer:
        assert answer.status == 503
        body = await answer.json()
        assert [reason["code"] for reason in body["reasons"]] == ["no_worker_ready", "key_store_unavailable"]
        assert "/var/lib" not in await answer.text()


async def test_a_draining_gateway_is_not_ready(aiohttp_client: AiohttpClient) -> None:
    workers = Workers(ready=2, of=2)
    client = await _client(aiohttp_client, Health(workers, readable))
    workers.update({"command": "workers", "ready": 2, "of": 2, "draining": True})
    async with client.get("/readyz") as answer:
        assert answer.status == 503
        assert [reason["code"] for reason in (await answer.json())["reasons"]] == ["draining"]


@dataclass
class Relay:
    """What a relay says of itself."""

    redis_reachable: bool = True
    complete: bool = True
    store_reachable: bool = True
    head: int | None = 7
    relayed: int | None = 7
    rebuilds: int = 0


@pytest.mark.parametrize(
    ("relay", "store", "status", "reasons", "degraded"),
    [
        (Relay(), readable, 200, [], []),
        (Relay(redis_reachable=False), readable, 200, [], ["redis_unreachable"]),
        (Relay(complete=False), readable, 200, [], ["key_table_incomplete"]),
        (Relay(), unreadable, 200, [], ["store_unreachable"]),
        (Relay(redis_reachable=False), unreadable, 503, ["key_store_unavailable"], ["redis_unreachable"]),
        (Relay(complete=False), unreadable, 503, ["key_store_unavailable"], ["key_table_incomplete"]),
    ],
)
async def test_readyz_is_200_while_anybody_knows_every_key_and_names_who_is_away(
    aiohttp_client: AiohttpClient,
    relay: Relay,
    store: Callable[[], Awaitable[None]],
    status: int,
    reasons: list[str],
    degraded: list[str],
) -> None:
    client = await _client(aiohttp_client, Health(Workers(ready=1, of=1), store, relay))
    async with client.get("/readyz") as answer:
        body = await answer.json()
    assert answer.status == status
    assert [each["code"] for each in body["reasons"]] == reasons
    assert [each["code"] for each in body["degraded"]] == degraded


@pytest.mark.parametrize(
    ("recording", "degraded"),
    [
        (Recording(store_away_seconds=59), []),
        (Recording(waiting_bytes=80), ["audit_spool_filling"]),
        (Recording(store_away_seconds=61), ["audit_store_unreachable"]),
    ],
)
async def test_readyz_names_what_keeps_requests_from_being_recorded_while_they_are_served(
    aiohttp_client: AiohttpClient, recording: Recording, degraded: list[str]
) -> None:
    health = Health(Workers(ready=1, of=1), readable, Relay(), recording=recording)
    client = await _client(aiohttp_client, health)
    async with client.get("/readyz") as answer:
        body = await answer.json()
    assert (answer.status, [each["code"] for each in body["degraded"]]) == (200, degraded)


@pytest.mark.parametrize(("blocked", "status"), [((0, 0), 200), ((1, 0), 200), ((1, 1), 503)])
async def test_readyz_is_503_when_every_worker_refuses_since_nothing_can_be_recorded(
    aiohttp_client: AiohttpClient, blocked: tuple[int, int], status: int
) -> None:
    counts = WorkerCounts()
    counts.update({"following": [{"pid": pid} for pid, _ in enumerate(blocked)]})
    for pid, each in enumerate(blocked):
        counts.counted({"pid": pid, "name": f"worker-{pid}", "audit_blocked": each})
    health = Health(Workers(ready=2, of=2), readable, recording=Recording(), counts=counts)
    client = await _client(aiohttp_client, health)
    async with client.get("/readyz") as answer:
        reasons = [each["code"] for each in (await answer.json())["reasons"]]
    assert (answer.status, reasons) == (status, ["audit_log_full"] if status == 503 else [])


async def test_a_store_that_is_away_is_no_trouble_of_redis_where_the_spool_fills_up(
    aiohttp_client: AiohttpClient,
) -> None:
    health = Health(Workers(ready=1, of=1), unreadable, Relay(), recording=Recording(waiting_bytes=90))
    client = await _client(aiohttp_client, health)
    async with client.get("/readyz") as answer:
        body = await answer.json()
    assert answer.status == 200
    assert [each["code"] for each in body["degraded"]] == ["audit_spool_filling", "store_unreachable"]
