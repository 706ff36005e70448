"""A reader finds what is whole in a segment, whatever became of the rest of it."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.recording import segment
from gateway.recording.segment import Frame, SegmentHeader
from gateway.recording.spool_directory import SpoolDirectory

if TYPE_CHECKING:
    from pathlib import Path

HEADER = SegmentHeader("0123456789abcdef", 1_700_000_000, 1_699_999_999, 4711, 1_700_000_000_000_000)
PAYLOADS = [b"\x03" + bytes([n]) * (3 * n + 1) for n in range(8)]


@pytest.fixture
def written(tmp_path: Path) -> bytes:
    """A segment as it lies on disk: records, and room for more."""
    directory = SpoolDirectory(tmp_path / "spool")
    directory.open()
    made = directory.create(4096)
    assert made is not None
    for payload in PAYLOADS:
        assert made.append(payload) >= 0
    return made.path.read_bytes()


def test_a_header_comes_out_as_it_went_in(tmp_path: Path) -> None:
    encoded = segment.encode_header(HEADER)
    assert len(encoded) == segment.HEADER_BYTES
    assert segment.decode_header(encoded) == HEADER
    path = tmp_path / "a.segment"
    path.write_bytes(encoded + b"more")
    assert segment.read_header(path) == HEADER


def test_a_header_with_any_bit_flipped_is_none() -> None:
    encoded = segment.encode_header(HEADER)
    for bit in range(60 * 8):  # the last four bytes say nothing
        flipped = bytearray(encoded)
        flipped[bit // 8] ^= 1 << bit % 8
        assert segment.decode_header(bytes(flipped)) is None, bit
    for length in range(segment.HEADER_BYTES):
        assert segment.decode_header(encoded[:length]) is None


def test_all_frames_are_found_and_then_nothing(written: bytes) -> None:
    frames, end = segment.scan(written, segment.HEADER_BYTES)
    assert [each.payload for each in frames] == PAYLOADS
    assert segment.find_frame(written, end) is None


@pytest.mark.parametrize("base", [64, 128, 160])
def test_a_part_of_the_file_is_read_like_the_whole(written: bytes, base: int) -> None:
    """`base` may lie anywhere; offsets are those in the file."""
    frames, end = segment.scan(written, segment.HEADER_BYTES)
    first = next(each.offset for each in frames if each.offset >= base)
    assert segment.find_frame(written[base:], base, base) == first
    rest = [each for each in frames if each.offset >= first]
    assert segment.scan(written[base:], first, base) == (rest, end)
    assert segment.find_frame(written[base:], end, base) is None


def test_a_frame_of_which_a_byte_is_missing_is_none_yet(written: bytes) -> None:
    frames, _ = segment.scan(written, segment.HEADER_BYTES)
    last = frames[-1]
    for length in range(last.offset, last.offset + segment.FRAME_BYTES + len(last.payload)):
        assert segment.scan(written[:length], segment.HEADER_BYTES) == (frames[:-1], last.offset)


@given(st.data())
def test_damage_costs_the_frames_it_touches_and_no_other(data: st.DataObject) -> None:
    """Flipped bits, blank pages, anything: the reader finds its way again behind it."""
    whole = b"".join(_framed(payload) for payload in PAYLOADS)
    begin = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(begin + 1, len(whole)))
    damage = data.draw(st.just(bytes(end - begin)) | st.binary(min_size=end - begin, max_size=end - begin))
    damaged = whole[:begin] + damage + whole[end:]
    found, at = [], 0
    while True:
        frames, at = segment.scan(damaged, at)
        found += frames
        following = segment.find_frame(damaged, at + 1)
        if following is None:
            break
        at = following
    untouched, _ = segment.scan(whole, 0)
    expected = [each for each in untouched if whole[each.offset : _end(each)] == damaged[each.offset : _end(each)]]
    assert found == expected


def test_text_that_looks_like_a_frame_is_none() -> None:
    """What clients choose has no zero byte in it, and the length of a record has one."""
    text = segment.MARKER + b"\x08\x01\x01\x01" + b"\xff" * 300
    assert b"\0" not in text
    assert segment.find_frame(b"\1" * 8 + text, 0) is None


def test_a_segment_is_abandoned_when_its_writer_is_gone(tmp_path: Path) -> None:
    directory = SpoolDirectory(tmp_path)
    directory.open()
    made = directory.create(4096)
    assert made is not None
    assert not segment.is_abandoned(made.path)
    made.seal()
    made.close()
    assert segment.is_abandoned(made.path)
    assert segment.is_abandoned(made.path), "asking takes nothing"


def _framed(payload: bytes) -> bytes:
    head = segment.MARKER + len(payload).to_bytes(4, "little") + zlib.crc32(payload).to_bytes(4, "little")
    return (head + payload).ljust(segment.frame_bytes(len(payload)), b"\0")


def _end(frame: Frame) -> int:
    return frame.offset + segment.FRAME_BYTES + len(frame.payload)
