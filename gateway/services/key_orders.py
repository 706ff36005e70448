"""The orders in which keys are listed, and the cursor that says where in one a page ended.

Invariant: an order is one or more segments, one after the other, each a range of one index that is read in the index's
own direction; it ends with the id, so it is total. What has nothing to be sorted by (keys that never expire or are
revoked already, that were never used) is a segment of its own behind the others: databases disagree where NULL sorts.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, and_, or_

from gateway.services import paging
from gateway.store.schema import key_uses, keys


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Keys that fit the condition, by a column and the id, or by the id alone; one direction for both.

    `word` names the segment in cursors, and with it the order.
    """

    word: str
    column: Column[Any] | None  # Any: a text or a moment
    descending: bool
    condition: ColumnElement[bool] | None = None
    of_uses: bool = False  # sorted by columns of `key_uses`, id included

    @property
    def key_id(self) -> Column[str]:
        """Return the id that ends the order: that of the table whose index is walked."""
        return key_uses.c.key_id if self.of_uses else keys.c.id

    def columns(self) -> list[ColumnElement[Any]]:
        """Return what to sort by."""
        chosen = [self.key_id] if self.column is None else [self.column, self.key_id]
        return [column.desc() if self.descending else column.asc() for column in chosen]

    def beyond(self, position: "Position") -> ColumnElement[bool]:
        """Tell where the next page begins. The first comparison is redundant, and what the index is entered by."""
        further = self.key_id < position.key_id if self.descending else self.key_id > position.key_id
        if self.column is None or position.value is None:
            return further
        if self.descending:
            return and_(self.column <= position.value, or_(self.column < position.value, further))
        return and_(self.column >= position.value, or_(self.column > position.value, further))


@dataclass(frozen=True, slots=True)
class Position:
    """Where in which segment a key stands. `value` is None where the segment is by id alone."""

    word: str
    value: datetime | str | None
    key_id: str


Order = tuple[Segment, ...]

BY_TAIL: Final = Segment("tail", None, descending=True)
NEWEST: Final[Order] = (Segment("id", None, descending=True),)
LATEST_EXPIRY: Final[Order] = (Segment("expired", keys.c.ends_at, descending=True),)
NEXT_EXPIRY: Final[Order] = (Segment("soon", keys.c.ends_at, descending=False),)
LONGEST_UNUSED: Final[Order] = (Segment("idle", key_uses.c.idle_since, descending=False, of_uses=True),)
NAME: Final[Order] = (Segment("name", keys.c.name_search, descending=False),)
EXPIRY: Final[Order] = (
    Segment("expires", keys.c.ends_at, descending=False),  # of keys that have an end: see `key_filters.bounds`
    Segment("never", None, descending=True, condition=keys.c.ends_at.is_(None)),
)
LAST_USE: Final[Order] = (
    Segment("used", key_uses.c.idle_since, descending=True, condition=key_uses.c.used.is_(True), of_uses=True),
    Segment("unused", key_uses.c.idle_since, descending=True, condition=key_uses.c.used.is_(False), of_uses=True),
)


def encode(position: Position) -> str:
    """Return the cursor of a page that ended there."""
    value = position.value.isoformat() if isinstance(position.value, datetime) else position.value or ""
    return paging.encode(position.word, value, position.key_id)


def decode(cursor: str, order: Order) -> Position:
    """Read back what `encode` wrote for a segment of this order. ValueError carries a public sentence."""
    for segment in order:
        try:
            value, key_id = paging.decode(cursor, segment.word)
        except ValueError:
            continue
        return Position(segment.word, _value(segment, value), key_id)
    raise ValueError(paging.CURSOR_RULE)


def _value(segment: Segment, text: str) -> datetime | str | None:
    if segment.column is None:
        return None
    if segment.column is keys.c.name_search:
        return text
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(paging.CURSOR_RULE) from error
