"""Spools that somebody left behind, whole or damaged: what can be read is on record exactly once, and nothing stops.

Each test begins with the same copy of a gateway's directory: everything was killed at once while the recorder slept, so
that all that was asked lies in segments alone. Then something happens to these files, and a gateway starts on them.
"""

from __future__ import annotations

import itertools
import random
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.audit_load import AuditUpstream
from tests.e2e.audit_site import LONG, RecordedSite, kill, orphaned_site, recorded_site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.audit_site import Orphaned

    Eventually = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.audit

REQUESTS: Final = 400
_HEADER_BYTES: Final = 64
_FRAME_BYTES: Final = 12
_PAGE_BYTES: Final = 4096


@pytest.fixture(scope="module")
def upstream() -> Iterator[AuditUpstream]:
    with AuditUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def orphaned_module(tmp_path_factory: pytest.TempPathFactory, upstream: AuditUpstream) -> Orphaned:
    """Requests that are in the spool and nowhere else."""
    with recorded_site(tmp_path_factory.mktemp("orphaned"), upstream.url) as site:
        with site.recorder_asleep():
            requests = _ask(site, REQUESTS)
            site.kill_all()
        return site.orphaned(requests)


@pytest.fixture
def orphaned(orphaned_module: Orphaned, tmp_path: Path) -> Orphaned:
    return orphaned_module.copied(tmp_path / "gateway")


@pytest.fixture
def restarted(orphaned: Orphaned) -> Iterator[Callable[[], RecordedSite]]:
    """Start a gateway on what is there now."""
    with orphaned_site(orphaned) as start:
        yield start


def _ask(site: RecordedSite, count: int) -> dict[str, str]:
    """Requests, some of them on each of a few connections, so that both workers get some: id and path of each."""
    asked: dict[str, str] = {}
    for _ in range(8):
        with site.site.wire() as wire:
            for _ in range(count // 8):
                path = f"/l/{len(asked):016d}"
                answer = wire.ask(f"GET {path} HTTP/1.1", f"X-API-KEY: {site.seeded.keys[0].secret}")
                assert answer.status == 200
                request = answer.one("X-Request-ID")
                assert request is not None
                asked[request] = path
    return asked


def _assert_on_record(site: RecordedSite, asked: dict[str, str]) -> None:
    """Just these, each once, as they were."""
    site.drain()
    kept = site.records.kept()
    assert len({each.request_id for each in kept}) == len(kept)
    found = {each.request_id: each.path for each in kept}
    assert found == asked, _differences(found, asked)


def _differences(found: dict[str, str], asked: dict[str, str]) -> str:
    return f"missing {sorted(asked.keys() - found.keys())[:5]}, not asked {sorted(found.keys() - asked.keys())[:5]}"


def _goes_on(site: RecordedSite) -> dict[str, str]:
    """Requests after all that are on record like any."""
    asked = _ask(site, 16)
    site.drain()
    found = {each.request_id: each.path for each in site.records.kept()}
    assert asked.items() <= found.items()
    return asked


def _places(orphaned: Orphaned) -> dict[str, tuple[Path, int]]:
    """In which file, and where in it, the id of each request is."""
    places: dict[str, tuple[Path, int]] = {}
    for file in orphaned.segments:
        data = file.read_bytes()
        for request in orphaned.asked:
            if (at := data.find(request.encode())) >= 0:
                places[request] = (file, at)
    assert places.keys() == orphaned.asked.keys()
    return places


def _overwrite(file: Path, at: int, data: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(data)


def _flip(file: Path, at: int, bit: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        (byte,) = opened.read(1)
        opened.seek(at)
        opened.write(bytes([byte ^ 1 << bit]))


def test_what_the_dead_left_behind_is_on_record(restarted: Callable[[], RecordedSite], orphaned: Orphaned) -> None:
    """And their files are gone after that."""
    site = restarted()
    _assert_on_record(site, orphaned.asked)
    site.assert_tidy()
    _assert_on_record(site, orphaned.asked | _goes_on(site))


def test_flipped_bits_cost_the_records_that_they_are_in_and_no_other(
    restarted: Callable[[], RecordedSite], orphaned: Orphaned
) -> None:
    """Nor does what is left of them turn into records of requests that nobody made."""
    chance = random.Random(1)  # noqa: S311 - repeatable on purpose
    places = _places(orphaned)
    hit = chance.sample(sorted(orphaned.asked), 20)
    for request in hit:
        file, at = places[request]
        _flip(file, at + chance.randrange(len(request)), chance.randrange(8))
    site = restarted()
    _assert_on_record(site, {request: path for request, path in orphaned.asked.items() if request not in hit})
    assert site.records.damaged_bytes() > 0
    site.assert_tidy()
    _goes_on(site)


@pytest.mark.parametrize("filling", [b"\0", b"\xa5", b"\xf5KG\xfa"])
def test_a_page_that_was_lost_in_the_middle_costs_what_was_on_it(
    restarted: Callable[[], RecordedSite], orphaned: Orphaned, filling: bytes
) -> None:
    """Zeros too, which elsewhere mean that nothing follows."""
    places = _places(orphaned)
    file = max(orphaned.segments, key=lambda each: sum(found == each for found, _ in places.values()))
    inside = sorted(at for found, at in places.values() if found == file)
    page = inside[len(inside) // 2] // _PAGE_BYTES * _PAGE_BYTES
    _overwrite(file, page, (filling * _PAGE_BYTES)[:_PAGE_BYTES])
    ends = dict(itertools.pairwise(inside))
    may_be_gone = {
        request
        for request, (found, at) in places.items()
        if found == file and at < page + _PAGE_BYTES + _PAGE_BYTES // 8 and ends.get(at, at) > page
    }
    site = restarted()
    site.drain()
    kept = {each.request_id: each.path for each in site.records.kept()}
    assert kept.items() <= orphaned.asked.items()
    assert orphaned.asked.keys() - kept.keys() <= may_be_gone
    assert may_be_gone - kept.keys()
    assert site.records.damaged_bytes() > 0
    _goes_on(site)


@pytest.mark.parametrize("how", ["cut", "zeros"])
def test_a_torn_tail_costs_the_last_record_alone(
    restarted: Callable[[], RecordedSite], orphaned: Orphaned, how: str
) -> None:
    """The file ends in the middle of it, or its second half was never written."""
    places = _places(orphaned)
    file, at = max((place for place in places.values()), key=lambda place: place[1])
    torn = next(request for request, place in places.items() if place == (file, at))
    if how == "cut":
        with file.open("r+b") as opened:
            opened.truncate(at + 5)
    else:
        _overwrite(file, at + 5, bytes(_PAGE_BYTES))
    site = restarted()
    _assert_on_record(site, {request: path for request, path in orphaned.asked.items() if request != torn})
    site.assert_tidy()
    _goes_on(site)


def test_what_a_worker_was_writing_when_it_was_killed_is_no_damage(
    restarted: Callable[[], RecordedSite], orphaned: Orphaned
) -> None:
    """The head of a record is written last: without it, the response had not gone out, and nothing is missing."""
    for file in orphaned.segments:
        end = len(file.read_bytes().rstrip(b"\0"))
        _overwrite(file, (end + 7 & -8) + _FRAME_BYTES, b"\1" + b"half of a record" * 20)
    site = restarted()
    _assert_on_record(site, orphaned.asked)
    assert site.records.damaged_bytes() == 0
    site.assert_tidy()
    site.assert_told()


@pytest.mark.parametrize("what", ["no header", "half a header", "empty", "other things"])
def test_what_is_no_segment_stops_nobody(restarted: Callable[[], RecordedSite], orphaned: Orphaned, what: str) -> None:
    """All others are read; the gateway is ready, and says that something is wrong."""
    places = _places(orphaned)
    file = orphaned.segments[0]
    asked = {request: path for request, path in orphaned.asked.items() if places[request][0] != file}
    if what == "no header":
        _overwrite(file, 0, bytes(_HEADER_BYTES))
    elif what == "half a header":
        with file.open("r+b") as opened:
            opened.truncate(_HEADER_BYTES // 2)
    elif what == "empty":
        file.write_bytes(b"")
    else:
        asked = orphaned.asked
        (orphaned.spool / "notes.txt").write_text("not a segment")
        (orphaned.spool / "x.segment").write_bytes(b"x" * 1000)
        (orphaned.spool / "1.segment").mkdir()
    site = restarted()
    new = _goes_on(site)
    kept = {each.request_id: each.path for each in site.records.kept()}
    assert kept.items() >= (asked | new).items()
    assert kept.items() <= (orphaned.asked | new).items()


@pytest.mark.parametrize("seed", range(20 if LONG else 1))
def test_whatever_bytes_are_overwritten_nothing_untrue_is_on_record(
    restarted: Callable[[], RecordedSite], orphaned: Orphaned, seed: int
) -> None:
    """Bytes at random places of all files, headers too; then the gateway is killed while it reads them."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    places = _places(orphaned)
    segments = orphaned.segments
    for file in segments:
        end = max((at for found, at in places.values() if found == file), default=_HEADER_BYTES)
        for _ in range(30):
            _overwrite(file, chance.randrange(_HEADER_BYTES, end), chance.randbytes(chance.randint(1, 40)))
    site = restarted()
    kill(*site.control)
    site.drain()
    kept = site.records.kept()
    assert len({each.request_id for each in kept}) == len(kept)
    assert {each.request_id: each.path for each in kept}.items() <= orphaned.asked.items()
    assert len(kept) >= len(orphaned.asked) - 30 * 2 * len(segments)
    _goes_on(site)


def test_a_segment_that_comes_back_doubles_nothing(
    restarted: Callable[[], RecordedSite], orphaned: Orphaned, tmp_path: Path
) -> None:
    """As when a backup of the directory is put in its place: replay is harmless."""
    shutil.copytree(orphaned.spool, tmp_path / "saved")
    site = restarted()
    _assert_on_record(site, orphaned.asked)
    site.kill_all()
    for file in (tmp_path / "saved").glob("*.segment"):
        shutil.copy(file, orphaned.spool)
    site.restart()
    _assert_on_record(site, orphaned.asked)
    _assert_on_record(site, orphaned.asked | _goes_on(site))


@pytest.mark.parametrize("lost", [("next",), ("id",), ("id", "next")], ids=" and ".join)
def test_a_spool_that_lost_its_name_or_its_counter_loses_and_doubles_nothing(
    restarted: Callable[[], RecordedSite], orphaned: Orphaned, lost: tuple[str, ...]
) -> None:
    for name in lost:
        (orphaned.spool / name).unlink()
    site = restarted()
    asked = orphaned.asked | _goes_on(site)
    _assert_on_record(site, asked)


def test_a_lost_checkpoint_doubles_nothing(restarted: Callable[[], RecordedSite], orphaned: Orphaned) -> None:
    """An older main store is put in place while segments and entries stay: all is read again, to the same places."""
    data = orphaned.directory / "data"
    saved = {file: file.read_bytes() for file in data.glob("gateway.db*")}
    site = restarted()
    asked = orphaned.asked | _goes_on(site)
    site.kill_all()
    for file in data.glob("gateway.db*"):
        file.unlink()
    for file, content in saved.items():
        file.write_bytes(content)
    site.restart()
    _assert_on_record(site, asked)


def test_what_was_left_is_on_record_although_nothing_shall_be_any_more(
    orphaned: Orphaned, eventually: Eventually
) -> None:
    """`audit.record` is another now."""
    environ = {**orphaned.environ, "GATEWAY__AUDIT__RECORD": "none"}
    with orphaned_site(replace(orphaned, environ=environ)) as start:
        site = start()
        _ask(site, 16)
        _assert_on_record(site, orphaned.asked)
        eventually(lambda: not list(orphaned.spool.glob("*.segment")))


@pytest.mark.parametrize("how", ["overwritten", "removed"])
def test_a_day_that_is_broken_or_gone_costs_what_was_in_it_and_nothing_else(
    restarted: Callable[[], RecordedSite], orphaned: Orphaned, how: str
) -> None:
    """A file that is no database is found at the next start, one that is gone under the gateway that runs."""
    site = restarted()
    _assert_on_record(site, orphaned.asked)
    days = orphaned.directory / "data" / "audit"
    if how == "removed":
        shutil.rmtree(days)
    else:
        assert site.site.running.stop() == 0
        (day,) = days.iterdir()
        day.write_bytes(b"no database" * 1000)
        if day.stem != datetime.now(UTC).date().isoformat():
            pytest.skip("midnight came in between: nobody opens the file of yesterday")
        site.restart()
    _assert_on_record(site, _ask(site, 16))
