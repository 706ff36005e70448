"""Several nodes on one store: `gateway run` with two workers each, as operators run them, and how a change is judged.

    with running_nodes(directory, places, seeded, upstream) as nodes, nodes.load(rate=2000) as load:
        verdict = nodes.revoke_watched(load, key)
        verdict.assert_in_force()

A place says where one node finds the store and Redis, so that each may have a fault proxy of its own in between.

Invariant: nothing is judged by how fast it was. A revocation is in force from the moment at which its answer said that
every worker had applied it, or else from the latest moment that the answer named; what comes after that is a fault, and
what came before is none.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gateway.cli.store_access import opened
from gateway.services.actor import SYSTEM
from gateway.services.key_issuing import issue_key
from gateway.services.key_request import Draft
from gateway.settings.model import Settings, StoreSettings
from gateway.store.engine import create_engine, write_transaction
from tests.e2e.conftest import Command, starting
from tests.e2e.load import Load, late
from tests.e2e.site import Issued, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gateway.client import Client
    from gateway.client.shapes import Propagation
    from gateway.services.shapes import Initialised
    from tests.e2e.load import Arrival, LoadUpstream, Watched

LONG: Final = os.environ.get("KEYGATE_LONG") == "1"
"""Set by `make test-nodes`: as many rounds, and as much load, as is promised; without it, less of both."""
WORKERS: Final = 2
KEYS: Final = 1000
RATE: Final = 2000.0 if LONG else 400.0
LINGER_SECONDS: Final = 0.15
"""How long the key under test is still sent after its revocation is in force."""
PATIENCE_SECONDS: Final = 90.0
"""An answer that names a later moment is a failure in a test that has to wait for it."""


@dataclass(frozen=True)
class Place:
    """Where a node finds what it shares with the others."""

    store_url: str
    redis_url: str | None = None


@dataclass(frozen=True)
class Seeded:
    """What is in a store that was made for a test: an organization, its admin's key, and keys for the load."""

    made: Initialised
    keys: tuple[Issued, ...]


def seed(store_url: str, count: int = KEYS) -> Seeded:
    """Make the schema, the organization, and `count` keys of its admin, by the services, in two transactions."""

    async def work() -> Seeded:
        settings = Settings(store=StoreSettings(url=store_url))
        async with opened(settings) as organizations:
            made = await organizations.initialise("Acme", "admin@example.com")
        engine = create_engine(store_url)
        try:
            async with write_transaction(engine) as connection:
                keys = []
                for number in range(count):
                    issued = await issue_key(
                        connection,
                        Draft(name=f"load {number}", description="", permissions=None, expires_at=None),
                        organization_id=made.organization.id,
                        owner_id=made.member.id,
                        prefix=settings.auth.key_prefix,
                        actor=SYSTEM,
                        now=datetime.now(UTC),
                    )
                    assert issued.resource.secret is not None
                    keys.append(Issued(issued.resource.id, issued.resource.secret))
        finally:
            await engine.dispose()
        return Seeded(made, tuple(keys))

    with ThreadPoolExecutor(1) as apart:  # the test may have a loop of its own
        return apart.submit(asyncio.run, work()).result()


@dataclass(frozen=True)
class Revocation:
    """A revocation, when it was asked for and answered (CLOCK_MONOTONIC), and what the answer promised."""

    key: Issued
    asked: float
    answered: float
    propagation: Propagation

    @property
    def by_all(self) -> bool:
        """Every worker said that it had applied it. None at all does not count."""
        return self.propagation.applied == self.propagation.of > 0

    @property
    def in_force(self) -> float:
        """From this moment on nothing may pass."""
        if self.by_all:
            return self.answered
        assert self.propagation.silent, self.propagation
        left = max(each.until for each in self.propagation.silent) - datetime.now(UTC)
        return max(self.answered, time.monotonic() + left.total_seconds())


@dataclass(frozen=True)
class Verdict:
    """What became of the requests with a key that was revoked while it was sent to every worker."""

    revocation: Revocation
    in_force: float
    watched: list[Watched]
    arrivals: list[Arrival]
    """What reached the upstream after the revocation was in force."""
    workers: set[str]

    def assert_in_force(self) -> None:
        """Not one request went through after that, and every worker refused some."""
        passed = late(self.watched, self.in_force)
        assert not passed, (self.revocation, passed[:5])
        assert not self.arrivals, (self.revocation, self.arrivals[:5])
        last = {each.worker: each.code for each in self.watched}
        refused = {worker for worker, code in last.items() if code in {"revoked_api_key", "key_store_unavailable"}}
        assert refused >= self.workers, (self.revocation, last, self.workers)

    def assert_only(self, *codes: str) -> None:
        """Nothing but 200, the refusal of a revoked key, and these was ever answered."""
        seen = {each.code for each in self.watched}
        assert seen <= {"", "revoked_api_key", *codes}, seen


def _nothing() -> None:
    """What happens in between where nothing shall."""


class Nodes:
    """All nodes of a test, while they run."""

    def __init__(
        self, sites: Sequence[Site], seeded: Seeded, upstream: LoadUpstream, clients: Sequence[Client]
    ) -> None:
        self.sites, self.seeded, self.upstream = sites, seeded, upstream
        self._clients = clients

    def client(self, node: int = 0) -> Client:
        """The admin API of a node, with the admin's key."""
        return self._clients[node]

    def issue(self, name: str = "under test", node: int = 0) -> Issued:
        """Make a key at a node."""
        made = self.client(node).keys.create(name)
        assert made.secret is not None
        return Issued(made.id, made.secret)

    def revoke(self, key: Issued, node: int = 0) -> Revocation:
        """Revoke a key at a node."""
        asked = time.monotonic()
        changed = self.client(node).keys.revoke(key.id)
        return Revocation(key, asked, time.monotonic(), changed.propagation)

    @contextmanager
    def load(self, *, rate: float = RATE, connections: int = 64, pause: float = 0.005) -> Iterator[Load]:
        """Every key of the store over all nodes, and the key under test at every worker of each."""
        proxies = [site.address for site in self.sites]
        keys = [(key.secret, key.id) for key in self.seeded.keys]
        with Load(proxies, keys, workers=WORKERS, connections=connections, rate=rate, pause=pause) as load:
            load.cover()
            yield load

    def warm(self, load: Load, eventually: Callable[[Callable[[], object]], None]) -> None:
        """Return when every key has been asked for several times at each node, and look at nothing of before."""
        seen = 0

        def enough() -> bool:
            nonlocal seen
            summary = load.mark()
            summary.assert_none_refused()
            seen += summary.requests
            return seen >= 2 * len(self.seeded.keys) * len(self.sites)

        eventually(enough)

    def revoke_watched(
        self,
        load: Load,
        key: Issued | None = None,
        node: int = 0,
        *,
        before: Callable[[], object] = _nothing,
        after: Callable[[], object] = _nothing,
    ) -> Verdict:
        """Send a key (a new one unless it is named) to every worker, revoke it at a node, and send it still.

        `before` runs when every worker has let it through, right before it is revoked; `after` when the revocation is
        in force: it may wake whom `before` has stopped.
        """
        key = key or self.issue(node=node)
        load.watch(key.secret)
        before()
        revocation = self.revoke(key, node)
        in_force = revocation.in_force
        assert in_force < time.monotonic() + PATIENCE_SECONDS, revocation
        time.sleep(max(0.0, in_force - time.monotonic()))
        self.upstream.barrier()  # what had arrived by now was sent on by right
        after()
        time.sleep(LINGER_SECONDS)
        watched = load.unwatch()
        arrivals = [each for each in self.upstream.barrier() if each.key_id == key.id]
        workers = {each.worker for each in watched if each.sent > in_force and each.worker}
        return Verdict(revocation, in_force, watched, arrivals, workers)


@contextmanager
def running_nodes(
    directory: Path,
    places: Sequence[Place],
    seeded: Seeded,
    upstream: LoadUpstream,
    **settings: str,
) -> Iterator[Nodes]:
    """Start a node at each place, all at once, and end them. `settings`: by the names of their variables."""
    assert all(name.isupper() for name in settings)
    environ = {
        "GATEWAY__SERVER__WORKERS": str(WORKERS),
        "GATEWAY__UPSTREAMS": json.dumps([{"name": "default", "targets": [upstream.url]}]),
        **{f"GATEWAY__{name}": value for name, value in settings.items()},
    }
    with ExitStack() as stack:
        runs = []
        for number, place in enumerate(places):
            own = directory / f"node-{number}"
            own.mkdir()
            command = Command(own)
            here = {**environ, "GATEWAY__STORE__URL": place.store_url}
            if place.redis_url is not None:
                here["GATEWAY__REDIS__URL"] = place.redis_url
            runs.append((command, stack.enter_context(starting(command, own)), here))
        with ThreadPoolExecutor(len(runs)) as pool:
            started = list(pool.map(lambda each: each[1](environ=each[2]), runs))
        sites = [Site(command, running, seeded.made) for (command, _, _), running in zip(runs, started, strict=True)]
        clients = [stack.enter_context(site.client()) for site in sites]
        yield Nodes(sites, seeded, upstream, clients)
