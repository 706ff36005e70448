"""What keys can be listed by, and how each filter is served by an index of its own.

Invariant: a filter has two forms that say the same: `enters` is what its index is entered by, `tests` is what a key
found on another way is held against. What each status means in SQL is what `gateway.keys.record.status` says; a test
holds the two together.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, get_args

from sqlalchemy import Column, ColumnElement, false, or_

from gateway.errors import FieldError, Invalid
from gateway.keys.naming import MAX_EMAIL_CHARACTERS, MAX_NAME_CHARACTERS, folded, is_printable
from gateway.keys.record import EXPIRES_SOON_SECONDS
from gateway.services import key_orders, paging
from gateway.services.key_orders import Order, Position, Segment
from gateway.store.schema import key_uses, keys

StatusFilter = Literal["active", "revoked", "expired", "disabled", "expires_soon"]
Sort = Literal["created", "name", "expires", "last_used"]

MAX_UNUSED_DAYS: Final = 3650
_SOON: Final = timedelta(seconds=EXPIRES_SOON_SECONDS)
_AFTER_ALL: Final = "\U0010ffff"  # sorts behind every other character, in bytes as well
_ORDERS: Final[dict[Sort, Order]] = {
    "created": key_orders.NEWEST,
    "name": key_orders.NAME,
    "expires": key_orders.EXPIRY,
    "last_used": key_orders.LAST_USE,
}
_STATUS_ORDERS: Final[dict[StatusFilter | None, Order]] = {
    "expired": key_orders.LATEST_EXPIRY,
    "expires_soon": key_orders.NEXT_EXPIRY,
}


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """What to list, and in which order. All that is given has to fit.

    `owner`: an id, an e-mail address or a service account's name. `search`: a tail or a name's beginning.
    `unused_days`: for so long not used, or if never used, there. `sort`: None for the order that goes with the filter.
    """

    status: StatusFilter | None = None
    owner: str | None = None
    search: str | None = None
    unused_days: int | None = None
    sort: Sort | None = None


EVERYTHING: Final = KeyFilter()


@dataclass(frozen=True, slots=True)
class Place:
    """Whose keys are listed, and at which moment. `owner_id` is None for all of the organization."""

    organization_id: str
    owner_id: str | None
    now: datetime


Conditions = tuple[ColumnElement[bool], ...]


@dataclass(frozen=True, slots=True)
class Range:
    """A stretch of an index, in the direction it is walked in.

    `near` is where the walk begins, and gives way to a cursor's position: of two such conditions SQLite enters the
    index by either one, and might walk past all earlier pages each time. `far` is where it ends.
    """

    near: Conditions = ()
    far: Conditions = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One filter. `order` is the one that its index is in; `of_uses`: the index is one of `key_uses`.

    `base` and `range` are what the index is entered by: no key that fits is outside, and to count what is inside costs
    nothing but the index itself. `tests` say the whole of the filter.
    """

    base: Conditions
    range: Range
    tests: Conditions
    order: Order
    of_uses: bool = False

    @property
    def enters(self) -> Conditions:
        """Return all that the index is entered by."""
        return (*self.base, *self.range.near, *self.range.far)


def examine(wanted: KeyFilter, cursor: str | None, limit: int) -> Position | None:
    """Return where the page begins, None for the beginning. Raises Invalid with all that is wrong with the call."""
    faults = paging.limit_fault(limit)
    faults += _choice_faults("status", wanted.status, get_args(StatusFilter))
    faults += _choice_faults("sort", wanted.sort, get_args(Sort))
    if wanted.unused_days is not None and not 1 <= wanted.unused_days <= MAX_UNUSED_DAYS:
        faults.append(FieldError("unused_days", f"must be 1 to {MAX_UNUSED_DAYS}"))
    for field, text, longest in (
        ("search", wanted.search, MAX_NAME_CHARACTERS),
        ("owner", wanted.owner, MAX_EMAIL_CHARACTERS),
    ):
        if text is not None and not (text.strip() and len(text) <= longest and is_printable(text)):
            faults.append(FieldError(field, f"must be 1 to {longest} printable characters"))
    position = None
    try:
        if cursor is not None:
            position = key_orders.decode(cursor, order_of(wanted))
    except ValueError as error:
        faults.append(FieldError("cursor", str(error)))
    if faults:
        raise Invalid(faults)
    return position


def order_of(wanted: KeyFilter) -> Order:
    """Return the order asked for, or the one that goes with the filter. A search has matches by tail before all."""
    if wanted.sort is not None:
        order = _ORDERS.get(wanted.sort, key_orders.NEWEST)
    elif wanted.search is not None:
        order = key_orders.NAME
    elif wanted.unused_days is not None:
        order = key_orders.LONGEST_UNUSED
    else:
        order = _STATUS_ORDERS.get(wanted.status, key_orders.NEWEST)
    return order if wanted.search is None else (key_orders.BY_TAIL, *order)


def entries(place: Place, wanted: KeyFilter) -> list[Entry]:
    """Return the filters that are given; what is likely to leave the fewest keys comes first."""
    found: list[Entry] = []
    here = keys.c.organization_id == place.organization_id
    if place.owner_id is not None:
        # Who is of the organization, as every owner of its keys: naming it would let in indexes that are longer walks.
        owned = keys.c.owner_id == place.owner_id
        tests: Conditions = (_unindexed(keys.c.owner_id) == place.owner_id,)
        found.append(Entry((owned,), Range(), tests, key_orders.NEWEST))
    if wanted.search is not None:
        beginning = folded(wanted.search)
        end = beginning + _AFTER_ALL
        within = Range((keys.c.name_search >= beginning,), (keys.c.name_search < end,))
        name = _unindexed(keys.c.name_search)
        found.append(Entry((here,), within, (name >= beginning, name < end), key_orders.NAME))
    if wanted.status is not None:
        found.append(_status_entry(wanted.status, here, place.now))
    if wanted.unused_days is not None:
        idle = key_uses.c.idle_since <= place.now - timedelta(days=wanted.unused_days)
        used_here = key_uses.c.organization_id == place.organization_id
        found.append(Entry((used_here,), Range(far=(idle,)), (idle,), key_orders.LONGEST_UNUSED, of_uses=True))
    return found


def bounds(wanted: KeyFilter, segment: Segment, now: datetime) -> Range:
    """Say of the column that a segment is sorted by what the status says of it, so that no walk passes the others."""
    ending, endless = key_orders.EXPIRY
    never_in = {"revoked": ending, "expired": endless, "expires_soon": endless}
    if wanted.status is not None and never_in.get(wanted.status) is segment:
        return Range(far=(false(),))
    if segment is not ending:
        return Range()
    if wanted.status in {"active", "disabled", "expires_soon"}:
        return Range(near=(keys.c.ends_at > now,))
    return Range(
        near=(keys.c.ends_at.is_not(None),), far=(keys.c.ends_at <= now,) if wanted.status == "expired" else ()
    )


def _choice_faults(field: str, value: str | None, known: tuple[str, ...]) -> list[FieldError]:
    if value is None or value in known:
        return []
    return [FieldError(field, f"must be one of {', '.join(known)}")]


def _unindexed(column: Column[str]) -> ColumnElement[str]:
    """Return the column as no index has it, so that a test never makes a planner leave the order's own index."""
    return column.concat("")


def _status_entry(status: StatusFilter, here: ColumnElement[bool], now: datetime) -> Entry:
    ends = keys.c.ends_at
    if status == "expired":
        return Entry((here,), Range(near=(ends <= now,)), _status_tests(status, now), key_orders.LATEST_EXPIRY)
    if status == "expires_soon":
        within = Range(near=(ends > now,), far=(ends <= now + _SOON,))
        return Entry((here,), within, _status_tests(status, now), key_orders.NEXT_EXPIRY)
    standing = keys.c.standing == ("enabled" if status == "active" else status)
    return Entry((here, standing), Range(), _status_tests(status, now), key_orders.NEWEST)


def _status_tests(status: StatusFilter, now: datetime) -> Conditions:
    live, enabled = keys.c.revoked_at.is_(None), keys.c.disabled_at.is_(None)
    not_expired = or_(keys.c.expires_at.is_(None), keys.c.expires_at > now)
    tests: dict[StatusFilter, Conditions] = {
        "active": (live, enabled, not_expired),
        "revoked": (keys.c.revoked_at.is_not(None),),
        "expired": (live, keys.c.expires_at <= now),
        "disabled": (live, keys.c.disabled_at.is_not(None), not_expired),
        "expires_soon": (live, enabled, keys.c.expires_at > now, keys.c.expires_at <= now + _SOON),
    }
    return tests[status]
