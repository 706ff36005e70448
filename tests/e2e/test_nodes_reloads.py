"""A reload and the end of a node, under load from 64 keep-alive connections: no request fails for it."""

from __future__ import annotations

import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.load import LoadUpstream
from tests.e2e.nodes import LONG, WORKERS, Nodes, Place, running_nodes, seed
from tests.e2e.site import WORKER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.load import Load

    Eventually = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.nodes

ROUNDS: Final = 10 if LONG else 2
RATE: Final = 2000.0


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """One of them: what is asked here is between the supervisor and its workers."""
    url = f"sqlite:///{tmp_path}/gateway.db"
    # Idle connections of old workers get half of the drain's time; a worker that starts slowly may be named as silent.
    short = {"SERVER__DRAIN_TIMEOUT_SECONDS": "10", "CACHE__POSITIVE_TTL_SECONDS": "5"}
    with (
        LoadUpstream() as upstream,
        running_nodes(tmp_path, [Place(url)], seed(url, 100), upstream, **short) as running,
    ):
        yield running


def _reload_by_api(nodes: Nodes) -> None:
    nodes.client().reload()


def _reload_by_signal(nodes: Nodes) -> None:
    nodes.sites[0].running.process.send_signal(signal.SIGHUP)


@pytest.mark.parametrize("reload", [_reload_by_api, _reload_by_signal])
def test_a_reload_replaces_every_worker_and_fails_no_request(
    nodes: Nodes, eventually: Eventually, reload: Callable[[Nodes], None]
) -> None:
    site = nodes.sites[0]
    with nodes.load(rate=RATE) as load:
        for _ in range(ROUNDS):
            old = set(site.processes(WORKER))
            reload(nodes)
            eventually(partial(_replaced, nodes, old))
            _go_on(load, eventually)
        nodes.revoke_watched(load).assert_in_force()
        load.stop().assert_all_good()


def _replaced(nodes: Nodes, old: set[int]) -> bool:
    """Whether there are as many workers as before, none of which was there then."""
    now = set(nodes.sites[0].processes(WORKER))
    return len(now) == WORKERS and not now & old


def _go_on(load: Load, eventually: Eventually) -> None:
    """Look for a moment at what comes after."""
    load.cover()
    load.mark().assert_none_refused()
    eventually(lambda: load.mark().requests > 0)


def test_the_end_of_a_node_fails_no_request_that_it_had_taken(nodes: Nodes, eventually: Eventually) -> None:
    """Connections are told to end, or end while nothing is under way; whoever comes later is not let in."""
    with nodes.load(rate=RATE) as load:
        time.sleep(0.5)
        assert nodes.sites[0].running.stop(signal.SIGTERM) == 0
        summary = load.mark()
        summary.assert_all_good()
        eventually(lambda: load.mark().requests == 0)


def test_changes_in_the_middle_of_a_reload_count_as_always(nodes: Nodes, eventually: Eventually) -> None:
    """Old workers that drain are asked too: they may still send requests on."""
    old = set(nodes.sites[0].processes(WORKER))
    with nodes.load(rate=RATE) as load:
        nodes.revoke_watched(load, before=lambda: _reload_by_signal(nodes)).assert_in_force()
        eventually(partial(_replaced, nodes, old))
        load.cover()
        nodes.revoke_watched(load).assert_in_force()
        load.stop().assert_all_good()
