"""A worker's data plane between a scripted client and scripted upstreams, on a loop without time and without sockets.

The objects are built as `gateway.proxy.process` builds them; only the loop, the transports and the key store are made
up. Tests put bytes in and look at the bytes that come out, at what was closed, and at the worker's counts.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from gateway.errors import StoreUnavailable
from gateway.keys.change import Change
from gateway.keys.record import CredentialRecord
from gateway.keys.secret import digest
from gateway.proxy.assembly import assemble, key_cache
from gateway.proxy.phases import OVER
from gateway.proxy.recording import Recording
from gateway.settings.model import Settings
from tests.proxy.fake_transport import FakeTransport
from tests.proxy.virtual_loop import VirtualLoop
from tests.proxy.wire_reader import Message, read_requests, read_responses

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from gateway.proxy.upstream_pool import Target
    from gateway.proxy.worker import Worker
    from gateway.recording.spool import Spool

SECRET = b"sk_" + b"0" * 43 + b"4LPos6"
OTHER_SECRET = b"sk_" + b"1" * 44 + b"6ZJwq"
"""Well-formed keys, the same in every process: pytest-xdist compares the names of tests."""
KEY_FIELD = b"X-API-KEY: " + SECRET + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TICK_SECONDS = 0.25


def record(secret: bytes = SECRET, **changes: Any) -> CredentialRecord:  # noqa: ANN401  any field of a record
    """What the store says of a key; active for ever unless said otherwise."""
    plain = CredentialRecord(
        digest=digest(secret),
        secret_id="sec_1",
        secret_valid_until=None,
        key_id="key_1",
        key_name="a key",
        version=1,
        expires_at=None,
        disabled_at=None,
        revoked_at=None,
        permissions=None,
        organization_id="org_1",
        organization_external_id=None,
        owner_kind="member",
        owner_id="mem_1",
        owner_name="ann@example.com",
        owner_external_id=None,
        owner_permissions=("*:*",),
    )
    return replace(plain, **changes)


def get(path: bytes = b"/", fields: bytes = KEY_FIELD) -> bytes:
    """A request as most are."""
    return b"GET " + path + b" HTTP/1.1\r\nHost: api.test\r\n" + fields + b"\r\n"


def post(body: bytes, path: bytes = b"/", fields: bytes = KEY_FIELD) -> bytes:
    """A request with a body of a known length."""
    head = b"POST " + path + b" HTTP/1.1\r\nHost: api.test\r\nContent-Length: %d\r\n" % len(body)
    return head + fields + b"\r\n" + body


class Defects(logging.Handler):
    """Errors in the gateway's log are defects of the gateway: nothing that peers do causes one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


DEFECTS = Defects()
logging.getLogger("gateway.proxy").addHandler(DEFECTS)


class KeyStore:
    """A KeySource of which the test says what it knows, whether it answers, and when."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.records: dict[bytes, CredentialRecord] = {}
        self.down = False
        self.waits = False
        self.waiting: list[tuple[bytes, asyncio.Future[CredentialRecord | None]]] = []
        self.reads = 0

    def put(self, secret: bytes, **changes: Any) -> None:  # noqa: ANN401  any field of a record
        """Store a key."""
        self.records[digest(secret)] = record(secret, **changes)

    def read(self, key_digest: bytes) -> CredentialRecord | asyncio.Future[CredentialRecord | None] | None:
        """See KeySource."""
        self.reads += 1
        if self.waits:
            future: asyncio.Future[CredentialRecord | None] = self._loop.create_future()
            self.waiting.append((key_digest, future))
            return future
        if self.down:
            raise StoreUnavailable("The store is away.")
        return self.records.get(key_digest)

    def answer(self) -> None:
        """Answer the lookups that wait."""
        waiting, self.waiting = self.waiting, []
        for key_digest, future in waiting:
            if future.done():  # whoever asked is gone
                continue
            if self.down:
                future.set_exception(StoreUnavailable("The store is away."))
            else:
                future.set_result(self.records.get(key_digest))


class Peer:
    """The other end of one connection of the gateway."""

    def __init__(self, gate: Gate, transport: FakeTransport) -> None:
        self.gate = gate
        self.transport = transport

    @property
    def received(self) -> bytes:
        """Every byte that the gateway sent."""
        return bytes(self.transport.sent)

    @property
    def gone(self) -> bool:
        """Whether the connection has ended for the gateway."""
        return self.transport.lost

    @property
    def aborted(self) -> bool:
        """Whether it was cut off, not closed."""
        return self.transport.aborted

    @property
    def ended(self) -> bool:
        """Whether the gateway said properly that it sends no more."""
        return (self.transport.eof_sent or self.transport.lost) and not self.transport.aborted

    def send(self, *pieces: bytes) -> None:
        """Send, each piece in a read of its own."""
        for piece in pieces:
            self.gate.happens(self.transport.peer_sends, piece)

    def end(self) -> None:
        """Send no more."""
        self.gate.happens(self.transport.peer_ends)

    def reset(self) -> None:
        """Be gone."""
        self.gate.happens(self.transport.peer_resets)

    def stop_reading(self) -> None:
        """Let what the gateway sends pile up."""
        self.transport.peer_reads = False

    def read_on(self, size: int | None = None) -> None:
        """Read that much, or everything from now on."""
        self.gate.happens(self.transport.peer_takes, size)


class Client(Peer):
    """One client connection. `methods` are what was sent, for reading the answers."""

    def __init__(self, gate: Gate, transport: FakeTransport) -> None:
        super().__init__(gate, transport)
        self.methods: list[bytes] = []

    @property
    def answers(self) -> list[Message]:
        """The responses that came, interim ones too."""
        return read_responses(self.received, self.methods, ended=self.ended)

    @property
    def answer(self) -> Message:
        """The one response that came."""
        answers = self.answers
        assert len(answers) == 1, answers
        return answers[0]

    @property
    def code(self) -> str:
        """The code in the gateway's own answer."""
        return str(problem(self.answer)["code"])

    @property
    def open(self) -> bool:
        """Whether another request would be read."""
        return not (self.transport.closing or self.transport.eof_sent)


class Upstream(Peer):
    """One connection that the gateway opened to a target."""

    def __init__(self, gate: Gate, transport: FakeTransport, authority: str) -> None:
        super().__init__(gate, transport)
        self.authority = authority

    @property
    def requests(self) -> list[Message]:
        """What the gateway forwarded; each must be whole."""
        return read_requests(self.received)

    @property
    def request(self) -> Message:
        """The one request that the gateway forwarded."""
        requests = self.requests
        assert len(requests) == 1, requests
        return requests[0]


def problem(answer: Message) -> dict[str, Any]:
    """The body of an answer of the gateway's own, which must have the documented shape."""
    assert answer.one("content-type") == "application/problem+json"
    body: dict[str, Any] = json.loads(answer.body)
    assert set(body) == {"type", "title", "status", "detail", "code", "request_id"}
    assert body["status"] == answer.status
    assert body["request_id"] == answer.one("x-request-id")
    return body


@functools.cache
def _settings(text: str) -> Settings:
    return Settings.model_validate(json.loads(text))


def targets(worker: Worker) -> list[Target]:
    """Those of all its upstreams."""
    return [target for pool in worker.pools for target in pool.targets]


def always_rested(worker: Worker) -> None:
    """From now on whatever is idle has rested, though its target has spoken unasked."""
    for target in targets(worker):
        target.precise_clock = itertools.count(0.0, 1.0).__next__


class Gate:
    """See the module. Keyword arguments are tables of the settings; `routes` replaces the one for everything.

    Requests are on record where there is a `spool`.
    """

    def __init__(
        self,
        *,
        routes: Iterable[dict[str, Any]] = ({},),
        server: dict[str, Any] | None = None,
        upstream: dict[str, Any] | None = None,
        cache: dict[str, Any] | None = None,
        auth: dict[str, Any] | None = None,
        spool: Spool | None = None,
        refusals_per_second: int = 100,
    ) -> None:
        tables = {
            "server": server or {},
            "upstreams": [{"name": "default", "targets": ["http://10.0.0.1:9000"], **(upstream or {})}],
            "routes": [{"name": f"r{n}", "upstream": "default", **each} for n, each in enumerate(routes)],
            "cache": cache or {},
            "auth": auth or {},
        }
        self.settings = _settings(json.dumps(tables))
        self.loop = VirtualLoop(self._dial)
        self.store = KeyStore(self.loop)
        self.store.put(SECRET)
        self.started = time.time() - self.loop.time()
        self.cache = key_cache(self.settings.cache, self.store, clock=self.loop.time, wall_clock=self.wall_clock)
        self.recording: Recording | None = None
        if spool is not None:
            self.recording = Recording(
                spool,
                refusals_per_second=refusals_per_second,
                key_prefix=self.settings.auth.key_prefix,
                clock=self.loop.time,
                wall_clock=self.wall_clock,
            )
        self.worker = assemble(self.settings, self.cache, self.store, self.loop.for_asyncio, self.recording)
        always_rested(self.worker)
        self.cache.on_change = self.worker.changed
        self.hears_of_changes = True
        self.cache.proven(self.loop.time())
        self.upstreams: list[Upstream] = []
        self.clients: list[Client] = []
        self.refuses_connections: set[str] = set()
        self.refuses_with: OSError = ConnectionRefusedError("refused by the test")
        self.dials_hang = False
        self.dials: list[asyncio.Future[None]] = []
        self.dialled: list[str] = []
        self.greeting = b""
        """What an upstream sends at once when it is connected to."""
        self.descriptors: list[int] = []
        """Of real sockets; the next connections to an upstream hold unread what those do."""
        DEFECTS.records.clear()

    async def _dial(
        self, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[FakeTransport, asyncio.BaseProtocol]:
        authority = f"{host}:{port}"
        self.dialled.append(authority)
        if self.dials_hang:
            waiting: asyncio.Future[None] = self.loop.create_future()
            self.dials.append(waiting)
            await waiting
        if authority in self.refuses_connections:
            raise self.refuses_with
        protocol = cast("asyncio.Protocol", factory())
        transport = FakeTransport(self.loop, protocol, (host, port))
        if self.descriptors:
            transport.socket.descriptor = self.descriptors.pop(0)
        self.upstreams.append(Upstream(self, transport, authority))
        protocol.connection_made(transport)
        if self.greeting:
            transport.peer_sends(self.greeting)
        return transport, protocol

    # --- what a test does ---------------------------------------------------------------------------------------------

    def wall_clock(self) -> float:
        """The time of day; keeps step with the loop."""
        return self.started + self.loop.time()

    def client(self, address: str = "192.0.2.7") -> Client:
        """Connect a client."""
        protocol = self.worker()
        client = Client(self, FakeTransport(self.loop, protocol, (address, 40_000)))
        self.clients.append(client)
        self.happens(protocol.connection_made, client.transport)
        return client

    def ask(self, request: bytes, *, split: int = 0) -> Client:
        """Connect a client that sends a request, in two pieces where `split` says so."""
        client = self.client()
        client.methods.append(request.partition(b" ")[0])
        if split:
            client.send(request[:split], request[split:])
        else:
            client.send(request)
        return client

    @property
    def upstream(self) -> Upstream:
        """The one connection that was opened."""
        assert len(self.upstreams) == 1, self.upstreams
        return self.upstreams[0]

    @property
    def target(self) -> Target:
        """The one target there is."""
        return self.worker.pools[0].targets[0]

    def happens(self, event: Callable[..., object], *arguments: object) -> None:
        """Let an event reach the gateway, and everything come of it that needs no time."""
        with self.loop.inside():
            event(*arguments)
        self.settle()

    def settle(self) -> None:
        """Let everything happen that needs no time; a defect of the gateway fails the test."""
        self.loop.settle()
        assert not self.loop.failures, self.loop.failures
        assert not DEFECTS.records, [each.getMessage() + repr(each.exc_info) for each in DEFECTS.records]

    def advance(self, seconds: float, *, step: float = TICK_SECONDS) -> None:
        """Let time pass, with the worker's ticks."""
        for _ in range(round(seconds / step)):
            self.loop.advance(step)
            if self.hears_of_changes:
                self.cache.proven(self.loop.time())
            self.happens(self.worker.tick)

    def connect(self) -> None:
        """Let the connections be made that hang."""
        dials, self.dials = self.dials, []
        for each in dials:
            if not each.done():
                each.set_result(None)
        self.settle()

    def answer_lookups(self) -> None:
        """Let the store answer."""
        self.store.answer()
        self.settle()

    def change(self, subject: str = "key_1", kind: str = "key") -> None:
        """Tell the worker of a committed change."""
        self.happens(self.cache.apply, Change(1, cast("Any", kind), subject, 2))

    def revoke(self, secret: bytes = SECRET, subject: str = "key_1") -> None:
        """Revoke a key, and tell the worker."""
        self.store.put(secret, revoked_at=1.0, key_id=subject)
        self.change(subject)

    def drain(self) -> None:
        """The worker is to stop."""
        self.happens(self.worker.pre_shutdown)

    # --- what a test asserts ------------------------------------------------------------------------------------------

    def check_counts(self) -> None:
        """What the worker counts agrees with what there is, at any moment at which nothing is under way."""
        worker = self.worker
        exchanges = [each.exchange for each in worker.connections if each.exchange is not None]
        live = [each for each in exchanges if each.phase != OVER]
        assert worker.in_flight == len(live), (worker.in_flight, live)
        assert worker.streaming <= set(live), (worker.streaming, live)
        lent = [each.upstream for each in live if each.upstream is not None]
        for target in targets(worker):
            self._check_target(target, lent)

    def _check_target(self, target: Target, lent: list[Any]) -> None:
        here = {each for each in lent if each.target is target}
        unused = [*target.idle, *target.resting]
        assert set(unused) <= target.connections, target
        assert len(set(unused)) == len(unused), target
        assert not here & set(unused), target
        assert target.connections == here | set(unused), (target, target.connections, here)
        assert all(not each.transport.is_closing() and each.exchange is None for each in unused), unused
        assert all(each.transport.is_reading() for each in unused), "an idle connection must notice its end"
        dialling = sum(not each.done() for each in self.dials)
        assert target.in_flight == len(here) + dialling, (target, here, dialling)

    def check_nothing_is_left(self) -> None:
        """Everybody is gone, and so is everything that was done for them."""
        worker = self.worker
        assert worker.in_flight == 0
        assert not worker.streaming
        assert not worker.connections
        for target in targets(worker):
            assert target.in_flight == 0, target
            assert target.connections == {*target.idle, *target.resting}, target
        assert all(each.done() for each in self.loop.tasks), self.loop.tasks


def splits(request: bytes) -> list[int]:
    """Every offset at which a request can be cut in two; for a long one, those near its ends and its line ends."""
    every = range(1, len(request))
    if len(request) <= 600:
        return list(every)
    ends = [at for at in every if request[at - 2 : at + 2].find(b"\r\n") >= 0][-20:]
    return sorted({*every[:40], *every[-40:], *ends})


def error_of(answer: Message) -> tuple[int, str]:
    """Status and code of an answer of the gateway's own."""
    return answer.status, problem(answer)["code"]
