"""A worker's data plane on real sockets of the loopback address, and an upstream behind it that keeps every byte.

Everything runs on one event loop of one thread, the one that ships (uvloop): the gateway's listener and pool, the
upstream, and the test's clients. So a test knows when everybody has done what there was to do (`Live.settled`), pieces
of a request really arrive one by one, and a thousand cases take seconds. Invariant: nothing is made up but the key
store, and that time passes; what the clock decides is in tests of `tests/proxy`, whose loop has a clock of its own.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
import uvloop

from gateway.errors import StoreUnavailable
from gateway.keys.secret import digest
from gateway.proxy.assembly import assemble, key_cache
from gateway.settings.model import Settings
from tests.proxy.harness import DEFECTS, SECRET, record
from tests.proxy.wire_reader import Incomplete, Message, NotHttp, read_request
from tests.wire.live_clients import Client, TlsClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from gateway.keys.record import CredentialRecord
    from gateway.proxy.upstream_pool import Target
    from gateway.proxy.worker import Worker

    # What an upstream says to one request; "" closes nothing. None: it says nothing.
    Answer = Callable[[Message], bytes | None]

_QUIET_TURNS: Final = 3
"""Turns of the loop in which nothing may happen any more before all is taken to be settled."""
_TURNS: Final = 5000
"""Far from what any case takes to settle."""
_SPINS: Final = 200
"""Turns of the loop before waiting costs the processor nothing."""
_PATIENCE: Final = 30_000
"""Turns of a millisecond or more before something is taken never to happen; far from what any case takes."""


def run(coroutine: Awaitable[None]) -> None:
    """Run a test's coroutine on the loop that ships."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(cast("Any", coroutine))


def ok(request: Message) -> bytes:
    """A small answer that names what was asked for."""
    body = request.method + b" " + request.target
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + (b"" if request.method == b"HEAD" else body)


def wants(transport: asyncio.Transport) -> bool:
    """Whether bytes wait for it in the kernel, and it is willing to read them."""
    raw = transport.get_extra_info("socket")
    if raw is None or raw.fileno() < 0 or not transport.is_reading():
        return False
    with suppress(OSError):  # closed since
        return bool(struct.unpack("i", fcntl.ioctl(raw.fileno(), termios.FIONREAD, b"\0\0\0\0"))[0])
    return False


def store_away() -> Exception:
    return StoreUnavailable("The store is away.")


class Keys:
    """A KeySource that knows what the test puts in, and fails where the test says so."""

    def __init__(self) -> None:
        self.records: dict[bytes, CredentialRecord] = {}
        self.fails_with: Callable[[], Exception] | None = None
        """Whenever it is asked."""
        self.fails_later = False
        """In another turn of the loop than it was asked in."""

    def put(self, secret: bytes, **changes: Any) -> None:  # noqa: ANN401  any field of a record
        self.records[digest(secret)] = record(secret, **changes)

    def read(self, key_digest: bytes) -> CredentialRecord | asyncio.Future[CredentialRecord | None] | None:
        """See KeySource."""
        if self.fails_with is None:
            return self.records.get(key_digest)
        error = self.fails_with()
        if not self.fails_later:
            raise error
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[CredentialRecord | None] = loop.create_future()
        loop.call_soon(answer.set_exception, error)
        return answer


class UpstreamPeer(asyncio.Protocol):
    """One connection that the gateway opened: all its bytes, and the whole requests that were answered by `answer`."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.received = b""
        self.requests: list[Message] = []
        self.reads: list[int] = []
        self.ended = False
        self.keeps_its_half = False
        """Whether it goes on writing when the gateway has ended its half."""
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._upstream.connections.append(self)

    def data_received(self, data: bytes) -> None:
        self._upstream.events += 1
        self.reads.append(len(data))
        self.received += data
        self._unread += data
        while self._unread and self._upstream.reads_requests:
            try:
                request, self._unread = read_request(self._unread)
            except Incomplete:
                return
            except NotHttp as error:
                self._upstream.faults.append(error)
                return
            self.requests.append(request)
            self._upstream.arrived.append(request)
            answer = self._upstream.answer(request)
            if answer is not None:
                self.transport.write(answer)

    def eof_received(self) -> bool:
        self.ended = True
        return self.keeps_its_half

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio.Protocol
        self._upstream.events += 1
        self.ended = True


class Upstream:
    """See the module. `reads_requests=False`: bytes are kept, and the test itself speaks."""

    def __init__(self) -> None:
        self.answer: Answer = ok
        self.reads_requests = True
        self.connections: list[UpstreamPeer] = []
        self.arrived: list[Message] = []
        self.faults: list[NotHttp] = []
        """What the gateway sent that is no request to a strict reader."""
        self.events = 0
        self.port = 0

    @property
    def requests(self) -> list[Message]:
        """All whole requests in the order of their arrival, on whichever connection."""
        return list(self.arrived)

    @property
    def received(self) -> bytes:
        """Every byte that the gateway sent upstream, connection by connection."""
        return b"".join(each.received for each in self.connections)

    def forget(self) -> None:
        """Begin to count anew; connections stay open."""
        for each in self.connections:
            each.received = b""
            each.requests.clear()
        self.connections = [each for each in self.connections if not each.ended]
        self.arrived.clear()
        self.faults.clear()


class Live:
    """See the module; made by `live`."""

    def __init__(self, worker: Worker, upstream: Upstream, keys: Keys, address: tuple[str, int]) -> None:
        self.loop = asyncio.get_running_loop()
        self.worker = worker
        self.upstream = upstream
        self.keys = keys
        self.address = address
        self.clients: list[Client] = []

    @property
    def target(self) -> Target:
        """The one target there is."""
        return self.worker.pools[0].targets[0]

    async def client(self) -> Client:
        """Connect."""
        connection = socket.socket()
        connection.settimeout(0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self.loop.sock_connect(connection, self.address)
        client = Client(self, connection)
        self.clients.append(client)
        return client

    async def ask(self, *pieces: bytes, methods: Iterable[bytes] = ()) -> Client:
        """Send a request on a connection of its own, in these pieces, and wait until all is settled."""
        client = await self.client()
        await self._ask(client, pieces, methods)
        return client

    async def tls_client(self, context: ssl.SSLContext, *, name: str = "localhost", shakes: bool = True) -> TlsClient:
        """Connect with TLS; `shakes`: and end the handshake."""
        client = TlsClient(self, (await self.client()).socket, context, name)
        self.clients[-1] = client
        if shakes:
            await client.shake_hands()
        return client

    async def ask_tls(self, context: ssl.SSLContext, *pieces: bytes, methods: Iterable[bytes] = ()) -> TlsClient:
        """`ask`, with TLS; each piece is a record of its own."""
        client = await self.tls_client(context)
        await self._ask(client, pieces, methods)
        return client

    async def _ask(self, client: Client, pieces: tuple[bytes, ...], methods: Iterable[bytes]) -> None:
        client.methods = list(methods) or [b"".join(pieces).lstrip(b"\r\n").partition(b" ")[0]]
        await client.send(*pieces)
        await self.settled()

    async def settled(self, *, turns: int = 0) -> None:
        """Wait until nobody has anything left to do that needs no time. `turns`: only so many turns of the loop."""
        quiet = 0
        for turn in range(_TURNS):
            before = self.upstream.events, self.worker.requests
            await asyncio.sleep(0)
            taken = sum(each.take() for each in self.clients)
            busy = taken or before != (self.upstream.events, self.worker.requests) or self.has_unread()
            quiet = 0 if busy else quiet + 1
            if turns and turn + 1 >= turns and not self.has_unread():
                break
            if quiet > _QUIET_TURNS:
                break
        else:
            pytest.fail(f"still not settled after {_TURNS} turns of the loop: {self._told()}")
        assert not DEFECTS.records, [each.getMessage() + repr(each.exc_info) for each in DEFECTS.records]

    async def until(self, condition: Callable[[], object]) -> None:
        """Let everybody go on, and clients read, until something is so; it fails only where that will never be."""
        for turn in range(_PATIENCE):
            for client in self.clients:
                client.take()
            if condition():
                return
            await asyncio.sleep(0 if turn < _SPINS else 0.001)
        pytest.fail(f"nothing happens any more: {self._told()}")

    def _told(self) -> str:
        return f"received {[each.received[:60] for each in self.clients]}, of {self.worker.connections}"[:2000]

    def has_unread(self) -> bool:
        """Whether bytes wait in the kernel that the gateway is willing to read."""
        transports = [each.transport for each in self.worker.connections]
        if self.worker.tls is not None:
            transports += [each.raw for each in self.worker.tls.handshakes]
        return any(map(wants, transports))

    def close_clients(self) -> None:
        for each in self.clients:
            each.close()
        self.clients.clear()


@asynccontextmanager
async def live(
    *,
    routes: Iterable[dict[str, Any]] = ({},),
    server: dict[str, Any] | None = None,
    upstream: dict[str, Any] | None = None,
    auth: dict[str, Any] | None = None,
    upstream_tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Live]:
    """Run a gateway and its upstream; arguments are tables of the settings, as for `tests.proxy.harness.Gate`.

    `upstream_tls` is the upstream's own context: then the target is https://localhost.
    """
    loop = asyncio.get_running_loop()
    behind = Upstream()
    listener = await loop.create_server(lambda: UpstreamPeer(behind), "127.0.0.1", 0, ssl=upstream_tls)
    behind.port = listener.sockets[0].getsockname()[1]
    target = f"https://localhost:{behind.port}" if upstream_tls is not None else f"http://127.0.0.1:{behind.port}"
    settings = Settings.model_validate(
        {
            "server": server or {},
            "upstreams": [{"name": "default", "targets": [target], **(upstream or {})}],
            "routes": [{"name": f"r{n}", "upstream": "default", **each} for n, each in enumerate(routes)],
            "auth": auth or {},
        }
    )
    keys = Keys()
    keys.put(SECRET)
    cache = key_cache(settings.cache, keys, clock=loop.time, wall_clock=time.time)
    worker = assemble(settings, cache, keys, loop)
    cache.on_change = worker.changed
    cache.proven(loop.time())
    front = await loop.create_server(worker, "127.0.0.1", 0, backlog=1024)
    DEFECTS.records.clear()
    ticks = loop.create_task(worker.keep_time())
    proofs = loop.create_task(_prove(cache, loop))
    gate = Live(worker, behind, keys, front.sockets[0].getsockname())
    try:
        yield gate
    finally:
        gate.close_clients()
        front.close()
        worker.pre_shutdown()
        await worker.shutdown(1)
        listener.close()
        for each in behind.connections:
            each.transport.abort()
        for task in (ticks, proofs):
            task.cancel()
        await asyncio.gather(ticks, proofs, return_exceptions=True)
        await asyncio.sleep(0)


async def _prove(cache: Any, loop: asyncio.AbstractEventLoop) -> None:  # noqa: ANN401  a KeyCache
    """There are no changes that the worker could miss."""
    while True:
        cache.proven(loop.time())
        await asyncio.sleep(0.5)
