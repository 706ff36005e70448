"""The workers that a change has to reach: this node's, by the word of the supervisor, and all nodes', by the roll.

Invariant: what a worker has applied counts in the present life (epoch) of the log alone, and only if the worker said so
itself: to the supervisor or on the roll, whichever is further. Pure: this puts together what is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.keys.projection import worker_id

if TYPE_CHECKING:
    from collections.abc import Container

    from gateway.lifecycle import Message
    from gateway.services.worker_roll import HeardWorker, Roll

OTHERS: Final = "workers of other nodes"


@dataclass(frozen=True, slots=True)
class Worker:
    """One who is waited for. `applied` is -1 for whoever has not said anything of the log's present life."""

    name: str
    node: str
    host: str
    pid: int
    applied: int
    believes_for_seconds: float
    silent_seconds: float
    own: bool

    def label(self) -> str:
        """What people call it."""
        return self.name if self.own or not self.host else f"{self.name} on {self.host}"


@dataclass(frozen=True, slots=True)
class _Report:
    """What the supervisor passed on of one of this node's workers. `seq` is -1 before its first word."""

    name: str
    seq: int
    epoch: str | None


class KnownWorkers:
    """What was said of this node's workers, and how that and the roll make one list."""

    def __init__(self, *, node: str, host: str, believes_for_seconds: float) -> None:
        """`believes_for_seconds` is that of this node's workers."""
        self._node = node
        self._host = host
        self._believes_for_seconds = believes_for_seconds
        self._reports: dict[int, _Report] = {}

    def update(self, message: Message) -> set[str]:
        """Take over which there are; the ids of those whose processes have ended."""
        before = self._reports
        self._reports = {each["pid"]: _newer(before.get(each["pid"]), each) for each in message["following"]}
        there = self.ids()
        return {self._id(pid, report) for pid, report in before.items()} - there

    def applied(self, message: Message) -> bool:
        """Take over that one has come further; whether it is one of ours."""
        report = self._reports.get(message["pid"])
        if report is None:
            return False
        self._reports[message["pid"]] = _Report(report.name, message["seq"], message.get("epoch"))
        return True

    def ids(self) -> set[str]:
        """This node's, as they are called on the roll."""
        return {self._id(pid, report) for pid, report in self._reports.items()}

    def own(self) -> list[Worker]:
        """This node's, by the supervisor's word alone."""
        return [self._reported(pid, report) for pid, report in self._reports.items()]

    def own_and_others(self) -> list[Worker]:
        """This node's, and one who stands for all whom nobody can count just now."""
        return [*self.own(), self._others()]

    def _others(self) -> Worker:
        return Worker(
            name=OTHERS,
            node="",
            host="",
            pid=0,
            applied=-1,
            believes_for_seconds=self._believes_for_seconds,
            silent_seconds=0.0,
            own=False,
        )

    def all(self, roll: Roll, ended: Container[str]) -> list[Worker]:
        """All nodes'. Whoever has ended is on the roll only because nobody has taken it off yet."""
        reports = {self._id(pid, report): (pid, report) for pid, report in self._reports.items()}
        found = [
            self._heard(roll, heard, reports.get(id_, (0, None))[1])
            for id_, heard in roll.members.items()
            if id_ not in ended
        ]
        # Whoever has never said anything has not entered yet, and serves nothing from memory. Whoever has, and is
        # missing on the roll, may be so because the store was restored to an earlier state.
        missing = [(pid, report) for id_, (pid, report) in reports.items() if id_ not in roll.members]
        found += [self._reported(*each, roll) for each in missing if each[1].seq >= 0]
        # Where the store was restored, who entered since the backup is on no list before they look again.
        return [*found, self._others()] if roll.epoch_seconds < self._believes_for_seconds else found

    def _heard(self, roll: Roll, heard: HeardWorker, report: _Report | None) -> Worker:
        own, at = heard.presence, heard.presence.position
        applied = at.seq if at is not None and at.epoch == roll.epoch else -1
        if report is not None and report.epoch == roll.epoch:
            applied = max(applied, report.seq)
        return Worker(
            name=own.name,
            node=own.node,
            host=own.host,
            pid=own.pid,
            applied=applied,
            believes_for_seconds=own.believes_for_seconds,
            silent_seconds=heard.silent_seconds,
            own=own.node == self._node,
        )

    def _reported(self, pid: int, report: _Report, roll: Roll | None = None) -> Worker:
        return Worker(
            name=report.name,
            node=self._node,
            host=self._host,
            pid=pid,
            applied=report.seq if roll is None or report.epoch == roll.epoch else -1,
            believes_for_seconds=self._believes_for_seconds,
            silent_seconds=0.0,
            own=True,
        )

    def _id(self, pid: int, report: _Report) -> str:
        return worker_id(self._node, report.name, pid)


def _newer(known: _Report | None, said: Message) -> _Report:
    """Of what the list says and what the worker has said itself, the one that is further."""
    listed = _Report(said["name"], said["applied"], said.get("epoch"))
    if known is None or listed.seq > known.seq or (listed.seq >= 0 and listed.epoch != known.epoch):
        return listed
    return known
