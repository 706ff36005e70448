"""Whether the change log is still the one that somebody knows, and the new epoch that it gets where it is not.

A log goes back where its store is restored from a backup, or fails over to a server that had not got everything. What
was said of its later part (`applied up to 812`) must not count for what will get the same numbers.

Invariant: an epoch is given in a write transaction that looks once more, so of several who notice one gives it. Epochs
are numbered: one that is no younger than the known one is that of a backup, and is replaced by one younger than both.

Turned down: telling a restored database by its system identifier or timeline. A dump has neither, and a standby that
was promoted may have lost nothing.
"""

from dataclasses import dataclass
from enum import Enum
from secrets import token_hex

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.keys.change import Change
from gateway.keys.projection import LogLook, generation
from gateway.services import projection
from gateway.store.clock import StoreNow
from gateway.store.engine import write_transaction
from gateway.store.schema import store_identity


@dataclass(frozen=True, slots=True)
class KnownLog:
    """A log as somebody has seen it: its epoch, its newest number, and what the change there was."""

    epoch: str
    head: int
    tip: Change | None


class Life(Enum):
    """What a log is to somebody who knew it before."""

    SAME = "same"
    """It holds all that was known, and perhaps more."""
    YOUNGER = "younger"
    """It was given a new epoch since."""
    GONE_BACK = "gone_back"
    """It does not hold what was known, and nobody has said so yet."""


def compare(known: KnownLog, log: LogLook) -> Life:
    """`log` was looked at behind the known head, and after that was seen."""
    if known.epoch != log.epoch:
        # A store whose epoch is not younger was restored from before that, or is another one.
        return Life.YOUNGER if generation(log.epoch) > generation(known.epoch) else Life.GONE_BACK
    if known.head > log.head or (known.head > 0 and log.at != known.tip):
        return Life.GONE_BACK
    return Life.SAME


async def begin(engine: AsyncEngine, known: KnownLog) -> LogLook | None:
    """Give the log a new epoch if it has gone back; return what it was then, None where somebody else was faster.

    Raises StoreBusy, StoreUnavailable.
    """
    async with write_transaction(engine) as connection:
        log = await projection.look(connection, known.head, 0)
        if compare(known, log) is not Life.GONE_BACK:
            return None
        number = 1 + max(generation(log.epoch), generation(known.epoch))
        epoch = f"{number}.{token_hex(16)}"
        await connection.execute(update(store_identity).values(epoch=epoch, created_at=StoreNow()))
    return log
