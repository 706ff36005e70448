"""What a change answers with: the thing as it is afterwards, and where the change stands in the log.

Invariant: `seq` is the number of the last row that the change added to the change log, and None exactly where nothing
had to be changed: the thing was as asked for already, or the request is a repetition of one that was carried out. Who
waits for the workers to have applied a change waits for this number. Reading the log's head afterwards was turned down:
it would be another change's number.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Changed(Generic[T]):
    """`resource` after the change (of a deleted thing: its last state)."""

    resource: T
    seq: int | None
