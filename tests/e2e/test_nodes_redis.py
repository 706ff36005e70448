"""Redis away, empty, incomplete, read-only or of yesterday: good keys go on, and revocations count.

Under load all the time. `make test-nodes` keeps each fault for 30 s.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest
import redis

from gateway.keys.secret import digest
from tests.e2e.cluster import Cluster, running_cluster
from tests.e2e.nodes import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.load import Load, Summary
    from tests.servers.redis import RedisServer

    Eventually = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.nodes

NODES: Final = 2
FAULT_SECONDS: Final = 30.0 if LONG else 0.0
_TRIES: Final = 20
KEYS: Final = "{keygate}:keys"


@pytest.fixture(scope="module")
def cluster_module(tmp_path_factory: pytest.TempPathFactory, system_program: Callable[[str], str]) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("redis"), system_program, nodes=NODES) as running:
        yield running


@pytest.fixture
def cluster(cluster_module: Cluster) -> Cluster:
    cluster_module.mend()
    return cluster_module


@contextmanager
def killed(cluster: Cluster) -> Iterator[None]:
    """And back later, with nothing in it."""
    cluster.redis.process.kill()
    yield
    cluster.redis.restart()


@contextmanager
def stopped(cluster: Cluster) -> Iterator[None]:
    """Its connections stay open, and nobody answers on them."""
    cluster.redis.process.pause()
    yield
    cluster.redis.process.resume()


@contextmanager
def unreachable_for_one_node(cluster: Cluster) -> Iterator[None]:
    cluster.redis_links[0].refuse()
    cluster.redis_links[0].cut()
    yield
    cluster.redis_links[0].heal()


@contextmanager
def swallowed_for_one_node(cluster: Cluster) -> Iterator[None]:
    cluster.redis_links[0].swallow()
    yield
    cluster.redis_links[0].heal()


@contextmanager
def flushed(cluster: Cluster) -> Iterator[None]:
    assert cluster.redis.ask("FLUSHALL") == b"+OK"
    yield


@contextmanager
def flushed_again_and_again(cluster: Cluster) -> Iterator[None]:
    """Between any two steps of whoever writes it anew."""
    until = time.monotonic() + 2
    while time.monotonic() < until:
        assert cluster.redis.ask("FLUSHALL") == b"+OK"
        time.sleep(0.05)
    yield


@contextmanager
def read_only(cluster: Cluster) -> Iterator[None]:
    """A replica of nobody: it answers, and refuses every write."""
    assert cluster.redis.ask("REPLICAOF", "127.0.0.1", "1") == b"+OK"
    yield
    assert cluster.redis.ask("REPLICAOF", "NO", "ONE") == b"+OK"


@contextmanager
def slow(cluster: Cluster) -> Iterator[None]:
    """Slower than the workers wait."""
    for link in cluster.redis_links:
        link.delay(0.4)
    yield
    for link in cluster.redis_links:
        link.heal()


FAULTS: Final = {
    fault.__name__.replace("_", " "): fault
    for fault in (
        killed,
        stopped,
        unreachable_for_one_node,
        swallowed_for_one_node,
        flushed,
        flushed_again_and_again,
        read_only,
        slow,
    )
}


def _come_through(cluster: Cluster, load: Load) -> None:
    """Revoke until one answer speaks for every worker; each is in force by what its answer says, be it by all or not.

    A key that was made during the fault is good at every worker before (`revoke_watched` waits for that).
    """
    for number in range(_TRIES):
        verdict = cluster.nodes.revoke_watched(load, node=number % NODES)
        verdict.assert_in_force()
        verdict.assert_only()
        if verdict.revocation.by_all:
            return
    pytest.fail("no change was applied by all")


@pytest.mark.parametrize("name", FAULTS)
def test_good_keys_go_on_and_revocations_count(
    cluster: Cluster, eventually: Eventually, record_property: Callable[[str, object], None], name: str
) -> None:
    with cluster.nodes.load() as load:
        cluster.nodes.warm(load, eventually)
        before = _seen(load, 1)
        with FAULTS[name](cluster):
            began = time.monotonic()
            _come_through(cluster, load)
            while time.monotonic() < began + FAULT_SECONDS:
                _come_through(cluster, load)
            during = _seen(load)
        _come_through(cluster, load)
        cluster.mend()
        after = _seen(load, 1)
        load.stop().assert_all_good()
    record_property(
        "figure",
        f"Redis {name}: p99 of good keys before, during, after: {before.p99:.1f}, {during.p99:.1f}, {after.p99:.1f} ms",
    )


def _seen(load: Load, seconds: float = 0) -> Summary:
    """What the load saw since the last mark (and for some seconds more): nothing but good answers."""
    time.sleep(seconds)
    summary = load.mark()
    summary.assert_all_good()
    return summary


def test_a_single_record_that_was_lost_is_no_unknown_key(cluster: Cluster) -> None:
    """As an eviction does: no worker has the key in memory, the table lacks it, and the key is good."""
    keys = [cluster.nodes.issue(f"evicted {number}") for number in range(5)]
    for key in keys:
        field = digest(key.secret.encode())
        with redis.Redis(port=cluster.redis.port) as connection:
            assert connection.hlen(KEYS) > len(cluster.nodes.seeded.keys)
            fields = [name for name in connection.hkeys(KEYS) if field in name or field.hex().encode() in name]
            assert len(fields) == 1, "the table names its records in another way than by their digest"
            assert connection.hdel(KEYS, *fields) == 1
    with cluster.nodes.load(rate=100) as load:
        for key in keys:
            assert {each.status for each in load.once(key.secret)} == {200}
        load.stop().assert_all_good()


def test_a_record_of_a_revoked_key_that_was_put_back_does_not_revive_it(
    cluster: Cluster, eventually: Eventually
) -> None:
    """A replica that was promoted although it lagged: it has the key as good, and a head that is behind."""
    replica = cluster.start_redis("--replicaof", "127.0.0.1", str(cluster.redis.port))
    cluster.redis.ask("SET", "marker", "1")
    keys = [cluster.nodes.issue(f"revived {number}") for number in range(3)]
    cluster.redis.ask("SET", "marker", "2")
    eventually(lambda: _value(replica) == b"2")
    assert replica.ask("REPLICAOF", "NO", "ONE") == b"+OK"  # from here on it lags
    with cluster.nodes.load() as load:
        cluster.nodes.warm(load, eventually)
        revoked = [cluster.nodes.revoke_watched(load, key) for key in keys]
        for verdict in revoked:
            verdict.assert_in_force()
            assert verdict.revocation.by_all
        for link in cluster.redis_links:
            link.heal(replica.port)
            link.cut()
        until = time.monotonic() + 3
        while time.monotonic() < until:
            for key in keys:
                assert {each.code for each in load.once(key.secret)} == {"revoked_api_key"}
        _come_through(cluster, load)
        load.stop().assert_all_good()


def _value(server: RedisServer) -> object:
    """How far a replica is."""
    with redis.Redis(port=server.port) as connection:
        return connection.get("marker")
