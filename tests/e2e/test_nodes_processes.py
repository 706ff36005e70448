"""Processes that are stopped, killed or cut off in the middle of a change: what the answer said stays true.

A worker that sleeps can say nothing, and is named in the answer with the time from which it lets nothing through. It
must keep to that by itself as it wakes, whatever waits in its sockets.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest

from gateway.client import ClientError
from tests.e2e.cluster import TTL_SECONDS, Cluster, running_cluster
from tests.e2e.load import late
from tests.e2e.nodes import LONG, WORKERS, Revocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.site import Issued

    Eventually = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.nodes

NODES: Final = 2
ROUNDS: Final = 20 if LONG else 2


@pytest.fixture(scope="module")
def cluster_module(tmp_path_factory: pytest.TempPathFactory, system_program: Callable[[str], str]) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("processes"), system_program, nodes=NODES) as running:
        yield running


@pytest.fixture
def cluster(cluster_module: Cluster) -> Cluster:
    cluster_module.mend()
    return cluster_module


def _stop(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def _wake(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _waking(*pids: int) -> Iterator[None]:
    """Whatever a test does, nobody is left asleep."""
    try:
        yield
    finally:
        _wake(*pids)


@pytest.mark.parametrize("node", range(NODES))
def test_a_worker_that_sleeps_is_named_and_lets_nothing_through_as_it_wakes(cluster: Cluster, node: int) -> None:
    """Requests had come to it while it slept; it wakes right after the time that the answer named."""
    sleeper = cluster.workers(0)[0]
    with _waking(sleeper), cluster.nodes.load() as load:
        for _ in range(ROUNDS):
            verdict = cluster.nodes.revoke_watched(
                load, node=node, before=lambda: _stop(sleeper), after=lambda: _wake(sleeper)
            )
            told = verdict.revocation.propagation
            assert (told.applied, told.of) == (WORKERS * NODES - 1, WORKERS * NODES), told
            assert len(told.silent) == 1, told
            assert verdict.in_force > verdict.revocation.answered
            verdict.assert_in_force()
            verdict.assert_only("key_store_unavailable")
            cluster.mend()
        load.stop().assert_none_refused("503 key_store_unavailable")


def test_a_worker_that_wakes_earlier_hears_of_it_then(cluster: Cluster) -> None:
    """No later than at the time that the answer had named; and the next answer counts it again."""
    sleeper = cluster.workers(0)[0]
    with _waking(sleeper), cluster.nodes.load() as load:
        key = cluster.nodes.issue()
        load.watch(key.secret)
        _stop(sleeper)
        revocation = cluster.nodes.revoke(key, node=1)
        assert not revocation.by_all
        _wake(sleeper)
        in_force = revocation.in_force
        cluster.mend()
        time.sleep(max(0.0, in_force - time.monotonic()) + 0.1)
        watched = load.unwatch()
        assert not late(watched, in_force)
        assert {each.code for each in watched} <= {"", "revoked_api_key", "key_store_unavailable"}
        cluster.nodes.revoke_watched(load).assert_in_force()
        load.stop().assert_none_refused("503 key_store_unavailable")


@pytest.mark.parametrize("way", ["redis", "store"])
def test_a_worker_that_sleeps_in_the_middle_of_a_look_up_trusts_it_no_more_when_it_wakes(
    cluster: Cluster, way: str
) -> None:
    """It had asked before the revocation, and finds the answer of then as it wakes: it must not send the request on."""
    link = cluster.redis_links[0]
    if way == "redis":
        link.delay(0.1)
    else:
        link.refuse()
        link.cut()
        cluster.store_links[0].delay(0.1)
    sleepers = cluster.workers(0)
    with _waking(*sleepers):
        key = cluster.nodes.issue("never seen before", node=1)
        cluster.nodes.upstream.barrier()
        with cluster.nodes.sites[0].wire() as connection:
            connection.send("GET /w/0000000000000000 HTTP/1.1", "Host: x", f"X-API-KEY: {key.secret}")
            time.sleep(0.05)
            _stop(*sleepers)
            revocation = cluster.nodes.revoke(key, node=1)
            assert not revocation.by_all
            time.sleep(max(0.0, revocation.in_force - time.monotonic()))
            before = cluster.nodes.upstream.barrier()
            assert before == [], "the machine was so slow that the request was sent on before the worker was stopped"
            _wake(*sleepers)
            answer = connection.read_answer()
        assert (answer.status, answer.json()["code"]) in {(401, "revoked_api_key"), (503, "key_store_unavailable")}
        assert cluster.nodes.upstream.barrier() == []


def test_a_worker_that_is_killed_leaves_no_answer_waiting_for_it(cluster: Cluster, eventually: Eventually) -> None:
    """It is no member any more as soon as its supervisor knows; the one in its place is one before it serves."""
    with cluster.nodes.load() as load:
        for _ in range(ROUNDS):
            victim = cluster.workers(0)[0]
            os.kill(victim, signal.SIGKILL)
            revocation = cluster.nodes.revoke(cluster.nodes.issue(node=1), node=1)
            assert revocation.propagation.of <= WORKERS * NODES + 1
            eventually(lambda: len(cluster.workers(0)) == WORKERS)
            cluster.mend()
            load.cover()
            cluster.nodes.revoke_watched(load, node=1).assert_in_force()
        load.stop().assert_none_refused("0 cut", "503 key_store_unavailable")


def _revoke_and_die(cluster: Cluster, key: Issued, eventually: Eventually) -> float:
    """Kill the control process of node 0 between its commit and whatever it does after; the time of the commit."""
    answers: list[Revocation | ClientError] = []

    def work() -> None:
        try:
            answers.append(cluster.nodes.revoke(key, node=0))
        except ClientError as error:
            answers.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    eventually(lambda: cluster.is_revoked(key))
    os.kill(cluster.control(0), signal.SIGKILL)
    committed = time.monotonic()
    thread.join()
    # Nobody was told that all is well: there was no answer, or none that speaks for all.
    assert all(isinstance(each, ClientError) or not each.by_all for each in answers), answers
    return committed


def test_a_change_whose_control_process_dies_before_it_published_it_is_published_by_another_node(
    cluster: Cluster, eventually: Eventually
) -> None:
    """Node 0 has lost Redis, so that its control process can commit and not publish; then it dies."""
    with cluster.nodes.load() as load:
        for _ in range(ROUNDS):
            key = cluster.nodes.issue(node=1)
            load.watch(key.secret)
            cluster.redis_links[0].swallow()
            committed = _revoke_and_die(cluster, key, eventually)
            time.sleep(max(0.0, committed + TTL_SECONDS - time.monotonic()) + 0.2)
            watched = load.unwatch()
            assert not late(watched, committed + TTL_SECONDS)
            by_node = {each.node: each.received for each in watched if each.code == "revoked_api_key"}
            assert set(by_node) == set(range(NODES))
            assert {each.code for each in watched} <= {"", "revoked_api_key", "key_store_unavailable"}
            cluster.mend()
        load.stop().assert_none_refused("503 key_store_unavailable")


def test_a_change_whose_control_process_dies_at_any_moment_counts_within_the_time_that_memory_does(
    cluster: Cluster,
) -> None:
    """All its ways are open: it may have published it or not."""
    with cluster.nodes.load() as load:
        for _ in range(ROUNDS):
            key = cluster.nodes.issue(node=1)
            load.watch(key.secret)
            thread = threading.Thread(target=_revoke_quietly, args=(cluster, key))
            thread.start()
            os.kill(cluster.control(0), signal.SIGKILL)
            killed = time.monotonic()
            thread.join()
            cluster.mend()
            revoked = cluster.is_revoked(key)
            time.sleep(max(0.0, killed + TTL_SECONDS - time.monotonic()) + 0.2)
            watched = load.unwatch()
            assert not (revoked and late(watched, killed + TTL_SECONDS))
        load.stop().assert_all_good()


def _revoke_quietly(cluster: Cluster, key: Issued) -> None:
    with suppress(ClientError):
        cluster.nodes.revoke(key, node=0)
