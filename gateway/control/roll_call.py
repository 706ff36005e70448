"""Reads again and again who serves from memory and how far they are, while somebody waits for them; once for all.

Invariant: whoever begins to wait is answered from readings alone that began after that, the first of them of the whole
roll. A worker enters the roll before it reads the store, so one that is not in such a reading will find all that was
committed before; the readings that follow need only tell how far the others are.

Turned down: a reading per waiter, which a burst of changes would multiply; a channel on which workers answer, as what
was said while nobody listened would be lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from itertools import chain, repeat
from typing import TYPE_CHECKING, Final, Protocol

from gateway.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gateway.services.worker_roll import Roll

PAUSES_SECONDS: Final = (0.002, 0.002, 0.002, 0.002, 0.004, 0.004, 0.008)
LAST_PAUSE_SECONDS: Final = 0.01
READING_SECONDS: Final = 2.0
"""A reading that takes longer has failed; else the first one of an outage would hold up those after it."""


class MemberRoll(Protocol):
    """The workers of all nodes; see `services.worker_roll`."""

    async def present(self) -> Roll:
        """Who is there; raises Unreachable."""

    async def heard(self, roll: Roll) -> Roll:
        """Who was there, as far as they are now; raises Unreachable."""

    async def remove(self, ids: Iterable[str]) -> None:
        """Take off who has ended; raises Unreachable."""

    async def expire(self) -> list[str]:
        """Take off who has certainly stopped serving from memory; raises Unreachable."""


class RollCall:
    """The readings. Used in this order: `attend`, `reading` whenever `told` was called, `leave`."""

    def __init__(self, roll: MemberRoll, told: Callable[[], None]) -> None:
        """`told` is called after each reading."""
        self._roll = roll
        self._told = told
        self._waiting = 0
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._begun = 0
        self._ended = 0
        self._latest: Roll | None = None

    @contextlib.contextmanager
    def attend(self) -> Iterator[int]:
        """Have the roll read, at once and while inside; gives the number of the first reading that counts."""
        self._waiting += 1
        self._asked.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._read())
        try:
            yield self._begun + 1
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._asked.set()  # the task ends by itself, after the reading that it may be in

    def reading(self, first: int) -> Roll | None:
        """Return the newest reading, None where it failed or there is none yet that counts."""
        if self._task is not None and self._task.done():
            self._task.result()  # a defect, which must not look like an outage
        return self._latest if self._ended >= first else None

    async def _read(self) -> None:
        pauses: Iterator[float] = repeat(LAST_PAUSE_SECONDS)
        try:
            while self._waiting:
                known = self._latest
                if self._asked.is_set():
                    self._asked.clear()
                    known = None
                    pauses = chain(PAUSES_SECONDS, repeat(LAST_PAUSE_SECONDS))
                self._begun += 1
                number = self._begun
                self._latest = await self._reading(known)
                self._ended = number
                self._told()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(next(pauses)):
                        await self._asked.wait()
        finally:
            self._told()

    async def _reading(self, known: Roll | None) -> Roll | None:
        try:
            async with asyncio.timeout(READING_SECONDS):
                return await (self._roll.present() if known is None else self._roll.heard(known))
        except (Unreachable, TimeoutError):
            return None
