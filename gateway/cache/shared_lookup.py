"""Looks a missed key up in the table that Redis holds, and in the store where that cannot know.

Invariant: three answers. What the table says counts only in the epoch that this worker follows and with a head that is
not below what the worker has applied; then a record is as good as the store's, and where the table is complete, no
record means that there is none, so that a flood of invented keys never reaches the store. Everything else is "cannot
know": the store is asked, whose own pool bounds how many may wait. A Redis that does not prove anything just now is not
asked either: each attempt could cost its whole time-out.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from gateway.errors import StoreUnavailable, Unreachable
from gateway.keys.projection import LogPosition, TableAnswer
from gateway.keys.record import CredentialRecord

_AVOID_SECONDS: Final = 0.5
"""For how long the store is asked alone after Redis has not answered; by then the next pulse has found out why."""


class Table(Protocol):
    """The shared key table."""

    async def find(self, digest: bytes) -> TableAnswer:
        """What it says of a digest; raises Unreachable."""


class Store(Protocol):
    """The source of truth."""

    def read(self, digest: bytes) -> Awaitable[CredentialRecord | None] | CredentialRecord | None:
        """The record of a digest, None when there is none; raises StoreUnavailable. Awaitable where it must wait."""


class SharedLookup:
    """A KeySource over table and store."""

    def __init__(
        self,
        table: Table | None,
        store: Store,
        *,
        position: Callable[[], LogPosition | None],
        entered: Callable[[], bool],
        heard: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        """`position`: what this worker has applied. `entered`: whether whoever changes a key would wait for it.

        `heard`: whether Redis can be believed.
        """
        self._table = table
        self._store = store
        self._position = position
        self._entered = entered
        self._heard = heard
        self._clock = clock
        self._avoid_until = 0.0

    def read(self, digest: bytes) -> Awaitable[CredentialRecord | None]:
        """See KeySource."""
        return self._read(digest)

    async def _read(self, digest: bytes) -> CredentialRecord | None:
        if not self._entered():
            detail = "This worker is not entered in the key store yet. Try again."
            raise StoreUnavailable(detail, internal="a change would not wait for it")
        if self._table is not None and self._heard() and self._clock() >= self._avoid_until:
            try:
                answer = await self._table.find(digest)
            except Unreachable:
                self._avoid_until = self._clock() + _AVOID_SECONDS
            else:
                if self._knows(answer) and (answer.record is not None or answer.complete):
                    return answer.record
        found = self._store.read(digest)
        return found if found is None or isinstance(found, CredentialRecord) else await found

    def _knows(self, answer: TableAnswer) -> bool:
        """Whether the table is as far as this worker, which may have moved since it was asked."""
        at = self._position()
        return at is not None and answer.epoch == at.epoch and answer.head is not None and answer.head >= at.seq
