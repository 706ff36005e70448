"""The log: one line per record, whatever is in it, for people or for collectors."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from gateway import logs
from gateway.settings.model import LogSettings


def _record(message: str, **extra: object) -> logging.LogRecord:
    record = logging.makeLogRecord(
        {"name": "gateway.x", "levelno": 30, "levelname": "WARNING", "msg": message, **extra}
    )
    record.created = 1_767_225_600.5
    return record


def test_text_says_when_how_bad_who_what_and_the_details() -> None:
    line = logs.TextFormatter("worker-0").format(_record("a target is back", target="http://a", failures=3))
    assert line == "2026-01-01T00:00:00.500Z warning worker-0: a target is back target=http://a failures=3"


@pytest.mark.parametrize("forged", ["a\n2026 error b", "a\r\nb", "a\x1b[31mb", "a\x00b", "a\u2028b", "a\x85b"])
@pytest.mark.parametrize("place", ["message", "field"])
def test_no_text_can_forge_a_second_line(forged: str, place: str) -> None:
    record = _record(forged) if place == "message" else _record("m", field=forged)
    for formatter in (logs.TextFormatter("control"), logs.JsonFormatter("control")):
        line = formatter.format(record)
        assert line.splitlines() == [line]
        assert "\x1b" not in line
        assert "\x00" not in line


def test_json_is_one_object_whose_fixed_fields_cannot_be_replaced() -> None:
    line = logs.JsonFormatter("worker-1").format(_record("hello", time="forged", process_="x", answer=42))
    assert json.loads(line) == {
        "time": "2026-01-01T00:00:00.500Z",
        "level": "warning",
        "process": "worker-1",
        "logger": "gateway.x",
        "message": "hello",
        "process_": "x",
        "answer": 42,
    }


def test_an_exception_is_kept_with_its_traceback() -> None:
    try:
        int("boom")
    except ValueError:
        record = _record("failed", exc_info=sys.exc_info())
    assert "ValueError: invalid" in json.loads(logs.JsonFormatter("control").format(record))["exception"]
    assert logs.TextFormatter("control").format(record).splitlines()[-1].startswith("    ValueError: invalid")


def test_no_exception_moves_the_cursor_or_begins_a_line_at_the_margin() -> None:
    error = ValueError("a\n2026 error b\x1b[2J\u2028c")
    record = _record("failed", exc_info=(ValueError, error, None))
    _, *rest = logs.TextFormatter("control").format(record).splitlines()
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_records_below_the_level_are_dropped_and_the_rest_go_to_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    logs.configure(LogSettings(level="warning", format="json"), "supervisor")
    try:
        logging.getLogger("gateway.y").info("quiet")
        logging.getLogger("gateway.y").warning("loud")
    finally:
        logging.captureWarnings(capture=False)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert [json.loads(line)["message"] for line in printed.err.splitlines()] == ["loud"]
