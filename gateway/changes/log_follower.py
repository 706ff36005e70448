"""Follows the change log in the store and applies it to the worker's cache.

Invariants: changes are applied in the order of `seq` without a gap; a gap, a log that has gone back or another epoch
makes the cache forget everything. Only a poll that succeeded proves that the worker is current. `data_version` moves
when any process commits, so a poll that finds nothing new costs one pragma, about 2 µs.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from gateway.errors import StoreBusy, StoreUnavailable
from gateway.keys.change import Change

_BATCH: Final = 1000
_LOG = logging.getLogger(__name__)


class ChangeLog(Protocol):
    """The reading side of `key_changes`."""

    def data_version(self) -> int:
        """A number that moves when another process has committed."""

    def head(self) -> int:
        """The highest `seq`; 0 when there is none."""

    def epoch(self) -> str:
        """Names this life of the store; a restore begins another."""

    def changes_after(self, seq: int, limit: int = ...) -> list[Change]:
        """The changes after `seq`, in order."""


class ChangeSink(Protocol):
    """Who is told."""

    def apply(self, change: Change) -> None:
        """Make one change count."""

    def forget_everything(self) -> None:
        """Drop all that is held."""

    def proven(self, now: float) -> None:
        """Note that everything committed by `now` has been applied."""


class LogFollower:
    """Polls one log for one worker."""

    def __init__(
        self, log: ChangeLog, sink: ChangeSink, *, interval_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._log = log
        self._sink = sink
        self._interval = interval_seconds
        self._clock = clock
        self._version = -1
        self._epoch = ""
        self._failing = False
        self.applied = 0
        """The `seq` up to which this worker is current."""

    def start(self) -> None:
        """Take the log's present end as the beginning; raises StoreUnavailable. The cache must be empty."""
        self._epoch = self._log.epoch()
        self.applied = self._log.head()
        self._sink.proven(self._clock())

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            self.poll()

    def poll(self) -> None:
        """Apply what is new. A store that cannot be read proves nothing, and the cache's time runs on."""
        now = self._clock()
        try:
            version = self._log.data_version()
            if version != self._version:
                self._catch_up()
                self._version = version
        except StoreBusy:
            return  # a writer is in the way for a moment; the next poll comes soon
        except StoreUnavailable as error:
            if not self._failing:
                self._failing = True
                _LOG.error(
                    "the change log cannot be read; cached keys are served until their time is over: %s %s",
                    error.detail,
                    error.internal,
                )
            return
        if self._failing:
            self._failing = False
            _LOG.warning("the change log can be read again")
        self._sink.proven(now)

    def _catch_up(self) -> None:
        epoch, head = self._log.epoch(), self._log.head()
        if epoch != self._epoch or head < self.applied:
            _LOG.warning("the store was restored or replaced; every cached key is looked up again")
            self._start_over(epoch, head)
            return
        changes = self._log.changes_after(self.applied, _BATCH)
        if len(changes) == _BATCH:
            # More than can be applied one by one without holding up requests.
            self._start_over(epoch, head)
            return
        for change in changes:
            if change.seq != self.applied + 1:
                _LOG.warning("the change log has a gap after %d; every cached key is looked up again", self.applied)
                self._start_over(epoch, head)
                return
            self._sink.apply(change)
            self.applied = change.seq

    def _start_over(self, epoch: str, head: int) -> None:
        """Forget what is held, and only then count as current: what was committed up to `head` is in no answer yet."""
        self._sink.forget_everything()
        self._epoch, self.applied = epoch, head
