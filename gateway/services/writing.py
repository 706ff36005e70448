"""One change through a service: a write transaction, the time it happens at, and a caller who may make it.

Invariant: whoever gets a `Writing` holds the store's write lock, and the caller's authority was read under that lock.
Nothing else can be committed before this is, so what is decided on it is still so when it counts.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.errors import PreconditionFailed
from gateway.keys.authority import Authority
from gateway.services.access import require
from gateway.services.actor import Actor, Caller
from gateway.services.authority_rows import confirmed
from gateway.services.clock import Clock
from gateway.store.engine import write_transaction


@dataclass(frozen=True, slots=True)
class Writing:
    """What every change needs."""

    connection: AsyncConnection
    caller: Caller
    now: datetime

    @property
    def authority(self) -> Authority:
        """What the caller may do."""
        return self.caller.authority

    @property
    def actor(self) -> Actor:
        """What the caller is called in the trail."""
        return self.caller.actor

    @property
    def organization_id(self) -> str:
        """The caller's organization: nothing outside of it can be reached."""
        return self.caller.authority.organization_id


@asynccontextmanager
async def writing(engine: AsyncEngine, clock: Clock, caller: Caller, permission: str) -> AsyncIterator[Writing]:
    """Open a change for which this permission is needed. Raises Unauthenticated, NotAllowed."""
    async with write_transaction(engine) as connection:
        now = clock()
        current = await confirmed(connection, caller, now)
        require(current.authority, permission)
        yield Writing(connection, current, now)


def refuse_lost_race(version: int, if_match: int | None) -> None:
    """Raise PreconditionFailed unless the thing is still at the version that the caller has seen."""
    if if_match is not None and if_match != version:
        seen = f", not {if_match}" if if_match > 0 else ""  # versions begin with 1; what never matches has no number
        raise PreconditionFailed(f"It is at version {version} by now{seen}. Read it again, then decide.")
