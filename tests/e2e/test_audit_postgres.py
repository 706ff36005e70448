"""Two nodes on one PostgreSQL, which goes away for a while, is killed, and comes back, while processes are killed too.

Nothing is lost, nothing is there twice, and everything that happened meanwhile arrives. `make test` has an outage of
some seconds and a few rounds; `make test-audit` 30 s, and as many rounds as for SQLite.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.audit_load import AuditLoad, AuditUpstream, judged
from tests.e2e.audit_records import PostgresRecords
from tests.e2e.audit_site import LONG, ME, RATE, RecordedSite, kill, shared_site
from tests.e2e.cluster import through
from tests.e2e.fault_proxy import FaultProxy
from tests.e2e.nodes import seed
from tests.servers.redis import redis_servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.audit_load import Rested, Verdict
    from tests.servers.postgres import PostgresServer

    Eventually = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.audit

NODES: Final = 2
ROUNDS: Final = 30 if LONG else 2
OUTAGE_SECONDS: Final = 30.0 if LONG else 2.0
KEYS: Final = 50


@dataclass
class Pair:
    """Both nodes, each with a way of its own to the store."""

    sites: list[RecordedSite]
    links: list[FaultProxy]
    postgres: PostgresServer
    records: PostgresRecords
    directory: Path

    @property
    def is_whole(self) -> bool:
        return all(site.is_whole for site in self.sites)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [site.site.address for site in self.sites]

    def load(self) -> AuditLoad:
        return AuditLoad(self.addresses, self.sites[0].seeded.keys, rate=RATE, me=ME)

    def verdict(self, *rests: Rested) -> Verdict:
        """When all nodes have taken everything into the store."""
        for site in self.sites:
            site.drain()
        whole = (each for rest in rests for each in rest.whole)
        return judged(whole, self.records.kept(), self.records.last_uses())


@pytest.fixture
def pair(tmp_path: Path, own_postgres: PostgresServer, system_program: Callable[[str], str]) -> Iterator[Pair]:
    """Redis is there all the time: good keys go on while PostgreSQL is away."""
    database = own_postgres.new_database()
    url = own_postgres.url(database)
    seeded = seed(url, KEYS)
    with ExitStack() as stack:
        redis = stack.enter_context(redis_servers(system_program))()
        upstream = stack.enter_context(AuditUpstream())
        links = [stack.enter_context(FaultProxy(own_postgres.port)) for _ in range(NODES)]
        records = PostgresRecords(own_postgres, database)
        sites = [
            stack.enter_context(
                shared_site(
                    tmp_path / f"node-{number}",
                    upstream.url,
                    through(url, own_postgres.port, link.port),
                    seeded,
                    records,
                    REDIS__URL=redis.url,
                )
            )
            for number, link in enumerate(links)
        ]
        yield Pair(sites, links, own_postgres, records, tmp_path)


def _break(links: list[FaultProxy], how: str) -> None:
    for link in links:
        if how == "silent":
            link.swallow()
        else:
            link.refuse()
            link.cut()


@pytest.mark.parametrize("how", ["refused", "silent"])
def test_what_happens_while_the_store_is_away_arrives_when_it_is_back(
    pair: Pair, how: str, eventually: Eventually, record_property: Callable[[str, object], None]
) -> None:
    """Good keys go on by Redis; the processes of one node are killed in the middle of it."""
    with pair.load() as load:
        load.go()
        eventually(lambda: load.seen("200") > 200)
        _break(pair.links, how)
        time.sleep(OUTAGE_SECONDS / 2)
        kill(pair.sites[0].workers[0], *pair.sites[0].control)
        time.sleep(OUTAGE_SECONDS / 2)
        for link in pair.links:
            link.heal()
        eventually(lambda: pair.is_whole)
        good = load.seen("200")
        eventually(lambda: load.seen("200") > good + 200)
        rested = load.rest(pair.directory)
    assert not [status for status in rested.statuses if status.startswith("401") and "revoked" in status]
    verdict = pair.verdict(rested)
    verdict.assert_right()
    for site in pair.sites:
        site.assert_tidy()
    record_property("figure", f"{OUTAGE_SECONDS:.0f} s: {verdict.whole} whole responses ({rested.rate:.0f}/s)")


def test_every_response_received_whole_is_on_record_exactly_once_whoever_is_killed(
    pair: Pair, eventually: Eventually, record_property: Callable[[str, object], None]
) -> None:
    """A worker, a control process, a node, or PostgreSQL itself."""
    rests: list[Rested] = []
    with pair.load() as load:
        for number in range(ROUNDS):
            chance = random.Random(number)  # noqa: S311 - repeatable on purpose
            load.go()
            time.sleep(chance.uniform(0.3, 1.5))
            _kill(pair, load, number)
            eventually(lambda: pair.is_whole)
            time.sleep(chance.uniform(0.2, 0.6))
            rests.append(load.rest(pair.directory))
            pair.verdict(*rests).assert_right()
    whole = sum(len(each.whole) for each in rests)
    record_property("figure", f"{ROUNDS} rounds, {whole} whole responses")


def _kill(pair: Pair, load: AuditLoad, number: int) -> None:
    site = pair.sites[number % NODES]
    match number % 4:
        case 0:
            kill(site.workers[0], *site.control)
        case 1:
            pair.postgres.process.kill()
            time.sleep(0.2)
            pair.postgres.restart()
        case 2:
            site.kill_all()
            site.restart()
            load.move(pair.addresses)
        case _:
            for each in pair.sites:
                kill(*each.workers, *each.control)
