"""`python -m benchmarks.recorder`: what it costs to take an entry from the spool into a store that is full of them.

The store is filled with entries of one day, by itself and in large batches. Then the recorder as it ships takes more
from segments as workers leave them: it reads, checks and decodes records, writes them to the day, counts them, notes
the last use of each key, and moves its checkpoint on. All of it on one core, and PostgreSQL's server on the same one.

Invariant: what a store acknowledges is on the disk, also with PostgreSQL; nothing is set to trade that away. The figure
is processor time per entry, of this process and the server together, which says what a core can take. The clock stands
beside it, and is no result where others used the core or the disk.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Self

from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks import report
from benchmarks.audit_entries import KEYS, Principal, entries
from benchmarks.cold_nodes import seed_postgres
from benchmarks.comparison import PEER_CORE
from benchmarks.known_keys import KnownKey, make_keys
from benchmarks.processes import can_pin
from benchmarks.processor_time import core_busy_seconds, usage
from benchmarks.seed_keys import seed
from gateway import garbage
from gateway.recording.records import encode
from gateway.recording.segment import SEGMENT_BYTES
from gateway.recording.spool_directory import SpoolDirectory
from gateway.services.recorder import Found, Recorder
from gateway.store.audit_postgres import PostgresAuditStore
from gateway.store.audit_query import DAY_MICROSECONDS, first_moment
from gateway.store.audit_sqlite import SqliteAuditStore
from gateway.store.audit_store import AuditStore
from gateway.store.engine import create_engine
from tests.servers.postgres import PostgresServer, postgres_server

GOALS: Final = {"sqlite": 40_000, "postgresql": 30_000}
FILL_BATCH: Final = 20_000
DAY_BEGINS: Final = first_moment("2026-11-21")
FILL_SPOOL: Final = "0123456789abcdef"
FILL_SEGMENT: Final = 1_700_000_000
# As a server of a few gigabytes is set up; durability is left alone.
_POSTGRES: Final = ("shared_buffers=512MB", "max_wal_size=4GB")


class Meter:
    """What this process and a server take while it is entered, and what others take of the core meanwhile."""

    def __init__(self, server: PostgresServer | None) -> None:
        self._server = server
        self._began: tuple[float, ...] = (0.0,) * 4
        self._taken: tuple[float, ...] = (0.0,) * 4

    def __enter__(self) -> Self:
        self._began = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        steps = (now - then for now, then in zip(self._now(), self._began, strict=True))
        self._taken = tuple(sum(pair) for pair in zip(self._taken, steps, strict=True))

    def figures(self, entries: int) -> dict[str, float]:
        """Return what each of so many entries took."""
        clock, own, server, core = self._taken
        return {
            "entries/s of one core": entries / (own + server),
            "CPU us/entry": (own + server) * 1e6 / entries,
            "of it the server's": server * 1e6 / entries,
            "by the clock, us/entry": clock * 1e6 / entries,
            "others' share of the core, %": max(0.0, core - own - server) / clock * 100,
        }

    def _now(self) -> tuple[float, ...]:
        server = 0.0 if self._server is None else usage(self._server.process.pid, None).tree_seconds
        return time.monotonic(), time.process_time(), server, core_busy_seconds(PEER_CORE)


@dataclass(frozen=True, slots=True)
class Place:
    """The stores that are measured."""

    engine: AsyncEngine
    requests: AuditStore
    server: PostgresServer | None
    spool: SpoolDirectory


def main() -> int:
    """Measure each store, and print and write what was found."""
    options = _options()
    if can_pin(PEER_CORE):
        os.sched_setaffinity(0, {PEER_CORE})  # and with it whatever is started here
    known = make_keys(KEYS).good
    measured: dict[str, dict[str, dict[str, float]]] = {}
    for store in options.stores:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keygate-recorder-")))
            server = stack.enter_context(postgres_server(_POSTGRES)) if store == "postgresql" else None
            measured[store] = asyncio.run(_measure(directory, server, known, options))
    met = _print(measured)
    document = {"machine": report.machine(), "entries": options.entries, "measured": measured}
    print(f"\nwrote {report.write(json.dumps(document, indent=1) + chr(10), options.results, 'recorder.json')}")
    return 0 if met else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recorder", description=__doc__.partition("\n")[0])
    parser.add_argument("--entries", type=int, default=10_000_000, help="in the day before the recorder begins")
    parser.add_argument("--recorded", type=int, default=500_000, help="taken by the recorder then")
    parser.add_argument("--stores", nargs="+", choices=list(GOALS), default=list(GOALS))
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    return parser.parse_args()


async def _measure(
    directory: Path, server: PostgresServer | None, known: Sequence[KnownKey], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    if server is None:
        url = f"sqlite:///{directory}/gateway.db"
        await asyncio.to_thread(seed, url, known)
    else:
        url = server.url(server.new_database())
        await asyncio.to_thread(seed_postgres, url, known)
    engine = create_engine(url)
    requests = SqliteAuditStore(directory / "audit") if server is None else PostgresAuditStore(url, engine)
    place = Place(engine, requests, server, SpoolDirectory(directory / "spool"))
    keys = [_principal(each) for each in known]
    try:
        first, last = await _fill(place, options.entries, keys)
        recorded = await _record(place, options.recorded, keys)
    finally:
        await requests.close()
        await engine.dispose()
    return {"filling, the first tenth": first, "filling, the last tenth": last, "the recorder, after that": recorded}


async def _fill(place: Place, count: int, keys: Sequence[Principal]) -> tuple[dict[str, float], dict[str, float]]:
    """Write most of a day to the store; return what entries of the first and the last tenth took.

    The batches are made before they are timed.
    """
    span = DAY_MICROSECONDS * 8 // 10
    source = entries(count, first_at=DAY_BEGINS, span_microseconds=span, segment=FILL_SEGMENT, keys=keys)
    figures = []
    for _ in range(10):
        meter, written = Meter(place.server), 0
        while written < count // 10 and (batch := list(islice(source, FILL_BATCH))):
            with meter:
                await place.requests.write(FILL_SPOOL, batch)
            written += len(batch)
        figures.append(meter.figures(written))
        print(f"  {written:>10,} more, {figures[-1]['CPU us/entry']:.1f} us CPU each", flush=True)
    return figures[0], figures[-1]


async def _record(place: Place, count: int, keys: Sequence[Principal]) -> dict[str, float]:
    """Let the recorder take in what a worker has left, a segment at a time."""
    place.spool.open()
    began = DAY_BEGINS + DAY_MICROSECONDS * 8 // 10
    source = (encode(each) for each in entries(count, first_at=began, span_microseconds=3_600_000_000, keys=keys))
    recorder = Recorder(place.engine, place.requests, place.spool.path, retention_days=90, limit_bytes=1 << 30)
    meter = Meter(place.server)
    garbage.settle()  # as the control process does before it is ready
    payload = next(source, None)
    while payload is not None:
        segment = place.spool.create(SEGMENT_BYTES)
        while segment is not None and payload is not None and segment.append(payload) >= 0:
            payload = next(source, None)
        if segment is not None:  # there is no limit
            segment.seal()
            segment.close()
        with meter:
            while await recorder.step() is not Found.NOTHING:
                pass
    if recorder.entries != count:
        raise RuntimeError(f"{recorder.entries} of {count} were recorded")
    return meter.figures(count)


def _principal(known: KnownKey) -> Principal:
    record = known.record
    return (record.key_id, record.key_name, record.secret_id, record.organization_id, record.owner_id)


def _print(measured: Mapping[str, Mapping[str, Mapping[str, float]]]) -> bool:
    """Print the tables; tell whether the recorder was as fast as it shall be."""
    met = True
    for store, phases in measured.items():
        print(f"\n{store:<32}" + "".join(f"{title:>30}" for title in next(iter(phases.values()))))
        for phase, figures in phases.items():
            print(f"{phase:<32}" + "".join(f"{value:>30,.1f}" for value in figures.values()))
        reached = phases["the recorder, after that"]["entries/s of one core"]
        verdict = "met" if reached >= GOALS[store] else "not met"
        print(f"goal: {GOALS[store]:,} entries/s of one core: {verdict}")
        met = met and reached >= GOALS[store]
    return met


if __name__ == "__main__":
    sys.exit(main())
