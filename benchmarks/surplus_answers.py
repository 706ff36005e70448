"""How many answers reach the wrong request when an upstream answers one request twice.

    python -m benchmarks.surplus_answers

HTTP/1.1 does not number answers: where one comes too many, each request on that connection may get the answer to the
one before (docs/decisions.md, "Upstream connections rest"). Clients that never pause are the worst for it. A gateway
with one worker, an upstream whose answers take 10 ms and tell what was asked; two requests, far apart, are answered
twice, the second time a while later. What is counted depends on what meets what by chance, so several runs are shown.
"""

import argparse
import asyncio
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

from benchmarks.known_keys import make_keys
from benchmarks.peers.keygate import KEYGATE_WITHOUT_RECORDS
from benchmarks.peers.peer import Site
from benchmarks.processes import RunningProcess, free_port

CLIENTS = 16
REQUESTS = 8_000
ANSWER_SECONDS = 0.010
TWICE = (2_000, 5_000)
"""The requests that are answered twice: after the first 1,000, in which each connection is looked at before its use."""
LATER_SECONDS = (0.0005, 0.002, 0.005, 0.015)


@dataclass(slots=True)
class Run:
    """What one gateway and its clients went through."""

    later: float
    asked: int = 0
    wrong: dict[int, int] = field(default_factory=lambda: dict.fromkeys(TWICE, 0))
    """Answers to another request than was asked, by the surplus that went before."""
    failed: int = 0


class Upstream(asyncio.Protocol):
    """Answers with the path that was asked for, one request after the other."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._pending = b""
        self._ends = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        *heads, self._pending = (self._pending + data).split(b"\r\n\r\n")
        loop = asyncio.get_running_loop()
        for head in heads:
            token = head.split(b" ", 2)[1][1:]
            self._ends = max(self._ends, loop.time()) + ANSWER_SECONDS
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(token), token)
            loop.call_at(self._ends, self._say, answer)
            if int(token) in TWICE:
                loop.call_at(self._ends + self._run.later, self._say, answer)

    def _say(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


async def client(run: Run, site: Site) -> None:
    """Ask without a pause until all is asked; go on with another connection where one is cut."""
    secret = site.keys.good[0].secret
    while run.asked < REQUESTS:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        try:
            while run.asked < REQUESTS:
                run.asked += 1
                token = b"%d" % run.asked
                writer.write(b"GET /%b HTTP/1.1\r\nHost: a\r\nX-API-KEY: %b\r\n\r\n" % (token, secret.encode()))
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
                if not head.startswith(b"HTTP/1.1 200 "):
                    run.failed += 1
                elif body != token:
                    run.wrong[max(each for each in TWICE if each <= int(token))] += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            run.failed += 1
        finally:
            writer.close()


async def clients(run: Run, site: Site) -> None:
    """All clients and the upstream, on one loop."""
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(run), "127.0.0.1", site.upstream_port)
    async with server:
        await asyncio.gather(*(client(run, site) for _ in range(CLIENTS)))


def measured(directory: Path, later: float) -> Run:
    """One gateway from its start to its end."""
    run = Run(later)
    site = Site(directory, free_port(), free_port(), make_keys())
    command = KEYGATE_WITHOUT_RECORDS.command(site)
    with RunningProcess(command, port=site.port, log=directory / "output.log", core=None):
        uvloop.run(clients(run, site))
    return run


def main() -> int:
    """Measure each delay, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.surplus_answers")
    parser.add_argument("--runs", type=int, default=3, help="gateways for each delay (3)")
    options = parser.parse_args()
    print(f"{REQUESTS:,} requests of {CLIENTS} clients, answers take {ANSWER_SECONDS * 1000:g} ms")
    print("| the second answer comes after | wrong after the first time | after the second time | failed |")
    print("|---:|---|---|---|")
    for later in LATER_SECONDS:
        runs = []
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory(prefix="keygate-surplus-") as name:
                runs.append(measured(Path(name), later))
        first, second = (", ".join(str(run.wrong[each]) for run in runs) for each in TWICE)
        print(
            f"| {later * 1000:g} ms | {first} | {second} | {', '.join(str(run.failed) for run in runs)} |", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
