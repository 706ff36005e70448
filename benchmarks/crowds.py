"""What many or unwilling clients do to a gateway: each crowd comes, stays for a while, and leaves.

Invariant: everything goes over real sockets, and a crowd that was not served as it should be raises `Misserved`, so
that no figure is of a crowd that was turned away.
"""

import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.peers.peer import Site
from gateway.keys.secret import generate

MEBIBYTE = 1 << 20
IDLE = 10_000
MANY = 1_000
STREAMS = 64
STREAM_BYTES = 16 * MEBIBYTE
"""Of each of 64 streams: a gibibyte in all."""
UNKNOWN_KEYS = 50_000
STAY_SECONDS = 3.0
PATIENCE_SECONDS = 120.0
_BLOCK = bytes(262_144)
TINY_CHUNKS = b"1\r\nx\r\n" * 40_000
_TRIES_AT_ONCE = 500


class Misserved(Exception):
    """The gateway did not do what the crowd came for."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """One row of the table. `bound_kib`: what each connection may take; 0 where `bound_mib` bounds all of them."""

    title: str
    connections: int
    come: Callable[[Site], None]
    bound_kib: float = 0.0
    bound_mib: float = 0.0


def connect(site: Site, count: int) -> list[socket.socket]:
    """Open connections, not faster than a backlog takes them."""
    opened = []
    for number in range(count):
        connection = socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.append(connection)
        if number % _TRIES_AT_ONCE == _TRIES_AT_ONCE - 1:
            time.sleep(0.1)
    return opened


@contextmanager
def crowd(site: Site, count: int) -> Iterator[list[socket.socket]]:
    """Connections that are reset at the end: ten thousand ports in TIME_WAIT would be in the way of what follows."""
    opened: list[socket.socket] = []
    try:
        opened += connect(site, count)
        yield opened
    finally:
        for each in opened:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()


def request(site: Site, line: str, *fields: str, secret: str = "") -> bytes:
    """A head with a key."""
    key = secret or site.keys.good[0].secret
    return "\r\n".join([f"{line} HTTP/1.1", "Host: localhost", f"X-API-KEY: {key}", *fields, "", ""]).encode()


def expect(held: bool, found: str) -> None:  # noqa: FBT001 - the condition is the subject, as in assert
    """Raise unless it holds."""
    if not held:
        raise Misserved(found)


def idle(site: Site) -> None:
    """Each has asked once, and stays."""
    ask = request(site, "GET /10")
    with crowd(site, IDLE) as clients:
        for batch in range(0, IDLE, _TRIES_AT_ONCE):
            for each in clients[batch : batch + _TRIES_AT_ONCE]:
                each.sendall(ask)
            for each in clients[batch : batch + _TRIES_AT_ONCE]:
                answer = each.recv(65_536)
                expect(answer.startswith(b"HTTP/1.1 200 "), f"an idle connection got {answer[:60]!r}")
        time.sleep(STAY_SECONDS)


def dribbled_heads(site: Site) -> None:
    """Heads of 30 KiB that come in pieces and never end."""
    head = request(site, "GET /10", *(f"X-{number}: {'a' * 480}" for number in range(60)))[:-2]
    with crowd(site, MANY) as clients:
        for at in range(0, len(head), 4096):
            for each in clients:
                each.sendall(head[at : at + 4096])
        time.sleep(STAY_SECONDS)
        _nothing_came(clients)


def half_bodies(site: Site) -> None:
    """Bodies of 1 MiB of which 60 KiB come."""
    head = request(site, "POST /take", f"Content-Length: {MEBIBYTE}")
    with crowd(site, MANY) as clients:
        for each in clients:
            each.sendall(head + bytes(60 * 1024))
        time.sleep(STAY_SECONDS)
        _nothing_came(clients)


def unknown_keys(site: Site) -> None:
    """Well-formed keys that nobody made, and nonsense, each another."""
    with crowd(site, STREAMS) as clients:
        per_client = UNKNOWN_KEYS // STREAMS
        for number, each in enumerate(clients):
            answers = 0
            for asked in range(0, per_client, 20):
                keys = [generate("sk_") if (asked + n) % 4 else f"nonsense-{number}-{asked + n}" for n in range(20)]
                each.sendall(b"".join(request(site, "GET /10", secret=key) for key in keys))
                answers += 20
                _read_answers(each, b"HTTP/1.1 401 ", 20)
            expect(answers >= per_client, "answers are missing")


def slow_upstream(site: Site) -> None:
    """64 bodies of 16 MiB at once into an upstream that takes nothing for a while."""
    head = request(site, "POST /hold", f"Content-Length: {STREAM_BYTES}")
    with crowd(site, STREAMS) as clients:
        left = dict.fromkeys(clients, STREAM_BYTES)
        for each in clients:
            each.sendall(head)
            each.settimeout(0)
        _until(lambda: _send_round(left), "the bodies were not taken")
        for each in clients:
            each.settimeout(None)
            _read_answers(each, b"HTTP/1.1 200 ", 1)


def slow_clients(site: Site) -> None:
    """64 answers of 16 MiB at once to clients that read nothing for a while, and then slowly."""
    with crowd(site, STREAMS) as clients:
        left = dict.fromkeys(clients, STREAM_BYTES)
        for each in clients:
            each.sendall(request(site, f"GET /{STREAM_BYTES}"))
        time.sleep(STAY_SECONDS)
        for each in clients:
            each.settimeout(0)
        _until(lambda: _read_round(left), "the answers did not come")


def paused_tunnels(site: Site) -> None:
    """64 WebSockets whose two sides send without end, and read nothing."""
    with crowd(site, STREAMS) as clients:
        for each in clients:
            each.sendall(request(site, "GET /ws", "Connection: Upgrade", "Upgrade: websocket"))
            answer = each.recv(12)
            expect(answer == b"HTTP/1.1 101", f"no tunnel but {answer!r}")
            each.settimeout(0)
        for _ in range(int(STAY_SECONDS * 10)):
            for each in clients:
                _send_what_goes(each, 16 * MEBIBYTE)
            time.sleep(0.1)


def tiny_chunks_up(site: Site) -> None:
    """64 bodies in chunks of one byte at once, into an upstream that takes nothing."""
    with crowd(site, STREAMS) as clients:
        sent = dict.fromkeys(clients, 0)
        for each in clients:
            each.sendall(request(site, "POST /stall", "Transfer-Encoding: chunked"))
            each.settimeout(0)
        for _ in range(int(STAY_SECONDS * 10)):
            for each in clients:
                sent[each] += _send_what_goes(each, MEBIBYTE, TINY_CHUNKS, sent[each])
            time.sleep(0.1)
        _nothing_came(clients)


def tiny_chunks_down(site: Site) -> None:
    """64 answers in chunks of one byte at once, to clients that read nothing."""
    with crowd(site, STREAMS) as clients:
        for each in clients:
            each.sendall(request(site, "GET /tiny"))
        time.sleep(2 * STAY_SECONDS)
        for each in clients:
            answer = each.recv(12)
            expect(answer == b"HTTP/1.1 200", f"no answer but {answer!r}")


CROWDS: Sequence[Crowd] = (
    Crowd("10,000 idle connections", IDLE, idle, bound_mib=120),
    Crowd("1,000 heads of 30 KiB that never end", MANY, dribbled_heads, bound_kib=256),
    Crowd("1,000 half-sent bodies", MANY, half_bodies, bound_kib=256),
    Crowd("50,000 keys that are no good", STREAMS, unknown_keys, bound_mib=40),
    Crowd("64 x 16 MiB up, the upstream slow", STREAMS, slow_upstream, bound_kib=256),
    Crowd("64 x 16 MiB down, the clients slow", STREAMS, slow_clients, bound_kib=256),
    Crowd("64 bodies up in chunks of one byte, the upstream stalled", STREAMS, tiny_chunks_up, bound_kib=256),
    Crowd("64 bodies down in chunks of one byte, the clients stalled", STREAMS, tiny_chunks_down, bound_kib=256),
    Crowd("64 WebSockets, both sides stalled", STREAMS, paused_tunnels, bound_kib=256),
)


def _until(done: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        expect(time.monotonic() < deadline, complaint)
        time.sleep(0.005)


def _send_what_goes(connection: socket.socket, most: int, block: bytes = _BLOCK, before: int = 0) -> int:
    """Send the block over and over; `before`: bytes of it that went out before."""
    sent = 0
    while sent < most:
        try:
            sent += connection.send(block[(before + sent) % len(block) :][: most - sent])
        except BlockingIOError:
            break
    return sent


def _send_round(left: dict[socket.socket, int]) -> bool:
    for each in list(left):
        left[each] -= _send_what_goes(each, left[each])
        if not left[each]:
            del left[each]
    return not left


def _read_round(left: dict[socket.socket, int]) -> bool:
    """Read at most 64 KiB of each, so that all of them stay slow until the end."""
    for each in list(left):
        try:
            data = each.recv(65_536)
        except BlockingIOError:
            continue
        expect(bool(data), "an answer ended early")
        left[each] -= len(data)
        if left[each] <= 0:
            del left[each]
    return not left


def _read_answers(connection: socket.socket, beginning: bytes, count: int) -> None:
    received = b""
    while received.count(beginning) < count or not received.endswith((b"}", b"0", b"6")):
        data = connection.recv(65_536)
        expect(bool(data), f"the connection ended after {received[-200:]!r}")
        received += data
        expect(received.startswith(beginning), f"unexpected: {received[:60]!r}")


def _nothing_came(clients: Sequence[socket.socket]) -> None:
    for each in clients:
        each.settimeout(0)
        try:
            data = each.recv(100)
        except BlockingIOError:
            continue
        raise Misserved(f"an answer came too early, or an end: {data!r}")
