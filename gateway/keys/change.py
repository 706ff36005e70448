"""One row of the change log: "look at this subject again".

Invariant: a change carries no new values, only who changed and to which version. A lost, doubled or late message can
therefore never install a wrong record; the reader always fetches the truth. Sending the new record along was turned
down: two messages in the wrong order would then bring a revoked key back to life.
"""

from dataclasses import dataclass
from typing import Literal

SubjectKind = Literal["key", "owner", "organization"]


@dataclass(frozen=True, slots=True)
class Change:
    """`seq` is dense and in commit order; `version` is the subject's version after the change."""

    seq: int
    subject_kind: SubjectKind
    subject_id: str
    version: int
