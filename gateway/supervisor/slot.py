"""A place in the gateway, and the children that fill it one after another.

A slot's name and sockets stay, its child changes: after a crash when the old one is gone, at a reload while the old one
still answers. So a slot can hold several lives at a time: the tenant, which does the work; a newcomer, which is to take
its place as soon as it is ready; and retired ones, which have handed over and answer what they had accepted.

Invariant: a slot has at most one tenant and at most one newcomer, and both change only under `changing`; what a child
reports counts for its own life alone. One record per slot was turned down: the end of an old child would look like
the death of the new one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.supervisor.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.lifecycle import Message
    from gateway.supervisor.child import Child

Ended = tuple[float, str]
"""For how many seconds a child did its work, and why it ended, in its own words if it had any."""


class Life:
    """One child, from its start to its end."""

    __slots__ = (
        "applied",
        "child",
        "drain_seconds",
        "epoch",
        "failure",
        "left",
        "ordered",
        "ready_since",
        "serving",
        "settings",
        "settled",
        "task",
    )

    task: asyncio.Task[Ended]

    def __init__(self, settings: Message, drain_seconds: float) -> None:
        """`settings` are those that it is started with, `drain_seconds` how long it may take to end."""
        self.settings = settings
        self.drain_seconds = drain_seconds
        self.child: Child | None = None
        self.ordered = False
        self.applied = -1
        """The change up to which a worker is current, by its own report, in the log of this `epoch`."""
        self.epoch: str | None = None
        self.ready_since: float | None = None
        self.serving = False
        """The child is ready, and does not drain by itself (somebody sent it a signal)."""
        self.failure = ""
        self.settled = asyncio.Event()
        """It is ready, or over."""
        self.left: asyncio.Future[Ended | None] = asyncio.get_running_loop().create_future()
        """Done when it is the tenant no more: how it ended, or None where it has handed over."""

    def begin(self, task: asyncio.Task[Ended]) -> None:
        """`task` returns when it is over."""
        self.task = task
        task.add_done_callback(self._ended)

    def hand_over(self) -> None:
        """It is the tenant no more: it answers what it has accepted, and leaves what waits to its successor."""
        self.serving = False
        if not self.left.done():
            self.left.set_result(None)
        self.send({"command": "handover"})
        self.send({"command": "drain"})

    def send(self, message: Message) -> None:
        """Give an order, if there is anybody to get it."""
        if self.child is not None:
            self.child.send(message)

    def kill(self) -> None:
        """End it at once."""
        if self.child is not None:
            self.child.kill()

    def _ended(self, task: asyncio.Task[Ended]) -> None:
        self.settled.set()
        if self.left.done():
            return
        if task.cancelled():
            self.left.cancel()
        elif (error := task.exception()) is not None:
            self.left.set_exception(error)
        else:
            self.left.set_result(task.result())


class Slot:
    """See the module. `settings` are those that the next child is started with."""

    __slots__ = (
        "argv",
        "backoff",
        "changing",
        "listen_fds",
        "name",
        "newcomer",
        "number",
        "retired",
        "settings",
        "tenant",
    )

    def __init__(
        self, name: str, number: int, argv: Sequence[str], listen_fds: tuple[int, ...], settings: Message
    ) -> None:
        self.name = name
        self.number = number
        self.argv = argv
        self.listen_fds = listen_fds
        self.settings = settings
        self.backoff = Backoff()
        self.changing = asyncio.Lock()
        self.tenant: Life | None = None
        self.newcomer: Life | None = None
        self.retired: list[Life] = []

    @property
    def serving(self) -> bool:
        """Whether somebody does this slot's work."""
        return self.tenant is not None and self.tenant.serving

    def lives(self) -> list[Life]:
        """All that have not ended; each of them may have requests in flight."""
        return [*filter(None, (self.tenant, self.newcomer)), *self.retired]

    def running(self) -> Iterator[tuple[Life, Child]]:
        """Those of them that have a process."""
        return ((life, life.child) for life in self.lives() if life.child is not None)

    def forget(self, life: Life) -> None:
        """It has ended."""
        life.child = None
        life.serving = False
        if self.tenant is life:
            self.tenant = None
        if life in self.retired:
            self.retired.remove(life)
