"""PostgreSQL away, restarted or of yesterday: good keys go on from Redis and memory, and nothing revoked comes back.

With both stores away a worker believes what it knows until `cache.positive_ttl_seconds` are over; from then on it
answers 503, which says that it cannot know, and never 401.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from gateway.client import APIError
from tests.e2e.cluster import TTL_SECONDS, Cluster, running_cluster
from tests.e2e.load import LoadUpstream, late
from tests.e2e.nodes import LONG, Place, running_nodes, seed
from tests.servers.postgres import postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.load import Load
    from tests.servers.postgres import PostgresServer

    Eventually = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.nodes

NODES: Final = 2
FAULT_SECONDS: Final = 30.0 if LONG else TTL_SECONDS + 2
UNAVAILABLE: Final = "503 key_store_unavailable"
_END_CONNECTIONS: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"


@pytest.fixture(scope="module")
def cluster_module(tmp_path_factory: pytest.TempPathFactory, system_program: Callable[[str], str]) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("postgres"), system_program, nodes=NODES) as running:
        yield running


@pytest.fixture
def cluster(cluster_module: Cluster) -> Cluster:
    cluster_module.mend()
    return cluster_module


@contextmanager
def restarted(cluster: Cluster) -> Iterator[None]:
    cluster.postgres.stop_fast()
    cluster.postgres.restart()
    yield


@contextmanager
def killed(cluster: Cluster) -> Iterator[None]:
    cluster.postgres.process.kill()
    yield
    cluster.postgres.restart()


@contextmanager
def stopped(cluster: Cluster) -> Iterator[None]:
    """Its connections stay open, and nobody answers on them."""
    cluster.postgres.process.pause()
    yield
    cluster.postgres.process.resume()


@contextmanager
def unreachable_for_one_node(cluster: Cluster) -> Iterator[None]:
    cluster.store_links[0].refuse()
    cluster.store_links[0].cut()
    yield
    cluster.store_links[0].heal()


@contextmanager
def swallowed_for_one_node(cluster: Cluster) -> Iterator[None]:
    cluster.store_links[0].swallow()
    yield
    cluster.store_links[0].heal()


FAULTS: Final = {
    fault.__name__.replace("_", " "): fault
    for fault in (restarted, killed, stopped, unreachable_for_one_node, swallowed_for_one_node)
}


def _revoke_somewhere(cluster: Cluster, seconds: float) -> int:
    """Go on making and revoking keys as long as that; returns how many answers said that all have applied it.

    A node that has lost the store says 503, and has changed nothing.
    """
    by_all = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for node in range(NODES):
            try:
                by_all += cluster.nodes.revoke(cluster.nodes.issue(node=node), node).by_all
            except APIError as error:
                if error.status != 503:
                    raise
        time.sleep(0.1)
    return by_all


@pytest.mark.parametrize("name", FAULTS)
def test_good_keys_go_on_without_postgresql_as_long_as_redis_is_there(
    cluster: Cluster, eventually: Eventually, name: str
) -> None:
    """Past the time for which a worker believes its memory; keys that no worker has in memory among them."""
    cold = [cluster.nodes.issue(f"cold {number}") for number in range(5)]
    with cluster.nodes.load() as load:
        cluster.nodes.warm(load, eventually)
        with FAULTS[name](cluster):
            _revoke_somewhere(cluster, FAULT_SECONDS)
            for key in cold:
                assert {each.status for each in load.once(key.secret)} == {200}
        cluster.mend()
        verdict = cluster.nodes.revoke_watched(load)
        verdict.assert_in_force()
        assert verdict.revocation.by_all
        load.stop().assert_all_good()


def test_with_both_stores_away_memory_counts_for_its_time_and_then_nothing_is_known(
    cluster: Cluster, eventually: Eventually
) -> None:
    """No 401 and no 403 ever; 503 not before the time is over, nothing else after; and all is well when they return."""
    known = cluster.nodes.issue("known")
    with cluster.nodes.load() as load:
        cluster.nodes.warm(load, eventually)
        load.watch(known.secret)
        load.mark().assert_all_good()
        cluster.redis.process.pause()
        cluster.postgres.process.pause()
        away = time.monotonic()
        eventually(lambda: _none_refused(load) == {UNAVAILABLE})
        watched = load.unwatch()
        assert {each.code for each in watched} <= {"", "key_store_unavailable"}
        assert not late(watched, away + TTL_SECONDS)
        # Proofs are about a second old at most when the stores go: memory counted for most of its time.
        assert all(each.received > away + TTL_SECONDS / 2 for each in watched if each.status == 503)
        cluster.mend()
        eventually(lambda: _none_refused(load) == {"200"})
        load.stop().assert_all_good()


def _none_refused(load: Load) -> set[str]:
    """What was answered since the last mark; a key that cannot be known is allowed, a bad one is not."""
    summary = load.mark()
    summary.assert_none_refused(UNAVAILABLE)
    return set(summary.statuses)


def _take_back(server: PostgresServer, database: str, copy: str) -> None:
    """Put a copy in the database's place, as whoever restores a backup does."""
    server.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
    server.execute(_END_CONNECTIONS.format(database=database))
    server.execute(f"ALTER DATABASE {database} RENAME TO {database}_gone")
    server.execute(f"ALTER DATABASE {copy} RENAME TO {database}")


def test_a_store_that_is_restored_from_an_earlier_copy_is_the_truth_from_then_on(
    cluster: Cluster, eventually: Eventually
) -> None:
    """What was made after the copy is unknown again within the time that memory counts, and no other key is refused."""
    lost = cluster.nodes.issue("lost with the restore")
    earlier, database = cluster.earlier, cluster.database
    copy = cluster.postgres.new_database(earlier)
    with cluster.nodes.load() as load:
        cluster.nodes.warm(load, eventually)
        load.watch(lost.secret)
        _take_back(cluster.postgres, database, copy)
        restored = time.monotonic()
        time.sleep(TTL_SECONDS + 0.5)
        watched = load.unwatch()
        assert not late(watched, restored + TTL_SECONDS)
        assert {each.code for each in watched} == {"", "invalid_api_key"}
        cluster.mend()
        verdict = cluster.nodes.revoke_watched(load)
        verdict.assert_in_force()
        load.stop().assert_all_good()


def test_without_redis_a_restored_store_has_a_new_epoch_before_any_change_of_it_is_answered(tmp_path: Path) -> None:
    """Workers had applied changes of the same numbers; what they said of those must not count for the new ones."""
    with postgres_server() as server, LoadUpstream() as upstream:
        earlier = server.new_database()
        seeded = seed(server.url(earlier), 20)
        database, copy = server.new_database(earlier), server.new_database(earlier)
        places = [Place(server.url(database))] * NODES
        settings = {"CACHE__POSITIVE_TTL_SECONDS": str(TTL_SECONDS)}
        with (
            running_nodes(tmp_path, places, seeded, upstream, **settings) as nodes,
            nodes.load(rate=50, connections=8) as load,
        ):
            for number in range(5):
                assert nodes.revoke(nodes.issue(node=number % NODES), number % NODES).by_all
            before = server.execute("SELECT epoch FROM store_identity", database)
            _take_back(server, database, copy)
            for number in range(4):  # so many that all their numbers have been there before
                nodes.revoke_watched(load, node=number % NODES).assert_in_force()
                assert server.execute("SELECT epoch FROM store_identity", database) != before
            # While one database takes the other's place there is none: a key that is looked up then may be told so, but
            # never that it is bad.
            load.stop().assert_none_refused("503 key_store_unavailable")
