"""Messages that get lost, come twice or come in another order: a revocation is in force when its answer says so.

And a good key is never refused for it, although every worker forgets what it knows whenever it finds a gap.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.cluster import Cluster, running_cluster
from tests.e2e.fault_proxy import Tampering
from tests.e2e.nodes import LONG, WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.load import Load

    Eventually = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.nodes

NODES: Final = 3
ROUNDS: Final = 40 if LONG else 6
TAMPERINGS: Final = {
    "every message is lost": {"drop": 1.0},
    "half of them are lost": {"drop": 0.5},
    "all come twice": {"repeat": 1.0},
    "all wait for a later one": {"reorder": 1.0},
    "anything may happen": {"drop": 0.2, "repeat": 0.2, "reorder": 0.2},
}


@pytest.fixture(scope="module")
def cluster_module(tmp_path_factory: pytest.TempPathFactory, system_program: Callable[[str], str]) -> Iterator[Cluster]:
    """Its cache believes for a day: only what is heard counts."""
    directory = tmp_path_factory.mktemp("messages")
    with running_cluster(
        directory, system_program, nodes=NODES, tampering=True, CACHE__POSITIVE_TTL_SECONDS="86400"
    ) as running:
        yield running


@pytest.fixture
def cluster(cluster_module: Cluster) -> Cluster:
    cluster_module.mend()
    return cluster_module


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_revocation_is_in_force_whatever_becomes_of_its_message(
    cluster: Cluster, eventually: Eventually, name: str
) -> None:
    """The answer may take until the next heartbeat, but it is true, and it is about every worker."""
    tamperings = [Tampering(**TAMPERINGS[name], seed=seed) for seed in range(NODES)]
    with cluster.nodes.load() as load:
        cluster.nodes.warm(load, eventually)
        for link, tampering in zip(cluster.redis_links, tamperings, strict=True):
            link.tamper(tampering)
        for number in range(ROUNDS):
            verdict = cluster.nodes.revoke_watched(load, node=number % NODES)
            verdict.assert_in_force()
            verdict.assert_only()
            assert verdict.revocation.propagation.applied == WORKERS * NODES, verdict.revocation
        load.stop().assert_all_good()
    counts = [sum(getattr(each, kind) for each in tamperings) for kind in ("dropped", "repeated", "reordered")]
    assert [bool(count) for count in counts] == [kind in TAMPERINGS[name] for kind in ("drop", "repeat", "reorder")]


def test_a_subscription_that_is_open_and_silent_is_found_out(cluster: Cluster, eventually: Eventually) -> None:
    """Connections of one node that swallow everything: its workers go by the store, and later by Redis again."""
    with cluster.nodes.load() as load:
        cluster.nodes.warm(load, eventually)
        cluster.redis_links[0].swallow()
        # Until they have found it out, an answer may name them as silent for as long as they believe: here a day.
        eventually(lambda: cluster.nodes.revoke(cluster.nodes.issue(node=1), 1).by_all)
        for number in range(ROUNDS):
            verdict = cluster.nodes.revoke_watched(load, node=1 + number % (NODES - 1))
            verdict.assert_in_force()
            assert verdict.revocation.by_all
        cluster.redis_links[0].heal()
        cluster.mend()
        cluster.nodes.revoke_watched(load).assert_in_force()
        load.stop().assert_all_good()


def test_a_change_at_a_node_that_has_lost_redis_reaches_every_worker(cluster: Cluster, eventually: Eventually) -> None:
    """Another node publishes it. The answer speaks for others only by what they write in the store now and then."""
    with cluster.nodes.load() as load:
        cluster.nodes.warm(load, eventually)
        cluster.redis_links[0].swallow()
        for _ in range(ROUNDS):
            key = cluster.nodes.issue(node=1)
            assert {each.status for each in load.once(key.secret)} == {200}
            if cluster.nodes.revoke(key, node=0).by_all:
                assert _refused_everywhere(load, key.secret)
            eventually(partial(_refused_everywhere, load, key.secret))
        cluster.mend()
        load.stop().assert_all_good()


def _refused_everywhere(load: Load, secret: str) -> bool:
    return {each.code for each in load.once(secret)} == {"revoked_api_key"}
