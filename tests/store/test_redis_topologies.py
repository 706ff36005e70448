"""Sentinel and Cluster, with real processes: the table is found, and found again after a failover."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from gateway.errors import RedisUnavailable
from gateway.keys.change import Change
from gateway.keys.projection import LogPosition, WorkerPresence
from gateway.store.key_table import KeyTable, TableState
from gateway.store.redis_link import connect
from tests.servers.redis_topologies import cluster, until, watched

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from tests.servers.redis import RedisServer

pytestmark = pytest.mark.topologies

PRESENCE = WorkerPresence("n:worker-0:7", "n", "host", "worker-0", 7, 60.0, None)


async def patiently(table: KeyTable) -> TableState:
    """The state of the table that somebody serves (again)."""
    for _ in range(3000):
        with contextlib.suppress(RedisUnavailable):
            _, state = await table.state()
            assert state is not None
            await table.pulse(PRESENCE)
            return state
        await asyncio.sleep(0.01)
    raise AssertionError("nobody serves")


async def patiently_following(table: KeyTable) -> AsyncGenerator[tuple[str, Change] | None, None]:
    for _ in range(3000):
        messages = table.follow()
        with contextlib.suppress(RedisUnavailable):
            assert await anext(messages) is None
            return messages
        await asyncio.sleep(0.01)
    raise AssertionError("nobody lets us follow")


async def relays_through_a_failover(url: str, primary: RedisServer, replica: RedisServer, ready: bytes) -> None:
    table, worker = (KeyTable(connect(url, timeout_seconds=0.5)) for _ in range(2))
    try:
        build = await table.begin_build()
        assert build is not None
        assert await build.fill([(b"x" * 32, None)], 3)
        assert await build.install(LogPosition("e", 3), Change(3, "key", "key_1", 1)) == 0
        await patiently(worker)  # knows where the table is
        messages = await patiently_following(worker)
        change = Change(4, "key", "key_1", 2)
        assert await table.advance(await patiently(table), change, 4, [(b"y" * 32, None)])
        assert await anext(messages) == ("e", change)
        await until(replica.port, "INFO", "replication", has=b"master_link_status:up")
        before = await patiently(table)
        await asyncio.sleep(0.5)  # the replica has it all
        primary.process.kill()
        with pytest.raises(RedisUnavailable):
            await anext(messages)
        with pytest.raises(RedisUnavailable):
            await table.put(before, 4, [])
        await until(replica.port, "INFO", "replication", has=ready)
        state = await patiently(table)
        assert (state.head, state.whole) == (4, True)
        await patiently(worker)
        messages = await patiently_following(worker)
        change = Change(5, "key", "key_1", 3)
        assert await table.advance(await patiently(table), change, 5, [])
        heard = await anext(messages)
        assert heard == ("e", change)
        await messages.aclose()
        assert (await worker.find(b"z" * 32)).complete
    finally:
        await table.close()
        await worker.close()


async def test_sentinels_are_asked_where_the_primary_is_and_asked_again_after_a_failover(
    redis_server: Callable[..., RedisServer], system_program: Callable[[str], str], tmp_path: Path
) -> None:
    async with watched(redis_server, system_program("redis-server"), tmp_path) as servers:
        await relays_through_a_failover(servers.url, servers.primary, servers.replica, b"role:master")


async def test_a_service_that_no_sentinel_knows_is_said_to_be_unknown(
    redis_server: Callable[..., RedisServer], system_program: Callable[[str], str], tmp_path: Path
) -> None:
    async with watched(redis_server, system_program("redis-server"), tmp_path) as servers:
        table = KeyTable(connect(servers.url.replace("/main/", "/other/"), timeout_seconds=1))
        with pytest.raises(RedisUnavailable) as refused:
            await table.state()
        assert 'knows no service "other"' in refused.value.internal
        await table.close()


async def test_a_cluster_says_which_node_has_the_table_and_another_one_after_a_failover(
    redis_server: Callable[..., RedisServer],
) -> None:
    servers = await cluster(redis_server, "{keygate}:keys")
    await relays_through_a_failover(servers.url, servers.owner, servers.replica, b"role:master")
