"""Reads a spool as plainly as can be: what tests hold the spool against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.keys.request_entry import RequestEntry
from gateway.recording import records, segment

if TYPE_CHECKING:
    from pathlib import Path


def read_segment(path: Path) -> list[records.Record]:
    """Everything in one file; a record that was being written when its writer was killed is nothing."""
    data = path.read_bytes()
    header = segment.decode_header(data)
    assert header is not None, path
    frames, end = segment.scan(data, segment.HEADER_BYTES)
    assert segment.find_frame(data, end) is None, (path, end)
    found = [records.decode(each.payload, header.number, each.offset, header.run) for each in frames]
    assert None not in found, path
    return [each for each in found if each is not None]


def read_spool(directory: Path) -> list[records.Record]:
    """Everything in all files, in the order of their numbers."""
    files = sorted(directory.glob("*.segment"), key=lambda each: int(each.stem))
    return [each for file in files for each in read_segment(file)]


def entries(directory: Path) -> list[RequestEntry]:
    """The entries alone: beginnings, endings, and those that are both."""
    return [each for each in read_spool(directory) if isinstance(each, RequestEntry)]
