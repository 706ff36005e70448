"""What the change log, the shared key table and the workers tell each other of how far they are. Values only.

Invariant: a `seq` means something within its epoch alone. A log that has gone back (a restored backup, a failover that
lost something) begins a new epoch, and whatever was known of another one is forgotten; so no comparison of two numbers
is made here without the epoch beside them.
"""

from dataclasses import dataclass
from typing import Final

from gateway.keys.change import Change
from gateway.keys.record import CredentialRecord


@dataclass(frozen=True, slots=True)
class LogPosition:
    """Up to where somebody has come in the log."""

    epoch: str
    seq: int


@dataclass(frozen=True, slots=True)
class LogLook:
    """What one look at the log in the store found, all of one moment.

    `at` is the row at the `seq` that was asked about (None where there is none, as at 0), `changes` are those behind
    it, oldest first, no more than were asked for.
    """

    epoch: str
    head: int
    at: Change | None
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class TableAnswer:
    """What the shared key table says of one digest. Without a record, `complete` says whether there is none at all."""

    record: CredentialRecord | None
    epoch: str | None
    head: int | None
    complete: bool


@dataclass(frozen=True, slots=True)
class Stamp:
    """A control process's word that the table was current: `head` was the store's `age_seconds` ago, by Redis' clock.

    `head` is None where no control process could ask the store.
    """

    epoch: str
    head: int | None
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Pulse:
    """The state of the shared key table. `epoch` and `head` are None where there is no table."""

    epoch: str | None
    head: int | None
    complete: bool
    stamp: Stamp | None


@dataclass(frozen=True, slots=True)
class WorkerPresence:
    """A worker's sign of life, on the same way as its proof that it is current: through Redis, or through the store."""

    id: str
    """`node:name:pid`, unique for each process that ever served."""
    node: str
    """One run of a supervisor."""
    host: str
    name: str
    pid: int
    believes_for_seconds: float
    """How long after its last proof something may still come of what it knows (`believes_for`)."""
    position: LogPosition | None


LEAST_BELIEF_SECONDS: Final = 5.0
"""What is under way in a worker may be this old, however short the time to live of what is remembered."""


def believes_for(positive_ttl_seconds: float, max_stale_seconds: float) -> float:
    """How long after a worker's last proof it has certainly stopped acting on what it knew, in seconds."""
    return max(positive_ttl_seconds + max_stale_seconds, LEAST_BELIEF_SECONDS)


def worker_id(node: str, name: str, pid: int) -> str:
    """The id of a worker's process, as the worker and its control process both make it."""
    return f"{node}:{name}:{pid}"


def generation(epoch: str) -> int:
    """How many epochs a log had before this one (`3.5f0c…`); the first has a name without a number."""
    number, dot, _ = epoch.partition(".")
    return int(number) if dot and number.isdecimal() else 0
