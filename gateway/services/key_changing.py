"""One change of one key, from the call to what is left behind: the steps that all changes share.

    begun      the key found within the caller's reach
    apply      new state, next version, a row of the change log, an event        only where something changes

Invariant: all of it is one write transaction (`writing`). A change that changes nothing leaves no trace and has no
`seq`, so a call whose answer was lost can be repeated.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.keys.authority import KEYS, Authority
from gateway.services.actor import Caller
from gateway.services.changed import Changed
from gateway.services.clock import Clock
from gateway.services.key_rows import KeyRow, key_from_row
from gateway.services.key_rules import find_key
from gateway.services.shapes import Key
from gateway.services.trail import Fields, Target, record_event
from gateway.services.writing import Writing, writing
from gateway.store import change_log
from gateway.store.schema import keys

_UNTOLD: Final = frozenset({"name_search"})  # derived, and no news to anybody


@dataclass(frozen=True, slots=True)
class Change:
    """A change under way, and the key as it stood at its beginning. Lives as long as its transaction."""

    writing: Writing
    row: KeyRow

    @property
    def connection(self) -> AsyncConnection:
        """Return the connection that holds the write lock."""
        return self.writing.connection

    @property
    def authority(self) -> Authority:
        """Return what the caller may do."""
        return self.writing.authority

    @property
    def now(self) -> datetime:
        """Return the moment of the change."""
        return self.writing.now

    def nothing(self) -> Changed[Key]:
        """Answer that the key is as asked for already."""
        return Changed(key_from_row(self.row, self.now), None)

    async def apply(self, action: str, values: Mapping[str, Any]) -> Changed[Key]:  # Any: columns of all types
        """Set the columns, and answer with the key as it is then."""
        told = {name: value for name, value in values.items() if name not in _UNTOLD}
        return await self.record(action, values, before={name: getattr(self.row, name) for name in told}, after=told)

    async def record(self, action: str, values: Mapping[str, Any], *, before: Fields, after: Fields) -> Changed[Key]:
        """Set the columns, leave the traces as they are given, and answer with the key as it is then."""
        columns = {**values, "version": self.row.version + 1}
        await self.connection.execute(update(keys).where(keys.c.id == self.row.id).values(columns))
        seq = await self.tell(action, before=before, after=after)
        return Changed(key_from_row(await find_key(self.connection, self.authority, self.row.id), self.now), seq)

    async def tell(self, action: str, *, before: Fields, after: Fields | None = None) -> int:
        """Leave the row of the log and the event; return the change's seq."""
        row = self.row
        seq = await change_log.append(self.connection, "key", row.id, row.version + 1)
        await record_event(
            self.connection,
            at=self.now,
            actor=self.writing.actor,
            action=action,
            target=Target(row.organization_id, "key", row.id, row.name, row.owner_id),
            before=before,
            after=after,
        )
        return seq


@asynccontextmanager
async def changing(engine: AsyncEngine, clock: Clock, caller: Caller, key_id: str) -> AsyncIterator[Change]:
    """Open a change of this key. Raises Unauthenticated, NotAllowed and NotFound."""
    async with writing(engine, clock, caller, KEYS) as begun:
        yield Change(begun, await find_key(begun.connection, begun.authority, key_id))
