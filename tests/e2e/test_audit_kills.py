"""Whatever is killed with SIGKILL, every response that a client has received whole is on record exactly once.

`make test` does a few rounds with less load; `make test-audit` 100 with 2,000 requests a second. A round is: load, a
kill at a random moment, a restart, load again, rest; then the record as it lies on the disk is held against what the
clients remember. The record of a series of rounds is judged as a whole each time.
"""

from __future__ import annotations

import collections
import random
import signal
import time
from typing import TYPE_CHECKING, Final

import pytest

from gateway.keys.request_entry import Outcome
from tests.e2e.audit_load import AuditUpstream
from tests.e2e.audit_site import LONG, RecordedSite, kill, recorded_site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.audit_load import AuditLoad, Rested
    from tests.e2e.wire import Wire

    Eventually = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.audit

ROUNDS: Final = 100 if LONG else 4
SERIES: Final = 20
_EVERYTHING: Final = "everything"
_SUPERVISOR: Final = "the supervisor, whose children end by themselves beside those of the next one"
_VICTIMS: Final[dict[str, Callable[[RecordedSite], None]]] = {
    "a worker": lambda site: kill(site.workers[0]),
    "the control process": lambda site: kill(*site.control),
    "the workers": lambda site: kill(*site.workers),
    "a worker and the control process": lambda site: kill(site.workers[-1], *site.control),
    _SUPERVISOR: lambda site: site.kill_supervisor(),
    _EVERYTHING: lambda site: site.kill_all(),
}
# A child that dies again and again is started ever later; the supervisor's own end, in each turn, begins that anew.
_SHORT: Final = ("a worker", "the control process", _SUPERVISOR, _EVERYTHING)


@pytest.fixture(scope="module")
def upstream() -> Iterator[AuditUpstream]:
    with AuditUpstream() as running:
        yield running


@pytest.fixture
def site(tmp_path: Path, upstream: AuditUpstream) -> Iterator[RecordedSite]:
    with recorded_site(tmp_path, upstream.url) as running:
        yield running


def _round(site: RecordedSite, load: AuditLoad, victim: str, chance: random.Random, eventually: Eventually) -> Rested:
    load.go()
    time.sleep(chance.uniform(0.3, 1.5))
    _VICTIMS[victim](site)
    if victim in {_SUPERVISOR, _EVERYTHING}:
        site.restart()
        load.move([site.site.address])
    eventually(lambda: site.is_whole)
    time.sleep(chance.uniform(0.2, 0.6))
    if chance.random() < 0.2:  # the recorder dies while it catches up, or as it starts
        kill(*site.control)
    rested = site.rested(load)
    eventually(lambda: site.is_whole)
    return rested


def test_every_response_received_whole_is_on_record_exactly_once_whoever_is_killed(
    tmp_path: Path,
    upstream: AuditUpstream,
    eventually: Eventually,
    record_property: Callable[[str, object], None],
) -> None:
    """No key was last used earlier than a client knows, each request is counted once, and everything is told so."""
    victims = list(_VICTIMS) if LONG else list(_SHORT)
    whole = cut = 0
    seconds = 0.0
    for first in range(0, ROUNDS, SERIES):
        directory = tmp_path / f"series-{first}"
        directory.mkdir()
        rests: list[Rested] = []
        with recorded_site(directory, upstream.url) as site, site.load(seed=first) as load:
            for number in range(first, min(ROUNDS, first + SERIES)):
                victim = victims[number % len(victims)]
                rests.append(_round(site, load, victim, random.Random(number), eventually))  # noqa: S311
                verdict = site.verdict(*rests)
                verdict.assert_right()
            site.assert_tidy()
            site.assert_told()
        whole += verdict.whole
        seconds += sum(each.seconds for each in rests)
        cut += sum(each.statuses.get("0 cut", 0) for each in rests)
    record_property("figure", f"{ROUNDS} rounds, {whole} whole responses ({whole / seconds:.0f}/s), {cut} cut off")


def test_a_stop_and_a_reload_lose_no_record(site: RecordedSite, eventually: Eventually) -> None:
    """As a deployment does, under load: the drained workers' last records, too."""
    with site.load() as load:
        load.go()
        old = set(site.workers)
        site.site.running.process.send_signal(signal.SIGHUP)
        eventually(lambda: site.is_whole and not old & set(site.workers))
        reloaded = site.rested(load)
        site.verdict(reloaded).assert_right()
        load.go()
        time.sleep(0.5)
        assert site.site.running.stop() == 0
        stopped = site.rested(load)
        site.restart()
        site.verdict(reloaded, stopped).assert_right()
    site.assert_tidy()
    site.assert_told()


def _begin(site: RecordedSite, kind: str) -> tuple[Wire, str]:
    """A stream that never ends, or a tunnel, of which something has come; its request's id."""
    wire = site.site.wire()
    fields = ["Host: x", f"X-API-KEY: {site.seeded.keys[0].secret}"]
    if kind == "w":
        fields += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: YQ=="]
    wire.send(f"GET /{kind}/0000000000000000 HTTP/1.1", *fields)
    head = wire.expect_head()
    if kind == "h":
        assert wire.read_chunk()
    request = head.one("X-Request-ID")
    assert request is not None
    return wire, request


def _outcomes(site: RecordedSite, request: str) -> list[Outcome]:
    return [each.outcome for each in site.records.kept() if each.request_id == request]


@pytest.mark.parametrize("kind", ["h", "w"])
def test_what_lasts_is_on_record_while_it_does_and_was_interrupted_when_its_worker_dies(
    site: RecordedSite, eventually: Eventually, kind: str
) -> None:
    """Each exactly once, in whatever order the recorder hears of it."""
    wire, request = _begin(site, kind)
    with wire:
        eventually(lambda: _outcomes(site, request) == [Outcome.OPEN])
        kill(*site.workers)
        eventually(lambda: _outcomes(site, request) == [Outcome.INTERRUPTED])
    site.drain()
    assert _outcomes(site, request) == [Outcome.INTERRUPTED]


@pytest.mark.parametrize("kind", ["h", "w"])
def test_what_lasted_takes_the_place_of_its_beginning(site: RecordedSite, eventually: Eventually, kind: str) -> None:
    wire, request = _begin(site, kind)
    with wire:
        eventually(lambda: _outcomes(site, request) == [Outcome.OPEN])
    expected = Outcome.ABORTED if kind == "h" else Outcome.ANSWERED  # nobody can cut off a tunnel in the middle
    eventually(lambda: _outcomes(site, request) == [expected])


def test_a_tunnel_is_on_record_before_its_client_hears_of_it(site: RecordedSite, eventually: Eventually) -> None:
    requests = []
    for _ in range(10 if LONG else 2):
        eventually(lambda: site.is_whole)
        wire, request = _begin(site, "w")
        kill(*site.workers)
        wire.close()
        requests.append(request)
    eventually(lambda: site.is_whole)
    site.drain()
    kept = collections.Counter(each.request_id for each in site.records.kept())
    assert [kept[request] for request in requests] == [1] * len(requests)
    # That is said when all files of a run are gone, a moment later.
    eventually(lambda: all(_outcomes(site, request) == [Outcome.INTERRUPTED] for request in requests))
