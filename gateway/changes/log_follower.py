"""Follows the change log in a store of this machine, for one worker.

Invariants: changes are applied in the order of `seq` without a gap (`applier`); a store that was opened anew makes the
cache forget everything, as the very first look does. Only a poll that succeeded proves that the worker is current.
`data_version` moves when any process commits, so a poll that finds nothing new costs one pragma and one stat, a few µs.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Literal, Protocol

from gateway.changes.applier import Applier
from gateway.errors import StoreBusy, StoreUnavailable
from gateway.keys.projection import LogLook

_BATCH: Final = 1000
_START_ATTEMPTS: Final = 100
_START_PAUSE_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 5.0  # a writer that holds the store longer than this is worth a line in the log
_LOG = logging.getLogger(__name__)


class ChangeLog(Protocol):
    """The reading side of `key_changes`."""

    @property
    def opened(self) -> int:
        """How often the store was opened: nobody knows what happened to it, or in its place, while it was not."""

    def data_version(self) -> int:
        """A number that moves when another process has committed."""

    def look(self, seq: int, limit: int) -> LogLook:
        """The log behind `seq`, and the change there."""


class LogFollower:
    """Polls one log for one worker."""

    def __init__(
        self,
        log: ChangeLog,
        applier: Applier,
        *,
        interval_seconds: float,
        clock: Callable[[], float],
        proven: Callable[[float], None],
    ) -> None:
        """`proven` hears of each moment up to which everything that was committed has been applied."""
        self._log = log
        self._applier = applier
        self._interval = interval_seconds
        self._clock = clock
        self._proven = proven
        self._version = -1
        self._opened = -1
        """Which opening of the store the position is of."""
        self._unread_since: float | None = None
        self._told = logging.NOTSET
        self.source: Literal["store", "none"] = "none"
        """What the last proof came from."""

    async def start(self) -> None:
        """The first poll, for whoever must not begin without a store: raises StoreBusy, StoreUnavailable.

        A writer may hold the store at this moment; that is waited for.
        """
        for _ in range(_START_ATTEMPTS):
            try:
                self._prove()
            except StoreBusy:
                await asyncio.sleep(_START_PAUSE_SECONDS)
            else:
                return
        self._prove()

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(self._interval)

    def look(self) -> None:
        """Apply what is new. A store that cannot be read proves nothing, and the cache's time runs on.

        An outage is told once: a busy store when it has lasted, one that cannot be read at once.
        """
        now = self._clock()
        try:
            self._prove()
        except StoreBusy:
            self._note_busy(now)
            return
        except StoreUnavailable as error:
            self._note_unavailable(now, error)
            return
        if self._unread_since is not None:
            self._note_recovery()

    def _note_busy(self, now: float) -> None:
        """A writer is in the way, mostly for a moment: the next poll comes soon."""
        if self._unread_since is None:
            self._unread_since = now
        elif self._told == logging.NOTSET and now - self._unread_since > _PATIENCE_SECONDS:
            self._told = logging.WARNING
            _LOG.warning(
                "a writer has held the store for more than %d seconds; cached keys are served until their time is over",
                _PATIENCE_SECONDS,
            )

    def _note_unavailable(self, now: float, error: StoreUnavailable) -> None:
        if self._unread_since is None:
            self._unread_since = now
        if self._told < logging.ERROR:
            self._told = logging.ERROR
            _LOG.error(
                "the change log cannot be read; cached keys are served until their time is over: %s %s",
                error.detail,
                error.internal,
            )

    def _note_recovery(self) -> None:
        """Told where the outage was, and one level below it."""
        if self._told != logging.NOTSET:
            level = logging.WARNING if self._told == logging.ERROR else logging.INFO
            _LOG.log(level, "the change log can be read again")
        self._unread_since, self._told = None, logging.NOTSET

    def _prove(self) -> None:
        """Catch up with the log, and say as of when. Raises StoreBusy, StoreUnavailable."""
        now = self._clock()
        self.source = "none"
        version = self._log.data_version()
        if version != self._version:
            at, opened = self._applier.position, self._log.opened
            look = self._log.look(0, 0) if at is None else self._log.look(at.seq, _BATCH)
            self._applier.take_look(look, anew=opened != self._opened)
            self._version, self._opened = version, opened
        self._proven(now)
        self.source = "store"
