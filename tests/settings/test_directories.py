"""The directory of the record of requests: what cannot hold it is named before a start, and nothing is made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.settings import complaining

if TYPE_CHECKING:
    from pathlib import Path

USUAL = '[[upstreams]]\nname = "a"\ntargets = ["http://a"]\n[audit]\n'


def complaint(tmp_path: Path, directory: Path, rest: str = "", *, proxy: bool = True) -> str:
    text = f'{USUAL}directory = "{directory}"\n{rest}\n'
    return complaining.complaint(tmp_path, text, proxy=proxy)


def test_one_that_is_there_or_can_be_made_is_no_problem_and_is_not_made(tmp_path: Path) -> None:
    assert complaint(tmp_path, tmp_path) == ""
    assert complaint(tmp_path, tmp_path / "a" / "b") == ""
    assert not (tmp_path / "a").exists()


def test_a_file_in_its_place_or_above_is_named_with_the_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for directory in (file, file / "below"):
        said = complaint(tmp_path, directory)
        assert f'gateway.toml:5: audit.directory: names "{directory}"' in said
        assert f'"{file}" is no directory' in said


def test_a_file_in_the_place_of_the_spool_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    assert f'"{tmp_path / "spool"}" is no directory' in complaint(tmp_path, tmp_path)


def test_one_that_may_not_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may run as root, who may write everywhere, so the system's answer is played."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "which this user may not write to" in complaint(tmp_path, tmp_path)
    assert "may not make it in" in complaint(tmp_path, tmp_path / "a")


@pytest.mark.parametrize("record", ["changes", "none"])
def test_where_requests_are_not_on_record_it_need_not_be_there(tmp_path: Path, record: str) -> None:
    (tmp_path / "file").touch()
    assert complaint(tmp_path, tmp_path / "file", f'record = "{record}"') == ""


def test_commands_that_only_need_the_store_need_not_write_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert complaint(tmp_path, tmp_path / "file", proxy=False) == ""
