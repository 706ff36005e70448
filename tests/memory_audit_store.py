"""An audit store in memory, for tests of whoever reads; and entries to put into it.

It says what `find` means in the plainest way there is: every entry is looked at, sorted, and cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.keys.request_entry import OFFSET_BITS, Outcome, RequestEntry, entry_id
from gateway.services.audit import SegmentDifference, VerificationResult
from gateway.store.audit_query import FIND_LIMIT
from gateway.store.audit_store import StoredEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.store.audit_query import EntryQuery

SPOOL = "00112233445566ff"
SEGMENT = 1_792_597_600
DAY_MICROSECONDS = 86_400_000_000


def entry(**given: Any) -> RequestEntry:  # noqa: ANN401 - whatever fields an entry has
    """An answered request without a key; `number` of the entry in its segment, and whatever else is given."""
    position = (SEGMENT << OFFSET_BITS) + 64 * (1 + given.pop("number", 0))
    plain: dict[str, Any] = dict.fromkeys(("at", "duration", "bytes_in", "bytes_out"), 0)
    texts = ("request_id", "route", "upstream", "address", "user_agent", "code", "key_id", "key_name", "secret_id")
    plain |= dict.fromkeys((*texts, "organization_id", "owner_id"), "")
    plain |= {"position": position, "outcome": Outcome.ANSWERED, "status": 200, "method": "GET", "path": "/", "run": 1}
    return RequestEntry(**plain | given)


class MemoryAuditStore:
    """Keeps entries, and every query that it was asked."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, int], RequestEntry] = {}
        self.asked: list[EntryQuery] = []

    async def write(self, spool: str, entries: Sequence[RequestEntry]) -> None:
        for each in entries:
            there = self.entries.get((spool, each.position))
            if there is None or there.outcome is Outcome.OPEN:
                self.entries[spool, each.position] = each

    async def interrupt(self, spool: str, run: int) -> int:
        left = [key for key, each in self.entries.items() if (key[0], each.run, each.outcome) == (spool, run, 3)]
        for key in left:
            self.entries[key] = self.entries[key]._replace(outcome=Outcome.INTERRUPTED)
        return len(left)

    async def find(self, wanted: EntryQuery) -> list[StoredEntry]:
        assert 1 <= wanted.limit <= FIND_LIMIT
        self.asked.append(wanted)
        found = [StoredEntry(spool, each) for (spool, _), each in self.entries.items() if _fits(wanted, spool, each)]
        found.sort(key=lambda stored: (stored.entry.at, stored.id), reverse=True)
        return found[: wanted.limit]

    async def count(self, spool: str, segment: int) -> int:
        return sum(key[0] == spool and key[1] >> OFFSET_BITS == segment for key in self.entries)

    async def retain(self, days: int, now: int) -> list[str]:
        last = now // DAY_MICROSECONDS - days
        self.entries = {key: each for key, each in self.entries.items() if each.at // DAY_MICROSECONDS >= last}
        return []

    async def close(self) -> None:
        return


def _fits(wanted: EntryQuery, spool: str, each: RequestEntry) -> bool:
    low, high = wanted.statuses or (0, 999)
    organizations = {wanted.organization_id, *([""] if wanted.anonymous else [])}
    return (
        (wanted.organization_id is None or each.organization_id in organizations)
        and wanted.owner_id in {None, each.owner_id}
        and wanted.key_id in {None, each.key_id}
        and wanted.outcome in {None, each.outcome}
        and wanted.code in {None, each.code}
        and wanted.request_id in {None, each.request_id}
        and low <= each.status <= high
        and (wanted.since is None or each.at >= wanted.since)
        and (wanted.until is None or each.at < wanted.until)
        and (wanted.before is None or (each.at, entry_id(spool, each.position)) < wanted.before)
    )


class FixedVerification:
    """Says that one entry is missing, or none."""

    def __init__(self) -> None:
        self.missing = 0

    async def verify(self) -> VerificationResult:
        difference = SegmentDifference(
            spool=SPOOL, segment=SEGMENT, first_at=None, last_at=None, expected=100, found=99, missing=1, surplus=0,
            damaged_bytes=0,
        )  # fmt: skip
        return VerificationResult(
            complete=not self.missing, segments=3, expected=200, found=200 - self.missing, missing=self.missing,
            surplus=0, damaged_bytes=0, differences=(difference,) * self.missing,
        )  # fmt: skip
