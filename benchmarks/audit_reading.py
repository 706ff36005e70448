"""`python -m benchmarks.audit_reading`: what it takes to find requests among millions, and to let go of a day of them.

Five days of 1,000,000 entries each in SQLite. Each row of the table is one question to the store, asked for many keys:
once with the files' pages in memory, and once after the kernel was told to forget them. Then a day goes, while a writer
beside it puts a batch on record every quarter of a second, as the recorder does at 2,000 requests/s.

Invariant: measured through the store as the gateway uses it, threads and all. Nothing runs ANALYZE.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final

from benchmarks import report
from benchmarks.audit_entries import (
    FIRST_SEGMENT,
    KEYS,
    ORGANIZATIONS,
    OWNERS,
    entries,
    key_id,
    organization_id,
    owner_id,
    principal,
)  # fmt: skip
from gateway.keys.request_entry import Outcome
from gateway.store.audit_query import DAY_MICROSECONDS, EntryQuery, first_moment
from gateway.store.audit_sqlite import SqliteAuditStore

FIND_GOAL_MILLISECONDS: Final = 50.0  # at p95: what is worst, the machine decides
RETENTION_GOAL_SECONDS: Final = 1.0
GOALS: Final = ("a busy key's last 100", "a quiet key's last 100", "those of a key that was used five days ago alone")
A_DAY_GOES: Final = "a day goes, ms"
FIRST_DAY: Final = first_moment("2026-11-16")
SPOOL: Final = "0123456789abcdef"
BATCH: Final = 20_000
LIVE_BATCH: Final = 500
LIVE_PAUSE_SECONDS: Final = 0.25
LIVE_SECONDS: Final = 10.0
COLD_CALLS: Final = 20
RARE_CALLS: Final = 10
LONG_AGO: Final = KEYS + 1
"""The number of a key that was used on the first day alone."""

Question = tuple[str, list[EntryQuery]]


def main() -> int:
    """Fill, ask, let go, and print and write what was found."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="keygate-reading-") as directory:
        finding, retention = asyncio.run(_measure(Path(directory), options))
    print(f"\n{'milliseconds':<58}" + "".join(f"{title:>12}" for title in next(iter(finding.values()))))
    for question, row in finding.items():
        print(f"{question:<58}" + "".join(f"{value:>12.2f}" for value in row.values()))
    for title, value in retention.items():
        print(f"{title:<58}{value:>12,.2f}")
    finds = all(finding[question]["p95"] <= FIND_GOAL_MILLISECONDS for question in GOALS)
    forgets = retention[A_DAY_GOES] <= RETENTION_GOAL_SECONDS * 1000
    print(f"goal: a key's last 100 within {FIND_GOAL_MILLISECONDS:g} ms (p95): {'met' if finds else 'not met'}")
    print(f"goal: a day goes within {RETENTION_GOAL_SECONDS:g} s: {'met' if forgets else 'not met'}")
    document = {
        "machine": report.machine(),
        "days": options.days,
        "entries": options.entries,
        "finding": finding,
        "retention": retention,
    }
    print(f"\nwrote {report.write(json.dumps(document, indent=1) + chr(10), options.results, 'audit_reading.json')}")
    return 0 if finds and forgets else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit_reading", description=__doc__.partition("\n")[0])
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--entries", type=int, default=1_000_000, help="of each day")
    parser.add_argument("--calls", type=int, default=100, help="of each question")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    return parser.parse_args()


async def _measure(
    directory: Path, options: argparse.Namespace
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    store = SqliteAuditStore(directory)
    try:
        for day in range(options.days):
            await _fill(store, day, options.entries)
        finding = {}
        for title, queries in _questions(options.days, options.calls):
            warm, busy = await _ask(store, queries)
            cold = []
            for query in queries[:COLD_CALLS]:
                _forget_pages(directory)
                cold += (await _ask(store, [query]))[0]
            cuts = statistics.quantiles(warm, n=20)
            finding[title] = {
                "p50": cuts[9], "p95": cuts[18], "worst": max(warm), "CPU, p50": statistics.median(busy),
                "p50, cold": statistics.median(cold), "worst, cold": max(cold),
            }  # fmt: skip
        return finding, await _retain(store, options.days)
    finally:
        await store.close()


async def _fill(store: SqliteAuditStore, day: int, count: int) -> None:
    keys = [principal(number) for number in range(KEYS)]
    if day == 0:
        keys[-1] = principal(LONG_AGO)
    source = entries(
        count, first_at=FIRST_DAY + day * DAY_MICROSECONDS, span_microseconds=DAY_MICROSECONDS,
        segment=FIRST_SEGMENT + day * 1_000, keys=keys,
    )  # fmt: skip
    while batch := list(islice(source, BATCH)):
        await store.write(SPOOL, batch)
    print(f"  {count:,} entries of day {day + 1}", flush=True)


def _questions(days: int, calls: int) -> Iterator[Question]:
    """Return what is asked, each for other keys or moments in each call."""
    chance = random.Random(1)  # noqa: S311 - the same questions in every run
    hot = KEYS // 10
    busy = [EntryQuery(key_id=key_id(chance.randrange(hot))) for _ in range(calls)]
    quiet = [EntryQuery(key_id=key_id(chance.randrange(hot, KEYS - 1))) for _ in range(calls)]
    yield GOALS[0], busy
    yield GOALS[1], quiet
    yield GOALS[2], [EntryQuery(key_id=key_id(LONG_AGO))] * calls
    yield "those of a key that was never used", [EntryQuery(key_id="key_never")] * calls
    yield "an owner's last 100", [EntryQuery(owner_id=owner_id(chance.randrange(OWNERS))) for _ in range(calls)]
    own = [EntryQuery(organization_id=organization_id(number % ORGANIZATIONS)) for number in range(calls)]
    yield "an organization's last 100", own
    yield "and those without an organization", [replace(each, anonymous=True) for each in own]
    middle = FIRST_DAY + days * DAY_MICROSECONDS // 2
    pages = [replace(each, before=(middle + chance.randrange(DAY_MICROSECONDS), "req_")) for each in own]
    yield "a page of it in the middle", pages
    yield "the organization's last 100 refused", [replace(each, outcome=Outcome.REFUSED) for each in own]
    yield "the organization's last 100 with status 5xx", [replace(each, statuses=(500, 599)) for each in own]
    few = own[:RARE_CALLS]
    yield "the organization's with a status that none has", [replace(each, statuses=(418, 418)) for each in few]
    yield "anybody's last 100", [EntryQuery(before=each.before) for each in pages]


async def _ask(store: SqliteAuditStore, queries: Sequence[EntryQuery]) -> tuple[list[float], list[float]]:
    """Return what each took, in milliseconds by the clock and of processor time."""
    taken, busy = [], []
    for query in queries:
        began, cpu = time.perf_counter(), time.process_time()
        await store.find(query)
        taken.append((time.perf_counter() - began) * 1e3)
        busy.append((time.process_time() - cpu) * 1e3)
    return taken, busy


def _forget_pages(directory: Path) -> None:
    """Have the kernel drop what it holds of the files."""
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # a page that waits to be written is not dropped
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


async def _retain(store: SqliteAuditStore, days: int) -> dict[str, float]:
    """Let a day go while a writer goes on."""
    live = entries(
        1_000_000, first_at=FIRST_DAY + days * DAY_MICROSECONDS, span_microseconds=500_000_000,
        segment=FIRST_SEGMENT + days * 1_000,
    )  # fmt: skip
    writes: list[tuple[float, float]] = []

    async def write_on() -> None:
        while True:
            batch = list(islice(live, LIVE_BATCH))
            began = time.perf_counter()
            await store.write(SPOOL, batch)
            writes.append((began, time.perf_counter()))
            await asyncio.sleep(LIVE_PAUSE_SECONDS)

    async with asyncio.TaskGroup() as group:
        writer = group.create_task(write_on())
        await asyncio.sleep(LIVE_SECONDS)
        began = time.perf_counter()
        gone = await store.retain(days, FIRST_DAY + (days + 1) * DAY_MICROSECONDS)
        ended = time.perf_counter()
        await asyncio.sleep(LIVE_PAUSE_SECONDS * 4)
        writer.cancel()
    if len(gone) != 1:
        raise RuntimeError(f"{gone} went, and not one day")
    before = [(end - begin) * 1e3 for begin, end in writes if end < began]
    during = [(end - begin) * 1e3 for begin, end in writes if end >= began and begin <= ended + LIVE_PAUSE_SECONDS]
    return {
        A_DAY_GOES: (ended - began) * 1e3,
        f"a batch of {LIVE_BATCH} before that, p50, ms": statistics.median(before),
        f"a batch of {LIVE_BATCH} before that, worst, ms": max(before),
        "the batches meanwhile and right after, worst, ms": max(during),
    }


if __name__ == "__main__":
    sys.exit(main())
