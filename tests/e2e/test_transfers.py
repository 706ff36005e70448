"""Bodies of any size pass unchanged at flat memory, and whoever reads slowly slows the sender, never fills the gateway.

The sizes that the suite takes by default show the same as 1 GiB, which `make test-large` adds.
"""

from __future__ import annotations

import hashlib
import random
import threading
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.recording_upstream import RecordingUpstream, response
from tests.e2e.worker_memory import FLAT_BYTES, MEBIBYTE, WorkerMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.site import Site
    from tests.e2e.wire import Wire

SIZES: Final = [
    pytest.param(64 * MEBIBYTE, id="64MiB"),
    pytest.param(1024 * MEBIBYTE, id="1GiB", marks=[pytest.mark.large, pytest.mark.timeout(600)]),
]
FRAMINGS: Final = ["Content-Length", "Transfer-Encoding"]
_RANDOM: Final = random.Random(2).randbytes(MEBIBYTE - 8)  # noqa: S311 - reproducible, no secret
_STUCK_SECONDS: Final = 1.0
_KERNEL_BYTES: Final = 32 * MEBIBYTE
"""More than the socket buffers on the way can hold."""


def _blocks(size: int) -> Iterator[bytes]:
    """No two blocks are alike, so that a lost, repeated or swapped one shows."""
    for number in range(size // MEBIBYTE):
        yield number.to_bytes(8) + _RANDOM


def _digest(blocks: Iterator[bytes]) -> str:
    found = hashlib.sha256()
    for block in blocks:
        found.update(block)
    return found.hexdigest()


def _framing(name: str, size: int) -> str:
    return f"Content-Length: {size}" if name == "Content-Length" else "Transfer-Encoding: chunked"


def _send_body(wire: Wire, framing: str, size: int) -> None:
    for block in _blocks(size):
        if framing == "Content-Length":
            wire.socket.sendall(block)
        else:
            wire.send_chunk(block)
    if framing != "Content-Length":
        wire.socket.sendall(b"0\r\n\r\n")


def _read_digest(wire: Wire, framing: str, size: int) -> str:
    found = hashlib.sha256()
    if framing == "Content-Length":
        while size:
            block = wire.read_exactly(min(size, MEBIBYTE))
            found.update(block)
            size -= len(block)
    else:
        while block := wire.read_chunk():
            found.update(block)
    return found.hexdigest()


@pytest.fixture(scope="module")
def site(serve_module: Callable[..., Site], upstream_module: RecordingUpstream) -> Site:
    site = serve_module([{"name": "default", "targets": [upstream_module.url], "head_timeout_seconds": 10}])
    for _ in range(20):  # what the first requests make and keep is no growth
        assert site.get().status == 200
    return site


@pytest.fixture
def upstream(upstream_module: RecordingUpstream) -> RecordingUpstream:
    upstream_module.reset()
    return upstream_module


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("size", SIZES)
def test_a_download_arrives_bit_for_bit_at_flat_memory(
    site: Site, upstream: RecordingUpstream, size: int, framing: str
) -> None:
    memory = WorkerMemory(site)
    with upstream.by_hand() as take, site.wire() as client:
        client.send("GET / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
        _, upper = take()
        upper.send("HTTP/1.1 200 OK", _framing(framing, size))
        sender = threading.Thread(target=_send_body, args=(upper, framing, size))
        sender.start()
        client.expect_head()
        assert _read_digest(client, framing, size) == _digest(_blocks(size))
        sender.join()
    assert memory.growth() < FLAT_BYTES


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("size", SIZES)
def test_an_upload_arrives_bit_for_bit_at_flat_memory(
    site: Site, upstream: RecordingUpstream, size: int, framing: str
) -> None:
    memory = WorkerMemory(site)
    with upstream.by_hand() as take, site.wire() as client:
        client.send("POST / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}", _framing(framing, size))
        sender = threading.Thread(target=_send_body, args=(client, framing, size))
        sender.start()
        _, upper = take()
        assert _read_digest(upper, framing, size) == _digest(_blocks(size))
        sender.join()
        upper.send("HTTP/1.1 200 OK", "Content-Length: 2", body=b"ok")
        assert client.read_answer().body == b"ok"
    assert memory.growth() < FLAT_BYTES


def _send_until_stuck(wire: Wire, size: int) -> int:
    """Send up to `size` bytes to somebody who does not read; returns how many there was room for."""
    sent = 0
    wire.socket.settimeout(_STUCK_SECONDS)
    try:
        for block in _blocks(size):
            view = memoryview(block)
            while view:
                count = wire.socket.send(view)
                view = view[count:]
                sent += count
    except TimeoutError:
        return sent
    finally:
        wire.socket.settimeout(None)
    return sent


def _send_the_rest(wire: Wire, sent: int, size: int) -> None:
    whole, part = divmod(sent, MEBIBYTE)
    for number, block in enumerate(_blocks(size)):
        if number >= whole:
            wire.socket.sendall(block[part:] if number == whole else block)


def test_a_client_that_does_not_read_slows_the_upstream(site: Site, upstream: RecordingUpstream) -> None:
    """256 MiB wait where they are, not in the gateway; when the client reads, all of them come."""
    size = 256 * MEBIBYTE
    memory = WorkerMemory(site)
    with upstream.by_hand() as take, site.wire() as client:
        client.send("GET / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
        _, upper = take()
        upper.send("HTTP/1.1 200 OK", _framing("Content-Length", size))
        sent = _send_until_stuck(upper, size)
        assert sent < _KERNEL_BYTES
        sender = threading.Thread(target=_send_the_rest, args=(upper, sent, size))
        sender.start()
        client.expect_head()
        assert _read_digest(client, "Content-Length", size) == _digest(_blocks(size))
        sender.join()
    assert memory.growth() < FLAT_BYTES


def test_an_upstream_that_does_not_read_slows_the_client(site: Site, upstream: RecordingUpstream) -> None:
    size = 256 * MEBIBYTE
    memory = WorkerMemory(site)
    with upstream.by_hand() as take, site.wire() as client:
        client.send("POST / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}", _framing("Content-Length", size))
        sent = _send_until_stuck(client, size)
        assert sent < _KERNEL_BYTES
        sender = threading.Thread(target=_send_the_rest, args=(client, sent, size))
        sender.start()
        _, upper = take()
        assert _read_digest(upper, "Content-Length", size) == _digest(_blocks(size))
        sender.join()
        upper.send("HTTP/1.1 200 OK", "Content-Length: 0")
        assert client.read_answer().status == 200
    assert memory.growth() < FLAT_BYTES


def test_one_slow_reader_holds_up_nobody_else(site: Site, upstream: RecordingUpstream) -> None:
    """Its upstream connection is given back only in a state in which the next request can use it.

    Some of these sizes end exactly while the gateway waits for the slow one: all of the response has come from the
    upstream, and not all has gone on.
    """
    upstream.answer = lambda request: response(bytes(int(request.target[1:])))
    for size in range(MEBIBYTE, 8 * MEBIBYTE, 96 << 10):
        with site.wire() as slow:
            slow.send(f"GET /{size} HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
            head = slow.expect_head()
            assert site.get("/100").status == 200
            assert len(slow.read_body(head)) == size
            assert site.get("/100").status == 200


def test_pipelining_without_reading_fills_nothing(site: Site, upstream: RecordingUpstream) -> None:
    """A hundred requests for a MiB each, from a client that reads none of the answers until all are asked for."""
    upstream.answer = lambda _: response(_RANDOM)
    memory = WorkerMemory(site)
    with site.wire() as client:
        for _ in range(100):
            client.send("GET / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
        count = -1
        while count != len(upstream.requests):
            count = len(upstream.requests)
            threading.Event().wait(_STUCK_SECONDS)
        growth = memory.growth()
        for _ in range(100):
            assert client.read_answer().body == _RANDOM
    assert growth < FLAT_BYTES
