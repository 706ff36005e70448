"""`python -m benchmarks.outages`: what becomes of good keys and of revocations while Redis is away, or was emptied.

Two nodes of two workers on PostgreSQL and Redis, good keys at a steady rate, settings as they ship. Each fault is kept
for 30 s; keys are revoked one after the other before, while and after it. What is told of each part: the 99th
percentile of good keys; how long after it was asked for a revocation was in force, which is when the last request with
that key was sent that came through; and how long after Redis was back, or empty, the table was whole again and every
worker had asked it.

Invariant: a good key that is refused, or a request that passes after a revocation is said to be in force, ends the run.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from benchmarks import report
from gateway.keys.projection import WorkerPresence
from gateway.settings.model import RedisSettings
from gateway.store.key_table import KeyTable, key_table
from tests.e2e.cluster import Cluster, running_cluster
from tests.e2e.load import Load
from tests.e2e.nodes import Verdict
from tests.e2e.site import WORKER
from tests.servers.redis import RedisServer

NODES: Final = 2
RESYNCHRONISED_SECONDS: Final = 30.0
Figures = dict[str, float]


def main() -> int:
    """Run both faults and print what was seen."""
    options = _options()
    figures: dict[str, Figures] = {}
    for name, fault in FAULTS.items():
        with (
            tempfile.TemporaryDirectory(prefix="keygate-outages-") as directory,
            running_cluster(
                Path(directory),
                lambda program: shutil.which(program) or program,
                nodes=NODES,
                keys=1_000,
                CACHE__POSITIVE_TTL_SECONDS="60",
            ) as cluster,
            cluster.nodes.load(rate=options.rate) as load,
        ):
            cluster.nodes.warm(load, _eventually)
            figures[name] = measure(cluster, load, fault, options.seconds)
        print(f"Redis {name}")
        for title, value in figures[name].items():
            print(f"  {title:<66}{value:>14,.2f}")
    document = {"machine": report.machine(), "rate": options.rate, "seconds": options.seconds, "figures": figures}
    print(f"\nwrote {report.write(json.dumps(document, indent=1) + chr(10), options.results, 'outages.json')}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outages", description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=2_000.0, help="requests a second with good keys")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each fault lasts")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    return parser.parse_args()


def _killed(redis: RedisServer, seconds: float, revoke: Callable[[float], None]) -> float:
    redis.process.kill()
    revoke(seconds)
    redis.restart()
    return time.monotonic()


def _emptied(redis: RedisServer, seconds: float, revoke: Callable[[float], None]) -> float:
    """Once, in the middle: it is over when what was lost is there again."""
    revoke(seconds / 2)
    if redis.ask("FLUSHALL") != b"+OK":
        raise RuntimeError("Redis was not emptied")
    return time.monotonic()


FAULTS: Final[Mapping[str, Callable[[RedisServer, float, Callable[[float], None]], float]]] = {
    "killed": _killed,
    "emptied": _emptied,
}


def measure(
    cluster: Cluster,
    load: Load,
    fault: Callable[[RedisServer, float, Callable[[float], None]], float],
    seconds: float,
) -> Figures:
    """Keep one fault for so long."""
    found: Figures = {}

    def revoke(part: str, for_seconds: float) -> None:
        verdicts: list[Verdict] = []
        load.mark()
        until = time.monotonic() + for_seconds
        while time.monotonic() < until:
            verdicts.append(cluster.nodes.revoke_watched(load, node=len(verdicts) % NODES))
            verdicts[-1].assert_in_force()
        summary = load.mark()
        summary.assert_all_good()
        in_force = [_passed_last(each) for each in verdicts]
        found.update(
            {
                f"{part}: good keys, p99, ms": summary.p99 or 0.0,
                f"{part}: revocations": len(verdicts),
                f"{part}: of them answered for every worker": sum(each.revocation.by_all for each in verdicts),
                f"{part}: asked to in force, longest, ms": max(in_force) * 1e3,
                f"{part}: asked to answered, longest, ms": max(
                    (each.revocation.answered - each.revocation.asked) * 1e3 for each in verdicts
                ),
            }
        )

    revoke("before", 10.0)
    back = fault(cluster.redis, seconds, lambda for_seconds: revoke("during", for_seconds))
    whole, asked = asyncio.run(_resynchronised(cluster))
    found["from Redis' return to the whole table, ms"] = (whole - back) * 1e3
    found["from Redis' return to every worker asking it, ms"] = (asked - back) * 1e3
    revoke("after", seconds / 2)
    return found


def _passed_last(verdict: Verdict) -> float:
    """Seconds after it was asked for."""
    passed = [each.sent for each in verdict.watched if each.status == 200]
    return max(0.0, max(passed) - verdict.revocation.asked)


async def _resynchronised(cluster: Cluster) -> tuple[float, float]:
    """When the table was whole, and when every worker had asked for it after that."""
    table = key_table(cluster.redis.url, RedisSettings(url=cluster.redis.url))
    workers = sum(len(site.processes(WORKER)) for site in cluster.nodes.sites)
    until = time.monotonic() + RESYNCHRONISED_SECONDS
    whole: float | None = None
    try:
        while True:
            now = time.monotonic()
            if now > until:
                raise RuntimeError("Redis has come back, and is not used again")
            state, heard = await _ask(table)
            if whole is None and state:
                whole = now
            if whole is not None and sum(seconds < now - whole for _, seconds in heard.values()) == workers:
                return whole, now
            await asyncio.sleep(0.005)
    finally:
        await table.close()


async def _ask(table: KeyTable) -> tuple[bool, dict[str, tuple[WorkerPresence, float]]]:
    _, state = await table.state()
    return state is not None and state.finished and state.whole, await table.presences()


def _eventually(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
