"""What a reload leaves behind in the management trail of the organization that operates the gateway.

The event is written after the reload, since only then is known what changed. A reload that was refused changed nothing,
and is in the log alone.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.services.actor import Caller
from gateway.services.clock import Clock, utc_now
from gateway.services.trail import Target, record_event
from gateway.store.engine import write_transaction

_GATEWAY: Final = "gateway"


class ReloadEvents:
    """Writes to the store behind `engine`."""

    __slots__ = ("_clock", "_engine")

    def __init__(self, engine: AsyncEngine, *, clock: Clock = utc_now) -> None:
        self._engine = engine
        self._clock = clock

    async def record(self, caller: Caller, changed: Sequence[str]) -> None:
        """Note who reloaded, and which settings changed, by name."""
        async with write_transaction(self._engine) as connection:
            await record_event(
                connection,
                at=self._clock(),
                actor=caller.actor,
                action="gateway.reload",
                target=Target(caller.authority.organization_id, _GATEWAY, _GATEWAY, _GATEWAY, None),
                after={"changed": tuple(changed)},
            )
