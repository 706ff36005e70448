"""The spool's directory: an id of its own, numbers that never come again, and nothing taken from who still writes."""

from __future__ import annotations

import itertools
import socket
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from gateway.recording.segment import SEGMENT_BYTES, is_abandoned, read_header
from gateway.recording.spool_directory import SpoolDirectory, SpoolUnavailable

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 4096


@pytest.fixture
def directory(tmp_path: Path) -> SpoolDirectory:
    """A spool that is open."""
    made = SpoolDirectory(tmp_path / "data" / "spool")
    made.open()
    return made


def test_it_is_for_one_user_alone_and_keeps_its_id(directory: SpoolDirectory) -> None:
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    assert len(bytes.fromhex(directory.id)) == 8
    again = SpoolDirectory(directory.path)
    again.open()
    assert again.id == directory.id


def test_a_copy_on_another_host_has_another_id(directory: SpoolDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "another host")
    copied = SpoolDirectory(directory.path)
    copied.open()
    assert copied.id != directory.id
    again = SpoolDirectory(directory.path)
    again.open()
    assert again.id == copied.id


@pytest.mark.parametrize("left", ["", "0123456789abcdef", "not an id", "\0"])
def test_an_id_that_cannot_be_read_is_made_anew(directory: SpoolDirectory, left: str) -> None:
    (directory.path / "id").write_text(left)
    before = directory.id
    directory.open()
    assert directory.id != before


def number_of_one(directory: SpoolDirectory) -> int:
    """The number of a segment that is made for it."""
    made = directory.create(SIZE)
    assert made is not None
    return made.number


def test_no_number_is_given_twice(directory: SpoolDirectory) -> None:
    """Not within a second, not when the counter was lost, and not when the clock goes back."""
    given = [number_of_one(directory) for _ in range(3)]
    counter = directory.path / "next"
    for lost in (b"", b"\0" * 12, b"garbage"):
        given += [number_of_one(directory) for _ in range(3)]
        counter.write_bytes(lost)
        given.append(number_of_one(directory))
    given.append(number_of_one(directory))
    counter.unlink()
    given.append(number_of_one(directory))
    assert all(one < other for one, other in itertools.pairwise(given)), given


def test_a_number_follows_the_counter_when_the_clock_goes_back(
    directory: SpoolDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = number_of_one(directory)
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert number_of_one(directory) == before + 1


def test_a_number_is_not_less_than_the_time_so_that_a_new_directory_repeats_none(directory: SpoolDirectory) -> None:
    earliest = int(time.time())
    assert number_of_one(directory) >= earliest


@pytest.mark.parametrize("name", ["4294967296", "99999999999", "999999999999", "1e5", "", "-3", "٣"])
def test_a_file_that_cannot_be_a_segment_is_named_once_and_counts_for_nothing(
    directory: SpoolDirectory, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    stray = directory.path / f"{name}.segment"
    stray.write_bytes(b"not ours")
    assert directory.segments() == []
    assert directory.used_bytes() == 0
    numbers = [number_of_one(directory), number_of_one(directory)]
    assert [each.number for each in directory.segments()] == numbers
    assert numbers[1] == numbers[0] + 1 < 1 << 32
    assert caplog.messages == [f"{stray} is no segment of the spool, and is ignored"]
    assert directory.drop_oldest() is None
    assert stray.exists()


def test_a_segment_is_there_with_its_header_and_locked_or_not_at_all(directory: SpoolDirectory) -> None:
    first = directory.create(SIZE)
    assert first is not None
    second = directory.create(SIZE, run=first.number)
    assert second is not None
    for made in (first, second):
        header = read_header(made.path)
        assert header is not None
        assert header.spool == directory.id
        assert (header.number, header.run) == (made.number, first.number)
        assert not is_abandoned(made.path)
        assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert [each.number for each in directory.segments()] == [first.number, second.number]
    assert directory.used_bytes() == 2 * SIZE


def test_nothing_is_left_of_a_segment_that_could_not_be_made(directory: SpoolDirectory) -> None:
    names = {each.name for each in directory.path.iterdir()}
    with pytest.raises(OSError, match=r"large|space"):
        directory.create(1 << 62)
    assert {each.name for each in directory.path.iterdir()} == names


def test_the_limit_holds_for_all_that_there_is(directory: SpoolDirectory) -> None:
    assert directory.create(SIZE, limit_bytes=2 * SIZE)
    assert directory.create(SIZE, limit_bytes=2 * SIZE)
    assert directory.create(SIZE, limit_bytes=2 * SIZE) is None
    assert directory.create(SIZE, limit_bytes=3 * SIZE)


def test_the_oldest_is_dropped_that_nobody_writes_to(directory: SpoolDirectory) -> None:
    made = [directory.create(SIZE) for _ in range(3)]
    assert directory.drop_oldest() is None
    for each in made[1:]:
        assert each is not None
        each.seal()
        each.close()
    dropped = directory.drop_oldest()
    assert dropped is not None
    assert made[0] is not None
    assert made[1] is not None
    assert made[2] is not None
    assert dropped.number == made[1].number
    assert 64 < dropped.size < SIZE
    assert [each.number for each in directory.segments()] == [made[0].number, made[2].number]


def test_what_was_being_made_when_a_worker_died_is_cleared(directory: SpoolDirectory) -> None:
    (directory.path / "12.new").write_bytes(b"half")
    (directory.path / "other").mkdir()
    (directory.path / "x.segment").touch()
    directory.open()
    assert not list(directory.path.glob("*.new"))
    assert directory.segments() == []


def test_workers_that_start_at_a_time_get_numbers_of_their_own(directory: SpoolDirectory) -> None:
    program = (
        "import sys; from pathlib import Path; from gateway.recording.spool_directory import SpoolDirectory\n"
        "spool = SpoolDirectory(Path(sys.argv[1])); spool.open()\n"
        "print(spool.id, *(spool.create(4096).number for _ in range(10)))"
    )
    argv = [sys.executable, "-c", program, str(directory.path)]
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [each.communicate()[0].split() for each in running]
    assert {each[0] for each in said} == {directory.id}
    numbers = [number for each in said for number in each[1:]]
    assert len(set(numbers)) == 40


def test_a_directory_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolUnavailable) as caught:
        SpoolDirectory(tmp_path / "file" / "spool").open()
    assert caught.value.detail == (
        f"Requests cannot be put on record in {tmp_path}/file/spool: Not a directory. "
        'Give audit.directory another place, or set audit.record to "none".'
    )


def test_positions_fit_into_63_bits_until_the_numbers_have_eleven_digits(directory: SpoolDirectory) -> None:
    assert 99_999_999_999 * SEGMENT_BYTES < 1 << 63
    (directory.path / "100000000000.segment").touch()
    assert directory.segments() == []
