"""How long to wait before a dead child is started again.

Pure: the caller says what the time is. The first restart comes almost at once, since a single crash should cost
next to nothing; a child that keeps dying is tried ever more rarely, so that a crash loop cannot eat the machine.
It is never given up: what made it crash (a full disk, a missing file) may be mended while the others serve on.
"""

from __future__ import annotations

from typing import Final

FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 10.0


class Backoff:
    """The delays of one slot: 0.1 s, doubled up to 10 s, back to 0.1 s after a life longer than the longest delay."""

    __slots__ = ("_delay",)

    def __init__(self) -> None:
        self._delay = FIRST_DELAY_SECONDS

    def after_life_of(self, seconds: float) -> float:
        """Seconds to wait, now that a child that did its work for `seconds` (0: never got ready) has died."""
        if seconds > LONGEST_DELAY_SECONDS:
            self._delay = FIRST_DELAY_SECONDS
        delay = self._delay
        self._delay = min(2 * delay, LONGEST_DELAY_SECONDS)
        return delay
