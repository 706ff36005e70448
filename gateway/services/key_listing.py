"""Lists of keys: filters, orders and cursors, each served by an index however many keys there are.

Invariant: a page is read along one index from where the last page ended; nothing is counted, skipped or sorted whole.
Therefore the order goes with the filter:

    (none), active, disabled, revoked     newest first                      by id
    expired                               the latest to expire first        by expires_at
    expires_soon                          the next to expire first          by expires_at
    search                                the key with that tail, then alphabetical from the folded name on

The cursor is the position of the last item, opaque to callers. OFFSET was turned down: it reads all it skips, and jumps
or repeats when keys are added meanwhile. Search is by the beginning of the name: a search in the middle of names would
need another kind of index on each database.
"""

import base64
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import Column, ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import FieldError, Invalid
from gateway.keys.naming import folded
from gateway.keys.record import EXPIRES_SOON_SECONDS
from gateway.services.key_rows import key_from_row, select_keys
from gateway.services.shapes import Key, KeyPage
from gateway.store.schema import key_secrets, keys

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 1000
MAX_TAIL_MATCHES: Final = 100  # of 62**6 tails: only keys imported with made-up tails come near
_AFTER_ALL: Final = "\U0010ffff"  # sorts behind every other character, in bytes as well

StatusFilter = Literal["active", "revoked", "expired", "disabled", "expires_soon"]


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """What to list. All that is given has to fit; `owner` as in CreateKey, `search`: a tail or a name's beginning."""

    status: StatusFilter | None = None
    owner: str | None = None
    search: str | None = None


EVERYTHING: Final = KeyFilter()


def for_owner(wanted: KeyFilter, owner_id: str) -> KeyFilter:
    """Return the filter with the owner's id in place of what they were called."""
    return replace(wanted, owner=owner_id)


@dataclass(frozen=True, slots=True)
class _Order:
    """A way through the keys: by a column and the id, or by the id alone, one direction for both."""

    token: str
    column: Column[Any] | None  # Any: a text or a moment
    descending: bool

    def columns(self) -> list[ColumnElement[Any]]:
        chosen = [keys.c.id] if self.column is None else [self.column, keys.c.id]
        return [column.desc() if self.descending else column.asc() for column in chosen]

    def beyond(self, value: object, key_id: str) -> ColumnElement[bool]:
        """Tell where the next page begins. The first comparison is redundant, and what the index is entered by."""
        further = keys.c.id < key_id if self.descending else keys.c.id > key_id
        if self.column is None:
            return further
        if self.descending:
            return and_(self.column <= value, or_(self.column < value, further))
        return and_(self.column >= value, or_(self.column > value, further))


_NEWEST: Final = _Order("id", None, descending=True)
_LATEST_EXPIRY: Final = _Order("expired", keys.c.expires_at, descending=True)
_NEXT_EXPIRY: Final = _Order("expires", keys.c.expires_at, descending=False)
_NAME: Final = _Order("name", keys.c.name_search, descending=False)


@dataclass(frozen=True, slots=True)
class _Position:
    """Where a page ended: the last item's column (None where the order is by id alone) and id."""

    value: datetime | str | None
    key_id: str


async def page(
    connection: AsyncConnection,
    organization_id: str,
    wanted: KeyFilter,
    cursor: str | None,
    limit: int,
    *,
    now: datetime,
) -> KeyPage:
    """Return one page; `wanted.owner` must be an id here. Raises Invalid for a bad cursor, limit or status."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid([FieldError("limit", f"must be 1 to {MAX_LIMIT}")])
    conditions = [keys.c.organization_id == organization_id, *_status_conditions(wanted.status, now)]
    if wanted.owner is not None:
        conditions.append(keys.c.owner_id == wanted.owner)
    order = _order(wanted)
    position = None if cursor is None else _decode(cursor, order)
    chosen: list[str] = []
    start = _Position(None, "")
    if wanted.search is not None:
        beginning = folded(wanted.search)
        by_tail = await _ids_by_tail(connection, wanted.search, conditions)
        conditions.append(and_(keys.c.name_search >= beginning, keys.c.name_search < beginning + _AFTER_ALL))
        if by_tail:
            conditions.append(keys.c.id.not_in(by_tail))
        chosen = by_tail[:limit] if position is None else []
        start = _Position(beginning, "")
    if position is not None:
        conditions.append(order.beyond(position.value, position.key_id))
    room = limit - len(chosen)
    positions = await _positions(connection, order, conditions, room + 1)
    chosen += [each.key_id for each in positions[:room]]
    last = positions[room - 1] if room and len(positions) > room else start
    next_cursor = _encode(order, last) if len(positions) > room else None
    return KeyPage(items=await _shown(connection, chosen, now), next_cursor=next_cursor)


def _order(wanted: KeyFilter) -> _Order:
    if wanted.search is not None:
        return _NAME
    return {"expired": _LATEST_EXPIRY, "expires_soon": _NEXT_EXPIRY}.get(wanted.status or "", _NEWEST)


def _status_conditions(status: str | None, now: datetime) -> list[ColumnElement[bool]]:
    """Say in SQL what `gateway.keys.record.status` says; a test holds the two together."""
    live = keys.c.revoked_at.is_(None)
    not_expired = or_(keys.c.expires_at.is_(None), keys.c.expires_at > now)
    soon = now + timedelta(seconds=EXPIRES_SOON_SECONDS)
    enabled = keys.c.disabled_at.is_(None)
    conditions: dict[str | None, list[ColumnElement[bool]]] = {
        None: [],
        "active": [live, enabled, not_expired],
        "revoked": [keys.c.revoked_at.is_not(None)],
        "expired": [live, keys.c.expires_at.is_not(None), keys.c.expires_at <= now],
        "disabled": [live, keys.c.disabled_at.is_not(None), not_expired],
        "expires_soon": [
            live,
            enabled,
            keys.c.expires_at.is_not(None),
            keys.c.expires_at > now,
            keys.c.expires_at <= soon,
        ],
    }
    if status not in conditions:
        known = ", ".join(each for each in conditions if each is not None)
        raise Invalid([FieldError("status", f"must be one of {known}")])
    return conditions[status]


async def _positions(
    connection: AsyncConnection, order: _Order, conditions: list[ColumnElement[bool]], limit: int
) -> list[_Position]:
    """Read the page's ids by themselves: joins come later, for the page alone, and cannot lure a planner off."""
    column = keys.c.id if order.column is None else order.column
    query = select(keys.c.id, column.label("position")).where(*conditions).order_by(*order.columns()).limit(limit)
    rows = (await connection.execute(query)).all()
    return [_Position(None if order.column is None else row.position, row.id) for row in rows]


async def _ids_by_tail(connection: AsyncConnection, search: str, conditions: list[ColumnElement[bool]]) -> list[str]:
    """Find keys by the last six characters, as people copy them from a list: "aB3dE9", "…aB3dE9" or "sk_…aB3dE9"."""
    tail = search.strip().rpartition("…")[2]
    # Two statements: given both conditions at once, a planner may walk all keys for the one with the tail.
    having = select(key_secrets.c.key_id).distinct().where(key_secrets.c.tail == tail).limit(MAX_TAIL_MATCHES)
    candidates = list((await connection.execute(having)).scalars())
    if not candidates:
        return []
    found = await connection.execute(select(keys.c.id).where(keys.c.id.in_(candidates), *conditions))
    return sorted(found.scalars(), reverse=True)


async def _shown(connection: AsyncConnection, ids: list[str], now: datetime) -> tuple[Key, ...]:
    """Read what the page shows, in the page's order."""
    rows = (await connection.execute(select_keys().where(keys.c.id.in_(ids)))).all() if ids else []
    by_id = {row.id: row for row in rows}
    return tuple(key_from_row(by_id[key_id], now) for key_id in ids)


def _encode(order: _Order, position: _Position) -> str:
    value = position.value.isoformat() if isinstance(position.value, datetime) else position.value
    text = json.dumps([order.token, value, position.key_id], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str, order: _Order) -> _Position:
    """Read back what `_encode` wrote for the same order; anything else is the caller's fault."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        match json.loads(base64.b64decode(padded, altchars=b"-_", validate=True)):
            case [order.token, None, str(key_id)] if order.column is None:
                return _Position(None, key_id)
            case [order.token, str(moment), str(key_id)] if order.column is keys.c.expires_at:
                return _Position(datetime.fromisoformat(moment).astimezone(UTC), key_id)
            case [order.token, str(name), str(key_id)] if order.column is keys.c.name_search:
                return _Position(name, key_id)
    except ValueError:  # not ASCII, not base64, not JSON, not a date-time
        pass
    rule = "is not a cursor of this list; take next_cursor of the page before, with the same filters"
    raise Invalid([FieldError("cursor", rule)])
