"""Lines for log shippers: what the admin API shows, and nobody's failure is anybody else's."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING

import pytest

from gateway.keys.request_entry import Outcome
from gateway.services import ndjson_sink
from gateway.services.ndjson_sink import NdjsonSink, line_of
from gateway.services.request_trail import request_event
from tests.recording.spool_writer import entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.keys.request_entry import RequestEntry

SPOOL = "00112233445566ff"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        os.close(fd)


def ids(text: bytes) -> list[str]:
    return [json.loads(line)["request_id"] for line in text.splitlines()]


@pytest.mark.parametrize(
    "recorded",
    [
        entry(1, position=7 << 24 | 64, user_agent='"q" \\ é \\xff'),
        entry(at=1_795_262_400_000_000, outcome=Outcome.OPEN, status=0, duration=1),
        entry(outcome=Outcome.REFUSED, status=401, code="missing_api_key", key_id="", key_name="", secret_id=""),
        entry(outcome=Outcome.REFUSED, route="", upstream="", method="", path="", key_id="", user_agent="", address=""),
    ],
)
def test_a_line_is_what_the_admin_api_shows(recorded: RequestEntry) -> None:
    line = line_of(SPOOL, recorded)
    assert line.count(b"\n") == 1
    assert json.loads(line) == request_event(SPOOL, recorded).model_dump(mode="json")


def test_lines_are_appended_for_their_owner_alone_and_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "requests.ndjson"
    sink = NdjsonSink(str(path))
    sink.write(SPOOL, [entry(1)])
    sink.write(SPOOL, [entry(2), entry(3)])
    assert ids(path.read_bytes()) == ["r1", "r2", "r3"]
    assert path.stat().st_mode & 0o777 == 0o600
    path.rename(tmp_path / "moved")
    sink.write(SPOOL, [entry(4)])
    assert ids(path.read_bytes()) == ["r4"]
    path.unlink()
    sink.write(SPOOL, [entry(5)])
    sink.write(SPOOL, [])
    sink.close()
    assert ids(path.read_bytes()) == ["r5"]
    assert sink.failures == 0


def test_a_line_that_a_life_before_has_cut_is_ended_first(tmp_path: Path) -> None:
    path = tmp_path / "requests.ndjson"
    path.write_bytes(b'{"half":')
    sink = NdjsonSink(str(path))
    sink.write(SPOOL, [entry(1)])
    sink.close()
    cut, whole = path.read_bytes().splitlines()
    assert (cut, ids(whole)) == (b'{"half":', ["r1"])


def test_what_cannot_be_written_is_counted_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "missing" / "requests.ndjson"
    sink = NdjsonSink(str(path))
    with caplog.at_level(logging.WARNING):
        sink.write(SPOOL, [entry(1), entry(2)])
        sink.write(SPOOL, [entry(3)])
        path.parent.mkdir()
        sink.write(SPOOL, [entry(4)])
    sink.close()
    assert sink.failures == 3
    assert ids(path.read_bytes()) == ["r4"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_pipe_that_nobody_reads_holds_nobody_up_for_long_and_no_line_is_half(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ndjson_sink, "PATIENCE_SECONDS", 0.05)
    reading, writing = pipe
    sink = NdjsonSink("stdout", stdout_fd=writing)
    entries = [entry(number, path="/" + "x" * 1000) for number in range(200)]
    sink.write(SPOOL, entries)  # a pipe takes 64 KiB
    first_lost = sink.failures
    assert 0 < first_lost < 200
    sink.write(SPOOL, entries[:3])
    assert sink.failures == first_lost + 3
    *whole, cut = os.read(reading, 1 << 20).splitlines()
    assert ids(b"\n".join(whole)) == [f"r{number}" for number in range(len(whole))]
    with pytest.raises(json.JSONDecodeError):
        json.loads(cut)
    sink.write(SPOOL, [entry(900)])
    sink.close()
    ended, *others = os.read(reading, 1 << 20).split(b"\n")
    assert ended == b""  # it ends what was cut
    assert ids(others[0]) == ["r900"]


def test_a_pipe_whose_reader_is_gone_is_a_failure_and_no_more() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    sink = NdjsonSink("stdout", stdout_fd=writing)
    sink.write(SPOOL, [entry(1)])
    os.close(writing)
    assert sink.failures == 1
