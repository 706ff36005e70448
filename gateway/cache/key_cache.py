"""What one worker remembers of keys: hit, known absent and miss are three answers.

Invariants:
- An entry is served only while it is younger than `positive_ttl_seconds` and the worker has, within the same time, had
  proof that it hears of changes (`proven`). The second bound holds whatever is broken: a revoked key dies with it.
- A change drops the entry and marks it `dead`; whoever still holds it asks again before acting on it.
- A lookup that was under way when a change came in is thrown away and made again.
- A store that cannot be asked is a failure (`StoreUnavailable`), never an absent key.

Eviction is second chance (CLOCK, Corbató 1968): a hit sets a flag, which costs a fifth of moving the entry to the end
of a list. Absent keys are bounded apart, so that a flood of invented keys evicts no good one.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final, Protocol

from gateway.errors import StoreUnavailable
from gateway.keys.change import Change
from gateway.keys.record import CredentialRecord, Status, status

_LOOKUP_ATTEMPTS: Final = 4
"""A lookup that changes overtake this often is refused as unavailable rather than answered from the past."""


class KeySource(Protocol):
    """Where a miss is looked up."""

    def read(self, digest: bytes) -> CredentialRecord | None | Awaitable[CredentialRecord | None]:
        """The record of a digest, None when there is none; raises StoreUnavailable. Awaitable only when it must wait."""


class NotHeld(Enum):
    """The answers other than a hit."""

    ABSENT = "absent"
    """The store was asked lately and knows no such key."""
    MISS = "miss"
    """Not known here; ask the store."""


class Entry:
    """One key's record as this worker holds it, with what the hot path would otherwise compute again."""

    __slots__ = ("active_until", "allowed", "dead", "fresh_until", "identity", "record", "recently_used")

    def __init__(self, record: CredentialRecord, identity: bytes, now: float, wall: float, ttl: float) -> None:
        self.record = record
        self.identity = identity
        """The identity fields for the upstream."""
        self.fresh_until = now + ttl
        self.active_until = _active_until(record, now, wall)
        self.dead = False
        self.recently_used = False
        self.allowed: set[tuple[str, ...]] = set()
        """Permission lists of routes that this key was found to satisfy."""


def _active_until(record: CredentialRecord, now: float, wall: float) -> float:
    """Until when the key may be used, on the loop's clock; 0 when it may not be used at all.

    Kept on the monotonic clock so that a hit reads one clock; a step of the wall clock counts from the next lookup on.
    """
    state = status(
        revoked_at=record.revoked_at, expires_at=record.expires_at, disabled_at=record.disabled_at, now=wall
    )
    if state is not Status.ACTIVE:
        return 0.0
    end = min(record.expires_at or inf, record.secret_valid_until or inf)
    return now + (end - wall)


@dataclass(slots=True)
class CacheCounts:
    """What happened since the worker started."""

    hits_absent: int = 0
    lookups: int = 0
    lookups_discarded: int = 0
    lookup_failures: int = 0
    evictions: int = 0
    changes: int = 0


class KeyCache:
    """The entries of one worker. Not thread-safe: it lives on the worker's event loop."""

    def __init__(  # noqa: PLR0913  the settings of the cache, and its two clocks
        self,
        source: KeySource,
        *,
        positive_ttl_seconds: float,
        negative_ttl_seconds: float,
        max_entries: int,
        max_absent_entries: int,
        max_stale_seconds: float,
        identity: Callable[[CredentialRecord], bytes],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._positive_ttl = positive_ttl_seconds
        self._negative_ttl = negative_ttl_seconds
        self._max_entries = max_entries
        self._max_absent_entries = max_absent_entries
        self._max_stale = max_stale_seconds
        self._identity = identity
        self._clock = clock
        self._wall_clock = wall_clock
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._absent: OrderedDict[bytes, float] = OrderedDict()
        self._digests_by_key: dict[str, list[bytes]] = {}
        self._lookups: dict[bytes, asyncio.Task[Entry | None]] = {}
        self._generation = 0
        self._proven_until = 0.0
        self.counts = CacheCounts()
        self.on_dead: Callable[[Entry], None] = _ignore

    def __len__(self) -> int:
        """How many keys are held (absent ones not counted)."""
        return len(self._entries)

    # --- asking -----------------------------------------------------------------------------------------------------

    def find(self, digest: bytes, now: float) -> Entry | NotHeld:
        """What this worker knows by itself. `now` is the loop's clock."""
        entry = self._entries.get(digest)
        if entry is not None:
            if entry.fresh_until > now and self._proven_until > now:
                entry.recently_used = True
                return entry
        elif self._absent and self._absent.get(digest, 0.0) > now and self._proven_until > now:
            self.counts.hits_absent += 1
            return NotHeld.ABSENT
        return NotHeld.MISS

    def look_up(self, digest: bytes) -> Entry | None | Awaitable[Entry | None]:
        """Ask the store; None when it knows no such key. Raises StoreUnavailable. Awaitable only when it must wait.

        Concurrent lookups of one digest are one.
        """
        lookup = self._lookups.get(digest)
        if lookup is None:
            self.counts.lookups += 1
            try:
                record = self._source.read(digest)
            except StoreUnavailable as error:
                return self._despite_outage(digest, error)
            if record is None or isinstance(record, CredentialRecord):
                return self._store(digest, record)
            lookup = asyncio.ensure_future(self._look_up_later(digest, record))
            self._lookups[digest] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(digest, None))
        # One waiter that is cancelled must not cancel the lookup of the others.
        return asyncio.shield(lookup)

    async def _look_up_later(self, digest: bytes, pending: Awaitable[CredentialRecord | None]) -> Entry | None:
        for _ in range(_LOOKUP_ATTEMPTS):
            generation = self._generation
            try:
                record = await pending
            except StoreUnavailable as error:
                return self._despite_outage(digest, error)
            if generation == self._generation:
                return self._store(digest, record)
            self.counts.lookups_discarded += 1
            answer = self._source.read(digest)
            if answer is None or isinstance(answer, CredentialRecord):
                return self._store(digest, answer)
            pending = answer
        detail = "Keys are changing faster than they can be looked up; try again."
        raise StoreUnavailable(detail)

    def _despite_outage(self, digest: bytes, error: StoreUnavailable) -> Entry:
        """The entry that is past its own time but not past the last proof of currency; without one, raises `error`."""
        self.counts.lookup_failures += 1
        entry = self._entries.get(digest)
        if entry is not None and self._proven_until > self._clock():
            return entry
        raise error

    def _store(self, digest: bytes, record: CredentialRecord | None) -> Entry | None:
        now = self._clock()
        self._drop(digest)
        if record is None:
            self._absent[digest] = now + self._negative_ttl
            if len(self._absent) > self._max_absent_entries:
                self._absent.popitem(last=False)
            return None
        self._absent.pop(digest, None)
        entry = Entry(record, self._identity(record), now, self._wall_clock(), self._positive_ttl)
        self._entries[digest] = entry
        self._digests_by_key.setdefault(record.key_id, []).append(digest)
        if len(self._entries) > self._max_entries:
            self._evict()
        return entry

    def _evict(self) -> None:
        """Drop the oldest entry that was not used since it was last considered."""
        while True:
            digest, entry = self._entries.popitem(last=False)
            if not entry.recently_used:
                self._forget_digest(digest, entry)
                self.counts.evictions += 1
                return
            entry.recently_used = False
            self._entries[digest] = entry

    # --- hearing of changes -----------------------------------------------------------------------------------------

    def proven(self, now: float) -> None:
        """Note that every change committed up to `now` has been applied."""
        self._proven_until = now + self._positive_ttl + self._max_stale

    def apply(self, change: Change) -> None:
        """Make a committed change count: from the return of this call on, no entry from before it is served."""
        self._generation += 1
        self.counts.changes += 1
        # A key that is new may be known here as absent, and the change does not tell its digests.
        self._absent.clear()
        if change.subject_kind == "key":
            digests = list(self._digests_by_key.get(change.subject_id, ()))
        elif change.subject_kind == "owner":
            digests = [d for d, e in self._entries.items() if e.record.owner_id == change.subject_id]
        else:
            digests = [d for d, e in self._entries.items() if e.record.organization_id == change.subject_id]
        self._bury([entry for digest in digests if (entry := self._drop(digest)) is not None])

    def forget_everything(self) -> None:
        """Nothing held can be trusted (a gap in the log, a restored store): start from the store again."""
        self._generation += 1
        self._absent.clear()
        self._bury([entry for digest in list(self._entries) if (entry := self._drop(digest)) is not None])

    def _bury(self, entries: list[Entry]) -> None:
        """Tell of dead entries only when all are gone: whoever is told may ask for others at once."""
        for entry in entries:
            self.on_dead(entry)

    def _drop(self, digest: bytes) -> Entry | None:
        entry = self._entries.pop(digest, None)
        if entry is not None:
            entry.dead = True
            self._forget_digest(digest, entry)
        return entry

    def _forget_digest(self, digest: bytes, entry: Entry) -> None:
        digests = self._digests_by_key[entry.record.key_id]
        digests.remove(digest)
        if not digests:
            del self._digests_by_key[entry.record.key_id]


def _ignore(_entry: Entry) -> None:
    """Nobody listens yet."""
