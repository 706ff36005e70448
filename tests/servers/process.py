"""What the real servers of the tests have in common: started, killed, stopped, resumed, and never left over."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

START_SECONDS: Final = 30.0


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [*_descendants(int(child)), int(child)]
    return found


class ServerProcess:
    """One server's process, and whatever it forked. Its log is for the message of a failed start."""

    def __init__(self, argv: list[str], log: Path, user: str | None = None) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=user,
                extra_groups=[] if user else None,
                process_group=0,  # Ctrl-C is for the tests, which end their servers themselves
            )
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def complain(self, what: str) -> RuntimeError:
        """The error to raise where it did not come up."""
        return RuntimeError(f"{what}: {self._log.read_text(errors='replace')[-2000:]}")

    def wait_until(self, answers: Callable[[], bool]) -> None:
        """Return when it answers; raises where it ended, or took too long."""
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            if self.has_ended() or time.monotonic() > deadline:
                raise self.complain("the server did not start")
            time.sleep(0.01)

    def send(self, number: signal.Signals) -> None:
        """To the process and all that it forked.

        PostgreSQL's are each a process group of their own. The first is stopped, so that it forks no more meanwhile.
        """
        if self.has_ended():
            return
        os.kill(self._process.pid, signal.SIGSTOP)
        for pid in [*_descendants(self._process.pid), self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if number not in {signal.SIGSTOP, signal.SIGKILL}:
            os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """As a crash would: nothing is written any more."""
        self.send(signal.SIGKILL)
        self._process.wait()

    def pause(self) -> None:
        """Connections stay open and nobody answers."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask, then insist."""
        if self.has_ended():
            return
        self.resume()
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
