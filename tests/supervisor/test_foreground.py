"""The limits that children inherit: as many open files as the settings can need, or a warning that says so."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("hard", "expected", "warned"), [(4096, 2048, False), (1024, 1024, True)])
def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be(hard: int, expected: int, *, warned: bool) -> None:
    """In a process of its own, since a hard limit cannot be raised again."""
    program = (
        "import logging, resource; from gateway.supervisor import foreground\n"
        "logging.basicConfig()\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (512, {hard}))\n"
        "foreground._allow_open_files(2048)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) == expected
    assert ("fewer files may be open" in done.stderr) is warned
