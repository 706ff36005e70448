"""What a process of the load hears from its parent and tells it: JSON objects, a line each, on its standard streams.

Invariant: the end of the parent is the end of `heard`, so no process outlives the test that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any, Final

import uvloop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

_LINE_LIMIT: Final = 1 << 26
"""The first line has every key in it."""


async def heard() -> AsyncIterator[dict[str, Any]]:
    """What the parent says, until it is gone."""
    lines = asyncio.StreamReader(limit=_LINE_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        yield json.loads(line)


def tell(message: dict[str, Any]) -> None:
    """Tell the parent; it waits for one line after each that it has said."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def follow(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the process; an interrupt from the keyboard is the parent's to tell of."""
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main())
