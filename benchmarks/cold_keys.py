"""`python -m benchmarks.cold_keys`: what a million keys in the store cost a gateway that knows none of them yet.

Four questions: is it ready as soon as with ten keys, how long does the first request of a key take against the next
one, does memory stop growing at the cache's bound, and what do 10,000 idle connections take.

Invariant: the keys looked up are spread over the whole digest table, each asked for once, over one connection and one
at a time, so that a latency is a look-up's and not a queue's. It is compared with the same key's hit a moment later.
"""

import argparse
import http.client
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.comparison import LOAD_CORE, PEER_CORE
from benchmarks.http_line import HttpLine, UnexpectedAnswer, request_for
from benchmarks.known_keys import KnownKey, make_keys
from benchmarks.peers.keygate import KEYGATE, WORKER_MARKER, add_gateway_option, gateway_command, version
from benchmarks.peers.peer import Site
from benchmarks.processes import RunningProcess, StartFailed, can_pin, free_port
from benchmarks.processor_time import core_busy_seconds, usage
from benchmarks.seed_keys import seed
from benchmarks.upstream import upstream_command
from gateway.store.sqlite_reader import SqliteReader

FEW = 10
TIMED_KEYS = 5_000
CACHE_BOUND = 100_000  # cache.max_entries, left at its default
BEYOND_BOUND = 50_000
IDLE_CONNECTIONS = 10_000
SPARE_DESCRIPTORS = 200
PIPELINED = 32
STARTS = 3
READY_TIMEOUT_SECONDS = 60.0
OTHERS = "others' share of the gateway's core meanwhile, %"


class Disturbance:
    """What others take of the gateway's core: where it is much, a p99 is the scheduler's and not the gateway's."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began = time.monotonic()
        self._before = self._foreign_seconds()

    def share(self) -> float:
        """Return the share since this was made, 0 to 1."""
        return max(0.0, self._foreign_seconds() - self._before) / (time.monotonic() - self._began)

    def _foreign_seconds(self) -> float:
        return core_busy_seconds(PEER_CORE) - usage(self._pid, None).tree_seconds


@dataclass(frozen=True, slots=True)
class Started:
    """A running gateway and how long it took to get there."""

    process: RunningProcess
    port: int
    ready_seconds: float

    @property
    def worker_megabytes(self) -> float:
        """What its proxy workers hold in memory now."""
        return usage(self.process.pid, WORKER_MARKER).worker_resident_bytes / 1e6


def main() -> int:
    """Run all measurements and print them."""
    options = _options()
    reason = KEYGATE.missing()
    if reason is not None:
        print(f"skipped: {reason}")
        return 1
    core = LOAD_CORE if can_pin(LOAD_CORE) else None
    with tempfile.TemporaryDirectory(prefix="keygate-cold-") as name:
        directory = Path(name)
        port = free_port()
        command = upstream_command(directory, port)
        with RunningProcess(command, port=port, log=directory / "upstream.log", core=core):
            figures = _measure(directory, port, options.keys, options.gateway)
    gateway = version(options.gateway)
    print(gateway)
    for title, value in figures.items():
        print(f"{title:<58}{value:>12,.3f}")
    if figures[OTHERS] > report.QUIET_SHARE * 100:
        print("NOT A QUIET MACHINE: latencies, and what is added at p99 above all, are no results")
    document = {"machine": report.machine(), "gateway": gateway, "keys": options.keys, "figures": figures}
    print(f"\nwrote {report.write(json.dumps(document, indent=1) + chr(10), options.results, 'cold_keys.json')}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_keys", description=__doc__.partition("\n")[0])
    parser.add_argument("--keys", type=int, default=1_000_000, help="keys in the large store")
    add_gateway_option(parser)
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    return parser.parse_args()


def _measure(directory: Path, upstream_port: int, count: int, gateway: tuple[str, ...]) -> dict[str, float]:
    figures: dict[str, float] = {}
    few = list(make_keys(FEW).good)
    small = _site(directory / "few", upstream_port, few, 0, gateway)
    figures[f"start to ready, {FEW} keys, s"] = _ready_seconds(small, few[0])

    known = list(make_keys(min(count, TIMED_KEYS + CACHE_BOUND + BEYOND_BOUND)).good)
    seeding = time.monotonic()
    large = _site(directory / "many", upstream_port, known, count - len(known), gateway)
    figures[f"(seeding {count:,} keys, s)"] = time.monotonic() - seeding
    figures[f"start to ready, {count:,} keys, s"] = _ready_seconds(large, known[0])

    figures.update(_point_reads(large, known[1 : TIMED_KEYS + 1]))
    with _started(large, known[0]) as started:
        figures["worker's memory, idle, MB"] = started.worker_megabytes
        figures.update(_look_up(started, known[1 : TIMED_KEYS + 1]))
        figures.update(_fill(started, known))
    with _started(large, known[0]) as started:
        figures.update(_idle_connections(started, known[0]))
    return figures


def _site(
    directory: Path, upstream_port: int, known: Sequence[KnownKey], filler: int, gateway: tuple[str, ...]
) -> Site:
    """Make a store with these keys and `filler` others."""
    directory.mkdir()
    seed(f"sqlite:///{directory}/gateway.db", known, filler)
    return Site(directory, free_port(), upstream_port, make_keys(0), gateway)


@contextmanager
def _started(site: Site, key: KnownKey) -> Iterator[Started]:
    """Run a gateway, timed from its start until it says ready and has answered a keyed request."""
    control_port = free_port()
    process = RunningProcess(
        gateway_command(site, control_port=control_port),
        port=site.port,
        log=site.directory / "output.log",
        core=PEER_CORE if can_pin(PEER_CORE) else None,
    )
    began = time.monotonic()
    with process:
        _wait_until_ready(control_port, process)
        with HttpLine(site.port) as line:
            line.ask(request_for(key.secret))
        yield Started(process, site.port, time.monotonic() - began)


def _wait_until_ready(control_port: int, process: RunningProcess) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", control_port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except OSError:
            pass  # not listening yet
        finally:
            connection.close()
        time.sleep(0.01)
    raise StartFailed(f"not ready within {READY_TIMEOUT_SECONDS:g} s\n{process.last_lines()}")


def _ready_seconds(site: Site, key: KnownKey) -> float:
    times = []
    for _ in range(STARTS):
        with _started(site, key) as gateway:
            times.append(gateway.ready_seconds)
    return statistics.median(times)


def _point_reads(site: Site, keys: Sequence[KnownKey]) -> dict[str, float]:
    """Time the store's point read alone, in this process: the part of a look-up that could grow with the store."""
    reader = SqliteReader(site.directory / "gateway.db")
    times = []
    for key in keys:
        began = time.perf_counter()
        found = reader.read(key.record.digest)
        times.append((time.perf_counter() - began) * 1e3)
        if found is None:
            raise UnexpectedAnswer(f"the store does not know {key.record.key_id}")
    reader.close()
    cuts = statistics.quantiles(times, n=100)
    return {"point read of a key, alone, p50, ms": cuts[49], "point read of a key, alone, p99, ms": cuts[98]}


def _look_up(gateway: Started, keys: Sequence[KnownKey]) -> dict[str, float]:
    """Time the first request of each key and the next one; `added` is the difference of the same key's two."""
    first: list[float] = []
    again: list[float] = []
    disturbance = Disturbance(gateway.process.pid)
    with HttpLine(gateway.port) as line:
        for key in keys:
            request = request_for(key.secret)
            for times in (first, again):
                began = time.perf_counter()
                line.ask(request)
                times.append((time.perf_counter() - began) * 1e3)
    found = {OTHERS: disturbance.share() * 100}
    for title, times in (("first request of a key", first), ("next request of it", again)):
        cuts = statistics.quantiles(times, n=100)
        found[f"{title}, p50, ms"] = cuts[49]
        found[f"{title}, p99, ms"] = cuts[98]
    found["added by the look-up, p50, ms"] = (
        found["first request of a key, p50, ms"] - found["next request of it, p50, ms"]
    )
    found["added by the look-up, p99, ms"] = (
        found["first request of a key, p99, ms"] - found["next request of it, p99, ms"]
    )
    return found


def _fill(gateway: Started, keys: Sequence[KnownKey]) -> dict[str, float]:
    """Cache keys up to the bound, then more than that."""
    found = {}
    up_to_bound = keys[:CACHE_BOUND]
    with HttpLine(gateway.port) as line:
        _ask_each(line, up_to_bound)
        found[f"worker's memory, {len(up_to_bound):,} keys cached, MB"] = gateway.worker_megabytes
        beyond = keys[CACHE_BOUND:]
        if beyond:
            _ask_each(line, beyond)
            found[f"worker's memory, {len(beyond):,} more asked for, MB"] = gateway.worker_megabytes
    return found


def _ask_each(line: HttpLine, keys: Sequence[KnownKey]) -> None:
    for start in range(0, len(keys), PIPELINED):
        line.ask_all([request_for(key.secret) for key in keys[start : start + PIPELINED]])


def _idle_connections(gateway: Started, key: KnownKey) -> dict[str, float]:
    """Open connections, use each once, and leave them open."""
    before = gateway.worker_megabytes
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    count = IDLE_CONNECTIONS if limit == resource.RLIM_INFINITY else min(IDLE_CONNECTIONS, limit - SPARE_DESCRIPTORS)
    request = request_for(key.secret)
    lines: list[HttpLine] = []
    try:
        for _ in range(count):
            line = HttpLine(gateway.port)
            lines.append(line)
            line.ask(request)
        held = gateway.worker_megabytes
    finally:
        for line in lines:
            line.close()
    return {f"worker's memory, {count:,} idle connections more, MB": held - before}


if __name__ == "__main__":
    sys.exit(main())
