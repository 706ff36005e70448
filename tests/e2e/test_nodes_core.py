"""The core of the tests of several nodes under faults, for every run: two nodes, one fault of each kind, under load.

`make test-nodes` has the long ones, with every store, many more faults and rounds (`test_nodes_*.py`). All tests here
share one cluster, which costs more to start than each of them to run.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from gateway.client import ClientError
from tests.e2e.cluster import Cluster, running_cluster
from tests.e2e.fault_proxy import Tampering
from tests.e2e.load import late
from tests.e2e.nodes import WORKERS, Revocation
from tests.e2e.site import WORKER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.load import Load
    from tests.e2e.site import Site

    Eventually = Callable[[Callable[[], object]], None]

NODES: Final = 2
WHOLE: Final = WORKERS * NODES
ROUNDS: Final = 10
KEYS: Final = 100
RATE: Final = 300.0
TTL_SECONDS: Final = 3.0
UNAVAILABLE: Final = "503 key_store_unavailable"
_TRIES: Final = 20


@pytest.fixture(scope="module")
def cluster_module(tmp_path_factory: pytest.TempPathFactory, system_program: Callable[[str], str]) -> Iterator[Cluster]:
    """Times are short where a test waits until they are over: idle connections at a reload get half of the drain's."""
    short = {
        "CACHE__POSITIVE_TTL_SECONDS": str(TTL_SECONDS),
        "CACHE__NEGATIVE_TTL_SECONDS": str(TTL_SECONDS),
        "SERVER__DRAIN_TIMEOUT_SECONDS": "4",
    }
    directory = tmp_path_factory.mktemp("core")
    with running_cluster(directory, system_program, nodes=NODES, keys=KEYS, tampering=True, **short) as running:
        yield running


@pytest.fixture
def cluster(cluster_module: Cluster) -> Cluster:
    cluster_module.mend()
    return cluster_module


@pytest.fixture
def load(cluster: Cluster, eventually: Eventually) -> Iterator[Load]:
    with cluster.nodes.load(rate=RATE, connections=16) as running:
        cluster.nodes.warm(running, eventually)
        yield running


def _come_through(cluster: Cluster, load: Load) -> None:
    """Revoke until one answer speaks for every worker; each is in force by what its answer says, by all or not."""
    for number in range(_TRIES):
        verdict = cluster.nodes.revoke_watched(load, node=number % NODES)
        verdict.assert_in_force()
        verdict.assert_only()
        if verdict.revocation.by_all:
            return
    pytest.fail("no change was applied by all")


def test_not_one_request_passes_after_the_answer_says_that_all_have_applied_it(cluster: Cluster, load: Load) -> None:
    for number in range(ROUNDS):
        verdict = cluster.nodes.revoke_watched(load, node=number % NODES)
        verdict.assert_in_force()
        verdict.assert_only()
        told = verdict.revocation.propagation
        assert (told.applied, told.of, len(verdict.workers)) == (WHOLE, WHOLE, WHOLE), told
    load.stop().assert_all_good()


def test_a_revocation_is_in_force_whatever_becomes_of_its_message(cluster: Cluster, load: Load) -> None:
    """It is lost, comes twice, or comes after a later one; the answer speaks for every worker all the same."""
    kinds = {"drop": "dropped", "repeat": "repeated", "reorder": "reordered"}
    for kind, counted in kinds.items():
        tamperings = [Tampering(**{kind: 1.0}, seed=seed) for seed in range(NODES)]
        for link, tampering in zip(cluster.redis_links, tamperings, strict=True):
            link.tamper(tampering)
        verdict = cluster.nodes.revoke_watched(load)
        verdict.assert_in_force()
        verdict.assert_only()
        assert verdict.revocation.propagation.applied == WHOLE, verdict.revocation
        assert all(getattr(each, counted) for each in tamperings)
    load.stop().assert_all_good()


def test_redis_killed_and_back_costs_no_good_key_and_no_revocation(cluster: Cluster, load: Load) -> None:
    cluster.redis.process.kill()
    _come_through(cluster, load)
    cluster.redis.restart()
    _come_through(cluster, load)
    cluster.mend()
    load.stop().assert_all_good()


def test_an_emptied_redis_makes_no_good_key_unknown(cluster: Cluster, load: Load) -> None:
    """Keys that no worker has in memory among them."""
    cold = [cluster.nodes.issue(f"cold {number}") for number in range(3)]
    assert cluster.redis.ask("FLUSHALL") == b"+OK"
    for key in cold:
        assert {each.status for each in load.once(key.secret)} == {200}
    _come_through(cluster, load)
    load.stop().assert_all_good()


def test_a_worker_that_sleeps_is_named_and_lets_nothing_through_as_it_wakes(cluster: Cluster, load: Load) -> None:
    """Requests had come to it while it slept; it wakes right after the time that the answer named."""
    sleeper = cluster.workers(0)[0]
    (name,) = (f"{each.name} on {each.host}" for each in cluster.nodes.client().status().workers if each.pid == sleeper)
    verdict = cluster.nodes.revoke_watched(
        load,
        node=1,
        before=lambda: os.kill(sleeper, signal.SIGSTOP),
        after=lambda: os.kill(sleeper, signal.SIGCONT),
    )
    told = verdict.revocation.propagation
    assert (told.applied, told.of, [each.name for each in told.silent]) == (WHOLE - 1, WHOLE, [name]), told
    verdict.assert_in_force()
    verdict.assert_only("key_store_unavailable")
    load.stop().assert_none_refused(UNAVAILABLE)


def test_a_reload_replaces_every_worker_and_fails_no_request(
    cluster: Cluster, load: Load, eventually: Eventually
) -> None:
    """A change in the middle of it counts as always."""
    site = cluster.nodes.sites[0]
    old = set(site.processes(WORKER))
    verdict = cluster.nodes.revoke_watched(load, before=lambda: site.running.process.send_signal(signal.SIGHUP))
    assert not late(verdict.watched, verdict.in_force)
    assert not verdict.arrivals
    eventually(partial(_replaced, site, old))
    load.cover()
    cluster.nodes.revoke_watched(load).assert_in_force()
    load.stop().assert_all_good()


def _replaced(site: Site, old: set[int]) -> bool:
    """Whether there are as many workers as before, none of which was there then."""
    now = set(site.processes(WORKER))
    return len(now) == WORKERS and not now & old


def test_a_change_whose_control_process_dies_before_it_published_it_is_published_by_another_node(
    cluster: Cluster, load: Load, eventually: Eventually
) -> None:
    """Node 0 has lost Redis, so that its control process can commit and not publish; then it dies."""
    key = cluster.nodes.issue(node=1)
    load.watch(key.secret)
    cluster.redis_links[0].swallow()
    answers: list[Revocation | ClientError] = []

    def revoke() -> None:
        try:
            answers.append(cluster.nodes.revoke(key, node=0))
        except ClientError as error:
            answers.append(error)

    thread = threading.Thread(target=revoke)
    thread.start()
    eventually(lambda: cluster.is_revoked(key))
    os.kill(cluster.control(0), signal.SIGKILL)
    committed = time.monotonic()
    thread.join()
    time.sleep(max(0.0, committed + TTL_SECONDS - time.monotonic()) + 0.2)
    watched = load.unwatch()
    # Nobody was told that all is well: there was no answer, or none that speaks for all.
    assert all(isinstance(each, ClientError) or not each.by_all for each in answers), answers
    assert not late(watched, committed + TTL_SECONDS)
    assert {each.node for each in watched if each.code == "revoked_api_key"} == set(range(NODES))
    assert {each.code for each in watched} <= {"", "revoked_api_key", "key_store_unavailable"}
    cluster.mend()
    load.stop().assert_none_refused(UNAVAILABLE)
