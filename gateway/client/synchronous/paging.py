"""Walking through the pages of a list.

Made from the file of this name in `asynchronous` by `python -m gateway.client.generate`.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

from gateway.client.shapes import Page, Shape

Item = TypeVar("Item", bound=Shape)


def each_item(page: Callable[[str | None], Page[Item]]) -> Iterator[Item]:
    """Every item; a page is asked for when the one before is used up."""
    cursor: str | None = None
    while True:
        current = page(cursor)
        yield from current.items
        cursor = current.next_cursor
        if cursor is None:
            return
