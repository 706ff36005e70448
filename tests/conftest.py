"""What tests of every part share: programs of the system, and waiting for a condition instead of for a time."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from gateway.cli.compilation import WITNESS, is_compiled

if TYPE_CHECKING:
    from collections.abc import Callable

_LIST: Final = Path(__file__).parent / "system-packages.txt"
_SYSTEM_PATH: Final = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/sbin"


def pytest_report_header() -> str:
    return f"data plane: {'compiled' if is_compiled() else 'not compiled'}"


def pytest_configure() -> None:
    """A run that is to test the compiled build ends at once where the checkout would be imported instead."""
    if os.environ.get("KEYGATE_EXPECT_COMPILED") == "1" and not is_compiled():
        raise pytest.UsageError(f"{WITNESS} is not compiled: another gateway than the compiled one would be tested")


def system_packages() -> dict[str, str]:
    """Program → Debian package, of all that tests need beyond Python."""
    rows = (line.split() for line in _LIST.read_text().splitlines() if line and not line.startswith("#"))
    return {row[0]: row[1] for row in rows}


@pytest.fixture(scope="session")
def system_program() -> Callable[[str], str]:
    """Find a program of the system; the test fails, and says what to install, where it is missing."""

    def find(name: str) -> str:
        package = system_packages()[name]
        found = shutil.which(name, path=_SYSTEM_PATH)
        if found is None:
            pytest.fail(f"{name} is missing; install it: sudo apt-get install {package}", pytrace=False)
        return found

    return find


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], object]], None]:
    """Wait until a condition holds, however slow the machine is; what bounds it is the test's own time limit."""

    def wait(condition: Callable[[], object]) -> None:
        while not condition():
            time.sleep(0.01)

    return wait
