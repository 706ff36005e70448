"""One run: start everybody, probe everybody, then load them in turns.

Invariant: within a round every peer meets every workload within minutes of the others, in an order that shifts from
round to round. Machines drift (clock, neighbours); ratios of neighbours in time hold where absolute figures do not.
Measuring peer after peer, each with all its rounds, was turned down for that.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import roster
from benchmarks.known_keys import KnownKeys, make_keys
from benchmarks.load import LoadGenerator, LoadResult
from benchmarks.peers.peer import Peer, Site
from benchmarks.probe import problems
from benchmarks.processes import RunningProcess, StartFailed, can_pin, free_port
from benchmarks.processor_time import core_busy_seconds, usage
from benchmarks.upstream import upstream_command
from benchmarks.workloads import Workload

PEER_CORE = 0
LOAD_CORE = 1
WARM_UP_SECONDS = 1.0
SETTLE_SECONDS = 3.0  # what a start leaves running (imports of a control process) is not work per request


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    peers: tuple[Peer, ...]
    workloads: tuple[Workload, ...]
    rounds: int
    seconds: float
    gateway: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One peer under one workload in one round. Processor time is in microseconds per request."""

    peer: str
    workload: str
    round: int
    load: LoadResult
    worker_microseconds: float
    tree_microseconds: float
    worker_resident_bytes: int
    tree_resident_bytes: int
    foreign_share: float  # of the peers' core: what others took of it meanwhile, 0 to 1


@dataclass(slots=True)
class Outcome:
    """Everything a run found: what was measured, who did not take part and why, which results do not count and why."""

    measurements: list[Measurement] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    flawed: dict[tuple[str, str], str] = field(default_factory=dict)
    pinned: bool = True


@dataclass(frozen=True, slots=True)
class _Contender:
    peer: Peer
    site: Site
    process: RunningProcess


def run(plan: Plan) -> Outcome:
    """Run the plan in a temporary directory, which is gone afterwards, as all processes are."""
    pinned = can_pin(PEER_CORE) and can_pin(LOAD_CORE)
    outcome = Outcome(pinned=pinned)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keygate-bench-")))
        keys = make_keys()
        load = LoadGenerator(LOAD_CORE if pinned else None, *keys.write_secrets(directory))
        upstream_port = free_port()
        upstream = stack.enter_context(
            RunningProcess(
                upstream_command(directory, upstream_port),
                port=upstream_port,
                log=directory / "upstream.log",
                core=LOAD_CORE if pinned else None,
            )
        )
        contenders = list(_started(stack, plan, keys, directory, upstream.port, outcome))
        _warm_up(contenders, load, plan)
        for number in range(plan.rounds):
            _round(number, plan, contenders, load, upstream, outcome)
    return outcome


def _started(  # one parameter per thing a peer needs to be started
    stack: ExitStack, plan: Plan, keys: KnownKeys, directory: Path, upstream_port: int, outcome: Outcome
) -> Iterator[_Contender]:
    """Start and probe each peer; who cannot take part is named in the outcome."""
    for peer in plan.peers:
        reason = peer.missing()
        if reason is None:
            home = directory / peer.name
            home.mkdir()
            site = Site(home, free_port(), upstream_port, keys, plan.gateway)
            process = RunningProcess(
                peer.command(site),
                port=site.port,
                log=home / "output.log",
                core=PEER_CORE if outcome.pinned else None,
            )
            try:
                stack.enter_context(process)
                found = problems(peer, site, directory / "files")
                reason = f"failed the correctness probe: {'; '.join(found)}" if found else None
            except StartFailed as error:
                reason = str(error)
            if reason is None:
                yield _Contender(peer, site, process)
                continue
            process.stop()
        outcome.skipped[peer.name] = reason
        _say(f"skipped {peer.name}: {reason}")


def _warm_up(contenders: Sequence[_Contender], load: LoadGenerator, plan: Plan) -> None:
    """Let every peer meet every key and compile what it compiles, before anything counts."""
    if plan.workloads and contenders:
        time.sleep(SETTLE_SECONDS)
        for each in contenders:
            load.run(plan.workloads[0], each.site.port, WARM_UP_SECONDS)


def _round(
    number: int,
    plan: Plan,
    contenders: Sequence[_Contender],
    load: LoadGenerator,
    upstream: RunningProcess,
    outcome: Outcome,
) -> None:
    shift = number % len(contenders) if contenders else 0
    order = (*contenders[shift:], *contenders[:shift])
    for workload in plan.workloads:
        started = time.monotonic()
        if not workload.saturating:
            direct = load.run(workload, upstream.port, plan.seconds)
            outcome.measurements.append(_direct(workload, number, direct))
        for each in order:
            _measure(each, workload, number, load, plan.seconds, outcome)
        took = time.monotonic() - started
        _say(f"round {number + 1} of {plan.rounds}, {workload.name}: {len(order)} peers in {took:.0f} s")


def _measure(
    contender: _Contender, workload: Workload, number: int, load: LoadGenerator, seconds: float, outcome: Outcome
) -> None:
    peer, pid = contender.peer, contender.process.pid
    clock, busy, before = time.monotonic(), core_busy_seconds(PEER_CORE), usage(pid, peer.worker_marker)
    result = load.run(workload, contender.site.port, seconds)
    after, busy, clock = usage(pid, peer.worker_marker), core_busy_seconds(PEER_CORE) - busy, time.monotonic() - clock
    own = after.tree_seconds - before.tree_seconds
    problem = result.problem(workload)
    if problem is not None:
        outcome.flawed[peer.name, workload.name] = problem
        _say(f"no result for {peer.name}, {workload.name}: {problem}")
        return
    outcome.measurements.append(
        Measurement(
            peer=peer.name,
            workload=workload.name,
            round=number,
            load=result,
            worker_microseconds=(after.worker_seconds - before.worker_seconds) * 1e6 / result.requests,
            tree_microseconds=own * 1e6 / result.requests,
            worker_resident_bytes=after.worker_resident_bytes,
            tree_resident_bytes=after.tree_resident_bytes,
            foreign_share=max(0.0, busy - own) / clock,
        )
    )


def _direct(workload: Workload, number: int, result: LoadResult) -> Measurement:
    return Measurement(roster.DIRECT, workload.name, number, result, 0.0, 0.0, 0, 0, 0.0)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
