"""`make check` asks for advisories: what it says is true of what was answered, also where nobody could be asked.

Without a network: a stand-in for pip-audit answers, as the real one did when this was written down.
"""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT: Final = Path(__file__).parents[1]
_SCRIPT: Final = _ROOT / ".ci" / "advisories.py"
_SKIPPED: Final = "Dependency not found on PyPI and could not be audited"
# Below these are advisories that docs/decisions.md names.
_MENDED_IN: Final = {"aiohttp": "3.14.5", "hiredis": "3.4.1", "orjson": "3.11.6", "pydantic": "2.4", "asyncpg": "0.21"}


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the script with a pip-audit that does what `body` says; `listed` are the requirements that it was given."""

    def run(body: str, **environ: str) -> subprocess.CompletedProcess[str]:
        tool = tmp_path / "pip-audit"
        reads = "import json, sys\nlisted = [line.strip().split('==') for line in open(sys.argv[2])]\n"
        tool.write_text(f"#!{sys.executable}\n{reads}{body}\n")
        tool.chmod(0o755)
        command = [sys.executable, str(_SCRIPT), str(tool)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)

    return run


def _report(entry: str) -> str:
    """A report with this entry for each package, as Python."""
    return f"print(json.dumps({{'dependencies': [{entry} for name, version in listed], 'fixes': []}}))"


_FINE: Final = "{'name': name, 'version': version, 'vulns': []}"


def test_nothing_known_is_said_of_what_was_answered(ask: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = ask(_report(_FINE), KEYGATE_ADVISORIES="required")
    assert done.returncode == 0
    assert "installed: no advisory is known for the" in done.stderr
    assert "lower bounds: no advisory is known for the" in done.stderr
    assert "NOT checked" not in done.stderr


def test_an_advisory_fails_and_is_named_with_its_cure(ask: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    known = [{"id": "GHSA-0000", "fix_versions": ["9.9"], "aliases": []}]
    body = _report(f"{{'name': name, 'version': version, 'vulns': {known} if name == 'orjson' else []}}")
    done = ask(body + "\nsys.exit(1)")
    assert done.returncode == 1
    assert "lower bounds: orjson 3.11.6: GHSA-0000, mended in 9.9" in done.stderr


@pytest.mark.parametrize(
    "body",
    [
        _report(f"{{'name': name, 'skip_reason': '{_SKIPPED}'}}"),  # and exits with 0, as pip-audit does
        "sys.exit('ERROR:pip_audit._cli:Could not connect to the vulnerability feed')",
        "print(json.dumps({'dependencies': []}))",
        "print('[]')",
        "sys.exit(3)",
    ],
    ids=["a mirror", "no network", "an empty report", "another report", "nothing"],
)
def test_who_could_not_be_asked_is_told_and_is_no_pass(
    ask: Callable[..., subprocess.CompletedProcess[str]], body: str
) -> None:
    done = ask(body)
    assert done.returncode == 0
    assert done.stderr.count("NOT checked for advisories") == 2
    assert "no advisory is known" not in done.stderr
    assert ask(body, KEYGATE_ADVISORIES="required").returncode == 2


def test_part_of_an_answer_is_not_the_whole(ask: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = ask(_report(f"{_FINE} if name != 'orjson' else {{'name': name, 'skip_reason': 'unknown'}}"))
    assert done.returncode == 0
    assert "installed: 1 of " in done.stderr
    assert "NOT checked for advisories (unknown)" in done.stderr


def test_a_tool_that_is_not_there_is_told(tmp_path: Path) -> None:
    command = [sys.executable, str(_SCRIPT), str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr.count("NOT checked for advisories") == 2


def test_lower_bounds_exclude_what_is_known() -> None:
    script = runpy.run_path(str(_SCRIPT))
    bounds: dict[str, str] = script["lower_bounds"]()
    assert len(bounds) > 10
    for name, mended in _MENDED_IN.items():
        assert Version(bounds[name]) >= Version(mended), name


def test_what_is_asked_about_is_the_whole_of_what_runs() -> None:
    """Dependencies of dependencies too; and no tool of developers."""
    script = runpy.run_path(str(_SCRIPT))
    found = script["installed"]()
    assert {"aiohttp", "yarl", "pydantic-core", "h11", "mako", "greenlet"} <= set(found)
    assert not {"pytest", "mypy", "ruff", "schemathesis"} & set(found)
