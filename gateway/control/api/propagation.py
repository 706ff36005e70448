"""What a change says of its way to the workers.

Invariant: a change is answered after it is committed, whatever becomes of its announcement: who is silent is named,
never a reason to call the change failed. How acknowledgements come in is the business of whoever implements
`Propagation`; the API only waits for the answer.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads it
from typing import Protocol

from gateway.services.shapes import Shape


class SilentWorker(Shape):
    """A worker that has not answered: `until` is when it has certainly stopped serving from what it remembers."""

    name: str
    until: datetime


class PropagationShape(Shape):
    """How far a change has come: `applied` of `of` workers follow it, after so many milliseconds.

    `seq` is the change's number in the log, null where nothing had to be changed.
    """

    seq: int | None
    applied: int
    of: int
    milliseconds: int
    silent: tuple[SilentWorker, ...]


class Propagation(Protocol):
    """Waits for workers."""

    async def wait(self, seq: int | None) -> PropagationShape:
        """Return when all workers have applied the change, or when waiting longer is of no use.

        None: nothing had to be changed; then what was changed before is waited for, since the caller may be repeating
        a call whose answer was lost. Never raises an expected error.
        """


def nobody_heard(seq: int | None) -> PropagationShape:
    """Say that nothing is known of any worker: `of` is 0, which never counts as all."""
    return PropagationShape(seq=seq, applied=0, of=0, milliseconds=0, silent=())


class NoWorkers:
    """For where no gateway runs: says at once that nobody has heard of it."""

    async def wait(self, seq: int | None) -> PropagationShape:
        """Wait for nobody."""
        return nobody_heard(seq)
