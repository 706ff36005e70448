"""What is asked of the record of requests, in the one form that all audit stores answer.

Invariant: all that is given has to fit; what comes back is newest first by (`at`, id), where an id is `entry_id` of
spool and position, compared as text. So pages can be merged with any other list in that order, and one cursor serves
both. Moments are microseconds since 1970, UTC; days are UTC's, written as in `2026-11-21`, and sort as they follow.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from gateway.keys.request_entry import Outcome

DAY_MICROSECONDS: Final = 86_400_000_000
SLOT_MICROSECONDS: Final = 1_200_000_000
SLOTS: Final = DAY_MICROSECONDS // SLOT_MICROSECONDS
"""Of a day, twenty minutes each. Indexes begin with their number: what comes in one changes a small part of each."""
FIND_LIMIT: Final = 1000
"""More than these are not found at once; whoever wants more goes on from the last one by `before`."""

_EPOCH: Final = date(1970, 1, 1)
_FOR_EVER: Final = (date.max - _EPOCH).days * DAY_MICROSECONDS


@dataclass(frozen=True, slots=True)
class EntryQuery:
    """Which entries to find."""

    organization_id: str | None = None
    """Of this organization; None: of any, and of none."""
    anonymous: bool = False
    """Those without an organization too: requests without a key, or with one that nobody knows."""
    owner_id: str | None = None
    key_id: str | None = None
    statuses: tuple[int, int] | None = None
    """The first and the last status that fit."""
    outcome: Outcome | None = None
    code: str | None = None
    """Of the refusal."""
    request_id: str | None = None
    """No index has it, since every request would pay for one: all that fits otherwise is looked through."""
    since: int | None = None
    """Included."""
    until: int | None = None
    """Not included."""
    before: tuple[int, str] | None = None
    """Moment and id of what the entries have to follow in the order; the id need not be an entry's."""
    limit: int = 100
    """How many at the most, 1 to `FIND_LIMIT`."""

    def organizations(self) -> tuple[str | None, ...]:
        """Return the organizations that fit, the empty text for none; (None,) where all do.

        A store looks for each by itself, along its index, and merges: a list of several would have to be sorted whole.
        """
        if self.organization_id and self.anonymous:
            return self.organization_id, ""
        return (self.organization_id,)

    def last_moment(self) -> int:
        """Return the last moment that an entry which fits can be of."""
        ends = [_FOR_EVER]
        if self.until is not None:
            ends.append(self.until - 1)
        if self.before is not None:
            ends.append(self.before[0])
        return min(ends)

    def days(self) -> tuple[str, str]:
        """Return the first and the last day that an entry which fits can be of."""
        return day_of(self.since or 0), day_of(self.last_moment())

    def slots(self, day: str) -> tuple[int, int]:
        """Return the first and the last slot of a day that an entry which fits can be of."""
        begins = first_moment(day)
        first, last = (self.since or 0) - begins, self.last_moment() - begins
        return max(0, first // SLOT_MICROSECONDS), min(SLOTS - 1, last // SLOT_MICROSECONDS)


def day_of(at: int) -> str:
    """Return the day of a moment."""
    return (_EPOCH + timedelta(days=at // DAY_MICROSECONDS)).isoformat()


def slot_of(at: int) -> int:
    """Return the slot of a moment in its day."""
    return at % DAY_MICROSECONDS // SLOT_MICROSECONDS


def first_moment(day: str) -> int:
    """Return when a day begins."""
    return (date.fromisoformat(day) - _EPOCH).days * DAY_MICROSECONDS


def first_kept_day(days: int, now: int) -> str:
    """Return the oldest day that stays, where those go that have been over for `days` days."""
    return day_of(max(0, now - days * DAY_MICROSECONDS))
