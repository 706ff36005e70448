"""`python -m benchmarks.list_keys`: what a page of keys costs where there are a million of them.

Each row is a call of the service, as the admin API makes it: the page of 50 and, for whoever follows the cursors, pages
from the middle of the list. The keys are a mixture: a tenth revoked, a hundredth disabled, some expired or about to,
half of them used at some time, 10,000 owners, one of whom has 100,000 keys.

Invariant: measured on a store as the gateway makes it. SQLite's ANALYZE is never run by the gateway, so what it leaves
behind is dropped before; `--analyzed` keeps it, for whoever runs it by hand.
"""

import argparse
import asyncio
import contextlib
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from benchmarks.known_keys import PREFIX, make_keys
from benchmarks.seed_keys import seed
from gateway.keys.authority import Authority
from gateway.services.actor import Actor, Caller
from gateway.services.key_filters import KeyFilter, Sort, StatusFilter
from gateway.services.keys import KeyService
from gateway.store.engine import create_engine

TARGET_MILLISECONDS = 50.0
PAGES_FOLLOWED = 20
DAY = 86_400 * 1_000_000  # microseconds
BIG_OWNER = f"sva_00{0:024d}"
SMALL_OWNER = f"sva_00{7:024d}"


@dataclass(frozen=True, slots=True)
class Question:
    """One row of the table: a filter, with another text to search for in each call where there are any."""

    name: str
    wanted: KeyFilter
    searches: tuple[str, ...] = ()
    member: bool = False  # asked by an owner who sees their own keys alone

    def filter(self, choose: random.Random) -> KeyFilter:
        """Return what to ask for next."""
        return replace(self.wanted, search=choose.choice(self.searches)) if self.searches else self.wanted


def mixture(now: int) -> tuple[dict[str, str], dict[str, str]]:
    """Return what varies in the rows of `keys` and `key_uses`, as expressions of the row's number `n`."""
    # Squares modulo a prime look random, independent of each other for different primes, and are the same in every run.
    spread, ending, idle = (f"(n * n % {prime})" for prime in (999_983, 1_000_003, 1_000_033))
    name = f"printf('%s %d', substr('ci deploy web batch mobile admin report', {spread} % 33 + 1, 6), n)"
    keys = {
        "owner_id": "printf('sva_00%024d', CASE WHEN n % 10 = 0 THEN 0 ELSE n % 10000 END)",
        "revoked_at": f"CASE WHEN {spread} % 10 = 1 THEN {now} - n % 300 * {DAY} END",
        "disabled_at": f"CASE WHEN {spread} % 100 = 2 THEN {now} - n % 300 * {DAY} END",
        "expires_at": f"CASE WHEN {ending} % 4 = 0 THEN NULL ELSE {now} + ({ending} % 797 - 50) * {DAY} + n END",
        "name": name,
        "name_search": name,
    }
    uses = {"used": "n / 10 % 2", "idle_since": f"{now} - {idle} % 397 * {DAY} - n"}
    return keys, uses


def questions(tails: tuple[str, ...]) -> Iterator[Question]:
    """Return every kind of list there is."""
    yield Question("all, newest first", KeyFilter())
    for status in get_args(StatusFilter):
        yield Question(f"status={status}", KeyFilter(status))
    yield Question("owner with 100 keys", KeyFilter(owner=SMALL_OWNER))
    yield Question("owner with 100,000 keys", KeyFilter(owner=BIG_OWNER))
    yield Question("search by tail", KeyFilter(), tails)
    yield Question("search by name, few fit", KeyFilter(), tuple(f"deploy {number}" for number in range(100, 1000)))
    yield Question("search by name, many fit", KeyFilter(), tuple("cdwbmar"))
    yield Question("search without a match", KeyFilter(), tuple(f"zz{number}" for number in range(1000)))
    for days in (30, 90, 365):
        yield Question(f"unused_days={days}", KeyFilter(unused_days=days))
    for sort in get_args(Sort):
        yield Question(f"sort={sort}", KeyFilter(sort=sort))
    sorts: tuple[Sort, ...] = ("name", "expires", "last_used")
    for sort in sorts:
        yield Question(f"status=active, sort={sort}", KeyFilter("active", sort=sort))
        yield Question(f"status=disabled, sort={sort}", KeyFilter("disabled", sort=sort))
        yield Question(f"owner with 100, sort={sort}", KeyFilter(owner=SMALL_OWNER, sort=sort))
        yield Question(f"owner with 100,000, sort={sort}", KeyFilter(owner=BIG_OWNER, sort=sort))
    yield Question("status=active, unused_days=90", KeyFilter("active", unused_days=90))
    yield Question("status=revoked, search=d, sort=expires", KeyFilter("revoked", search="d", sort="expires"))
    yield Question("a member's own, sort=last_used", KeyFilter(sort="last_used"), member=True)
    yield Question("a member's own, unused_days=30", KeyFilter(unused_days=30), member=True)


def caller(organization_id: str, owner_id: str, *, admin: bool) -> Caller:
    """Return a service account that may read: all of the organization, or its own."""
    permissions = ("gateway:read", "gateway:admin") if admin else ("gateway:read",)
    authority = Authority(
        organization_id=organization_id,
        owner_id=owner_id,
        owner_kind="service_account",
        role=None,
        key_id="",
        key_permissions=None,
        owner_permissions=permissions,
        operator=False,
    )
    return Caller(authority, Actor("", "API Key: benchmark"))


async def measure(
    service: KeyService, question: Question, callers: dict[bool, Caller], calls: int
) -> tuple[list[float], list[float]]:
    """Return milliseconds by the clock and of processor time: of first pages, and of those that cursors lead to."""
    choose = random.Random(1)  # noqa: S311 - the same questions in every run
    taken: list[float] = []
    busy: list[float] = []
    who = callers[question.member]
    while len(taken) < calls:
        wanted, cursor = question.filter(choose), None
        for _ in range(PAGES_FOLLOWED):
            began, worked = time.perf_counter(), time.process_time()
            page = await service.list(who, wanted, cursor, 50)
            taken.append((time.perf_counter() - began) * 1000)
            busy.append((time.process_time() - worked) * 1000)
            cursor = page.next_cursor
            if cursor is None or len(taken) == calls:
                break
    return taken, busy


async def run(path: Path, calls: int, *, analyzed: bool) -> bool:
    """Print the table; return whether every p95 is within the target."""
    organization, tails = prepare(path, analyzed=analyzed)
    callers = {member: caller(organization, BIG_OWNER, admin=not member) for member in (False, True)}
    engine = create_engine(f"sqlite:///{path}")
    service = KeyService(engine, key_prefix=PREFIX)
    within = True
    print(f"{'':40} {'p50 ms':>8} {'p95 ms':>8} {'max ms':>8} {'p95 CPU ms':>11}")
    for question in questions(tails):
        taken, busy = await measure(service, question, callers, calls)
        p95 = _p95(taken)
        within = within and p95 <= TARGET_MILLISECONDS
        over = "" if p95 <= TARGET_MILLISECONDS else "  over"
        times = f"{statistics.median(taken):8.1f} {p95:8.1f} {max(taken):8.1f} {_p95(busy):11.1f}"
        print(f"{question.name:40} {times}{over}", flush=True)
    await engine.dispose()
    return within


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def prepare(path: Path, *, analyzed: bool) -> tuple[str, tuple[str, ...]]:
    """Return the organization and some tails; see to it that there are, or are no, statistics."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("ANALYZE")
        if not analyzed:
            connection.execute("DROP TABLE sqlite_stat1")
        organization = connection.execute("SELECT organization_id FROM keys LIMIT 1").fetchone()[0]
        tails = connection.execute("SELECT tail FROM key_secrets LIMIT 1000").fetchall()
    return str(organization), tuple(str(tail) for (tail,) in tails)


def main() -> int:
    """Seed, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.list_keys", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000, help="how many keys the organization has")
    parser.add_argument("--calls", type=int, default=200, help="pages per row of the table")
    parser.add_argument("--analyzed", action="store_true", help="keep the statistics of SQLite's ANALYZE")
    parser.add_argument(
        "--store", type=Path, help="the store, made where it is not there yet; default: a temporary one"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="keygate-list-") as directory:
        path = arguments.store or Path(directory) / "gateway.db"
        if not path.exists():
            keys, uses = mixture(time.time_ns() // 1_000)
            seed(f"sqlite:///{path}", make_keys(1).stored, arguments.keys, keys=keys, uses=uses)
        within = asyncio.run(run(path, arguments.calls, analyzed=arguments.analyzed))
    print(f"every p95 within {TARGET_MILLISECONDS:.0f} ms" if within else "over the target")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
