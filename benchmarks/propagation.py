"""`python -m benchmarks.propagation`: how long a revocation takes until every worker refuses the key, under load.

Keys are revoked one after the other, in turn at each node, while good keys are asked for at a steady rate and the key
under test goes to every worker 200 times a second. Two times for each: what the answer says (from the commit until all
workers had applied it), and from asking to the answer as the one who revokes sees it.

Invariant: a time counts only if it is true. A request that was sent after the answer, or that reached the upstream
after it, is late; one of them makes the run fail.

The servers are those of the tests (`tests/servers`), and so are the nodes, the load and the judgement.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import report
from tests.e2e.load import LoadUpstream, late
from tests.e2e.nodes import Nodes, Place, Verdict, running_nodes, seed
from tests.servers.postgres import postgres_server
from tests.servers.redis import redis_servers

KEYS = 1_000
NODES = {"postgresql and redis": 3, "postgresql": 3, "sqlite": 1}
Figures = dict[str, float]


def main() -> int:
    """Run all measurements and print them; fails where a request was late."""
    options = _options()
    figures: dict[str, Figures] = {}
    for name in options.stores:
        with tempfile.TemporaryDirectory(prefix="keygate-propagation-") as directory, contextlib.ExitStack() as stack:
            nodes = stack.enter_context(_running(Path(directory), name, stack))
            figures[name] = measure(nodes, options.revocations, options.rate)
        print(f"{name}, {NODES[name]} x 2 workers")
        for title, value in figures[name].items():
            print(f"  {title:<66}{value:>14,.2f}")
    document = {
        "machine": report.machine(),
        "compiled": _gateway_is_compiled(),
        "revocations": options.revocations,
        "rate": options.rate,
        "figures": figures,
    }
    print(f"\nwrote {report.write(json.dumps(document, indent=1) + chr(10), options.results, 'propagation.json')}")
    return 1 if any(each["late requests"] for each in figures.values()) else 0


def _gateway_is_compiled() -> bool:
    """Whether the nodes were: they run what is installed, and this script what lies in the working directory."""
    version = [sys.executable, "-P", "-m", "gateway", "--version"]
    said = subprocess.run(version, capture_output=True, text=True, check=True).stdout
    return "not compiled" not in said


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.propagation", description=__doc__.partition("\n")[0])
    parser.add_argument("--revocations", type=int, default=200, help="how many keys to revoke with each store")
    parser.add_argument("--rate", type=float, default=2_000.0, help="requests a second with good keys, over all nodes")
    parser.add_argument("--stores", nargs="+", choices=NODES, default=list(NODES), help="which ones to measure")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    return parser.parse_args()


def _running(directory: Path, name: str, stack: contextlib.ExitStack) -> contextlib.AbstractContextManager[Nodes]:
    """The nodes, with the servers that they share, and settings as they ship."""
    redis_url = None
    if name.endswith("redis"):
        start = stack.enter_context(redis_servers(lambda program: shutil.which(program) or program))
        redis_url = start().url
    if name == "sqlite":
        url = f"sqlite:///{directory}/gateway.db"
    else:
        postgres = stack.enter_context(postgres_server())
        url = postgres.url(postgres.new_database())
    upstream = stack.enter_context(LoadUpstream())
    return running_nodes(directory, [Place(url, redis_url)] * NODES[name], seed(url, KEYS), upstream)


def measure(nodes: Nodes, revocations: int, rate: float) -> Figures:
    """Revoke that many keys under that load."""
    with nodes.load(rate=rate) as load:
        nodes.warm(load, _eventually)
        verdicts = [nodes.revoke_watched(load, node=number % len(nodes.sites)) for number in range(revocations)]
        summary = load.stop()
    summary.assert_all_good()
    told = [each.revocation.propagation.milliseconds for each in verdicts]
    waited = [(each.revocation.answered - each.revocation.asked) * 1e3 for each in verdicts]
    return {
        **_quantiles("committed to applied by all, as the answer says", told),
        **_quantiles("asked to answered", waited),
        "answers that did not speak for every worker": sum(not each.revocation.by_all for each in verdicts),
        "late requests": sum(map(_late, verdicts)),
        "requests with the keys under test": sum(len(each.watched) for each in verdicts),
        "good keys, requests/s": summary.rate,
        "good keys, p99, ms": summary.p99 or 0.0,
    }


def _late(verdict: Verdict) -> int:
    """How many requests passed after the revocation was in force; by what either end saw, each counted once."""
    passed = {each.token for each in late(verdict.watched, verdict.in_force)}
    return len(passed | {each.token for each in verdict.arrivals})


def _quantiles(title: str, milliseconds: Sequence[float]) -> Figures:
    ordered = sorted(milliseconds)
    return {
        f"{title}, p50, ms": ordered[len(ordered) // 2],
        f"{title}, p99, ms": ordered[len(ordered) * 99 // 100],
        f"{title}, longest, ms": ordered[-1],
    }


def _eventually(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
