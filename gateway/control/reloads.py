"""The control process's side of a reload: it asks the supervisor, and waits for how it went.

Invariant: every question is answered once, under its own number, or not at all where this process ends first. What a
reload does, and in which order, is the supervisor's business (`gateway.supervisor.reloading`).
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.lifecycle import Message


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reload went: `code` and `problems` where it did not, `changed` (names of settings) where it did.

    `warnings` are sentences about what was taken up and will not do for long, such as a certificate about to expire.
    """

    ok: bool
    code: str
    problems: tuple[str, ...]
    changed: tuple[str, ...]
    warnings: tuple[str, ...] = ()


class Reloads:
    """`ask` sends a number to the supervisor, which `reloaded` hears of again."""

    __slots__ = ("_ask", "_numbers", "_waiting")

    def __init__(self, ask: Callable[[int], None]) -> None:
        self._ask = ask
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}

    async def reload(self) -> Outcome:
        """Have the settings read again and all processes replaced; returns when that is done, or refused."""
        number = next(self._numbers)
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[number] = outcome
        try:
            self._ask(number)
            return await outcome
        finally:
            del self._waiting[number]

    def reloaded(self, message: Message) -> None:
        """Take over an answer, unless whoever asked is gone."""
        outcome = self._waiting.get(message["number"])
        if outcome is not None and not outcome.done():
            problems, changed = tuple(message["problems"]), tuple(message["changed"])
            warnings = tuple(message.get("warnings", ()))
            outcome.set_result(Outcome(message["ok"], message["code"], problems, changed, warnings))
