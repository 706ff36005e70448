"""`python -m benchmarks`: the comparison, from the command line.

Everything takes about 15 minutes, `--quick` less than one. `--only get,get512` picks workloads, `--peers
keygate,nginx-lua-same` picks peers, `--rounds 9` steadies the medians, `--gateway PATH` measures another gateway than
the one installed for this interpreter.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import report, roster, workloads
from benchmarks.comparison import Plan, run
from benchmarks.peers.keygate import add_gateway_option
from benchmarks.plot import write_plot
from benchmarks.processes import find_tools

RESULTS = Path(__file__).with_name("results")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare Keygate with other proxies.")
    parser.add_argument("--quick", action="store_true", help="two workloads, the main peers, under a minute")
    parser.add_argument("--rounds", type=int, help="rounds of all peers (5; with --quick 2)")
    parser.add_argument("--seconds", type=int, help="length of one measurement (2; with --quick 1)")
    parser.add_argument("--peers", type=_names, help=f"comma-separated: {', '.join(roster.NAMES)}")
    parser.add_argument(
        "--only",
        "--workload",
        type=_names,
        dest="only",
        help=f"comma-separated workloads: {', '.join(each.name for each in workloads.WORKLOADS)}",
    )
    add_gateway_option(parser)
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory for the JSON file and the plot")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    peers = options.peers or (roster.QUICK if options.quick else roster.BY_DEFAULT)
    only = options.only or (workloads.QUICK if options.quick else tuple(each.name for each in workloads.WORKLOADS))
    return Plan(
        peers=tuple(roster.peer(name) for name in peers),
        workloads=tuple(workloads.workload(name) for name in only),
        rounds=options.rounds or (2 if options.quick else 5),
        seconds=options.seconds or (1 if options.quick else 2),
        gateway=options.gateway,
    )


def main() -> int:
    """Run the comparison, print the table, leave the JSON file and the plot."""
    parser = _parser()
    options = parser.parse_args()
    try:
        plan = _plan(options)
    except KeyError as error:
        parser.error(f"no such peer or workload: {error.args[0]}")
    if absent := find_tools("wrk", "nginx"):
        print(f"The load generator and the upstream are needed: apt install {' '.join(absent)}", file=sys.stderr)
        return 1
    outcome = run(plan)
    print("\n".join(report.lines(outcome, plan)))
    stem = "quick" if options.quick else "comparison"
    print(f"\nwrote {report.write(report.as_json(outcome, plan), options.results, f'{stem}.json')}")
    plot = options.results / f"{stem}.svg"
    no_plot = write_plot(outcome, plan.workloads, plot)
    print(f"no plot: {no_plot}" if no_plot else f"wrote {plot}")
    return 0 if outcome.measurements else 1


if __name__ == "__main__":
    sys.exit(main())
