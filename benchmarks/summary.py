"""Medians and ratios of a run.

Invariant: a ratio is taken within each round, and the median of these is reported. The ratio of two medians may pair a
quiet moment of one peer with a busy one of the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks import roster
from benchmarks.comparison import Measurement, Outcome
from benchmarks.workloads import Workload


@dataclass(frozen=True, slots=True)
class Row:
    """One peer under one workload: medians over the rounds, and its processor time against the marks'."""

    peer: str
    title: str
    workload: str
    rounds: int
    worker_microseconds: float
    tree_microseconds: float
    requests_per_second: float
    p50_microseconds: float
    p99_microseconds: float
    added_p99_microseconds: float | None
    worker_megabytes: float
    ratios: dict[str, float]
    tree_ratios: dict[str, float]


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio this gateway is to reach: its workers' processor time, or added p99, against a mark's."""

    workload: str
    mark: str
    at_most: float
    added_p99: bool = False


SAME_WORK, ENVOY, AIOHTTP = roster.MARKS
GOALS = (
    *(Goal(workload, SAME_WORK, 1.0) for workload in ("get", "get512", "get10k")),
    *(Goal(workload, ENVOY, 0.7) for workload in ("get", "get512")),
    Goal("get", AIOHTTP, 0.2),
    Goal("post", SAME_WORK, 1.1),
    Goal("get1m", SAME_WORK, 0.6),
    Goal("rate", SAME_WORK, 1.5, added_p99=True),
)


def rows(outcome: Outcome, workload: Workload) -> list[Row]:
    """Return a row for every peer that has valid results under this workload, in the order of the roster."""
    of_workload = [each for each in outcome.measurements if each.workload == workload.name]
    direct = [each.load.p99 for each in of_workload if each.peer == roster.DIRECT]
    floor = median(direct) if direct else None
    by_peer = {
        peer.name: [each for each in of_workload if each.peer == peer.name]
        for peer in roster.PEERS
        if (peer.name, workload.name) not in outcome.flawed
    }
    return [_row(roster.peer(name).title, found, by_peer, floor) for name, found in by_peer.items() if found]


def _row(title: str, found: Sequence[Measurement], by_peer: dict[str, list[Measurement]], floor: float | None) -> Row:
    p99 = median(each.load.p99 for each in found)
    marks = [mark for mark in roster.MARKS if by_peer.get(mark)]
    return Row(
        peer=found[0].peer,
        title=title,
        workload=found[0].workload,
        rounds=len(found),
        worker_microseconds=median(each.worker_microseconds for each in found),
        tree_microseconds=median(each.tree_microseconds for each in found),
        requests_per_second=median(each.load.requests / each.load.seconds for each in found),
        p50_microseconds=median(each.load.p50 for each in found),
        p99_microseconds=p99,
        added_p99_microseconds=None if floor is None else p99 - floor,
        worker_megabytes=median(each.worker_resident_bytes for each in found) / 1e6,
        ratios={mark: _ratio([each.worker_microseconds for each in found], by_peer[mark]) for mark in marks},
        tree_ratios={mark: _ratio([each.tree_microseconds for each in found], by_peer[mark]) for mark in marks},
    )


def _ratio(own: Sequence[float], mark: Sequence[Measurement]) -> float:
    """Divide round by round (a mark is one tree: all of its work counts) and take the median."""
    pairs = zip(own, (each.tree_microseconds for each in mark), strict=False)
    return median(mine / theirs for mine, theirs in pairs if theirs > 0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and what was measured; `measured` is None when a side of it is missing from the run."""

    goal: Goal
    measured: float | None

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None when nobody knows."""
        return None if self.measured is None else round(self.measured, 2) <= self.goal.at_most


def verdicts(outcome: Outcome, workloads: Sequence[Workload]) -> list[Verdict]:
    """Hold the gateway against its goals, as far as this run measured them."""
    table = {(row.peer, row.workload): row for each in workloads for row in rows(outcome, each)}
    measured = {each.name for each in workloads}
    return [
        Verdict(goal, _reached(goal, table.get(("keygate", goal.workload)), table.get((goal.mark, goal.workload))))
        for goal in GOALS
        if goal.workload in measured
    ]


def _reached(goal: Goal, own: Row | None, mark: Row | None) -> float | None:
    if own is None or mark is None:
        return None
    if not goal.added_p99:
        return own.ratios.get(goal.mark)
    if own.added_p99_microseconds is None or not mark.added_p99_microseconds:
        return None
    return own.added_p99_microseconds / mark.added_p99_microseconds
