"""Redis as larger installations run it: behind sentinels, and as a Cluster. On this machine, and as small as can be."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.errors import RedisUnavailable
from gateway.store.redis_link import connect
from tests.servers.ports import free_port
from tests.servers.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from gateway.store.redis_connection import Reply
    from tests.servers.redis import RedisServer

_SLOTS: Final = 16_384
_PATIENCE: Final = 3000  # of a hundredth of a second


async def tell(port: int, *words: str | int) -> Reply:
    """One command to one server, whatever part it plays."""
    link = connect(f"redis://127.0.0.1:{port}", timeout_seconds=5)
    try:
        return await link.call(*words)
    finally:
        await link.close()


async def until(port: int, *words: str | int, has: bytes) -> None:
    """Wait until the server's answer has this in it."""
    answer: Reply = None
    for _ in range(_PATIENCE):
        with contextlib.suppress(RedisUnavailable):
            answer = await tell(port, *words)
            if isinstance(answer, bytes) and has in answer:
                return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{words}: {answer!r}")


@dataclass
class Watched:
    """A primary and its replica, watched by a sentinel."""

    url: str
    primary: RedisServer
    replica: RedisServer


@contextlib.asynccontextmanager
async def watched(start: Callable[..., RedisServer], program: str, directory: Path) -> AsyncIterator[Watched]:
    """The address names a sentinel that does not answer first."""
    primary = start()
    replica = start("--replicaof", "127.0.0.1", str(primary.port))
    await until(replica.port, "INFO", "replication", has=b"master_link_status:up")
    port, nobody = free_port(), free_port()
    file = directory / "sentinel.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
        f"sentinel monitor main 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
    )
    sentinel = ServerProcess([program, str(file), "--sentinel"], directory / "sentinel.log")
    try:
        await until(port, "INFO", "sentinel", has=b"slaves=1")
        yield Watched(f"redis+sentinel://127.0.0.1:{nobody},127.0.0.1:{port}/main/0", primary, replica)
    finally:
        sentinel.terminate()


@dataclass
class Cluster:
    """Three primaries; one of them, `owner`, has our keys, and a replica."""

    url: str
    owner: RedisServer
    replica: RedisServer


async def cluster(start: Callable[..., RedisServer], key: str) -> Cluster:
    """The address names first a node that has not our keys."""

    def node() -> tuple[RedisServer, int]:
        bus = free_port()
        options = "--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "1000"
        return start(*options), bus

    primaries = [node() for _ in range(3)]
    replica, replica_bus = node()
    bounds = [_SLOTS * place // 3 for place in range(4)]
    slot = await tell(replica.port, "CLUSTER", "KEYSLOT", key)
    assert isinstance(slot, int)
    owner = next(place for place in range(3) if bounds[place] <= slot < bounds[place + 1])
    first = primaries[0][0].port
    for place, (server, bus) in enumerate(primaries):
        await tell(server.port, "CLUSTER", "ADDSLOTSRANGE", bounds[place], bounds[place + 1] - 1)
        await tell(server.port, "CLUSTER", "SET-CONFIG-EPOCH", place + 1)
        if place:
            await tell(first, "CLUSTER", "MEET", "127.0.0.1", server.port, bus)
    await tell(first, "CLUSTER", "MEET", "127.0.0.1", replica.port, replica_bus)
    for server in [*(each for each, _ in primaries), replica]:
        await until(server.port, "CLUSTER", "INFO", has=b"cluster_known_nodes:4")
        await until(server.port, "CLUSTER", "INFO", has=b"cluster_state:ok")
    owning = primaries[owner][0]
    id_ = await tell(owning.port, "CLUSTER", "MYID")
    assert isinstance(id_, bytes)
    await until(replica.port, "CLUSTER", "NODES", has=id_)
    await tell(replica.port, "CLUSTER", "REPLICATE", id_.decode())
    await until(replica.port, "INFO", "replication", has=b"master_link_status:up")
    others = [server.port for place, (server, _) in enumerate(primaries) if place != owner]
    names = ",".join(f"127.0.0.1:{port}" for port in [*others, owning.port])
    return Cluster(f"redis+cluster://{names}", owning, replica)
