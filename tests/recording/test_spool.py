"""A worker's end of the spool: what `write` returned for is there, and full means that somebody is told in time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gateway.keys.request_entry import OFFSET_BITS, RequestEntry
from gateway.recording import records
from gateway.recording.segment import is_abandoned
from gateway.recording.spool import Spool, SpoolFull
from gateway.recording.spool_directory import SpoolDirectory, SpoolUnavailable
from tests.recording.reading import entries, read_segment, read_spool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from gateway.recording.open_segment import OpenSegment
    from gateway.recording.spool import WhenFull

SEGMENT = 8192


def payload(number: int) -> bytes:
    """An entry that can be told from others."""
    texts = [b"%d" % number, b"GET", b"/" + b"x" * 100, b"::1", b"", b"", records.NOWHERE, records.NOBODY]
    return records.entry(0, 200, number, 0, 0, 0, 0, texts)


class Disk(SpoolDirectory):
    """A directory on a disk that can be full."""

    full = False

    def create(self, size: int, *, run: int = 0, limit_bytes: int = 0) -> OpenSegment | None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().create(size, run=run, limit_bytes=limit_bytes)


class Site:
    """A directory, and spools on it that are closed in the end."""

    def __init__(self, path: Path, closing: contextlib.ExitStack) -> None:
        self.path = path
        self.disk = Disk(path)
        self.disk.open()
        self._closing = closing

    def spool(self, limit: int = 100, when_full: WhenFull = "refuse", sync: float = 60) -> Spool:
        """A spool that has begun, whose limit is that many segments."""
        made = Spool(
            self.disk,
            limit_bytes=limit * SEGMENT,
            when_full=when_full,
            sync_interval_seconds=sync,
            segment_bytes=SEGMENT,
        )
        made.start()
        self._closing.callback(made.close)
        return made

    def leave_behind(self) -> OpenSegment:
        """A segment of a worker that has ended, which nobody took into the store."""
        made = self.disk.create(SEGMENT)
        assert made is not None
        while made.append(payload(0)) >= 0:
            pass
        made.seal()
        made.close()
        return made

    def ids(self) -> list[int]:
        """The numbers of all entries that are there."""
        return sorted(int(each.request_id) for each in entries(self.path))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A place for a spool."""
    with contextlib.ExitStack() as closing:
        yield Site(tmp_path / "spool", closing)


@contextlib.asynccontextmanager
async def kept(spool: Spool) -> AsyncIterator[None]:
    """Have room kept meanwhile."""
    tasks = [asyncio.ensure_future(each) for each in (spool.keep_room(), spool.keep_synced())]
    try:
        yield
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


def test_a_record_is_there_at_its_position_when_write_returns(site: Site) -> None:
    spool = site.spool()
    positions = [spool.write(payload(number)) for number in range(500)]
    found = entries(site.path)
    assert [each.position for each in found] == positions
    assert [each.request_id for each in found] == [str(number) for number in range(500)]
    assert {each.run for each in found} == {spool.run}
    assert {each >> OFFSET_BITS for each in positions} == {each.number for each in site.disk.segments()}
    assert spool.entries == 500


def test_what_was_written_outlives_a_process_that_is_killed(site: Site) -> None:
    """Not in the middle of a record either: what was not returned for is not there, or whole."""
    program = (
        "import itertools, os, sys; from pathlib import Path; from gateway.recording import records\n"
        "from gateway.recording.spool import Spool; from gateway.recording.spool_directory import SpoolDirectory\n"
        "directory = SpoolDirectory(Path(sys.argv[1]))\n"
        "spool = Spool(directory, limit_bytes=1 << 30, when_full='refuse', sync_interval_seconds=60)\n"
        "spool.start()\n"
        "rest = [b'GET', b'/', b'', b'', b'', records.NOWHERE, records.NOBODY]\n"
        "for number in itertools.count():\n"
        "    spool.write(records.entry(0, 200, 1, 1, 0, 0, 0, [b'%d' % number, *rest]))\n"
        "    os.write(1, b'%d\\n' % number)\n"
    )
    argv = [sys.executable, "-c", program, str(site.path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = b"".join(process.stdout.readline() for _ in range(2000))
        process.send_signal(signal.SIGKILL)
        last = int((said + process.stdout.read()).split()[-1])
    [segment] = site.disk.segments()
    assert is_abandoned(segment.path)
    assert site.ids()[: last + 1] == list(range(last + 1))
    assert len(site.ids()) <= last + 2


def test_one_segment_is_locked_at_any_time_until_the_end(site: Site) -> None:
    """So a reader knows that a run is over when it can lock all of its segments."""
    spool = site.spool()
    for number in range(300):
        spool.write(payload(number))
        assert not all(is_abandoned(each.path) for each in site.disk.segments())
    spool.close()
    assert all(is_abandoned(each.path) for each in site.disk.segments())


def test_what_is_full_or_closed_ends_with_its_count_and_takes_no_room(site: Site) -> None:
    spool = site.spool()
    for number in range(100):
        spool.write(payload(number))
    spool.write(records.encode(read_entry(site, 0), opened=64))
    spool.close()
    sealed = [read_segment(each.path) for each in site.disk.segments()]
    for found in sealed:
        beginnings = [each for each in found if isinstance(each, RequestEntry) and each.position != 64]
        assert found[-1] == records.Seal(len(beginnings))
    assert sum(len(each) for each in sealed) == 101 + len(sealed)
    assert site.disk.segments()[-1].size < SEGMENT // 2


def read_entry(site: Site, index: int) -> RequestEntry:
    """One of the entries that are there."""
    return entries(site.path)[index]


def test_nothing_can_be_written_behind_the_end(site: Site) -> None:
    spool = site.spool()
    spool.close()
    with pytest.raises(SpoolFull):
        spool.write(payload(1))


async def test_the_next_segment_is_there_before_it_is_needed(site: Site) -> None:
    spool = site.spool()
    async with kept(spool):
        for number in range(SEGMENT // 2 // len(payload(0))):
            spool.write(payload(number))
        await until(lambda: spool._next is not None)
        before = site.disk.segments()
        while spool.write(payload(1)) >> OFFSET_BITS == before[0].number:
            pass
        assert site.disk.segments() == before, "none was made in a hurry"


def test_without_a_next_segment_one_is_made_in_a_hurry(site: Site) -> None:
    """Beyond the limit too: what is in flight ends on record."""
    spool = site.spool(limit=1)
    for number in range(200):
        spool.write(payload(number))
    assert site.ids() == list(range(200))
    assert len(site.disk.segments()) > 1


async def test_at_the_limit_requests_are_refused_until_there_is_room(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    left = [site.leave_behind() for _ in range(3)]
    spool = site.spool(limit=4)
    async with kept(spool):
        assert not spool.blocked
        for number in range(40):
            spool.write(payload(number))
        await until(lambda: spool.blocked)
        assert "takes no more (its limit is reached): requests are refused" in caplog.text
        left[0].path.unlink()
        await until(lambda: not spool.blocked)
    assert "has room again" in caplog.text


def test_a_worker_that_starts_at_the_limit_refuses_from_the_beginning(site: Site) -> None:
    for _ in range(3):
        site.leave_behind()
    spool = site.spool(limit=3)
    assert spool.blocked
    spool.write(payload(1))  # of what it refuses


def test_where_the_oldest_is_to_go_it_goes_and_that_is_on_record(site: Site) -> None:
    left = [site.leave_behind() for _ in range(3)]
    sizes = [each.path.stat().st_size for each in left]
    spool = site.spool(limit=3, when_full="drop_oldest")
    assert not spool.blocked
    assert not left[0].path.exists()
    assert left[2].path.exists()
    found = [each for each in read_spool(site.path) if isinstance(each, records.DroppedSegment)]
    assert found == [records.DroppedSegment(left[0].number, sizes[0])]


async def test_what_others_still_write_to_is_never_dropped(site: Site) -> None:
    other = site.spool(limit=2)
    spool = site.spool(limit=2, when_full="drop_oldest")
    async with kept(spool):
        for number in range(40):
            spool.write(payload(number))
        await until(lambda: len(site.disk.segments()) == 3)
    assert not spool.blocked
    other.write(payload(40))
    assert site.ids() == list(range(41))


async def test_a_full_disk_refuses_in_time_and_serves_again(site: Site) -> None:
    """Half a segment is left then for what is in flight."""
    spool = site.spool()
    async with kept(spool):
        site.disk.full = True
        for number in range(40):
            spool.write(payload(number))
        await until(lambda: spool.blocked)
        spool.write(payload(40))
        site.disk.full = False
        await until(lambda: not spool.blocked)
    assert site.ids() == list(range(41))


async def test_without_any_room_a_record_is_refused_and_none_is_lost(site: Site) -> None:
    spool = site.spool()
    site.disk.full = True
    written = 0
    with contextlib.suppress(SpoolFull):
        while True:
            spool.write(payload(written))
            written += 1
    assert spool.blocked
    assert site.ids() == list(range(written))
    site.disk.full = False
    with pytest.raises(SpoolFull):  # the disk is asked again beside the requests, not for each of them
        spool.write(payload(written))
    async with kept(spool):
        await until(lambda: not spool.blocked)
    spool.write(payload(written))
    assert site.ids() == list(range(written + 1))


def test_who_drains_gives_back_what_was_made_ready(site: Site) -> None:
    spool = site.spool()
    spool._prepare()
    taken = site.disk.used_bytes()
    spool.give_back()
    spool._sync()
    assert site.disk.used_bytes() < taken
    spool.write(payload(1))
    assert site.ids() == [1]


def test_on_a_full_disk_the_oldest_goes_too(site: Site) -> None:
    class Tight(Disk):
        """Room for three segments."""

        def create(self, size: int, *, run: int = 0, limit_bytes: int = 0) -> OpenSegment | None:
            self.full = len(self.segments()) >= 3
            return super().create(size, run=run, limit_bytes=limit_bytes)

    left = [site.leave_behind() for _ in range(3)]
    site.disk = Tight(site.path)
    site.spool(when_full="drop_oldest")
    assert not left[0].path.exists()


def test_a_disk_that_is_full_at_the_start_is_said_in_one_line(site: Site) -> None:
    site.disk.full = True
    with pytest.raises(SpoolUnavailable, match=r"^Requests cannot be put on record in .*: No space left on device"):
        site.spool()


def test_a_spool_that_fills_up_is_told_of_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(8):
        site.leave_behind()
    site.spool(limit=10)
    assert "% full: what is on record here is not taken into the store" in caplog.text


async def test_what_was_written_is_forced_to_disk_off_the_loop(site: Site) -> None:
    spool = site.spool(sync=0.01)
    async with kept(spool):
        spool.write(payload(1))
        segment = spool._segment
        assert segment is not None
        await until(lambda: segment.synced_to == segment.offset)
