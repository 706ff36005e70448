"""What a run prints, and the JSON file it leaves.

Invariant: nothing is dropped silently. Peers that did not take part and results that do not count are named with their
reason in both.
"""

import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks import roster
from benchmarks.comparison import Outcome, Plan
from benchmarks.peers.keygate import version
from benchmarks.summary import Row, rows, verdicts
from benchmarks.workloads import Workload

QUIET_SHARE = 0.05
HEAD = ("", "CPU us/req", "whole tree", "req/s", "p50 ms", "p99 ms")


def lines(outcome: Outcome, plan: Plan) -> Iterator[str]:
    """Yield the report, line by line."""
    yield f"{machine()}; {plan.rounds} rounds of {plan.seconds:g} s, medians; " + (
        "peers on core 0, load and upstream on core 1" if outcome.pinned else "NOT PINNED: figures are unsteady"
    )
    yield version(plan.gateway)
    for workload in plan.workloads:
        yield ""
        yield from _table(workload, rows(outcome, workload))
    yield from _goals(outcome, plan.workloads)
    yield from _disturbance(outcome)
    for name, reason in outcome.skipped.items():
        yield f"\nskipped {name}: {reason}"
    for (name, of_workload), reason in outcome.flawed.items():
        yield f"\nno result for {name}, {of_workload}: {reason}"


def _table(workload: Workload, found: Sequence[Row]) -> Iterator[str]:
    marks = [mark for mark in roster.MARKS if any(mark in row.ratios for row in found)]
    added = ("added p99",) if any(row.added_p99_microseconds is not None for row in found) else ()
    head = (*HEAD, *added, *(roster.MARK_TITLES[mark] for mark in marks))
    yield f"{workload.title}"
    yield f"{head[0]:<30}" + "".join(f"{each:>13}" for each in head[1:])
    for row in found:
        cells = [
            f"{row.worker_microseconds:.1f}",
            f"{row.tree_microseconds:.1f}",
            f"{row.requests_per_second:,.0f}",
            f"{row.p50_microseconds / 1000:.2f}",
            f"{row.p99_microseconds / 1000:.2f}",
        ]
        if added:
            cells.append(f"{(row.added_p99_microseconds or 0) / 1000:.2f}")
        cells += [f"{row.ratios[mark]:.2f}" if mark in row.ratios else "-" for mark in marks]
        yield f"{row.title:<30}" + "".join(f"{cell:>13}" for cell in cells)


def _goals(outcome: Outcome, workloads: Sequence[Workload]) -> Iterator[str]:
    found = [each for each in verdicts(outcome, workloads) if each.measured is not None]
    if found:
        yield "\nKeygate against its goals (processor time of its workers; its whole tree is in the tables)"
    for each in found:
        goal, what = each.goal, "added p99" if each.goal.added_p99 else "CPU"
        subject = f"  {goal.workload:<8} {what:<9} {roster.MARK_TITLES[goal.mark]:<12}"
        yield f"{subject} {each.measured:5.2f}  goal {goal.at_most:.2f}  {'met' if each.met else 'not met'}"


def _disturbance(outcome: Outcome) -> Iterator[str]:
    """Say how quiet the machine was: shared caches and switches cost processor time that no figure can leave out."""
    shares = [each.foreign_share for each in outcome.measurements if each.peer != roster.DIRECT]
    if outcome.pinned and shares:
        advice = "" if median(shares) < QUIET_SHARE else " - NOT A QUIET MACHINE: trust the ratios only, and repeat"
        yield f"\nothers took {median(shares):.0%} of the peers' core (median; worst {max(shares):.0%}){advice}"


def as_json(outcome: Outcome, plan: Plan) -> str:
    """Return everything that was measured, with the medians computed from it."""
    document = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "gateway": version(plan.gateway),
        "pinned": outcome.pinned,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "rows": [asdict(row) for workload in plan.workloads for row in rows(outcome, workload)],
        "goals": [
            {**asdict(each.goal), "measured": each.measured, "met": each.met}
            for each in verdicts(outcome, plan.workloads)
        ],
        "skipped": outcome.skipped,
        "flawed": [
            {"peer": peer, "workload": workload, "reason": reason}
            for (peer, workload), reason in outcome.flawed.items()
        ],
        "measurements": [asdict(each) for each in outcome.measurements],
    }
    return json.dumps(document, indent=1) + "\n"


def write(text: str, directory: Path, name: str) -> Path:
    """Write a result file, making the directory where needed."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(text)
    return path


def machine() -> str:
    """Name the machine as far as it matters for the figures."""
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.exists() else ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
