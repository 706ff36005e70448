"""A revocation that says that every worker has applied it is in force everywhere: not one request passes after that.

The same on every combination of store and feed, on as many nodes as it allows, under load. `make test-nodes` revokes
200 keys on each with 2,000 requests/s beside.
"""

from __future__ import annotations

import json
import socket
import statistics
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.load import LoadUpstream, late
from tests.e2e.nodes import LONG, WORKERS, Nodes, Place, running_nodes, seed
from tests.e2e.wire import Wire
from tests.servers.redis import redis_servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.load import Load
    from tests.servers.postgres import PostgresServer

    Eventually = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.nodes

ROUNDS: Final = 200 if LONG else 20
_UPSTREAM_PATH: Final = "/held"


class HeldUpstream:
    """Keeps connects waiting in the system's queue until it is told to let go."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)  # the system completes one connection that is not accepted yet, and no more
        self.port: int = self._listener.getsockname()[1]
        self._filling: socket.socket | None = None

    def accept(self) -> Wire:
        return Wire(self._listener.accept()[0])

    def fill(self) -> None:
        """From now on connects wait."""
        self._filling = socket.create_connection(("127.0.0.1", self.port))

    def let_go(self) -> None:
        """Take the one that filled the queue out of it: whoever still tries comes in."""
        assert self._filling is not None
        self._filling.close()
        self.accept().close()

    def arrived(self, seconds: float) -> bytes:
        """What whoever comes within this time sends."""
        self._listener.settimeout(seconds)
        with suppress(TimeoutError), Wire(self._listener.accept()[0]) as connection:
            return connection.read_rest()
        return b""

    def close(self) -> None:
        if self._filling is not None:
            self._filling.close()
        self._listener.close()


@pytest.fixture(scope="module")
def upstream() -> Iterator[LoadUpstream]:
    with LoadUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def held() -> Iterator[HeldUpstream]:
    """One for each module: the nodes have to know its port as they start."""
    upstream = HeldUpstream()
    yield upstream
    upstream.close()


@pytest.fixture(scope="module", params=["sqlite", "sqlite and redis", "postgresql", "postgresql and redis"])
def nodes(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    system_program: Callable[[str], str],
    upstream: LoadUpstream,
    held: HeldUpstream,
) -> Iterator[Nodes]:
    """Three of them where the store allows more than one. Their cache believes for a day: only what is heard counts."""
    store, _, redis = request.param.partition(" and ")
    directory = tmp_path_factory.mktemp("nodes")
    with redis_servers(system_program) as start_redis:
        redis_url = start_redis().url if redis else None
        if store == "sqlite":
            url, count = f"sqlite:///{directory}/gateway.db", 1
        else:
            postgres: PostgresServer = request.getfixturevalue("postgres")
            url, count = postgres.url(postgres.new_database()), 3
        seeded = seed(url)
        targets = [
            {"name": "default", "targets": [upstream.url]},
            {"name": "held", "targets": [f"http://127.0.0.1:{held.port}"], "connect_timeout_seconds": 30},
        ]
        routes = [
            {"name": "default", "upstream": "default"},
            {"name": "held", "path": _UPSTREAM_PATH, "upstream": "held"},
        ]
        with running_nodes(
            directory,
            [Place(url, redis_url)] * count,
            seeded,
            upstream,
            UPSTREAMS=json.dumps(targets),
            ROUTES=json.dumps(routes),
            CACHE__POSITIVE_TTL_SECONDS="86400",
            CACHE__NEGATIVE_TTL_SECONDS="86400",
        ) as running:
            yield running


def test_the_instruments_see_what_passes(nodes: Nodes) -> None:
    """Whoever judges by them must be able to lose: a key that was not revoked is seen to pass, at both ends."""
    key = nodes.issue()
    with nodes.load() as load:
        nodes.upstream.barrier()  # what came in the tests before this one
        load.watch(key.secret)
        (first, *_) = (before := nodes.upstream.barrier())
        load.watch(key.secret)
        passed = late(load.unwatch(), first.at)
        arrived = nodes.upstream.barrier()
    assert {each.key_id for each in before} == {each.key_id for each in arrived} == {key.id}
    assert {each.token for each in passed} >= {each.token for each in arrived} - {each.token for each in before}
    assert len({each.worker for each in passed}) == WORKERS * len(nodes.sites)


def test_not_one_request_passes_after_the_answer_says_that_all_have_applied_it(
    nodes: Nodes, eventually: Eventually, record_property: Callable[[str, object], None]
) -> None:
    whole = WORKERS * len(nodes.sites)
    milliseconds, waited = [], []
    with nodes.load() as load:
        nodes.warm(load, eventually)
        for number in range(ROUNDS):
            verdict = nodes.revoke_watched(load, node=number % len(nodes.sites))
            verdict.assert_in_force()
            verdict.assert_only()
            told = verdict.revocation.propagation
            assert (told.applied, told.of) == (whole, whole), told
            assert len(verdict.workers) == whole
            waited.append(told.milliseconds)
            milliseconds.append((verdict.revocation.answered - verdict.revocation.asked) * 1e3)
        summary = load.stop()
    summary.assert_all_good()
    cuts, waits = statistics.quantiles(milliseconds, n=100), statistics.quantiles(waited, n=100)
    record_property(
        "figure",
        f"{ROUNDS} revocations at {len(nodes.sites)} nodes under {summary.rate:,.0f} requests/s: "
        f"committed to applied by all p50 {waits[49]:.0f} ms, p99 {waits[98]:.0f} ms; "
        f"asked to answered p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms; load p99 {summary.p99:.1f} ms",
    )


@pytest.mark.parametrize("change", ["disable", "enable", "delete", "create", "permissions"])
def test_other_changes_are_in_force_at_every_worker_when_the_answer_says_so(nodes: Nodes, change: str) -> None:
    """The very next request agrees, wherever it is made."""
    whole = WORKERS * len(nodes.sites)
    keys = nodes.client().keys
    with nodes.load(rate=100) as load:
        for _ in range(3):
            key = nodes.issue(change)
            if change == "enable":
                assert keys.disable(key.id).propagation.applied == whole
                assert _codes(load, key.secret) == {"disabled_api_key"}
                assert keys.enable(key.id).propagation.applied == whole
            else:
                assert _codes(load, key.secret) == {""}
            if change == "disable":
                assert keys.disable(key.id).propagation.applied == whole
            elif change == "delete":
                assert keys.delete(key.id).propagation.applied == whole
            elif change == "permissions":
                assert keys.update(key.id, permissions=[]).propagation.applied == whole
            wanted = {"disable": "disabled_api_key", "delete": "invalid_api_key"}.get(change, "")
            assert _codes(load, key.secret) == {wanted}


def _codes(load: Load, secret: str) -> set[str]:
    """What a key gets at every worker."""
    return {each.code for each in load.once(secret)}


@contextmanager
def _asking(nodes: Nodes, secret: str, *, first: bool) -> Iterator[list[int]]:
    """A request for the held upstream under way; its status is there when this ends.

    `first`: another request goes before it on the same connection.
    """
    statuses: list[int] = []
    with nodes.sites[0].wire() as connection:
        request = (f"GET {_UPSTREAM_PATH} HTTP/1.1", "Host: x", f"X-API-KEY: {secret}")

        def work() -> None:
            if first:
                statuses.append(connection.ask(*request).status)
            statuses.append(connection.ask(*request).status)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield statuses
        finally:
            thread.join(30)


@pytest.mark.parametrize("moment", ["connect", "retry"])
def test_a_request_that_waits_for_its_upstream_while_its_key_is_revoked_is_never_sent(
    nodes: Nodes, held: HeldUpstream, moment: str
) -> None:
    """Be it its first attempt, or a second one after the upstream had closed the connection of the first."""
    key = nodes.issue()
    if moment == "connect":
        held.fill()
    with _asking(nodes, key.secret, first=moment == "retry") as statuses:
        if moment == "retry":
            with held.accept() as connection:
                connection.read_head()
                connection.send("HTTP/1.1 200 OK", "Content-Length: 0")
                held.fill()
                connection.read_head()  # the second request, on the same connection, which now ends without an answer
        else:
            threading.Event().wait(0.2)  # until it waits in connect; sooner would test less, and fail nothing
        revocation = nodes.revoke(key, node=len(nodes.sites) - 1)
        assert revocation.by_all
        held.let_go()
        arrived = held.arrived(3.2)  # a connect is tried again after 1 and after 3 seconds
    assert arrived == b""
    assert statuses == ([200, 401] if moment == "retry" else [401])
