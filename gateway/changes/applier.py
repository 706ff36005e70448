"""Makes what is read or heard of the change log count in a worker's memory, in the order of the log.

Invariant: at `position`, everything that was committed up to there counts here: it was applied, or everything was
forgotten after it had been committed. Doubled and late changes are dropped; a gap, another epoch, or a log whose row at
`position` is no longer the one that was applied (it has gone back and forth) makes the sink forget everything.

Pure decisions without I/O, shared by every way on which changes come (`log_follower`, `shared_feed`): two places that
decide what a gap is would differ one day.
"""

import logging
from collections.abc import Callable
from typing import Protocol

from gateway.keys.change import Change
from gateway.keys.projection import LogLook, LogPosition

_LOG = logging.getLogger(__name__)


class ChangeSink(Protocol):
    """Who is told."""

    def apply(self, change: Change) -> None:
        """Make one change count."""

    def forget_everything(self) -> None:
        """Drop all that is held."""

    def proven(self, now: float) -> None:
        """Note that everything committed by `now` has been applied."""


def _ignore(_position: LogPosition) -> None:
    """Nobody has to know."""


class Applier:
    """The place in the log of one sink."""

    __slots__ = ("_last", "_on_applied", "_sink", "position")

    def __init__(self, sink: ChangeSink, on_applied: Callable[[LogPosition], None] = _ignore) -> None:
        """`on_applied` hears of each position, when all up to it counts."""
        self._sink = sink
        self._on_applied = on_applied
        self._last: Change | None = None
        """The change at `position`, where it is known."""
        self.position: LogPosition | None = None

    def take_look(self, look: LogLook, *, anew: bool = False) -> None:
        """Apply what a look behind `position` has found. `anew`: nobody knows what happened to the store meanwhile."""
        at = self.position
        if anew or at is None or look.epoch != at.epoch or look.head < at.seq or not self._continues(look):
            self._start_over(look, "the store was away, restored or replaced")
        elif any(change.seq != at.seq + place for place, change in enumerate(look.changes, start=1)):
            self._start_over(look, f"the change log has a gap after {at.seq}")
        elif at.seq + len(look.changes) < look.head:
            # More than can be applied one by one without holding up requests.
            self._start_over(look, "many keys have changed at once")
        else:
            self._last = self._last or look.at
            for change in look.changes:
                self._apply(change)
            if look.changes:
                self._tell()

    def take_message(self, epoch: str, change: Change) -> None:
        """Apply a change that was announced, unless it is known already."""
        at = self.position
        if at is None or epoch != at.epoch:
            self.jump(LogPosition(epoch, change.seq), "another life of the store has begun")
        elif change.seq == at.seq + 1:
            self._apply(change)
            self._tell()
        elif change.seq > at.seq:
            self.jump(LogPosition(epoch, change.seq), "a change was announced that does not follow the last one")

    def jump(self, to: LogPosition, why: str) -> None:
        """Forget what is held, and only then count as current: what was committed up to there is in no answer yet."""
        if self.position is not None:
            _LOG.warning("%s; every cached key is looked up again", why)
        self._sink.forget_everything()
        self.position, self._last = to, None
        self._tell()

    def _continues(self, look: LogLook) -> bool:
        return self._last is None or look.at is None or look.at == self._last

    def _start_over(self, look: LogLook, why: str) -> None:
        self.jump(LogPosition(look.epoch, look.head), why)
        newest = look.changes[-1] if look.changes else look.at
        self._last = newest if newest is not None and newest.seq == look.head else None

    def _apply(self, change: Change) -> None:
        assert self.position is not None  # noqa: S101 - nothing is applied before the first position
        self._sink.apply(change)
        self.position = LogPosition(self.position.epoch, change.seq)
        self._last = change

    def _tell(self) -> None:
        assert self.position is not None  # noqa: S101 - as above
        self._on_applied(self.position)
