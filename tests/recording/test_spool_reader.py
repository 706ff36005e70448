"""Reading a spool: everything once, in whatever state its writers are, and whatever was done to the files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gateway.keys.request_entry import OFFSET_BITS, Outcome
from gateway.recording.records import UnrecordedRefusals, dropped_segment, unrecorded_refusals
from gateway.recording.segment import HEADER_BYTES, MARKER
from gateway.recording.spool_directory import SegmentFile, SpoolDirectory
from gateway.recording.spool_reader import Checkpoint, FinishedSegment, SegmentPart, SpoolReader, count_entries
from tests.recording.spool_writer import Worker, entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.recording.open_segment import OpenSegment

EVERYTHING = 100_000


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def directory(tmp_path: Path) -> SpoolDirectory:
    made = SpoolDirectory(tmp_path / "spool")
    made.open()
    return made


@pytest.fixture
def reader(directory: SpoolDirectory, clock: Clock) -> Iterator[SpoolReader]:
    made = SpoolReader(directory, clock=clock)
    assert made.begin({}) == []
    yield made
    made.close()


def ids(parts: list[SegmentPart]) -> list[str]:
    return [each.request_id for part in parts for each in part.entries]


def take(reader: SpoolReader, limit: int = EVERYTHING) -> tuple[list[str], list[FinishedSegment]]:
    """Read and record."""
    parts = reader.read(limit)
    return ids(parts), reader.recorded(parts)


def flip(segment: OpenSegment, at: int, count: int = 1) -> None:
    """Spoil bytes of the file, as a disk or a memory might."""
    with segment.path.open("r+b") as file:
        file.seek(at)
        spoiled = bytes(each ^ 0x55 for each in file.read(count))
        file.seek(at)
        file.write(spoiled)


def offset(position: int) -> int:
    return position & ((1 << OFFSET_BITS) - 1)


def test_what_a_worker_writes_is_read_once_with_its_position_and_run(
    directory: SpoolDirectory, reader: SpoolReader
) -> None:
    worker = Worker(directory)
    wrote = [entry(number) for number in range(3)]
    positions = [worker.write(each) for each in wrote]
    [part] = reader.read(EVERYTHING)
    expected = [
        each._replace(position=position, run=worker.run) for each, position in zip(wrote, positions, strict=True)
    ]
    assert part.entries == expected
    assert (part.spool, part.segment, part.run) == (directory.id, worker.segment.number, worker.run)
    assert (part.counted, part.damaged_bytes, part.finished, part.read_from) == (3, 0, False, HEADER_BYTES)
    assert reader.recorded([part]) == []
    assert reader.read(EVERYTHING) == []
    worker.write(entry(3))
    assert take(reader) == (["r3"], [])
    worker.drain()


def test_what_was_not_recorded_is_read_again(directory: SpoolDirectory, reader: SpoolReader) -> None:
    worker = Worker(directory)
    worker.write(entry(0))
    assert ids(reader.read(EVERYTHING)) == ["r0"]
    worker.write(entry(1))
    assert take(reader)[0] == ["r0", "r1"]
    worker.drain()


def test_a_sealed_segment_is_over_and_says_how_many_entries_it_has(
    directory: SpoolDirectory, reader: SpoolReader
) -> None:
    worker = Worker(directory)
    first = worker.segment.number
    opened = worker.write(entry(0, outcome=Outcome.OPEN))
    worker.move_on()
    worker.write(entry(0), opened=opened)
    worker.write(entry(1))
    over, present = reader.read(EVERYTHING)
    assert (over.sealed_entries, over.counted, over.finished) == (1, 1, True)
    assert (present.sealed_entries, present.counted, present.finished) == (None, 1, False)
    assert [each.position == opened for each in present.entries] == [True, False]
    [finished] = reader.recorded([over, present])
    assert finished == FinishedSegment(directory.id, first, worker.run)
    reader.remove(finished)
    assert [each.number for each in directory.segments()] == [worker.segment.number]
    worker.drain()


def test_a_segment_that_was_left_behind_is_over_at_its_end(directory: SpoolDirectory, reader: SpoolReader) -> None:
    worker = Worker(directory)
    worker.write(entry(0))
    assert take(reader) == (["r0"], [])
    worker.write(entry(1))
    worker.die()
    texts, [finished] = take(reader)
    assert texts == ["r1"]
    reader.remove(finished)
    assert directory.segments() == []
    assert reader.read(EVERYTHING) == []


def test_a_run_is_there_as_long_as_it_has_a_segment(directory: SpoolDirectory, reader: SpoolReader) -> None:
    other, worker = Worker(directory), Worker(directory)
    runs = {(directory.id, other.run), (directory.id, worker.run)}
    worker.move_on()
    _, [finished] = take(reader)
    assert reader.runs == runs
    reader.remove(finished)
    reader.look()
    assert reader.runs == runs
    worker.drain()
    _, [finished] = take(reader)
    assert reader.runs == runs
    reader.remove(finished)
    reader.look()
    assert reader.runs == {(directory.id, other.run)}
    other.drain()


def test_what_waits_is_what_was_written_and_not_recorded_and_not_the_room_that_workers_hold(
    directory: SpoolDirectory, reader: SpoolReader
) -> None:
    size = 1 << 24
    idle, busy = Worker(directory, size), Worker(directory, size)
    reader.look()
    assert (reader.used_bytes, reader.waiting_bytes) == (2 * size, 0)
    for number in range(3000):
        busy.write(entry(number))
    reader.look()
    written = busy.segment.offset - HEADER_BYTES
    assert written <= reader.waiting_bytes < written + 4096
    take(reader)
    reader.look()
    assert reader.waiting_bytes == 0
    busy.write(entry(1))
    reader.look()
    assert 0 < reader.waiting_bytes <= 4096
    busy.die()  # nobody can use the room behind it any more
    reader.look()
    assert reader.waiting_bytes == size
    assert reader.used_bytes == 2 * size
    _, [finished] = take(reader)
    reader.look()
    assert reader.waiting_bytes == 0  # the file is there, and has nothing that is not recorded
    reader.remove(finished)
    idle.drain()


def test_a_segment_of_a_dead_writer_is_recorded_with_the_room_behind_it(
    directory: SpoolDirectory, reader: SpoolReader
) -> None:
    """By that it is told from one that was dropped before its end was read."""
    worker = Worker(directory)
    worker.write(entry(0))
    worker.die()
    [part] = reader.read(EVERYTHING)
    assert (part.finished, part.damaged_bytes) == (True, 0)
    assert part.read_to == worker.segment.path.stat().st_size


def test_the_directory_is_listed_once_for_a_batch_and_what_is_removed_after_it(
    directory: SpoolDirectory, reader: SpoolReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        worker = Worker(directory)
        worker.write(entry(0))
        worker.drain()
    listed, segments = 0, directory.segments

    def counted() -> list[SegmentFile]:
        nonlocal listed
        listed += 1
        return segments()

    monkeypatch.setattr(directory, "segments", counted)
    texts, over = take(reader)
    for each in over:
        reader.remove(each)
    assert (len(texts), len(over), listed) == (5, 5, 1)
    assert segments() == []


def test_a_limit_ends_a_batch_and_loses_nothing(directory: SpoolDirectory, reader: SpoolReader) -> None:
    worker = Worker(directory)
    for number in range(300):
        worker.write(entry(number))
    worker.move_on()
    worker.write(entry(300))
    worker.drain()
    found = []
    while batch := take(reader, 50)[0]:
        assert len(batch) < 301
        found += batch
    assert found == [f"r{number}" for number in range(301)]


def test_a_reader_goes_on_from_what_was_recorded(directory: SpoolDirectory, reader: SpoolReader) -> None:
    worker = Worker(directory)
    worker.write(entry(0))
    [part] = reader.read(EVERYTHING)
    worker.write(entry(1))
    worker.drain()
    reader.begin({(part.spool, part.segment): Checkpoint(part.run, part.read_to, finished=False)})
    assert take(reader)[0] == ["r1"]
    left = reader.begin({(part.spool, part.segment): Checkpoint(part.run, part.read_to, finished=True)})
    assert left == [FinishedSegment(part.spool, part.segment, part.run)]
    assert reader.read(EVERYTHING) == []


def test_a_segment_that_was_dropped_is_over(directory: SpoolDirectory, reader: SpoolReader) -> None:
    worker = Worker(directory)
    worker.write(entry(0))
    take(reader)
    worker.drain()
    assert directory.drop_oldest() is not None
    texts, [finished] = take(reader)
    assert texts == []
    assert finished.number == worker.segment.number
    assert take(reader) == ([], [])


def test_what_is_no_entry_is_told_beside_them(directory: SpoolDirectory, reader: SpoolReader) -> None:
    worker = Worker(directory)
    worker.write(unrecorded_refusals(7_000_000, b"missing_api_key", 12))
    worker.write(dropped_segment(9, 4096))
    worker.write(b"\x63 of a later version")
    [part] = reader.read(EVERYTHING)
    assert part.unrecorded == [UnrecordedRefusals(7_000_000, "missing_api_key", 12)]
    assert part.dropped == [(9, 4096)]
    assert part.damaged_bytes > 0
    assert part.counted == 0
    worker.drain()


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoiled", range(0, 160, 5))
def test_a_spoiled_record_costs_itself_alone(directory: SpoolDirectory, reader: SpoolReader, spoiled: int) -> None:
    worker = Worker(directory)
    positions = [worker.write(entry(number)) for number in range(5)]
    worker.drain()
    begin, end = offset(positions[2]), offset(positions[3])
    flip(worker.segment, begin + spoiled % (end - begin - 8))
    [part] = reader.read(EVERYTHING)
    assert ids([part]) == ["r0", "r1", "r3", "r4"]
    assert part.damaged_bytes == end - begin
    assert (part.counted, part.sealed_entries, part.finished) == (4, 5, True)


def test_a_stretch_of_zeros_in_the_middle_is_passed_in_a_file_nobody_writes_to(
    directory: SpoolDirectory, reader: SpoolReader
) -> None:
    """As after a power cut, when later pages were on the disk and earlier ones were not."""
    worker = Worker(directory, 1 << 20)
    positions = [worker.write(entry(number, path="/" + "x" * 2000)) for number in range(400)]
    with worker.segment.path.open("r+b") as file:
        file.seek(offset(positions[10]))
        file.write(bytes(offset(positions[390]) - offset(positions[10])))
    worker.die()
    [part] = reader.read(EVERYTHING)
    assert ids([part]) == [f"r{number}" for number in (*range(10), *range(390, 400))]
    assert part.damaged_bytes == offset(positions[390]) - offset(positions[10])
    assert part.finished


def test_half_of_a_record_at_the_end_is_waited_for_while_its_writer_lives(
    directory: SpoolDirectory, reader: SpoolReader, clock: Clock
) -> None:
    worker = Worker(directory)
    position = worker.write(entry(0))
    begin = offset(position)
    half = begin + 40
    whole = worker.segment.path.read_bytes()[half : worker.segment.offset]
    flip(worker.segment, half, len(whole))
    for _ in range(3):
        assert reader.read(EVERYTHING) == []
        clock.now += 60
    flip(worker.segment, half, len(whole))
    assert take(reader)[0] == ["r0"]
    worker.drain()


@pytest.mark.parametrize("written", [4, 8, 12, 60])
def test_what_a_worker_was_writing_when_it_was_killed_is_no_damage(
    directory: SpoolDirectory, reader: SpoolReader, written: int
) -> None:
    """Its response had not gone out."""
    worker = Worker(directory)
    worker.write(entry(0))
    begin = offset(worker.write(entry(1)))
    with worker.segment.path.open("r+b") as file:
        file.seek(begin + written)
        file.write(bytes(worker.segment.offset - begin - written))
    worker.die()
    [part] = reader.read(EVERYTHING)
    assert ids([part]) == ["r0"]
    assert (part.finished, part.damaged_bytes) == (True, 0)


def test_half_of_a_record_at_the_end_of_a_dead_writer_is_damage(directory: SpoolDirectory, reader: SpoolReader) -> None:
    worker = Worker(directory)
    worker.write(entry(0))
    position = worker.write(entry(1))
    flip(worker.segment, offset(position) + 30, 4)
    worker.die()
    [part] = reader.read(EVERYTHING)
    assert ids([part]) == ["r0"]
    assert part.finished
    assert 0 < part.damaged_bytes <= worker.segment.offset - offset(position)


def test_a_spoiled_record_with_others_behind_it_is_passed_after_a_second_while_its_writer_lives(
    directory: SpoolDirectory, reader: SpoolReader, clock: Clock
) -> None:
    worker = Worker(directory)
    positions = [worker.write(entry(number)) for number in range(3)]
    flip(worker.segment, offset(positions[1]) + 20)
    assert take(reader)[0] == ["r0"]
    assert take(reader)[0] == []
    clock.now += 0.9
    assert take(reader)[0] == []
    clock.now += 0.2
    [part] = reader.read(EVERYTHING)
    assert ids([part]) == ["r2"]
    assert part.damaged_bytes == offset(positions[2]) - offset(positions[1])
    worker.drain()


def test_an_unreadable_header_costs_no_entry(directory: SpoolDirectory, reader: SpoolReader) -> None:
    worker = Worker(directory)
    worker.write(entry(0))
    flip(worker.segment, 4)
    assert reader.read(EVERYTHING) == []
    worker.drain()
    [part] = reader.read(EVERYTHING)
    assert ids([part]) == ["r0"]
    assert (part.spool, part.run, part.finished) == (directory.id, worker.segment.number, True)


@pytest.mark.parametrize("content", [b"", b"x", bytes(64), MARKER * 100, os.urandom(5000)])
def test_a_file_that_is_no_segment_is_over_at_once(
    directory: SpoolDirectory, reader: SpoolReader, content: bytes
) -> None:
    (directory.path / "5.segment").write_bytes(content)
    texts, [finished] = take(reader)
    assert texts == []
    reader.remove(finished)
    assert directory.segments() == []


def test_a_spool_of_another_host_keeps_its_name(directory: SpoolDirectory) -> None:
    worker = Worker(directory)
    worker.write(entry(0))
    worker.drain()
    (directory.path / "id").write_text("0123456789abcdef elsewhere\n")
    here = SpoolDirectory(directory.path)
    here.open()
    moved = SpoolReader(here)
    assert moved.present()[0] == {directory.id, here.id}
    assert here.id != directory.id
    assert [part.spool for part in moved.read(EVERYTHING)] == [directory.id]
    moved.close()


# --- counting anew ----------------------------------------------------------------------------------------------------


def test_entries_are_counted_anew_up_to_a_point_and_past_damage(directory: SpoolDirectory) -> None:
    worker = Worker(directory)
    positions = [worker.write(entry(number)) for number in range(4)]
    worker.write(entry(9), opened=positions[0])
    worker.drain()
    path = worker.segment.path
    assert count_entries(path, 1 << 24) == 4
    assert count_entries(path, offset(positions[2])) == 2
    flip(worker.segment, offset(positions[1]) + 20)
    assert count_entries(path, 1 << 24) == 3
    path.unlink()
    assert count_entries(path, 1 << 24) is None
