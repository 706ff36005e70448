"""What holds for every command: arguments that are no text are refused, and any name can be printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.keys import secret

if TYPE_CHECKING:
    from tests.cli.conftest import Gateway


@pytest.mark.parametrize(
    ("arguments", "position"),
    [
        (["keys", "create", "\udcff"], 3),
        (["run", "--upstream", "http://\udcff"], 3),
        (["check", "--config=\udcff"], 2),
        (["init", "--org", "caf\udce9", "--admin", "a@example.com"], 3),
        (["\udcff"], 1),
    ],
)
def test_an_argument_that_is_no_text_is_wrong_usage(gateway: Gateway, arguments: list[str], position: int) -> None:
    """Python hands such bytes on as lone surrogates, which no file, store or terminal takes."""
    outcome = gateway(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == f"gateway: argument {position} is not valid UTF-8 text\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["{}"],
        ["keys", "{}"],
        ["--{}"],
        ["keys", "list", "{}"],
        ["keys", "create", "x", "{}", "and {} too"],
        ["keys", "list", "--{}"],
        ["keys", "list", "--{}=x"],
        ["keys", "list", "--status", "{}"],
        ["members", "{}"],
        ["check", " {}\n"],
    ],
)
@pytest.mark.parametrize("prefix", ["sk_", "sk_live_"])
def test_wrong_usage_never_repeats_a_secret(gateway: Gateway, arguments: list[str], prefix: str) -> None:
    given = secret.generate(prefix)
    outcome = gateway(*(argument.format(given) for argument in arguments))
    assert (outcome.status, outcome.out) == (2, "")
    assert "(a key's secret)" in outcome.err
    assert given[len(prefix) : -6] not in outcome.err


def test_wrong_usage_repeats_what_is_no_secret(gateway: Gateway) -> None:
    outcome = gateway("keys", "lst")
    assert outcome.status == 2
    assert "No such command 'lst'" in outcome.err


@pytest.mark.parametrize(
    "environ",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
@pytest.mark.parametrize(
    ("setting", "status"), [('store.url = "sqlite:///ключ.db"', 0), ('log."ключ" = 1', 78)], ids=["stdout", "stderr"]
)
def test_what_the_terminal_cannot_show_is_escaped_or_sent_as_utf_8(
    tmp_path: Path, environ: dict[str, str], setting: str, status: int
) -> None:
    """On stdout as on stderr: a name must not end a list in the middle."""
    (tmp_path / "g.toml").write_text(setting, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "config", "show", "--config", tmp_path / "g.toml"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), **environ},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == status
    printed = ended.stderr if status else ended.stdout
    assert "ключ".encode() in printed or "ключ".encode("ascii", "backslashreplace") in printed


def test_a_real_argument_that_is_no_text_is_refused_in_one_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "keys", "create", b"\xff"], capture_output=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr == b"gateway: argument 3 is not valid UTF-8 text\n"
