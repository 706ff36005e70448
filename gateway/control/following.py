"""Knows how far each worker has come in the change log, and lets a change's answer wait for all of them.

The supervisor passes on what workers report: `{"command": "workers", …, "following": [{"name", "pid", "applied"}]}`
whenever one comes or goes, and `{"command": "applied", "pid", "seq"}` as they follow. A worker counts from the moment
it was told to start until its process has ended, also while it drains: that long it may send requests upstream.

Invariant: `applied` counts only workers that said so, after they made the change count. A worker that is silent is
named, together with the time by which it has stopped believing what it remembers (`positive_ttl_seconds` and
`max_stale_seconds` after the commit, by the rules of `cache.key_cache`).
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final

from gateway.control.api.propagation import PropagationShape, SilentWorker
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.lifecycle import Message

PATIENCE_SECONDS: Final = 2.0
_UNREACHED: Final = sys.maxsize


class Following:
    """The workers of this node; implements `api.propagation.Propagation`."""

    def __init__(
        self,
        *,
        announce: Callable[[], None],
        newest_change: Callable[[], Awaitable[int]],
        believes_for_seconds: float,
    ) -> None:
        """`announce` makes the workers look; `newest_change` is the number of the last one in the log."""
        self._announce = announce
        self._newest_change = newest_change
        self._believes_for = timedelta(seconds=believes_for_seconds)
        self._names: dict[int, str] = {}
        self._applied: dict[int, int] = {}
        self._moved = asyncio.Event()

    def update(self, message: Message) -> None:
        """Take over which workers there are."""
        known = message["following"]
        self._names = {each["pid"]: each["name"] for each in known}
        self._applied = {each["pid"]: max(each["applied"], self._applied.get(each["pid"], -1)) for each in known}
        self._wake()

    def applied(self, message: Message) -> None:
        """Take over that one worker has come further."""
        if message["pid"] in self._applied:
            self._applied[message["pid"]] = message["seq"]
            self._wake()

    async def wait(self, seq: int | None) -> PropagationShape:
        """Return when every worker has applied the change, or after `PATIENCE_SECONDS`."""
        began = monotonic()
        until = datetime.now(UTC) + self._believes_for
        # A caller who repeats a call wants to know about the change that the first one made.
        wanted = await self._newest() if seq is None else seq
        self._announce()
        while self._silent(wanted) and (left := began + PATIENCE_SECONDS - monotonic()) > 0:
            try:
                await asyncio.wait_for(self._moved.wait(), left)
            except TimeoutError:
                break
        silent = self._silent(wanted)
        return PropagationShape(
            seq=seq,
            applied=len(self._applied) - len(silent),
            of=len(self._applied),
            milliseconds=round((monotonic() - began) * 1000),
            silent=tuple(SilentWorker(name=self._names[pid], until=until) for pid in silent),
        )

    async def _newest(self) -> int:
        """Where that cannot be read just now, nobody can be said to have come that far."""
        try:
            return await self._newest_change()
        except GatewayError:
            return _UNREACHED

    def _silent(self, seq: int) -> list[int]:
        return [pid for pid, applied in self._applied.items() if applied < seq]

    def _wake(self) -> None:
        """Let everybody who waits look once more."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
