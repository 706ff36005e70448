"""Nodes on a PostgreSQL and a Redis of their own, with a fault proxy on each way, for tests that break things.

Invariant: each node has its own two links, so that one node can lose what the others keep; and whatever a test broke is
whole again before the next one begins, which `Cluster.mend` makes sure of by a change that every worker has applied.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.client import ClientError
from tests.e2e.fault_proxy import FaultProxy
from tests.e2e.load import LoadUpstream
from tests.e2e.nodes import KEYS, WORKERS, Nodes, Place, running_nodes, seed
from tests.e2e.site import CONTROL, WORKER
from tests.servers.postgres import PostgresServer, postgres_server
from tests.servers.redis import RedisServer, redis_servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.site import Issued

TTL_SECONDS: Final = 5.0
"""`cache.positive_ttl_seconds` in these tests: long enough to tell a change that was heard from one that was not."""
_MENDED_SECONDS: Final = 60.0


@dataclass
class Cluster:
    """All of it. `database` is the name of the nodes' database, `earlier` a copy of it from before they started."""

    nodes: Nodes
    upstream: LoadUpstream
    postgres: PostgresServer
    redis: RedisServer
    start_redis: Callable[..., RedisServer]
    redis_links: list[FaultProxy]
    store_links: list[FaultProxy]
    database: str
    earlier: str

    @property
    def links(self) -> list[FaultProxy]:
        return [*self.redis_links, *self.store_links]

    def workers(self, node: int) -> list[int]:
        return self.nodes.sites[node].processes(WORKER)

    def control(self, node: int) -> int:
        (pid,) = self.nodes.sites[node].processes(CONTROL)
        return pid

    def is_revoked(self, key: Issued) -> bool:
        """By the store, whatever any gateway says."""
        query = f"SELECT count(*) FROM keys WHERE id = '{key.id}' AND revoked_at IS NOT NULL"  # noqa: S608 - our own id
        return self.postgres.execute(query, self.database) == "1"

    def mend(self) -> None:
        """Undo whatever was broken, and return when a change reaches every worker again."""
        for server in (self.postgres, self.redis):
            if server.process.has_ended():
                server.restart()
            server.process.resume()
        self.redis.ask("REPLICAOF", "NO", "ONE")
        for link in self.redis_links:
            link.heal(self.redis.port)
        for link in self.store_links:
            link.heal(self.postgres.port)
        for node in range(len(self.nodes.sites)):
            for pid in (*self.workers(node), *self.nodes.sites[node].processes(CONTROL)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        until = time.monotonic() + _MENDED_SECONDS
        while not (self._replaced_are_gone() and self._reaches_all()):
            assert time.monotonic() < until, "replaced processes still run, or a change does not reach all"
            time.sleep(0.05)

    def _replaced_are_gone(self) -> bool:
        """A reload's former processes end by and by: each lets its clients go."""
        return all(
            len(site.processes(WORKER)) == WORKERS and len(site.processes(CONTROL)) == 1 for site in self.nodes.sites
        )

    def _reaches_all(self) -> bool:
        whole = sum(len(self.workers(node)) for node in range(len(self.nodes.sites)))
        try:
            told = [self.nodes.revoke(self.nodes.issue(node=node), node) for node in range(len(self.nodes.sites))]
        except ClientError:
            return False
        return all(each.by_all and each.propagation.of == whole for each in told)


@contextmanager
def running_cluster(
    directory: Path,
    system_program: Callable[[str], str],
    *,
    nodes: int = 2,
    keys: int = KEYS,
    tampering: bool = False,
    **settings: str,
) -> Iterator[Cluster]:
    """Start everything, and end it. `keys`: how many the load asks for. `tampering`: links to Redis read messages."""
    settings = {"CACHE__POSITIVE_TTL_SECONDS": str(TTL_SECONDS), **settings}
    with ExitStack() as stack:
        postgres = stack.enter_context(postgres_server())
        start_redis = stack.enter_context(redis_servers(system_program))
        redis = start_redis()
        upstream = stack.enter_context(LoadUpstream())
        earlier = postgres.new_database()
        seeded = seed(postgres.url(earlier), keys)
        database = postgres.new_database(earlier)
        redis_links = [stack.enter_context(FaultProxy(redis.port, tampering=tampering)) for _ in range(nodes)]
        store_links = [stack.enter_context(FaultProxy(postgres.port)) for _ in range(nodes)]
        places = [
            Place(through(postgres.url(database), postgres.port, store.port), f"redis://127.0.0.1:{link.port}/0")
            for store, link in zip(store_links, redis_links, strict=True)
        ]
        running = stack.enter_context(running_nodes(directory, places, seeded, upstream, **settings))
        yield Cluster(running, upstream, postgres, redis, start_redis, redis_links, store_links, database, earlier)


def through(url: str, port: int, link_port: int) -> str:
    """The same address by way of a link."""
    assert f":{port}/" in url
    return url.replace(f":{port}/", f":{link_port}/")
