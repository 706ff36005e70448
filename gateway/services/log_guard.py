"""Notices that the change log has gone back, also where there is no relay that would, and before a change is answered.

One per control process, any number of them at once. It remembers the log as it saw it last, looks again every half
second and after each change of this node, and has the log given a new epoch where that is not in it any more. What
workers had said of the old log then counts for nothing (`control.following`), and they forget what they know.

Invariant: when `verify` returns, the log was still the one of the guard's last look, or has a new epoch. A change whose
answer waits for that is not taken for applied by a worker that had applied another one of the same number.

What a guard cannot know is what it has never seen: changes that were lost before its next look. So it is also told how
far the workers of its node are.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import Unreachable
from gateway.keys.projection import LogLook
from gateway.lifecycle import Message
from gateway.services import epochs, projection
from gateway.services.epochs import KnownLog, Life
from gateway.store.engine import single_reads

LOOK_SECONDS: Final = 0.5
_AT_ONCE: Final = 100
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Told:
    """The furthest position in an epoch that a worker has reported."""

    epoch: str
    seq: int


class LogGuard:
    """The guard of one control process."""

    def __init__(self, engine: AsyncEngine) -> None:
        """No I/O."""
        self._engine = engine
        self._known: KnownLog | None = None
        self._told: _Told | None = None
        self._away = False

    def applied(self, message: Message) -> None:
        """Note how far a worker of this node is, of which the supervisor tells: the log was that long."""
        epoch, seq = message.get("epoch"), message["seq"]
        if epoch is None:
            return
        if self._told is None or self._told.epoch != epoch or self._told.seq < seq:
            self._told = _Told(epoch, seq)

    async def run(self) -> None:
        """Look until cancelled. An outage is told once, and its end once."""
        while True:
            try:
                await self.verify()
            except Unreachable as error:
                if not self._away:
                    _LOG.warning("the change log cannot be read: %s", error.detail, extra={"reason": error.internal})
                self._away = True
            except Exception:  # noqa: BLE001 - whatever it is
                # Without a guard nobody would notice from now on.
                _LOG.exception("a look at the change log failed in a way that was not foreseen; it goes on")
            else:
                if self._away:
                    _LOG.warning("the change log can be read again")
                self._away = False
            await asyncio.sleep(LOOK_SECONDS)

    async def verify(self) -> None:
        """Look now, and have a log that has gone back given a new epoch. Raises StoreBusy, StoreUnavailable."""
        known, told = self._known, self._told  # as of before the look, whoever looks at the same time
        log, seen = await self._look(known)
        lost = known
        life = Life.SAME if known is None else epochs.compare(known, log)
        if life is Life.SAME and told is not None and told.epoch == log.epoch and told.seq > log.head:
            life, lost = Life.GONE_BACK, KnownLog(told.epoch, told.seq, None)
        if life is Life.GONE_BACK and lost is not None:
            if await epochs.begin(self._engine, lost) is not None:
                _LOG.warning(
                    "the store is not the one that was there before, or has gone back to an earlier state; every "
                    "worker forgets what it knows of keys",
                    extra={"store_head": log.head, "known": lost.head},
                )
            _, seen = await self._look(None)
        latest = self._known
        if latest is known or latest is None or (latest.epoch == seen.epoch and latest.head < seen.head):
            self._known = seen

    async def _look(self, known: KnownLog | None) -> tuple[LogLook, KnownLog]:
        """The log behind what is known, and as it is to be remembered."""
        async with single_reads(self._engine) as connection:
            log = await projection.look(connection, 0 if known is None else known.head, _AT_ONCE)
            tip = log.changes[-1] if log.changes else log.at
            if (tip is None and log.head) or (tip is not None and tip.seq != log.head):
                tip = (await projection.look(connection, log.head, 0)).at
        return log, KnownLog(log.epoch, log.head, tip)
