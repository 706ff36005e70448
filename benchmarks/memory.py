"""`python -m benchmarks.memory`: what huge bodies, slow peers and crowds of connections do to a proxy's memory.

Invariants: a figure is the growth of the workers' resident memory over what they held before, at its highest; each
crowd meets a proxy that was started for it, since memory that an earlier one left behind would hide what the next one
takes. After each the descriptors have to be back where they were. A proxy that streams stays flat whatever the size.
"""

import argparse
import http.client
import json
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import report, roster
from benchmarks.comparison import LOAD_CORE, PEER_CORE
from benchmarks.crowds import CROWDS, IDLE, MEBIBYTE, Crowd, connect
from benchmarks.known_keys import make_keys
from benchmarks.peers.keygate import add_gateway_option, version
from benchmarks.peers.peer import Peer, Site
from benchmarks.processes import RunningProcess, can_pin, free_port
from benchmarks.processor_time import usage, workers

SAMPLE_SECONDS = 0.02
SETTLE_SECONDS = 20.0
TICKS_SECONDS = 5.0
IDLE_BOUND_MIB = 75.0
FLAT_MIB = 40.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; memory in MiB, but for what a connection takes."""

    title: str
    before_mib: float
    growth_mib: float
    kib_per_connection: float
    left_mib: float
    """What was still held when all connections were gone."""
    descriptors_before: int
    descriptors_peak: int
    descriptors_after: int
    bound: str
    kept: bool


class Worker:
    """The workers of a running peer, as the kernel sees them."""

    def __init__(self, pid: int, peer: Peer) -> None:
        self._pid = pid
        self._marker = peer.worker_marker

    def resident(self) -> int:
        """Bytes."""
        return usage(self._pid, self._marker).worker_resident_bytes

    def seconds(self) -> float:
        """Processor time."""
        return usage(self._pid, self._marker).worker_seconds

    def descriptors(self) -> int:
        """Open ones."""
        return sum(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) for pid in workers(self._pid, self._marker))


class Peak:
    """The most memory and descriptors since it was begun."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._done = threading.Event()
        self.resident = worker.resident()
        self.descriptors = worker.descriptors()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.resident = max(self.resident, self._worker.resident())
            self.descriptors = max(self.descriptors, self._worker.descriptors())


def main() -> int:
    """Run all measurements and print them."""
    options = _options()
    peer = roster.peer(options.peer)
    reason = peer.missing()
    if reason is not None:
        print(f"skipped {peer.name}: {reason}")
        return 1
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    chosen = [each for each in CROWDS if options.only in each.title]
    left_out = [each.title for each in chosen if each.connections + 200 > hard]
    for title in left_out:
        print(f"skipped {title}: only {hard} files may be open (ulimit -Hn)")
    print(version(options.gateway))
    rows: list[Row] = []
    others: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="keygate-memory-") as directory:
        place = Path(directory)
        if not options.only:
            rows, others = _one_body(peer, options, place)
        for crowd in chosen:
            if crowd.title not in left_out:
                rows.append(_crowd(peer, options, crowd, place))
        if not options.only and hard > IDLE:
            others["ms of processor time a second, 10,000 idle"] = _ticks(peer, options, place)
    _print(rows, others)
    document = {
        "machine": report.machine(),
        "peer": peer.name,
        "gateway": version(options.gateway),
        "skipped": left_out,
        "rows": [asdict(row) for row in rows],
        "figures": others,
    }
    name = "memory.json" if peer.name == "keygate" else f"memory_{peer.name}.json"
    if not options.only:
        text = json.dumps(document, indent=1) + "\n"
        print(f"\nwrote {report.write(text, options.results, name)}")
    return 0 if all(row.kept for row in rows) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--peer", choices=roster.NAMES, default="keygate")
    add_gateway_option(parser)
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of the one body each way")
    parser.add_argument("--only", default="", help="crowds whose title has this; nothing is written then")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    return parser.parse_args()


@contextmanager
def _running(peer: Peer, options: argparse.Namespace, place: Path, upstream: str) -> Iterator[tuple[Site, Worker]]:
    """A peer of its own before an upstream of its own."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(dir=place))
        upstream_port = free_port()
        load_core = LOAD_CORE if can_pin(LOAD_CORE) else None
        command = [sys.executable, "-m", upstream, str(upstream_port)]
        log = directory / "upstream.log"
        stack.enter_context(RunningProcess(command, port=upstream_port, log=log, core=load_core))
        site = Site(directory, free_port(), upstream_port, make_keys(10), options.gateway)
        core = PEER_CORE if can_pin(PEER_CORE) else None
        process = stack.enter_context(
            RunningProcess(peer.command(site), port=site.port, log=directory / "output.log", core=core)
        )
        yield site, Worker(process.pid, peer)


def _crowd(peer: Peer, options: argparse.Namespace, crowd: Crowd, place: Path) -> Row:
    print(f"  {crowd.title} …", file=sys.stderr)
    with _running(peer, options, place, "benchmarks.crowd_upstream") as (site, worker):
        _download(site, MEBIBYTE)  # what the first body sets up is not growth
        return _row(crowd, site, worker)


def _row(crowd: Crowd, site: Site, worker: Worker) -> Row:
    time.sleep(5)  # the connection to the upstream that stays idle longest is closed after four
    before, descriptors = worker.resident(), worker.descriptors()
    peak = Peak(worker)
    try:
        crowd.come(site)
    finally:
        peak.end()
    deadline = time.monotonic() + SETTLE_SECONDS
    while worker.descriptors() > descriptors and time.monotonic() < deadline:
        time.sleep(0.1)
    growth, after = peak.resident - before, worker.descriptors()
    each = growth / 1024 / crowd.connections
    fits = each <= crowd.bound_kib if crowd.bound_kib else growth <= crowd.bound_mib * MEBIBYTE
    return Row(
        crowd.title,
        round(before / MEBIBYTE, 1),
        round(growth / MEBIBYTE, 1),
        round(each, 1),
        round((worker.resident() - before) / MEBIBYTE, 1),
        descriptors,
        peak.descriptors,
        after,
        f"{crowd.bound_kib:g} KiB each" if crowd.bound_kib else f"{crowd.bound_mib:g} MiB",
        fits and after <= descriptors,
    )


def _one_body(peer: Peer, options: argparse.Namespace, place: Path) -> tuple[list[Row], dict[str, float]]:
    size: int = options.mebibytes * MEBIBYTE
    rows, speeds = [], {}
    works: tuple[tuple[str, Callable[[Site, int], None]], ...] = (("down", _download), ("up", _upload))
    with _running(peer, options, place, "benchmarks.bulk_upstream") as (site, worker):
        for title, work in works:
            work(site, MEBIBYTE)
            crowd = Crowd(f"one body of {options.mebibytes} MiB {title}", 1, _with(work, size), bound_mib=FLAT_MIB)
            began = time.monotonic()
            rows.append(_row(crowd, site, worker))
            speeds[f"MiB/s {title}, with pauses of the measurement"] = options.mebibytes / (time.monotonic() - began)
    begun = rows[0]  # what the first of them found is what an idle worker has
    files = begun.descriptors_before
    fits = begun.before_mib <= IDLE_BOUND_MIB
    idle = Row("idle", begun.before_mib, 0, 0, 0, files, files, files, f"{IDLE_BOUND_MIB:g} MiB", fits)
    return [idle, *rows], speeds


def _with(work: Callable[[Site, int], None], size: int) -> Callable[[Site], None]:
    return lambda site: work(site, size)


def _ticks(peer: Peer, options: argparse.Namespace, place: Path) -> float:
    """What a worker does four times a second for connections of which nothing is heard."""
    with _running(peer, options, place, "benchmarks.crowd_upstream") as (site, worker):
        clients = connect(site, IDLE)
        time.sleep(2)
        began = worker.seconds()
        time.sleep(TICKS_SECONDS)
        spent = worker.seconds() - began
        for each in clients:
            each.close()
    return spent / TICKS_SECONDS * 1000


def _print(rows: list[Row], others: dict[str, float]) -> None:
    titles = ("before", "growth MiB", "KiB each", "left MiB", "files", "most", "after", "bound", "")
    print(f"{'':<40}" + "".join(f"{each:>13}" for each in titles))
    for row in rows:
        cells = (
            row.before_mib,
            row.growth_mib,
            row.kib_per_connection,
            row.left_mib,
            row.descriptors_before,
            row.descriptors_peak,
            row.descriptors_after,
            row.bound,
            "" if row.kept else "EXCEEDED",
        )
        print(f"{row.title:<40}" + "".join(f"{each:>13}" for each in cells))
    for title, value in others.items():
        print(f"{title:<58}{value:>12,.1f}")


def _download(site: Site, size: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    connection.request("GET", f"/{size}", headers={"X-API-KEY": site.keys.good[0].secret})
    answer = connection.getresponse()
    buffer, received = bytearray(MEBIBYTE), 0
    while count := answer.readinto(buffer):
        received += count
    connection.close()
    _check(answer.status == http.HTTPStatus.OK and received == size, f"{answer.status}, {received} of {size} bytes")


def _upload(site: Site, size: int) -> None:
    block = bytes(MEBIBYTE)

    def body() -> Iterator[bytes]:
        for _ in range(size // MEBIBYTE):
            yield block

    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    fields = {"X-API-KEY": site.keys.good[0].secret, "Content-Length": str(size)}
    connection.request("POST", "/upload", body=body(), headers=fields)
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    _check(answer.status == http.HTTPStatus.OK and told == str(size).encode(), f"{answer.status}, {told[:80]!r}")


def _check(held: bool, found: str) -> None:  # noqa: FBT001 - the condition is the subject, as in assert
    if not held:
        raise http.client.HTTPException(f"the body did not arrive: {found}")


if __name__ == "__main__":
    sys.exit(main())
