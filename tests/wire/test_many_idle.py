"""Ten thousand idle connections to a real worker process: all are kept and served, and all is given back."""

from __future__ import annotations

import resource
import socket
import struct
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.conftest import Command, starting
from tests.e2e.recording_upstream import RecordingUpstream
from tests.e2e.site import WORKER, make_site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.site import Site
    from tests.wire.conftest import Tried

SECTION = "slow and many"
MANY: Final = 10_000
SPARE: Final = 300
MOST_MEBIBYTES: Final = 120
_RESET: Final = struct.pack("ii", 1, 0)
"""Ten thousand ports in TIME_WAIT would be in other tests' way."""


@pytest.fixture
def room() -> Iterator[None]:
    """Descriptors for all of them, here and (inherited) in the gateway; each end of a connection is a process's own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MANY + SPARE:
        pytest.skip(f"this machine lets a process open {hard} files, {MANY + SPARE} are needed: raise `ulimit -Hn`")
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    if high - low < MANY + SPARE:
        pytest.skip(f"this machine has {high - low} ports for outgoing connections, {MANY + SPARE} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, MANY + SPARE), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    command = Command(tmp_path)
    with RecordingUpstream() as upstream, starting(command, tmp_path) as run:
        yield make_site(
            command,
            run,
            upstream.url,
            SERVER__MAX_CONNECTIONS=str(MANY),
            SERVER__CLIENT_IDLE_TIMEOUT_SECONDS="600",
        )


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def resident_mebibytes(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)


@pytest.mark.usefixtures("room")
def test_ten_thousand_idle_connections(site: Site, tried: Tried) -> None:
    """They take 120 MiB at most, the one above them is told so, each may ask, and their descriptors come back."""
    (pid,) = site.processes(WORKER)
    files = open_files(pid)
    assert site.get().status == 200
    memory = resident_mebibytes(pid)
    with ExitStack() as stack:
        clients: list[socket.socket] = []
        for number in range(MANY):
            client = stack.enter_context(socket.create_connection(site.address))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            clients.append(client)
            if number % 500 == 499:  # no faster than they are accepted
                while open_files(pid) < files + number:
                    time.sleep(0.01)
        while open_files(pid) < files + MANY:
            time.sleep(0.01)
        assert resident_mebibytes(pid) - memory < MOST_MEBIBYTES
        with socket.create_connection(site.address) as one_too_many:
            assert one_too_many.recv(65_536).startswith(b"HTTP/1.1 503 ")
        ask = f"GET / HTTP/1.1\r\nHost: a\r\nX-API-KEY: {site.secret}\r\n\r\n".encode()
        for client in clients[::50]:
            client.sendall(ask)
            assert client.recv(12) == b"HTTP/1.1 200"
    while open_files(pid) > files:
        time.sleep(0.05)
    assert site.get().status == 200
    tried(SECTION, MANY)
