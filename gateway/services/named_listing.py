"""Lists of what has a name: organizations, members, service accounts. Newest first, or by name where that is searched.

Invariant: a page is read along one index from the cursor on, in either order; nothing is skipped or sorted whole.
Search is by the beginning of the folded name, as for keys: see `gateway.keys.naming`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, Table, or_
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import FieldError, Invalid
from gateway.keys.naming import folded
from gateway.services import paging

_AFTER_ALL: Final = "\U0010ffff"  # sorts behind every other character, in bytes as well

Rows = Sequence[Row[Any]]  # Any: SQLAlchemy cannot type a row of columns given as a list


@dataclass(frozen=True, slots=True)
class Page:
    """Which page is asked for. `search`: the beginning of a name, None for everything."""

    search: str | None = None
    cursor: str | None = None
    limit: int = paging.DEFAULT_LIMIT


async def named_page(
    connection: AsyncConnection, query: Select[Any], table: Table, word: str, wanted: Page
) -> tuple[Rows, str | None]:
    """Return the page's rows of the query, and the cursor of the next page, None on the last one.

    `table` has the columns `id` and `name_search`; `word` is what its cursors are told by. Raises Invalid.
    """
    order_word = word if wanted.search is None else f"{word} by name"
    order = [table.c.id.desc()] if wanted.search is None else [table.c.name_search, table.c.id]
    conditions = [*_beginning(table, wanted.search), *_beyond(table, order_word, wanted)]
    limited = query.where(*conditions).order_by(*order).limit(wanted.limit + 1)
    rows = (await connection.execute(limited)).all()
    if len(rows) <= wanted.limit:
        return rows, None
    last = rows[wanted.limit - 1]
    return rows[: wanted.limit], paging.encode(order_word, "" if wanted.search is None else last.name_search, last.id)


def _beginning(table: Table, search: str | None) -> list[ColumnElement[bool]]:
    if search is None:
        return []
    beginning = folded(search)
    return [table.c.name_search >= beginning, table.c.name_search < beginning + _AFTER_ALL]


def _beyond(table: Table, order_word: str, wanted: Page) -> list[ColumnElement[bool]]:
    """Return where the page begins. By name, the first comparison is redundant, and what the index is entered by."""
    faults = paging.limit_fault(wanted.limit)
    name, last_id = "", ""
    try:
        if wanted.cursor is not None:
            name, last_id = paging.decode(wanted.cursor, order_word)
    except ValueError as error:
        faults.append(FieldError("cursor", str(error)))
    if faults:
        raise Invalid(faults)
    if wanted.cursor is None:
        return []
    if wanted.search is None:
        return [table.c.id < last_id]
    return [table.c.name_search >= name, or_(table.c.name_search > name, table.c.id > last_id)]
