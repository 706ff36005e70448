"""Where entries of requests are kept: what the recorder, and whoever reads, may rely on with every kind of store.

Invariants: what `write` was given is on the disk when it returns. An entry is known by its spool and its position, so
that writing it again changes nothing: a batch whose answer was lost is simply repeated. An entry that says how a
request ended takes the place of the one that says it is open, and nothing else takes any entry's place. Entries go a
whole UTC day at a time (of their `at`), when retention ends.

Every method raises StoreBusy or StoreUnavailable where the store cannot do it just now, and then nothing that was asked
is half done in a way that a repetition would not mend.

Turned down: keeping requests in the tables that keys are in, of SQLite. One file is one writer: a batch of requests
would hold up every change of a key, and retention would have to delete rows by the million instead of a file.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from gateway.keys.request_entry import RequestEntry, entry_id
from gateway.store.audit_query import EntryQuery


class StoredEntry(NamedTuple):
    """One entry as it was found, with the spool that its position belongs to."""

    spool: str
    entry: RequestEntry

    @property
    def id(self) -> str:
        """What the entry is called outside."""
        return entry_id(self.spool, self.entry.position)


class AuditStore(Protocol):
    """One kind of store. It belongs to the event loop it is first used in."""

    async def write(self, spool: str, entries: Sequence[RequestEntry]) -> None:
        """Keep entries of one spool, in any order, those included that are kept already."""

    async def interrupt(self, spool: str, run: int) -> int:
        """Note that a run is over: what it left open was interrupted. Return how many there were."""

    async def find(self, wanted: EntryQuery) -> list[StoredEntry]:
        """Return the newest entries that fit, newest first by (`at`, id)."""

    async def count(self, spool: str, segment: int) -> int:
        """Return how many entries there are whose position lies in this segment."""

    async def retain(self, days: int, now: int) -> list[str]:
        """Let go of the UTC days that ended `days` days before `now` (microseconds) or earlier; return them as dates.

        `["2026-11-20", "2026-11-21"]`. It never waits for a reader for long: what is in use goes the next time.
        """

    async def close(self) -> None:
        """Give back files and connections; doing it twice is harmless."""
