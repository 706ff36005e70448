"""Walking through the pages of a list."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from gateway.client.shapes import Page, Shape

Item = TypeVar("Item", bound=Shape)


async def each_item(page: Callable[[str | None], Awaitable[Page[Item]]]) -> AsyncIterator[Item]:
    """Every item; a page is asked for when the one before is used up."""
    cursor: str | None = None
    while True:
        current = await page(cursor)
        for item in current.items:
            yield item
        cursor = current.next_cursor
        if cursor is None:
            return
