"""`/healthz` and `/readyz`: what they answer, and that they tell nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from gateway.control.health import Health, Workers
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
