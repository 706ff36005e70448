"""Follows the change log in the store and applies it to the worker's cache.

Invariants: changes are applied in the order of `seq` without a gap; a gap, a log that has gone back, another epoch or a
store that was opened anew makes the cache forget everything, as the very first look does. Only a poll that succeeded
proves that the worker is current. `data_version` moves when any process commits, so a poll that finds nothing new costs
one pragma and one stat, a few µs.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from gateway.errors import StoreBusy, StoreUnavailable
from gateway.keys.change import Change

_BATCH: Final = 1000
_PATIENCE_SECONDS: Final = 5.0  # a writer that holds the store longer than this is worth a line in the log
_LOG = logging.getLogger(__name__)


class ChangeLog(Protocol):
    """The reading side of `key_changes`."""

    @property
    def opened(self) -> int:
        """How often the store was opened: nobody knows what happened to it, or in its place, while it was not."""

    def data_version(self) -> int:
        """A number that moves when another process has committed."""

    def head(self) -> int:
        """The highest `seq`; 0 when there is none."""

    def epoch(self) -> str:
        """Names this life of the store; a restore begins another."""

    def changes_after(self, seq: int, limit: int) -> list[Change]:
        """The changes after `seq`, in order."""


class ChangeSink(Protocol):
    """Who is told."""

    def apply(self, change: Change) -> None:
        """Make one change count."""

    def forget_everything(self) -> None:
        """Drop all that is held."""

    def proven(self, now: float) -> None:
        """Note that everything committed by `now` has been applied."""


def _ignore(_seq: int) -> None:
    """Nobody has to know."""


class LogFollower:
    """Polls one log for one worker."""

    def __init__(
        self,
        log: ChangeLog,
        sink: ChangeSink,
        *,
        interval_seconds: float,
        clock: Callable[[], float],
        on_applied: Callable[[int], None] = _ignore,
    ) -> None:
        """`on_applied` hears of each `seq` up to which this worker has become current."""
        self._log = log
        self._sink = sink
        self._interval = interval_seconds
        self._clock = clock
        self._on_applied = on_applied
        self._version = -1
        self._life: tuple[int, str] | None = None
        """Which opening of which epoch `applied` is of; None before the first look that succeeded."""
        self._unread_since: float | None = None
        self._told = logging.NOTSET
        self.applied = 0
        """The `seq` up to which this worker is current."""

    def start(self) -> None:
        """The first poll, for whoever must not begin without a store: raises StoreBusy, StoreUnavailable."""
        now = self._clock()
        self._look()
        self._sink.proven(now)

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            self.poll()

    def poll(self) -> None:
        """Apply what is new. A store that cannot be read proves nothing, and the cache's time runs on.

        An outage is told once: a busy store when it has lasted, one that cannot be read at once.
        """
        now = self._clock()
        try:
            self._look()
        except StoreBusy:
            self._note_busy(now)
            return
        except StoreUnavailable as error:
            self._note_unavailable(now, error)
            return
        if self._unread_since is not None:
            self._note_recovery()
        self._sink.proven(now)

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

    def _look(self) -> None:
        version = self._log.data_version()
        if version != self._version:
            self._catch_up()
            self._version = version
            self._on_applied(self.applied)

    def _catch_up(self) -> None:
        life, head = (self._log.opened, self._log.epoch()), self._log.head()
        if life != self._life or head < self.applied:
            if self._life is not None:
                _LOG.warning("the store was away, restored or replaced; every cached key is looked up again")
            self._start_over(life, head)
            return
        changes = self._log.changes_after(self.applied, _BATCH)
        if len(changes) == _BATCH:
            # More than can be applied one by one without holding up requests.
            self._start_over(life, head)
            return
        for change in changes:
            if change.seq != self.applied + 1:
                _LOG.warning("the change log has a gap after %d; every cached key is looked up again", self.applied)
                self._start_over(life, head)
                return
            self._sink.apply(change)
            self.applied = change.seq

    def _start_over(self, life: tuple[int, str], head: int) -> None:
        """Forget what is held, and only then count as current: what was committed up to `head` is in no answer yet."""
        self._sink.forget_everything()
        self._life, self.applied = life, head
