"""A spool without room, a disk without room, and more refusals than are kept one by one: what is promised holds.

Records are made long, so that it takes seconds to fill what a gateway may have at least.
"""

from __future__ import annotations

import collections
import resource
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.audit_load import AuditUpstream, Rested, Verdict
from tests.e2e.audit_records import unread
from tests.e2e.audit_site import RecordedSite, recorded_site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Eventually = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.audit

LEAST_MEBIBYTES: Final = {1: 64, 2: 96}
"""For so many workers."""
FULL: Final = "audit_log_full"
_REFUSED: Final = f"503 {FULL}"
_FAST: Final = 3000.0
_LONG_BYTES: Final = 1900
_CONNECTIONS: Final = 64
_LESS_THAN_A_SEGMENT: Final = 12 << 20
_WORKER_DIGITS: Final = 16


@pytest.fixture(scope="module")
def upstream() -> Iterator[AuditUpstream]:
    with AuditUpstream() as running:
        yield running


def _spool_mebibytes(site: RecordedSite) -> float:
    return sum(each.stat().st_size for each in site.spool.glob("*.segment")) / (1 << 20)


def _stop_and_start(site: RecordedSite) -> None:
    """Refusals of the last second are counted at its end, or when their worker ends."""
    assert site.site.running.stop() == 0
    site.restart()


@pytest.fixture
def serve(tmp_path: Path, upstream: AuditUpstream) -> Iterator[Callable[..., RecordedSite]]:
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(recorded_site(tmp_path, upstream.url, **settings))


def test_a_full_spool_refuses_what_cannot_be_on_record_and_nothing_is_lost(
    serve: Callable[..., RecordedSite], eventually: Eventually
) -> None:
    """The recorder sleeps: 503 until it has made room. What is refused is on record or counted, each of it."""
    site = serve(SERVER__WORKERS="1", AUDIT__SPOOL_LIMIT_MEBIBYTES=str(LEAST_MEBIBYTES[1]))
    with site.load(_FAST, padding=_LONG_BYTES) as load:
        with site.recorder_asleep():
            load.go()
            eventually(lambda: load.seen(_REFUSED) > 2000)
            assert _spool_mebibytes(site) <= LEAST_MEBIBYTES[1]  # not even what is refused makes it grow
        good = load.seen("200")
        eventually(lambda: load.seen("200") > good + 1000)
        rested = site.rested(load)
    assert "0 cut" not in rested.statuses, rested.statuses
    _stop_and_start(site)
    refused = _refused(rested)
    site.verdict(rested, counted=frozenset(refused)).assert_right()
    assert {code: site.records.refusals(code) for code in refused} == refused


def _refused(rested: Rested) -> collections.Counter[str]:
    """By code: whoever is refused while the spool takes nothing is counted, for whatever reason."""
    return collections.Counter(each.code for each in rested.whole if each.code)


def test_where_the_oldest_may_be_dropped_nobody_is_refused_and_the_newest_are_on_record(
    serve: Callable[..., RecordedSite], eventually: Eventually
) -> None:
    site = serve(AUDIT__SPOOL_LIMIT_MEBIBYTES=str(LEAST_MEBIBYTES[2]), AUDIT__WHEN_FULL="drop_oldest")
    with site.load(_FAST, padding=_LONG_BYTES) as load:
        with site.recorder_asleep():
            load.go()
            eventually(lambda: _dropped(site) > 0)
            rested = site.rested(load)
        assert not [status for status in rested.statuses if status.startswith(("0", "5"))], rested.statuses
        verdict = site.verdict(rested)
        assert verdict.lost
        assert not verdict.doubled
        assert not verdict.differing, verdict.differing[:5]
        _assert_oldest(rested, verdict)
        load.go()
        eventually(lambda: load.seen("200") > 100)
        site.verdict(site.rested(load)).assert_right()


def _dropped(site: RecordedSite) -> int:
    return sum(each["message"].endswith("was dropped") for each in site.site.running.records())


def _assert_oldest(rested: Rested, verdict: Verdict) -> None:
    """Of each worker, what is lost is what its clients received first, give or take what was under way at once."""
    lost = {each.request_id for each in verdict.lost}
    of_worker = collections.defaultdict(list)
    for each in sorted(rested.whole, key=lambda each: each.received):
        of_worker[each.request_id[:_WORKER_DIGITS]].append(each.request_id in lost)
    for gone in of_worker.values():
        assert not any(gone[sum(gone) + _CONNECTIONS :])


def test_a_disk_without_room_refuses_and_goes_on_when_there_is_room(
    serve: Callable[..., RecordedSite], eventually: Eventually
) -> None:
    """No file may grow to the size of a segment, which is what a full disk looks like to one who asks for its space.

    What cannot be recorded any more is cut off, and no response is whole that is not on record.
    """
    site = serve()
    with site.load(_FAST, padding=_LONG_BYTES) as load:
        workers = site.workers
        for pid in workers:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (_LESS_THAN_A_SEGMENT, resource.RLIM_INFINITY))
        load.go()
        eventually(lambda: load.seen(_REFUSED) > 100)
        for pid in workers:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        good = load.seen("200")
        eventually(lambda: load.seen("200") > good + 1000)
        rested = site.rested(load)
    assert site.workers == workers
    _stop_and_start(site)
    refused = _refused(rested)
    site.verdict(rested, counted=frozenset(refused)).assert_right()
    # Those that were cut off are counted, too.
    assert all(site.records.refusals(code) >= count for code, count in refused.items())


def test_a_store_without_room_costs_no_record(serve: Callable[..., RecordedSite], eventually: Eventually) -> None:
    """No file of the control process may grow: the daily file, the store and their logs. The workers serve on."""
    site = serve()
    with site.load() as load:
        load.go()
        eventually(lambda: load.seen("200") > 100)
        (control,) = site.control
        resource.prlimit(control, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        good = load.seen("200")
        eventually(lambda: load.seen("200") > good + 1000)
        assert unread(site.records, site.spool)
        resource.prlimit(control, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        rested = site.rested(load)
    assert not [status for status in rested.statuses if status.startswith(("0", "5"))], rested.statuses
    site.verdict(rested).assert_right()
    assert site.control == [control]


def test_refusals_beyond_the_rate_are_counted_and_all_others_are_on_record(serve: Callable[..., RecordedSite]) -> None:
    """A flood of guesses neither fills the record nor goes unseen, and takes no place from good requests."""
    site = serve(AUDIT__REFUSALS_PER_SECOND="5")
    key = site.seeded.keys[0].secret
    good = []
    with site.site.wire() as wire:
        for number in range(1000):
            refused = wire.ask(f"GET /guess/{number} HTTP/1.1", f"X-API-KEY: {key[:-6]}{number:06d}")
            assert refused.status == 401
            code = refused.json()["code"]
            if number % 10 == 0:
                answer = wire.ask(f"GET /l/{number:016d} HTTP/1.1", f"X-API-KEY: {key}")
                assert answer.status == 200
                good.append(answer.one("X-Request-ID") or "")
    _stop_and_start(site)
    site.drain()
    kept = site.records.kept()
    assert sorted(each.request_id for each in kept if each.status == 200) == sorted(good)
    assert 5 <= sum(each.code == code for each in kept) < 1000
    assert site.records.refusals(code) == 1000
