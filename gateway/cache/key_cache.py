"""What one worker remembers of keys: hit, known absent and miss are three answers.

Invariants:
- An entry is served without asking while it is younger than `positive_ttl_seconds`. When the store cannot be asked, it
  is served until that time (and `max_stale_seconds`) has passed since the worker last had proof that it hears of
  changes (`proven`). That bound holds whatever is broken: a revoked key dies with it.
- A change drops the entry and marks it `dead`; whoever still holds it asks again before acting on it.
- An answer counts only soon after it was asked for: a process that was stopped meanwhile may be counted as gone.
- A lookup that was under way when a change of its key came in is thrown away and made again; so is one that found
  nothing when any change came in, since a change does not tell of which digests it is.
- A store that cannot be asked is a failure (`StoreUnavailable`), never an absent key.

Eviction is second chance (CLOCK, Corbató 1968): a hit sets a flag, which costs a fifth of moving the entry to the end
of a list, and the queue of digests takes 8 bytes per key where an OrderedDict takes 120. Absent keys are bounded apart,
so that a flood of invented keys evicts no good one.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from math import inf
from typing import Final, Protocol

from gateway.errors import StoreUnavailable
from gateway.keys.change import Change
from gateway.keys.projection import LEAST_BELIEF_SECONDS
from gateway.keys.record import CredentialRecord, Status, status

_RECENT_CHANGES: Final = 1000
"""How many changes are remembered to judge which lookups they have overtaken."""
_LOOKUP_ATTEMPTS: Final = 4
"""A lookup that changes overtake this often is refused as unavailable rather than answered from the past."""


class KeySource(Protocol):
    """Where a miss is looked up."""

    def read(self, digest: bytes) -> CredentialRecord | Awaitable[CredentialRecord | None] | None:
        """The record of a digest, None when there is none; raises StoreUnavailable.

        An awaitable only when it must wait.
        """


class NotHeld(Enum):
    """The answers other than a hit."""

    ABSENT = "absent"
    """The store was asked lately and knows no such key."""
    MISS = "miss"
    """Not known here; ask the store."""


Identity = tuple[bytes, bytes]
"""What tells an upstream whose key it is: the fields of the owner, shared by all of its keys, and that of the key."""


def _unnamed(_record: CredentialRecord) -> bytes:
    """Nothing is put on record here."""
    return b""


class Entry:
    """What the hot path needs of one key, and no more: a hundred thousand of these are held (900 bytes each)."""

    __slots__ = (
        "active_until",
        "allowed",
        "allowed_origins",
        "dead",
        "fresh_until",
        "key_field",
        "key_id",
        "organization_external_id",
        "organization_id",
        "owner_fields",
        "owner_id",
        "owner_permissions",
        "permissions",
        "recently_used",
        "secret_id",
        "state",
        "whom",
    )

    def __init__(
        self, record: CredentialRecord, identity: Identity, now: float, wall: float, ttl: float, whom: bytes = b""
    ) -> None:
        self.key_id = record.key_id
        self.secret_id = record.secret_id
        self.owner_id = record.owner_id
        self.organization_id = record.organization_id
        self.organization_external_id = record.organization_external_id
        self.allowed_origins = record.allowed_origins
        self.permissions = record.permissions
        self.owner_permissions = record.owner_permissions
        self.owner_fields, self.key_field = identity
        self.whom = whom
        """What is put on record of the key with each of its requests."""
        self.state = status(
            revoked_at=record.revoked_at, expires_at=record.expires_at, disabled_at=record.disabled_at, now=wall
        )
        self.active_until = 0.0
        """Until when the key may be used, on the loop's clock; 0 when it may not be used at all.

        Monotonic, so that a hit reads one clock; a step of the wall clock counts from the next lookup on.
        """
        if self.state is Status.ACTIVE:
            self.active_until = now + (min(record.expires_at or inf, record.secret_valid_until or inf) - wall)
        self.fresh_until = now + ttl
        self.dead = False
        self.recently_used = False
        self.allowed: tuple[tuple[str, ...], ...] = ()
        """Permission lists of routes that this key was found to satisfy."""

    def concerned_by(self, change: Change) -> bool:
        """Whether a change may make this entry another one."""
        if change.subject_kind == "key":
            return change.subject_id == self.key_id
        return change.subject_id == (self.owner_id if change.subject_kind == "owner" else self.organization_id)

    def __repr__(self) -> str:
        """Name the key."""
        return f"<Entry {self.key_id} {self.state}{' dead' if self.dead else ''}>"


@dataclass(slots=True)
class CacheCounts:
    """What happened since the worker started."""

    hits: int = 0
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
        identity: Callable[[CredentialRecord], Identity],
        whom: Callable[[CredentialRecord], bytes] = _unnamed,
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
        self._whom = whom
        self._clock = clock
        self._wall_clock = wall_clock
        self._entries: dict[bytes, Entry] = {}
        self._absent: OrderedDict[bytes, float] = OrderedDict()
        self._candidates: deque[bytes] = deque()
        """Digests in the order in which they are considered for eviction; some are gone since."""
        self._digests_by_key: dict[str, tuple[bytes, ...]] = {}
        self._lookups: dict[bytes, asyncio.Task[Entry | None]] = {}
        self._generation = 0
        """How many changes there were; `_recent` holds the newest of them, None for "everything"."""
        self._recent: deque[Change | None] = deque(maxlen=_RECENT_CHANGES)
        self.proven_until = 0.0
        """Until when entries may be served by the last proof of currency, on the loop's clock."""
        self.counts = CacheCounts()
        self.on_change: Callable[[Change | None], None] = _ignore
        """Told of each change when it counts here already; None: of everything."""

    def __len__(self) -> int:
        """How many keys are held (absent ones not counted)."""
        return len(self._entries)

    def absent_entries(self) -> int:
        """How many digests are remembered to be unknown."""
        return len(self._absent)

    def oldest_entry_seconds(self) -> float:
        """How long ago the oldest entry was looked up; 0 without any."""
        oldest = next(iter(self._entries.values()), None)  # a lookup puts its entry at the end
        return 0.0 if oldest is None else max(0.0, self._clock() - (oldest.fresh_until - self._positive_ttl))

    def proven_for_seconds(self) -> float:
        """How long entries may still be served without another proof of currency."""
        return max(0.0, self.proven_until - self._clock())

    # --- asking -----------------------------------------------------------------------------------------------------

    def find(self, digest: bytes, now: float) -> Entry | NotHeld:
        """What this worker knows by itself. `now` is the loop's clock."""
        entry = self._entries.get(digest)
        if entry is not None:
            if entry.fresh_until > now and self.proven_until > now:
                entry.recently_used = True
                self.counts.hits += 1
                return entry
        elif self._absent and self._absent.get(digest, 0.0) > now and self.proven_until > now:
            self.counts.hits_absent += 1
            return NotHeld.ABSENT
        return NotHeld.MISS

    def look_up(self, digest: bytes) -> Entry | Awaitable[Entry | None] | None:
        """Ask the store; None when it knows no such key. Raises StoreUnavailable. Awaitable only when it must wait.

        Concurrent lookups of one digest are one.
        """
        lookup = self._lookups.get(digest)
        if lookup is None:
            self.counts.lookups += 1
            generation = self._generation
            try:
                record = self._source.read(digest)
            except StoreUnavailable as error:
                return self._despite_outage(digest, error)
            if record is None or isinstance(record, CredentialRecord):
                return self._store(digest, record)
            lookup = asyncio.ensure_future(self._look_up_later(digest, record, generation))
            self._lookups[digest] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(digest, None))
        # One waiter that is cancelled must not cancel the lookup of the others.
        return asyncio.shield(lookup)

    async def _look_up_later(
        self, digest: bytes, pending: Awaitable[CredentialRecord | None], generation: int
    ) -> Entry | None:
        """Wait for an answer that no change has overtaken since it was asked for, at `generation`."""
        for _ in range(_LOOKUP_ATTEMPTS):
            asked_at = self._clock()
            try:
                record = await pending
                if self._clock() - asked_at < LEAST_BELIEF_SECONDS and not self._overtaken(record, generation):
                    return self._store(digest, record)
                self.counts.lookups_discarded += 1
                generation = self._generation
                answer = self._source.read(digest)
            except StoreUnavailable as error:
                return self._despite_outage(digest, error)
            if answer is None or isinstance(answer, CredentialRecord):
                return self._store(digest, answer)
            pending = answer
        detail = "Keys are changing faster than they can be looked up; try again."
        raise StoreUnavailable(detail)

    def _overtaken(self, record: CredentialRecord | None, generation: int) -> bool:
        """Whether a change since `generation` may be missing from what was read."""
        missed = self._generation - generation
        if missed > len(self._recent):
            return True
        return any(
            change is None or record is None or _concerns(change, record)
            for change in islice(reversed(self._recent), missed)
        )

    def _despite_outage(self, digest: bytes, error: StoreUnavailable) -> Entry:
        """The entry that is past its own time but not past the last proof of currency; without one, raises `error`."""
        self.counts.lookup_failures += 1
        entry = self._entries.get(digest)
        if entry is not None and self.proven_until > self._clock():
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
        wall = self._wall_clock()
        entry = Entry(record, self._identity(record), now, wall, self._positive_ttl, self._whom(record))
        self._entries[digest] = entry
        self._digests_by_key[entry.key_id] = (*self._digests_by_key.get(entry.key_id, ()), digest)
        self._candidates.append(digest)
        if len(self._entries) > self._max_entries:
            self._evict(digest)
        elif len(self._candidates) > 2 * self._max_entries:
            self._candidates = deque(self._entries)
        return entry

    def _evict(self, newest: bytes) -> None:
        """Drop the oldest entry that was not used since it was last considered, and is not the one just asked for."""
        while True:
            digest = self._candidates.popleft()
            entry = self._entries.get(digest)
            if entry is None:
                continue
            if not entry.recently_used and digest != newest:
                self._drop(digest)  # dead: a change could no longer find it, so whoever still holds it has to ask
                self.counts.evictions += 1
                return
            entry.recently_used = False
            self._candidates.append(digest)

    # --- hearing of changes -----------------------------------------------------------------------------------------

    def proven(self, now: float) -> None:
        """Note that every change committed up to `now` has been applied."""
        self.proven_until = now + self._positive_ttl + self._max_stale

    def apply(self, change: Change) -> None:
        """Make a committed change count: from the return of this call on, no entry from before it is served."""
        self._generation += 1
        self._recent.append(change)
        self.counts.changes += 1
        # A key that is new may be known here as absent, and the change does not tell its digests.
        self._absent.clear()
        if change.subject_kind == "key":
            digests = list(self._digests_by_key.get(change.subject_id, ()))
        else:
            digests = [digest for digest, entry in self._entries.items() if entry.concerned_by(change)]
        for digest in digests:
            self._drop(digest)
        self.on_change(change)

    def forget_everything(self) -> None:
        """Nothing held can be trusted (a gap in the log, a restored store): start from the store again."""
        self._generation += 1
        self._recent.append(None)
        self._absent.clear()
        for digest in list(self._entries):
            self._drop(digest)
        self.on_change(None)

    def _drop(self, digest: bytes) -> None:
        entry = self._entries.pop(digest, None)
        if entry is None:
            return
        entry.dead = True
        rest = tuple(each for each in self._digests_by_key[entry.key_id] if each != digest)
        if rest:
            self._digests_by_key[entry.key_id] = rest
        else:
            del self._digests_by_key[entry.key_id]


def _concerns(change: Change, record: CredentialRecord) -> bool:
    """Whether the change is of the record's key, owner or organization, and not in the record yet."""
    if change.subject_kind == "key":
        return change.subject_id == record.key_id and change.version > record.version
    return change.subject_id == (record.owner_id if change.subject_kind == "owner" else record.organization_id)


def _ignore(_change: Change | None) -> None:
    """Nobody listens yet."""
