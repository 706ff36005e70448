"""Shell completion: commands, options and the words that an option takes, without calling anybody."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def _completed(line: str) -> list[str]:
    """What bash would offer at the end of the line."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY")}
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_GATEWAY_COMPLETE": "complete_bash"}
    program = "import sys; sys.argv[0] = 'gateway'; from gateway.cli.main import main; main()"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environ | words, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("gateway serv", ["service-accounts"]),
        ("gateway keys r", ["revoke", "rotate"]),
        ("gateway keys list --s", ["--status", "--search", "--sort"]),
        ("gateway keys rotate --grace ", ["0", "1h", "24h", "7d"]),
        ("gateway members remove x --keys ", ["revoke", "move"]),
    ],
)
def test_what_begins_so_is_offered(line: str, offered: list[str]) -> None:
    assert _completed(line) == offered
