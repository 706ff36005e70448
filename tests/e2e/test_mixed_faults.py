"""Everything at once: mixed load with faults at random moments, and not one wrong answer.

`make test` has each fault once on each store; `make test-faults` ten minutes at 2,000 requests a second
on each (FAULT_MINUTES; FAULT_STORE=sqlite or postgres for one alone; FAULT_SEED replays a run). First anything may
happen at any time; then workers live on, while the upstream, Redis and the clients fail, and growth is judged; in the
end anything may happen again. Of every kind of request enough came out as it should; everything that clients received
whole is on record exactly once, and nothing is left of what they did.
"""

from __future__ import annotations

import collections
import os
import random
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.audit_load import judged
from tests.e2e.audit_records import PostgresRecords, SqliteRecords
from tests.e2e.mixed_asks import KINDS, share
from tests.e2e.mixed_faults import DEADLY, GENTLE, Fault, Faults, unexplained
from tests.e2e.mixed_growth import Growth, Sample, connections_to, grown
from tests.e2e.mixed_load import Failed, MixedLoad, MixedUpstream
from tests.e2e.mixed_site import bad_secrets, mixed_site
from tests.e2e.nodes import seed as seeded_store
from tests.servers.postgres import postgres_server
from tests.servers.redis import redis_servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.e2e.audit_site import RecordedSite
    from tests.e2e.mixed_load import Mixed
    from tests.servers.redis import RedisServer

    Eventually = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.faults

LONG: Final = os.environ.get("KEYGATE_LONG") == "1"
MINUTES: Final = float(os.environ.get("FAULT_MINUTES", "10"))
STORES: Final = [each for each in ("sqlite", "postgres") if os.environ.get("FAULT_STORE", each) == each]
assert STORES, "FAULT_STORE is sqlite or postgres"
SEED: Final = int(os.environ.get("FAULT_SEED") or (random.SystemRandom().randrange(10**6) if LONG else 1))
RATE: Final = 2600.0 if LONG else 400.0
PROMISED_RATE: Final = 2000.0
KEYS: Final = 1000 if LONG else 100
SECONDS: Final = MINUTES * 60 if LONG else 7.0
LEAST: Final = SECONDS * PROMISED_RATE / 2 if LONG else 1000.0
"""Of so many requests, every kind has its share that came out as it should."""
_JUDGED_SECONDS: Final = SECONDS * 0.4
"""Processes that lived so long may not have grown."""
CAPACITY: Final = int(RATE * (SECONDS + 120))
_ONCE: Final = ("upstream", "worker", "sleep", "reload", "redis", "control")
_SABOTAGE: Final = {"": "", "swap": "the answer of another request", "byte": "another body", "twice": "seen 2 times"}
_ERRORS: Final = (
    "a child died",
    "workers follow the store, not Redis",
    "the shared key table cannot be built; workers ask the store",
)
"""All that the log may have: what was killed, and nothing of a defect of the gateway's own."""
_PAUSE_SECONDS: Final = (1.0, 5.0)


@dataclass
class Scene:
    """Everything that takes part."""

    site: RecordedSite
    upstream: MixedUpstream
    redis: RedisServer
    load: MixedLoad
    faults: Faults


@contextmanager
def scene(
    directory: Path, system_program: Callable[[str], str], *, postgres: bool, seed: int, kinds: tuple[str, ...] = ()
) -> Iterator[Scene]:
    with ExitStack() as stack:
        (directory / "data").mkdir()
        redis = stack.enter_context(redis_servers(system_program))()
        if postgres:
            server = stack.enter_context(postgres_server())
            database = server.new_database()
            here = there = server.url(database)
            records: SqliteRecords | PostgresRecords = PostgresRecords(server, database)
        else:
            here, there = f"sqlite:///{directory}/data/gateway.db", "sqlite:///data/gateway.db"
            records = SqliteRecords(directory / "data")
        seeded = seeded_store(here, KEYS)
        upstream = MixedUpstream(directory, CAPACITY)
        site = stack.enter_context(mixed_site(directory, upstream.url, there, redis.url, seeded, records))
        faults = Faults(site, upstream, redis, seed)
        stack.callback(faults.end)
        clients = MixedLoad(
            directory,
            site.site.address,
            seeded.keys,
            owner=seeded.made.member.id,
            bad=bad_secrets(site),
            rate=RATE,
            capacity=CAPACITY,
            seed=seed,
            kinds=kinds,
        )
        yield Scene(site, upstream, redis, stack.enter_context(clients), faults)


def _play(scene: Scene) -> None:
    faults = scene.faults
    if not LONG:
        faults.once(_ONCE, 0.4)
        return
    faults.during((*GENTLE, *DEADLY), SECONDS * 0.4, _PAUSE_SECONDS)
    faults.during(GENTLE, SECONDS * 0.5, _PAUSE_SECONDS)
    faults.during((*GENTLE, *DEADLY), SECONDS * 0.1, _PAUSE_SECONDS)


def _missing(classes: Mapping[str, int]) -> dict[str, int]:
    """Of which kinds fewer came out as they should, whatever that is, than their share of LEAST."""
    came: collections.Counter[str] = collections.Counter()
    for name, count in classes.items():
        what, kind, *_ = name.split(" ")
        if what not in {"failed", "wrong"}:
            came[kind] += count
    return {kind: came[kind] for kind in KINDS if came[kind] < LEAST * share(kind)}


def _assert_right(scene: Scene, mixed: Mixed) -> None:
    if mixed.wrong:
        many = f"{mixed.classes['wrong']} wrong answers, of {mixed.summed()}"
        pytest.fail("\n".join([many, *mixed.wrong]), pytrace=False)
    assert not scene.upstream.wrong(), scene.upstream.wrong()[:5]
    left = unexplained(mixed.failed, scene.faults.done)
    assert not left, (len(left), left[:10], scene.faults.done)
    sightings = scene.load.sightings(scene.upstream)
    assert not sightings.wrong, {why: (len(numbers), numbers[:10]) for why, numbers in sightings.wrong.items()}


def _assert_left_nothing(scene: Scene, eventually: Eventually) -> None:
    """Clients are gone: so are their connections and those to the upstream, and all is well."""
    scene.load.leave()

    def rests() -> bool:
        status = client.status()
        figures = [each.figures for each in status.workers if each.own]
        at_rest = len(figures) == 2 and all(each and not each.connections and not each.in_flight for each in figures)
        return at_rest and status.store.reachable and status.redis is not None and status.redis.complete

    with scene.site.site.client() as client:
        eventually(rests)
    eventually(lambda: not any(connections_to(scene.upstream.port, pid) for pid in scene.site.workers))
    unexpected = [
        record
        for record in scene.site.site.running.records()
        if record.get("level", "error") == "error" and not record["message"].startswith(_ERRORS)
    ]
    assert not unexpected, (len(unexpected), unexpected[:5])
    status = scene.site.site.command.run("status")
    assert status.returncode == 0, status.stderr
    assert "warning" not in status.stderr, status.stderr


@pytest.mark.timeout(0 if LONG else 240)
@pytest.mark.parametrize("store", STORES)
def test_no_wrong_answer_whatever_fails_under_mixed_load(
    store: str,
    tmp_path: Path,
    system_program: Callable[[str], str],
    eventually: Eventually,
    record_property: Callable[[str, object], None],
) -> None:
    print(f"FAULT_SEED={SEED} FAULT_STORE={store}")  # noqa: T201 - shown with a failure
    with scene(tmp_path, system_program, postgres=store == "postgres", seed=SEED) as played:
        with Growth(played.site) as growth:
            played.load.go()
            _play(played)
            if not LONG:  # a slow machine takes longer, and does the same
                eventually(lambda: not _missing(played.load.seen()))
            mixed = played.load.rest()
        eventually(lambda: played.site.is_whole)
        faults = len(played.faults.done)
        what = (
            f"{store}, seed {SEED}: {mixed.requests} requests ({mixed.rate:.0f}/s), {faults} faults, {mixed.summed()}"
        )
        lived = growth.told(_JUDGED_SECONDS)
        done = collections.Counter(each.name for each in played.faults.done)
        print(what, dict(sorted(mixed.classes.items())), done, *lived, sep="\n")  # noqa: T201 - the same
        _assert_right(played, mixed)
        _assert_left_nothing(played, eventually)
        _assert_on_record(played, mixed)
        assert not _missing(mixed.classes)
        if LONG:
            assert growth.judged(_JUDGED_SECONDS) == {"supervisor", "control", "worker"}
            assert not grown(growth.taken, _JUDGED_SECONDS)
            assert mixed.rate >= PROMISED_RATE
        for line in (what, *lived):
            record_property("figure", line)


def _assert_on_record(scene: Scene, mixed: Mixed) -> None:
    """What came whole is there exactly once, and the spool holds nothing that is."""
    scene.site.drain()
    records = scene.site.records
    judged(mixed.whole(), records.kept(), records.last_uses()).assert_right()
    scene.site.assert_tidy()


def test_what_clients_saw_is_explained_by_a_fault_of_that_moment_alone() -> None:
    kill, restart = Fault("worker", 10.0, 11.0), Fault("upstream", 30.0, 31.0)
    cut = Failed("cut", "small", 1, sent=9.9, at=10.1, begun=False, fresh=False, worker="a")
    unreachable = replace(cut, what="502 upstream_unreachable", sent=30.1, at=30.2, begun=True)
    explained = [cut, replace(cut, number=2), unreachable, replace(cut, sent=30.1, at=30.2, begun=True)]
    assert not unexplained(explained, [kill, restart])
    wrong = [
        replace(cut, sent=5.0, at=5.1),
        replace(cut, sent=20.0, at=20.1),
        replace(cut, worker="b"),  # of a worker that nobody killed
        replace(cut, sent=30.1, at=30.2),  # instead of a 502
        replace(unreachable, sent=10.1, at=10.2),
        replace(unreachable, what="504 upstream_timeout"),
        replace(unreachable, what="503 key_store_unavailable"),
    ]
    assert sorted(map(repr, unexplained([*explained, *wrong], [kill, restart]))) == sorted(map(repr, wrong))


@pytest.mark.parametrize("step", [Sample(1, 20_000, 0, 0), Sample(1, 0, 1, 0), Sample(1, 0, 0, 1)])
def test_what_grows_is_noticed(step: Sample) -> None:
    """20 MB, a thousand descriptors or threads over the time in which these were sampled; and noise is not."""
    flat = [Sample(second, 60_000_000 + second % 7 * 100_000, 90 + second % 9, 3) for second in range(1000)]
    growing = [
        Sample(second, 60_000_000 + second * step.resident, 90 + second * step.descriptors, 3 + second * step.threads)
        for second in range(1000)
    ]
    assert not grown({("worker", 1): flat, ("worker", 2): growing[:100]}, 500)
    assert len(grown({("worker", 1): flat, ("worker", 2): growing}, 500)) == 1


def test_what_would_be_wrong_is_noticed(
    tmp_path: Path, system_program: Callable[[str], str], eventually: Eventually
) -> None:
    """The API does it in the gateway's stead: mixes up two answers, loses a byte, counts a request twice."""
    kinds = ("small", "ten", "post", "post-chunked")
    with scene(tmp_path, system_program, postgres=False, seed=SEED, kinds=kinds) as played:
        for how, complaint in _SABOTAGE.items():
            played.upstream.sabotage(how)
            played.load.go()
            eventually(lambda: sum(played.load.seen().values()) > 400)
            mixed = played.load.rest()
            doubled = played.load.sightings(played.upstream).wrong
            assert complaint in " ".join([*mixed.wrong, *doubled])
            if not how:
                _assert_right(played, mixed)
                continue
            with pytest.raises((AssertionError, pytest.fail.Exception)):
                _assert_right(played, mixed)
