"""The README: its marked blocks run as they stand, its commands and options exist, its links lead somewhere.

The gateway that its commands need runs in their directory, as the README says, but on ports that nobody else has.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.conftest import Command, starting

ROOT: Final = Path(__file__).parents[1]
README: Final = (ROOT / "README.md").read_text()
MARK: Final = "<!-- tested: this block runs -->"
GROUPS: Final = ("keys", "config", "members", "service-accounts", "orgs", "audit")

_BLOCK: Final = re.compile(r"^```shell\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_RUN_BLOCK: Final = re.compile(re.escape(MARK) + r"\n```shell\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _commands() -> set[str]:
    """Every `gateway …` line of a block, and every one of the table of commands."""
    lines = [line for block in _BLOCK.findall(README) for line in block.splitlines() if line.startswith("gateway ")]
    return {*lines, *re.findall(r"^\| `(gateway [^`]*)` \|", README, re.MULTILINE)}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty directory, with a command `gateway` beside it that is the code under test."""
    made = tmp_path_factory.mktemp("readme")
    command = made / "bin" / "gateway"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m gateway "$@"\n')
    command.chmod(0o755)
    return made


def _shell(directory: Path, script: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY")}
    environ["PATH"] = f"{directory / 'bin'}{os.pathsep}{environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_marked_blocks_run_one_after_the_other(directory: Path) -> None:
    blocks = _RUN_BLOCK.findall(README)
    assert len(blocks) == README.count(MARK) > 0
    command = Command(directory)
    with starting(command, directory) as start:
        running = start("--upstream", "http://127.0.0.1:9")
        script = "\n".join(("set -x", f"export GATEWAY_ADMIN_URL={running.control}", *blocks))
        done = _shell(directory, script)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert "CI/CD Pipeline" in done.stdout


@pytest.mark.parametrize("line", sorted(_commands()))
def test_every_command_and_option_that_is_named_exists(directory: Path, line: str) -> None:
    words = [word.strip("[]") for word in shlex.split(line)[1:]]
    names = words[: 2 if words[0] in GROUPS else 1]
    shown = _shell(directory, shlex.join(["gateway", *names, "--help"]))
    assert shown.returncode == 0, shown.stderr
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", shown.stdout), option


def test_every_command_that_exists_is_named(directory: Path) -> None:
    for group in ("", *GROUPS):
        shown = _shell(directory, f"gateway {group} --help").stdout
        for command in re.findall(r"^  ([a-z-]+)  ", shown.partition("Commands:")[2], re.MULTILINE):
            assert f"`gateway {group} {command}".replace("  ", " ") in README, f"{group} {command}"


def test_the_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)) <= targets


def test_links_within_the_repository_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", README):
        assert (ROOT / target).exists(), target
