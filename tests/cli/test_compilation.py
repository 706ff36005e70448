"""Whether the data plane is compiled: what is said is what would be imported, and saying it imports nothing."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.compilation import WITNESS, is_compiled

if TYPE_CHECKING:
    from tests.cli.conftest import Gateway


def test_the_answer_is_true_of_what_is_imported() -> None:
    file = importlib.import_module(WITNESS).__file__
    assert file is not None
    assert is_compiled() is (Path(file).suffix != ".py")


def test_asking_does_not_load_the_data_plane() -> None:
    program = "import sys; from gateway.cli import compilation; compilation.is_compiled(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert WITNESS not in loaded


def test_the_version_says_it(gateway: Gateway) -> None:
    expected = "(data plane compiled)" if is_compiled() else "(data plane not compiled)"
    assert gateway("--version").out.rstrip().endswith(expected)
