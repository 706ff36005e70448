"""A gateway whose parsers of HTTP are not the compiled ones does not start, and says what to do."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Command

_SETTINGS = {"GATEWAY__SERVER__LISTEN": "127.0.0.1:0", "GATEWAY__CONTROL__LISTEN": "127.0.0.1:0"}
_ASK = "from gateway.extensions import require_http_parsers as ask; ask()"
# What an installation without the extension looks like to aiohttp: its import fails, and nothing is said.
_UNLOADABLE = "import sys; sys.modules['aiohttp._http_parser'] = None; "


def test_a_start_without_the_compiled_parsers_fails_with_what_to_do(command: Command) -> None:
    done = command.run("run", "--upstream", "http://127.0.0.1:9", AIOHTTP_NO_EXTENSIONS="1", **_SETTINGS)
    assert done.returncode == 1
    assert "aiohttp runs without its C extension" in done.stderr
    assert "Unset AIOHTTP_NO_EXTENSIONS" in done.stderr
    assert "pip install" in done.stderr
    assert '"ready"' not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("before", ["", _UNLOADABLE])
def test_what_counts_is_what_was_loaded_not_what_is_installed(before: str) -> None:
    done = subprocess.run([sys.executable, "-c", before + _ASK], capture_output=True, text=True, check=False)
    assert ("aiohttp runs without its C extension" in done.stderr) is bool(before)
    assert bool(done.returncode) is bool(before)


@pytest.mark.parametrize(
    ("module", "missing"),
    [
        ("hiredis", "hiredis.hiredis"),
        ("orjson", "orjson.orjson"),
        ("pydantic", "pydantic_core._pydantic_core"),
        ("uvloop", "uvloop.loop"),
    ],
)
def test_nothing_else_falls_back_in_silence(module: str, missing: str) -> None:
    """Without its extension the import fails, so no process of ours can run on something else in its place."""
    program = f"import sys; sys.modules[{missing!r}] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "Error" in done.stderr, done
