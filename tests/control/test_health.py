"""`/healthz` and `/readyz`: what they answer, and that they tell nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from gateway.control.health import Health, Workers
from gateway.errors import StoreUnavailable

if TYPE_CHECKING:
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
        assert await answer.json() == {"ready": True, "workers": {"ready": 1, "of": 2}, "reasons": []}
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
