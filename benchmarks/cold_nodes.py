"""`python -m benchmarks.cold_nodes`: many keys that no worker has in memory, and many that nobody ever made.

Two questions, with PostgreSQL and Redis and with SQLite alike, on one node of two workers. 100,000 distinct keys over
64 connections: does each make one look-up? 1,000,000 invented keys with valid checksums: does any of them reach the
database, what memory do they take, and does a good key notice?

Invariant: look-ups are counted by those who answer them and not by the gateway: PostgreSQL's own count of searches in
the table of digests, Redis' own count of scripts. Only SQLite, which counts nothing, is asked through /metrics.

The servers are those of the tests (`tests/servers`), and so are the nodes and the load of good keys.
"""

import argparse
import asyncio
import contextlib
import http.client
import itertools
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import redis
import uvloop
from sqlalchemy import Boolean

from benchmarks import report, seed_keys
from benchmarks.known_keys import PREFIX, KnownKey, make_keys
from benchmarks.processor_time import usage
from gateway.keys.secret import generate
from gateway.services.shapes import Initialised
from gateway.store.migrate import migrate
from tests.e2e.load import Load, LoadUpstream
from tests.e2e.nodes import Nodes, Place, Seeded, running_nodes
from tests.e2e.site import WORKER, Issued
from tests.servers.postgres import PostgresServer, postgres_server
from tests.servers.redis import RedisServer, redis_servers

CONNECTIONS = 64
GOOD_KEYS = 1_000  # which are in memory, and are asked for all the time while the invented ones come
GOOD_RATE = 500.0
PACED_RATE, PACED_SECONDS = 4_000.0, 20.0  # a flood that leaves the machine time: what it costs others by itself
STATISTICS_SECONDS = 11.0  # PostgreSQL's processes tell their counts when they were idle for 10 s, at the latest
Figures = dict[str, float]


class Asker(asyncio.Protocol):
    """One connection: asks with the next secret when it has its answer, and not more often than every `pause`."""

    def __init__(self, secrets: Iterator[str], wanted: bytes, latencies: list[float], pause: float) -> None:
        self._pause = pause
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._secrets, self._wanted, self._latencies = secrets, wanted, latencies
        self._received = b""
        self._sent = 0.0
        self._transport: Any = None  # uvloop's transports share no class with asyncio's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        secret = next(self._secrets, None)
        if secret is None:
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(b"GET /l/0000000000000000 HTTP/1.1\r\nHost: x\r\nX-API-KEY: %b\r\n\r\n" % secret.encode())

    def data_received(self, data: bytes) -> None:
        """Take an answer; any other than the one that is wanted ends the run."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
        if length is None or len(body) < int(length[1]):
            return
        self._latencies.append((time.perf_counter() - self._sent) * 1e3)
        if not head.startswith(self._wanted):
            self._fail(self._received)
            return
        self._received = b""
        early = self._sent + self._pause - time.perf_counter()
        if early > 0:
            asyncio.get_running_loop().call_later(early, self._ask)
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """No answer is left to come, or the run has failed."""
        if self._received or exc is not None:
            self._fail(self._received or str(exc).encode())
        elif not self.over.done():
            self.over.set_result(None)

    def _fail(self, what: bytes) -> None:
        if not self.over.done():
            self.over.set_exception(RuntimeError(f"unexpected: {what[:300]!r}"))


def ask_all(
    address: tuple[str, int], secrets: Iterator[str], wanted: bytes, rate: float | None = None
) -> tuple[list[float], float]:
    """Ask with each secret once, at `rate` a second or as fast as it goes.

    Returns the latencies in milliseconds, and the seconds that all took.
    """
    pause = 0.0 if rate is None else CONNECTIONS / rate

    async def work() -> list[float]:
        latencies: list[float] = []
        loop = asyncio.get_running_loop()
        opened = [
            await loop.create_connection(lambda: Asker(secrets, wanted, latencies, pause), *address)
            for _ in range(CONNECTIONS)
        ]
        await asyncio.gather(*(asker.over for _, asker in opened))
        return sorted(latencies)

    began = time.monotonic()
    return uvloop.run(work()), time.monotonic() - began


def main() -> int:
    """Run all measurements and print them."""
    options = _options()
    figures: dict[str, Figures] = {}
    for name in options.stores:
        with tempfile.TemporaryDirectory(prefix="keygate-cold-") as directory, contextlib.ExitStack() as stack:
            figures[name] = _measure(Path(directory), name, options, stack)
        print(name)
        for title, value in figures[name].items():
            print(f"  {title:<66}{value:>14,.2f}")
    document = {"machine": report.machine(), "keys": options.keys, "invented": options.invented, "figures": figures}
    print(f"\nwrote {report.write(json.dumps(document, indent=1) + chr(10), options.results, 'cold_nodes.json')}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_nodes", description=__doc__.partition("\n")[0])
    parser.add_argument("--keys", type=int, default=100_000, help="keys that exist and are cold")
    parser.add_argument("--invented", type=int, default=1_000_000, help="keys that nobody made")
    parser.add_argument("--stores", nargs="+", default=["postgresql and redis", "sqlite"], help="which ones to measure")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    return parser.parse_args()


def _measure(directory: Path, name: str, options: argparse.Namespace, stack: contextlib.ExitStack) -> Figures:
    known = make_keys(GOOD_KEYS + options.keys).good
    good, cold = known[:GOOD_KEYS], known[GOOD_KEYS:]
    if name == "sqlite":
        place = Place(f"sqlite:///{directory}/gateway.db")
        seed_keys.seed(place.store_url, known)
        postgres, cache = None, None
    else:
        postgres = stack.enter_context(postgres_server())
        cache = stack.enter_context(redis_servers(lambda program: shutil.which(program) or program))()
        place = Place(postgres.url(postgres.new_database()), cache.url)
        seed_postgres(place.store_url, known)
    upstream = stack.enter_context(LoadUpstream())
    seeded = Seeded(_nobody(), tuple(Issued(each.record.key_id, each.secret) for each in good))
    nodes = stack.enter_context(running_nodes(directory, [place], seeded, upstream))
    if cache is not None:
        _wait_for_table(cache, len(known))
    counted = _counters(nodes, postgres, cache, place)
    found: Figures = {}

    before = counted()
    latencies, seconds = ask_all(nodes.sites[0].address, (each.secret for each in cold), b"HTTP/1.1 200")
    found["cold keys, requests/s"] = len(cold) / seconds
    found |= _quantiles("cold keys", latencies)
    found |= {f"cold keys, {what} per key": (after - before[what]) / len(cold) for what, after in counted().items()}

    with nodes.load(rate=GOOD_RATE, connections=16) as load:
        found |= _flood(nodes, load, options.invented, counted)
    return found


def _flood(nodes: Nodes, load: Load, invented: int, counted: Callable[[], Figures]) -> Figures:
    """Send invented keys while good ones are asked for."""
    time.sleep(10)
    quiet = load.mark()
    quiet.assert_all_good()
    memory = _worker_bytes(nodes)
    before = counted()
    secrets = (generate(PREFIX) for _ in range(invented))
    latencies, seconds = ask_all(nodes.sites[0].address, secrets, b"HTTP/1.1 401")
    flooded = load.mark()
    number = round(PACED_RATE * PACED_SECONDS)
    paced_secrets = (generate(PREFIX) for _ in range(number))
    _, paced_seconds = ask_all(nodes.sites[0].address, paced_secrets, b"HTTP/1.1 401", PACED_RATE)
    paced = load.mark()
    paced.assert_all_good()
    # What is left when nothing has to be looked up: what this many requests cost others by being there.
    ask_all(nodes.sites[0].address, itertools.repeat(generate(PREFIX), number), b"HTTP/1.1 401", PACED_RATE)
    repeated = load.mark()
    repeated.assert_all_good()
    grown = [after - at_first for after, at_first in zip(_worker_bytes(nodes), memory, strict=True)]
    flooded.assert_all_good()
    told = {f"invented keys, {what} in all": after - before[what] for what, after in counted().items()}
    return {
        "invented keys, requests/s": invented / seconds,
        **_quantiles("invented keys", latencies),
        **told,
        "invented keys, a worker's memory grew by at most, MB": max(grown) / 1e6,
        "good keys alone, p99, ms": quiet.p99 or 0.0,
        "good keys beside the invented ones, p99, ms": flooded.p99 or 0.0,
        "invented keys at a steady rate, requests/s": PACED_RATE * PACED_SECONDS / paced_seconds,
        "good keys beside those, p99, ms": paced.p99 or 0.0,
        "good keys beside a single invented one at that rate, p99, ms": repeated.p99 or 0.0,
    }


def _quantiles(title: str, latencies: Sequence[float]) -> Figures:
    return {
        f"{title}, p50, ms": latencies[len(latencies) // 2],
        f"{title}, p99, ms": latencies[len(latencies) * 99 // 100],
    }


def _worker_bytes(nodes: Nodes) -> list[int]:
    return [usage(pid, None).worker_resident_bytes for pid in nodes.sites[0].processes(WORKER)]


def _counters(
    nodes: Nodes, postgres: PostgresServer | None, cache: RedisServer | None, place: Place
) -> Callable[[], Figures]:
    """A function that says how often each was asked so far."""
    if postgres is None or cache is None:
        return lambda: {"look-ups by /metrics": _metric(nodes, "gateway_cache_misses_total")}

    def read() -> Figures:
        time.sleep(STATISTICS_SECONDS)
        database = place.store_url.rpartition("/")[2]
        query = "SELECT idx_scan + seq_scan FROM pg_stat_user_tables WHERE relname = 'key_secrets'"
        with redis.Redis(port=cache.port) as connection:
            commands = connection.info("commandstats")
        scripts = sum(
            each["calls"] for name, each in commands.items() if name.startswith(("cmdstat_eval", "cmdstat_f"))
        )
        # Each worker's sign of life is a script too, twice a second; look-ups are what is more than those.
        return {"searches in PostgreSQL": float(postgres.execute(query, database)), "scripts in Redis": float(scripts)}

    return read


def _metric(nodes: Nodes, name: str) -> float:
    """The sum of a metric over all workers; they report once a second."""
    time.sleep(2)
    host = nodes.sites[0].running.control.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}[{{ ]", line))


def _wait_for_table(cache: RedisServer, keys: int) -> None:
    """Return when every key is in the table."""
    with redis.Redis(port=cache.port) as connection:
        while connection.hlen("{keygate}:keys") < keys:
            time.sleep(0.1)
    time.sleep(2)  # and until the workers have seen that it is complete


def seed_postgres(url: str, known: Sequence[KnownKey]) -> None:
    """What `seed_keys.seed` does for SQLite: the gateway's own schema, and rows by COPY."""
    migrate(url)

    async def work() -> None:
        connection = await asyncpg.connect(url)
        try:
            for table, rows in seed_keys.rows_of(known):
                columns = [column for column in table.columns if column.computed is None]
                await connection.copy_records_to_table(
                    table.name,
                    columns=[column.name for column in columns],
                    records=(
                        [bool(row[each.name]) if isinstance(each.type, Boolean) else row[each.name] for each in columns]
                        for row in rows
                    ),
                )
            await connection.execute("ANALYZE")
        finally:
            await connection.close()

    asyncio.run(work())


def _nobody() -> Initialised:
    """There is no admin: nothing here calls the admin API, but a site wants a key for it."""
    return cast("Initialised", SimpleNamespace(key=SimpleNamespace(secret=generate(PREFIX))))


if __name__ == "__main__":
    sys.exit(main())
