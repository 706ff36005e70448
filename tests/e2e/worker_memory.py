"""How much memory a gateway's worker came to use, as the kernel counted it: no sampling that could miss the peak."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.e2e.site import WORKER

if TYPE_CHECKING:
    from tests.e2e.site import Site

MEBIBYTE: Final = 1 << 20
FLAT_BYTES: Final = 40 * MEBIBYTE
"""What a transfer of any size may take above idle."""


class WorkerMemory:
    """Counts from when it is made."""

    def __init__(self, site: Site) -> None:
        (self._pid,) = site.processes(WORKER)
        self._idle = self._read("VmRSS")
        with suppress(PermissionError):  # then the peak counts from the process's start, which is only stricter
            Path(f"/proc/{self._pid}/clear_refs").write_text("5")  # proc(5): resets the peak

    def growth(self) -> int:
        """The highest resident size since, above that at the beginning, in bytes."""
        return self._read("VmHWM") - self._idle

    def _read(self, name: str) -> int:
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        (kibibytes,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
        return int(kibibytes) * 1024
