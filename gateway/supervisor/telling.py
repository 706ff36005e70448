"""What children are told of each other: who serves, how far workers are, what they count, that something changed.

Invariant: whatever one of these messages says can be said again, and is, whenever it changed; so a child that missed
one, or was started since, knows the same as the others after the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.lifecycle import Message
    from gateway.supervisor.slot import Life, Slot


class Telling:
    """The supervisor's messages to the children that run."""

    def __init__(
        self,
        control: Slot,
        workers: Sequence[Slot],
        *,
        is_running: Callable[[], bool],
        facts: Callable[[], Message],
    ) -> None:
        """`is_running`: the start is over, the drain has not begun. `facts` are told to control processes as well."""
        self._control = control
        self._workers = workers
        self._is_running = is_running
        self._facts = facts

    def of_all(self) -> None:
        """What each child has to know of the others."""
        self.control_of_workers()
        self.workers_of_empty_slots()

    def workers_of_empty_slots(self) -> None:
        """Which slots nobody serves: the others stand in there. At the start all come at once, so nobody needs to."""
        if self._is_running():
            empty = [worker.number for worker in self._workers if not worker.serving]
            for worker in self._workers:
                for life in filter(None, (worker.tenant, worker.newcomer)):
                    life.send({"command": "slots", "empty": empty})

    def control_of_workers(self) -> None:
        """What `/readyz` is answered from, and on whom the answer to a change waits."""
        following = [
            {"name": worker.name, "pid": child.pid, "applied": life.applied, "epoch": life.epoch}
            for worker in self._workers
            for life, child in worker.running()
            if life.ordered
        ]
        ready = sum(worker.serving for worker in self._workers)
        told = {"command": "workers", "ready": ready, "of": len(self._workers), "following": following}
        self._send_control({**told, **self._facts()})

    def control_of_word(self, life: Life, message: Message) -> None:
        """What a worker says of itself."""
        if life.child is not None:
            told = {**message, "pid": life.child.pid}
            told.pop("event", None)
            self._send_control(told)

    def workers_of_change(self) -> None:
        """A change was committed: they shall look."""
        for worker in self._workers:
            for life, child in worker.running():
                if life.ordered:
                    child.send({"command": "look"})

    def _send_control(self, message: Message) -> None:
        """To both of them while one hands over to the other: either may have an answer that waits for this."""
        for life, child in self._control.running():
            if life.ready_since is not None:
                child.send(message)
