"""SIGHUP: a closed terminal ends the gateway, nohup keeps it, and a daemon reads its settings again."""

from __future__ import annotations

import subprocess
import sys

SAY = "from gateway.supervisor.hangup import meaning_of_hangup; print(meaning_of_hangup().value, flush=True)"
IN_A_TERMINAL = f"""
import os, pty
pid, terminal = pty.fork()
if not pid:
    {SAY}
    os._exit(0)
with open(terminal, "rb", buffering=0) as shown:
    print(shown.readline().decode().strip())
    os.waitpid(pid, 0)
"""


def _said(program: str, *before: str) -> str:
    """What the program prints in a session of its own, which has no terminal."""
    words = [*before, sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=True, start_new_session=True)
    return done.stdout.strip()


def test_without_a_terminal_it_means_to_reload() -> None:
    assert _said(SAY) == "reload"


def test_in_a_terminal_it_means_to_stop() -> None:
    assert _said(IN_A_TERMINAL) == "stop"


def test_under_nohup_it_means_nothing() -> None:
    assert _said(SAY, "nohup") == "ignored"
