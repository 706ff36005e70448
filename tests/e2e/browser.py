"""A headless Chromium that opens a page and is ended with the test."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--remote-debugging-port=0",  # without it the browser ends once the page is loaded
)


@contextmanager
def browsing(program: str, url: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Open a page; what the browser says of itself goes to `directory / "log"`."""
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={directory / 'profile'}", url],
            env=os.environ | {"HOME": str(directory)},
            stdout=log,
            stderr=log,
        ) as browser,
    ):
        try:
            yield browser
        finally:
            browser.terminate()
