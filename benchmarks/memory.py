"""`python -m benchmarks.memory`: what huge bodies and readers that stop reading do to a proxy's memory.

Invariant: the figure is the growth of the workers' resident memory over what they held idle, at its highest while the
body passed. A proxy that streams stays flat whatever the size; one that buffers grows with it.
"""

import argparse
import http.client
import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks import report, roster
from benchmarks.comparison import LOAD_CORE, PEER_CORE
from benchmarks.known_keys import make_keys
from benchmarks.peers.keygate import add_gateway_option, version
from benchmarks.peers.peer import Peer, Site
from benchmarks.processes import RunningProcess, can_pin, free_port
from benchmarks.processor_time import usage

MEBIBYTE = 1024 * 1024
STALLED_READERS = 64
STALL_SECONDS = 3.0
SAMPLE_SECONDS = 0.02


class PeakMemory:
    """The highest resident memory of a peer's workers since it was begun."""

    def __init__(self, pid: int, peer: Peer) -> None:
        self._pid = pid
        self._marker = peer.worker_marker
        self._done = threading.Event()
        self._peak = self.now()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def now(self) -> int:
        """Read it once."""
        return usage(self._pid, self._marker).worker_resident_bytes

    def end(self) -> int:
        """Stop and return the highest sample."""
        self._done.set()
        self._thread.join()
        return max(self._peak, self.now())

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, self.now())


def main() -> int:
    """Run all measurements and print them."""
    options = _options()
    peer = roster.peer(options.peer)
    reason = peer.missing()
    if reason is not None:
        print(f"skipped {peer.name}: {reason}")
        return 1
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keygate-memory-")))
        upstream_port = free_port()
        stack.enter_context(
            RunningProcess(
                [sys.executable, "-m", "benchmarks.bulk_upstream", str(upstream_port)],
                port=upstream_port,
                log=directory / "upstream.log",
                core=LOAD_CORE if can_pin(LOAD_CORE) else None,
            )
        )
        site = Site(directory, free_port(), upstream_port, make_keys(10), options.gateway)
        core = PEER_CORE if can_pin(PEER_CORE) else None
        process = stack.enter_context(
            RunningProcess(peer.command(site), port=site.port, log=directory / "output.log", core=core)
        )
        figures = _measure(peer, site, process.pid, options.mebibytes * MEBIBYTE)
    gateway = version(options.gateway)
    print(gateway)
    for title, value in figures.items():
        print(f"{title:<58}{value:>12,.1f}")
    document = {"machine": report.machine(), "peer": peer.name, "gateway": gateway, "figures": figures}
    text = json.dumps(document, indent=1) + "\n"
    print(f"\nwrote {report.write(text, options.results, f'memory_{peer.name}.json')}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--peer", choices=roster.NAMES, default="keygate")
    add_gateway_option(parser)
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of the bodies")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    return parser.parse_args()


def _measure(peer: Peer, site: Site, pid: int, size: int) -> dict[str, float]:
    _download(site, MEBIBYTE)  # what is set up by the first body is not growth
    _upload(site, MEBIBYTE)
    idle = usage(pid, peer.worker_marker).worker_resident_bytes
    figures = {"workers' memory, idle, MiB": idle / MEBIBYTE}
    work: tuple[tuple[str, Callable[[Site, int], None]], ...] = (
        ("download", _download),
        ("upload", _upload),
        (f"{STALLED_READERS} stalled readers", _stall),
    )
    for title, action in work:
        peak = PeakMemory(pid, peer)
        began = time.monotonic()
        action(site, size)
        seconds = time.monotonic() - began
        figures[f"{title}, growth at its highest, MiB"] = (peak.end() - idle) / MEBIBYTE
        if action is not _stall:
            figures[f"{title}, MiB/s"] = size / MEBIBYTE / seconds
    return figures


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


def _stall(site: Site, size: int) -> None:
    """Ask for large bodies over many connections and read none of them."""
    request = f"GET /{size} HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: {site.keys.good[0].secret}\r\n\r\n".encode()
    readers = [socket.create_connection(("127.0.0.1", site.port)) for _ in range(STALLED_READERS)]
    try:
        for reader in readers:
            reader.sendall(request)
        time.sleep(STALL_SECONDS)
    finally:
        for reader in readers:
            reader.close()


def _check(held: bool, found: str) -> None:  # noqa: FBT001 - the condition is the subject, as in assert
    if not held:
        raise http.client.HTTPException(f"the body did not arrive: {found}")


if __name__ == "__main__":
    sys.exit(main())
