"""Lists of keys: which filter and order is served by which index, however many keys there are.

Invariant: a page is read along one index from where the last page ended; what is counted or sorted is never more than
`FEW` keys. Without `sort` the order goes with the filter:

    (none), owner, active, disabled, revoked    newest first                         by id
    expired                                     the latest to expire first           by ends_at
    expires_soon                                the next to expire first             by ends_at
    unused_days                                 the longest unused first             by idle_since
    search                                      the key with that tail, then alphabetical from the folded name on

With several filters, or another order than the filter's own, one of two ways is taken. A filter that leaves few keys is
read whole by its own index, and these few are sorted. Where none does, the order's index is walked and each key tested:
as each filter leaves many, a page's worth is soon found. What still walks far is filters that leave many keys each and
hardly any together, or all at the order's end.

The cursor is the position of the last item, opaque to callers. OFFSET was turned down: it reads all it skips, and jumps
or repeats when keys are added meanwhile. Search is by the beginning of the name: a search in the middle of names would
need another kind of index on each database.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, FromClause, Select, Subquery, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.services import key_orders
from gateway.services.key_filters import Conditions, Entry, KeyFilter, Place, bounds, entries, order_of
from gateway.services.key_orders import BY_TAIL, Order, Position, Segment
from gateway.services.key_rows import key_from_row, select_keys
from gateway.services.shapes import Key, KeyPage
from gateway.store.schema import key_secrets, key_uses, keys

FEW: Final = 5_000
MAX_TAIL_MATCHES: Final = 100  # of 62**6 tails: only keys imported with made-up tails come near


async def page(
    connection: AsyncConnection, place: Place, wanted: KeyFilter, start: Position | None, limit: int
) -> KeyPage:
    """Return one page, from `start` on. The call must have been examined (`key_filters.examine`)."""
    order = order_of(wanted)
    by_tail = await _by_tail(connection, place, wanted)
    way = await _way(connection, place, entries(place, wanted), order)
    found: list[Position] = []
    for segment in _from(order, start):
        room = limit + 1 - len(found)
        if room == 0:
            break
        beyond = start if start is not None and start.word == segment.word else None
        if segment is BY_TAIL:
            found += [each for each in by_tail if beyond is None or each.key_id < beyond.key_id][:room]
            continue
        within = bounds(wanted, segment, place.now)
        conditions = [*within.far, *([segment.beyond(beyond)] if beyond is not None else (*way.near, *within.near))]
        if by_tail:
            conditions.append(segment.key_id.not_in([each.key_id for each in by_tail]))
        found += await _positions(connection, way, segment, conditions, room)
    shown = await _shown(connection, [each.key_id for each in found[:limit]], place.now)
    return KeyPage(items=shown, next_cursor=key_orders.encode(found[limit - 1]) if len(found) > limit else None)


def _from(order: Order, start: Position | None) -> Order:
    """Return the segments that are still to be read."""
    if start is None:
        return order
    words = [segment.word for segment in order]
    return order[words.index(start.word) :]


@dataclass(frozen=True, slots=True)
class _Way:
    """How a page is found: by walking an index (`few` is None), or among a few keys that another index gave."""

    few: Subquery | None
    conditions: Conditions
    near: Conditions  # where the walk begins, unless a cursor says so
    with_keys: bool
    with_uses: bool

    def source(self) -> FromClause:
        """Return the tables, joined."""
        if self.few is not None:
            joined: FromClause = self.few.join(keys, keys.c.id == self.few.c.id)
            return joined.join(key_uses, key_uses.c.key_id == self.few.c.id) if self.with_uses else joined
        if self.with_keys and self.with_uses:
            return keys.join(key_uses, key_uses.c.key_id == keys.c.id)
        return key_uses if self.with_uses else keys


async def _way(connection: AsyncConnection, place: Place, filters: Sequence[Entry], order: Order) -> _Way:
    """Decide between the two ways, by counting at most `FEW` keys of each filter."""
    main = order[-1]
    lead = next((each for each in filters if each.order[-1] is main), None)
    with_uses = main.of_uses or any(each.of_uses for each in filters)
    if any(each is not lead for each in filters):
        for each in filters:
            if await _leaves_few(connection, each):
                if each is lead:
                    break
                tests = tuple(test for every in filters for test in every.tests)
                return _Way(_ids(each, FEW).subquery("few"), tests, (), with_keys=True, with_uses=with_uses)
    here = (key_uses if main.of_uses else keys).c.organization_id == place.organization_id
    enters, near = ((here,), ()) if lead is None else ((*lead.base, *lead.range.far), lead.range.near)
    tests = tuple(test for every in filters for test in every.tests)
    with_keys = not main.of_uses or any(not each.of_uses for each in filters)
    return _Way(None, (*enters, *tests), near, with_keys=with_keys, with_uses=with_uses)


async def _leaves_few(connection: AsyncConnection, entry: Entry) -> bool:
    counted = select(func.count()).select_from(_ids(entry, FEW + 1).subquery())
    return int((await connection.execute(counted)).scalar_one()) <= FEW


def _ids(entry: Entry, limit: int) -> Select[tuple[str]]:
    """Select ids by the filter's own index. The limit also keeps a planner from taking the query apart."""
    key_id = key_uses.c.key_id if entry.of_uses else keys.c.id
    return select(key_id.label("id")).where(*entry.enters).limit(limit)


async def _positions(
    connection: AsyncConnection, way: _Way, segment: Segment, conditions: list[ColumnElement[bool]], limit: int
) -> list[Position]:
    """Read ids by themselves: what else is shown comes later, for the page alone, and cannot lure a planner off."""
    value = literal_column("NULL") if segment.column is None else segment.column
    within = [] if segment.condition is None else [segment.condition]
    query = (
        select(segment.key_id.label("id"), value.label("position"))
        .select_from(way.source())
        .where(*way.conditions, *within, *conditions)
        .order_by(*segment.columns())
        .limit(limit)
    )
    return [Position(segment.word, row.position, row.id) for row in (await connection.execute(query)).all()]


async def _by_tail(connection: AsyncConnection, place: Place, wanted: KeyFilter) -> list[Position]:
    """Find keys by the last characters, as people copy them from a list: "aB3dE9", "…aB3dE9" or "sk_…aB3dE9"."""
    if wanted.search is None:
        return []
    tail = wanted.search.strip().rpartition("…")[2]
    # Two statements: given all conditions at once, a planner may walk all keys for the one with the tail. What is in
    # reach is asked for here too, in a way that no index answers: others may have made up the same tail many times.
    having = (
        select(key_secrets.c.key_id)
        .distinct()
        .join(keys, keys.c.id == key_secrets.c.key_id)
        .where(key_secrets.c.tail == tail, keys.c.organization_id.concat("") == place.organization_id)
        .limit(MAX_TAIL_MATCHES)
    )
    if place.owner_id is not None:
        having = having.where(keys.c.owner_id.concat("") == place.owner_id)
    candidates = list((await connection.execute(having)).scalars())
    if not candidates:
        return []
    tests = [test for each in entries(place, replace(wanted, search=None)) for test in each.tests]
    here = keys.c.id.in_(candidates), keys.c.organization_id == place.organization_id
    joined = keys.join(key_uses, key_uses.c.key_id == keys.c.id)
    query = select(keys.c.id).select_from(joined).where(*here, *tests).order_by(keys.c.id.desc())
    return [Position(BY_TAIL.word, None, key_id) for key_id in (await connection.execute(query)).scalars()]


async def _shown(connection: AsyncConnection, ids: list[str], now: datetime) -> tuple[Key, ...]:
    """Read what the page shows, in the page's order."""
    rows = (await connection.execute(select_keys().where(keys.c.id.in_(ids)))).all() if ids else []
    by_id = {row.id: row for row in rows}
    return tuple(key_from_row(by_id[key_id], now) for key_id in ids)
