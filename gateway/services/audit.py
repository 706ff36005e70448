"""Reading what is on record: changes and requests as one list, requests by the hour, and whether any is missing.

Invariant: who administers the organization and holds `gateway:admin` reads everything of it, and the operator's admins
also what belongs to no organization (requests without a key that is known); everybody else their own: what was done to
them and their keys, what was done with their keys, and the requests made with them. Whose an entry is was noted when it
happened, so that what is on record of a key that is gone or moved stays where it was.

The list is newest first by moment and id, and a page is read along an index of each store from the cursor on: it costs
a page, however much is on record. Requests arrive up to two seconds after they were answered, and after an outage
later: in their place, which a reader who is past it does not see. A list by arrival was turned down: nobody looks for
what became of a request by when it was filed.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import Conflict, FieldError, Invalid
from gateway.keys.authority import ADMIN
from gateway.services import paging
from gateway.services.access import require, require_operator, require_reading
from gateway.services.actor import Caller
from gateway.services.audit_counts import read_counts
from gateway.services.audit_filter import EVERYTHING, AuditFilter, Place, faults_of
from gateway.services.audit_shapes import Event, EventPage, HourCounts
from gateway.services.clock import Clock, utc_now
from gateway.services.events import acted_by, read_changes
from gateway.services.request_trail import entry_query, request_event
from gateway.services.shapes import Shape
from gateway.store.audit_query import FIND_LIMIT
from gateway.store.audit_store import AuditStore
from gateway.store.engine import read_transaction

DEFAULT_COUNT_HOURS: Final = 24
MAX_COUNT_DAYS: Final = 100
_ORDER: Final = "events"
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SegmentDifference(Shape):
    """A segment of the spool that the store does not agree with."""

    spool: str
    """Which node wrote it: 16 hexadecimal digits."""
    segment: int
    first_at: datetime | None
    """When the first request in it came; null where it is not known."""
    last_at: datetime | None
    expected: int
    """How many entries it held, as far as it was read."""
    found: int
    """How many are in the store."""
    missing: int
    surplus: int
    damaged_bytes: int
    """What could not be read in it: entries that were there are among neither."""


class VerificationResult(Shape):
    """Whether every entry that workers wrote is in the store, as far back as segments are remembered."""

    complete: bool
    """Nothing is missing, surplus or damaged."""
    segments: int
    """How many were compared."""
    expected: int
    found: int
    missing: int
    surplus: int
    damaged_bytes: int
    differences: tuple[SegmentDifference, ...]
    """The segments that are not as they should be."""


class Verification(Protocol):
    """Compares what was read from the spool with what is in the store."""

    async def verify(self) -> VerificationResult:
        """Compare, segment by segment. Raises StoreBusy and StoreUnavailable."""


class AuditService:
    """What is on record in the store behind `engine` (changes, counts) and in `audit_store` (requests)."""

    __slots__ = ("_audit_store", "_clock", "_engine", "_verification")

    def __init__(
        self,
        engine: AsyncEngine,
        audit_store: AuditStore | None,
        verification: Verification | None,
        *,
        clock: Clock = utc_now,
    ) -> None:
        """`audit_store`: None where no request can be on record; `verification`: None where none is recorded."""
        self._engine = engine
        self._audit_store = audit_store
        self._verification = verification
        self._clock = clock

    @property
    def recording(self) -> bool:
        """Tell whether requests are recorded; where they are not, a key without a last use may well be in use."""
        return self._verification is not None

    async def list(
        self,
        caller: Caller,
        wanted: AuditFilter = EVERYTHING,
        *,
        cursor: str | None = None,
        limit: int = paging.DEFAULT_LIMIT,
    ) -> EventPage:
        """Return one page, newest first. Raises NotAllowed, and Invalid for a bad cursor, limit or status.

        An actor's name that fits nobody within reach is NotFound, one that fits several Conflict.
        """
        require_reading(caller.authority, ADMIN)
        beyond = _examined(wanted, cursor, limit)
        found: list[Event] = []
        async with read_transaction(self._engine) as connection:
            actor = await acted_by(connection, caller.authority, wanted.actor)
            if wanted.asks_for_changes:
                found += await read_changes(connection, caller.authority, wanted, actor, beyond, limit + 1)
        query = entry_query(caller.authority, wanted, actor, beyond, min(limit + 1, FIND_LIMIT))
        more = False
        if query is not None and self._audit_store is not None:
            stored = await self._audit_store.find(query)
            found += [request_event(each.spool, each.entry) for each in stored]
            more = len(stored) == FIND_LIMIT  # perhaps; the page after it is empty then
        found.sort(key=lambda event: (event.at, event.id), reverse=True)
        return EventPage(items=tuple(found[:limit]), next_cursor=_next(found, limit, more=more))

    async def counts(
        self,
        caller: Caller,
        *,
        key: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> HourCounts:
        """Return how many requests there were in each hour that begins in [since, until); by default of the last day.

        Raises NotAllowed, and Invalid for a range that is too long or ends before it begins.
        """
        require_reading(caller.authority, ADMIN)
        until = self._clock() if until is None else until
        since = max(until - timedelta(hours=DEFAULT_COUNT_HOURS), _EARLIEST) if since is None else since
        if not timedelta() <= until - since <= timedelta(days=MAX_COUNT_DAYS):
            rule = f"must be after from, by at most {MAX_COUNT_DAYS} days"
            raise Invalid([FieldError("to", rule)])
        async with read_transaction(self._engine) as connection:
            return HourCounts(items=await read_counts(connection, caller.authority, key, since, until))

    async def verify(self, caller: Caller) -> VerificationResult:
        """Tell whether all that workers wrote is stored. Raises NotAllowed; Conflict where nothing is recorded."""
        require(caller.authority, ADMIN)
        require_operator(caller.authority, "verify what is on record")
        if self._verification is None:
            raise Conflict("This gateway does not record requests (audit.record).", code="requests_not_recorded")
        return await self._verification.verify()


def _examined(wanted: AuditFilter, cursor: str | None, limit: int) -> Place | None:
    """Return where the page begins, None for the beginning. Raises Invalid with all that is wrong."""
    faults, beyond = [*paging.limit_fault(limit), *faults_of(wanted)], None
    if cursor is not None:
        try:
            text, last_id = paging.decode(cursor, _ORDER)
            beyond = Place(datetime.fromisoformat(text).astimezone(UTC), last_id)
        except (ValueError, OverflowError):
            faults.append(FieldError("cursor", paging.CURSOR_RULE))
    if faults:
        raise Invalid(faults)
    return beyond


def _next(found: list[Event], limit: int, *, more: bool) -> str | None:
    """Return the cursor of the page that ends with the last one shown; None where there is no other."""
    if not found or (len(found) <= limit and not more):
        return None
    last = found[min(limit, len(found)) - 1]
    return paging.encode(_ORDER, last.at.isoformat(), last.id)
