"""Whatever happens in whatever order: nobody gets what is another's, the counts stay true, and everything ends.

A model of clients and upstreams that behave well, badly and slowly, whose every interleaving is a test. The exchange
itself raises on an illegal change of phase, which fails the run; what is compared here is what peers can see, and what
the worker counts. Turned down: a list of scenarios, which holds the orders that somebody thought of.
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.proxy.harness import KEY_FIELD, SECRET, Client, Gate, Upstream
from tests.proxy.profiles import scaled
from tests.proxy.wire_reader import Incomplete, Message, read_request, read_responses

POISON = b"<what no client may see>"
_BODY = b"0123456789" * 3
_HEAD = b" HTTP/1.1\r\n"
REQUESTS: dict[str, tuple[bytes, bytes]] = {
    "get": (b"GET %b HTTP/1.1\r\nHost: h\r\n" + KEY_FIELD, b""),
    "get, closing": (b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + KEY_FIELD, b""),
    "get 1.0": (b"GET %b HTTP/1.0\r\n" + KEY_FIELD, b""),
    "get 1.0, kept": (b"GET %b HTTP/1.0\r\nConnection: keep-alive\r\n" + KEY_FIELD, b""),
    "head": (b"HEAD %b HTTP/1.1\r\nHost: h\r\n" + KEY_FIELD, b""),
    "post": (b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n" + KEY_FIELD, _BODY),
    "put, chunked": (
        b"PUT %b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n" + KEY_FIELD,
        b"a\r\n0123456789\r\n0\r\n\r\n",
    ),
    "broken chunks": (
        b"PUT %b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n" + KEY_FIELD,
        b"a\r\n0123456789XX\r\n",
    ),
    "large": (b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 150000\r\n" + KEY_FIELD, bytes(150_000)),
    "expecting": (b"POST %b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 30\r\n" + KEY_FIELD, _BODY),
    "no key": (b"GET %b HTTP/1.1\r\nHost: h\r\n", b""),
    "no key, body": (b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n", _BODY),
    "no request": (b"GET %b\r\n", b""),
    "websocket": (b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + KEY_FIELD, b""),
}
RESPONSES: dict[str, bytes] = {
    "length": b"HTTP/1.1 200 OK\r\nX-For: %b\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\nX-For: %b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\nall\r\n0\r\n\r\n",
    "until the end": b"HTTP/1.1 200 OK\r\nX-For: %b\r\n\r\nhello",
    "closing": b"HTTP/1.1 200 OK\r\nX-For: %b\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    "large": b"HTTP/1.1 200 OK\r\nX-For: %b\r\nContent-Length: 150000\r\n\r\n" + bytes(150_000),
    "no content": b"HTTP/1.1 204 No Content\r\nX-For: %b\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nX-For: %b\r\nContent-Length: 5\r\n\r\n",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n",
    "hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "surplus": b"HTTP/1.1 200 OK\r\nX-For: %b\r\nContent-Length: 5\r\n\r\nhello" + POISON,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n" + POISON,
    "no response": POISON + b"\r\n\r\n",
}
SIZES = st.sampled_from([1_000_000, 1, 7, 100, 200, 1_000_000, 1000, 70_000, 1_000_000])
NUMBERS = st.integers(0, 7)


class Sender:
    """What a peer has still to send."""

    def __init__(self) -> None:
        self.outbox = b""

    def take(self, size: int) -> bytes:
        """Cut off the next bytes."""
        piece, self.outbox = self.outbox[:size], self.outbox[size:]
        return piece


class ClientModel(Sender):
    """A client: the paths it asked for, in order."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client
        self.paths: list[bytes] = []
        self.tunnels = False
        self.malformed = False
        self.queued = 0
        self.sent = 0
        self.head_ends: list[int] = []
        """By request, how many bytes have to be sent for its head to be whole."""

    def queue(self, head: bytes, body: bytes) -> None:
        """Have a request to send."""
        self.client.methods.append(head.partition(b" ")[0])
        self.head_ends.append(self.queued + len(head))
        self.queued += len(head + body)
        self.outbox += head + body

    def answers(self) -> list[Message]:
        """What has come, but for a head that is not yet whole."""
        client = self.client
        # What is refused before its head is whole is not known to be a HEAD.
        known = [
            method if end <= self.sent else b"GET" for method, end in zip(client.methods, self.head_ends, strict=True)
        ]
        try:
            return read_responses(client.received, known, ended=client.ended)
        except Incomplete:
            assert client.transport.unsent or client.aborted, client.received
            return []


class UpstreamModel(Sender):
    """An upstream connection: how many of its requests it has begun to answer."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__()
        self.upstream = upstream
        self.answered = 0
        self.tunnels = False

    def requests(self) -> list[Message]:
        """The requests that have come in whole."""
        found: list[Message] = []
        rest = self.upstream.received
        with contextlib.suppress(Incomplete):
            while rest and not (self.tunnels and len(found) == self.answered):
                message, rest = read_request(rest)
                found.append(message)
        return found


class AnyOrder(RuleBasedStateMachine):
    """See the module."""

    @initialize(workers=st.sampled_from([{}, {"max_in_flight": 1}, {"max_connections": 2}]))
    def begin(self, workers: dict[str, int]) -> None:
        self.gate = Gate(server=workers, routes=[{"max_body_bytes": 200_000}])
        self.clients: list[ClientModel] = []
        self.upstreams: list[UpstreamModel] = []
        self.asked = 0
        self.drained = False

    # --- clients ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.clients) < 3)
    @rule()
    def client_connects(self) -> None:
        self.clients.append(ClientModel(self.gate.client()))

    @precondition(lambda self: self.clients)
    @rule(number=NUMBERS, kind=st.sampled_from(sorted(REQUESTS)), size=SIZES)
    def client_asks(self, number: int, kind: str, size: int) -> None:
        model = self.clients[number % len(self.clients)]
        if model.tunnels:
            model.outbox += b"a frame of a websocket"
        elif not model.malformed and (model.paths or model.client.open):
            self.asked += 1
            path = b"/%d" % self.asked
            head, body = REQUESTS[kind]
            model.paths.append(path)
            model.queue(head % path + b"\r\n", body)
            model.tunnels = kind == "websocket"
            model.malformed = kind in {"no request", "broken chunks"}
        self._client_sends(model, size)

    @precondition(lambda self: self.clients)
    @rule(number=NUMBERS, size=SIZES)
    def client_sends_more(self, number: int, size: int) -> None:
        self._client_sends(self.clients[number % len(self.clients)], size)

    def _client_sends(self, model: ClientModel, size: int) -> None:
        piece = model.take(size) if model.client.open else b""
        if piece:
            model.sent += len(piece)
            model.client.send(piece)

    @precondition(lambda self: self.clients)
    @rule(number=NUMBERS, how=st.sampled_from(["end", "reset"]))
    def client_leaves(self, number: int, how: str) -> None:
        client = self.clients[number % len(self.clients)].client
        (client.end if how == "end" else client.reset)()

    @precondition(lambda self: self.clients)
    @rule(number=NUMBERS, reads=st.booleans())
    def client_reads(self, number: int, *, reads: bool) -> None:
        client = self.clients[number % len(self.clients)].client
        (client.read_on if reads else client.stop_reading)()

    # --- upstreams ----------------------------------------------------------------------------------------------------

    def _model(self, number: int) -> UpstreamModel:
        self.upstreams += [UpstreamModel(each) for each in self.gate.upstreams[len(self.upstreams) :]]
        return self.upstreams[number % len(self.upstreams)]

    @precondition(lambda self: self.gate.upstreams)
    @rule(number=NUMBERS, kind=st.sampled_from(sorted(RESPONSES)), size=SIZES)
    def upstream_answers(self, number: int, kind: str, size: int) -> None:
        model = self._model(number)
        requests = model.requests()
        if model.tunnels:
            model.outbox += b"a frame of a websocket"
        elif model.answered < len(requests):
            request = requests[model.answered]
            response = RESPONSES[kind]
            if b"%b" in response:
                response %= request.target
            if kind == "switching":
                model.tunnels = request.one("upgrade") is not None
            elif request.method == b"HEAD" and kind not in {"continue", "hints", "no response"}:
                response = response[: response.find(b"\r\n\r\n") + 4]
            model.answered += kind not in {"continue", "hints"}
            model.outbox += response
        self._upstream_sends(model, size)

    @precondition(lambda self: self.gate.upstreams)
    @rule(number=NUMBERS, size=SIZES)
    def upstream_sends_more(self, number: int, size: int) -> None:
        self._upstream_sends(self._model(number), size)

    @precondition(lambda self: self.gate.upstreams)
    @rule(number=NUMBERS)
    def upstream_speaks_unasked(self, number: int) -> None:
        model = self._model(number)
        if not model.tunnels and not model.outbox and model.answered == len(model.requests()):
            model.upstream.send(POISON)

    def _upstream_sends(self, model: UpstreamModel, size: int) -> None:
        piece = model.take(size)
        if piece:
            model.upstream.send(piece)

    @precondition(lambda self: self.gate.upstreams)
    @rule(number=NUMBERS, how=st.sampled_from(["end", "reset"]))
    def upstream_leaves(self, number: int, how: str) -> None:
        upstream = self._model(number).upstream
        (upstream.end if how == "end" else upstream.reset)()

    @precondition(lambda self: self.gate.upstreams)
    @rule(number=NUMBERS, reads=st.booleans())
    def upstream_reads(self, number: int, *, reads: bool) -> None:
        upstream = self._model(number).upstream
        (upstream.read_on if reads else upstream.stop_reading)()

    @rule(how=st.sampled_from(["hang", "refuse", "accept", "greet"]))
    def upstream_accepts(self, how: str) -> None:
        self.gate.dials_hang = how == "hang"
        self.gate.refuses_connections = {"10.0.0.1:9000"} if how == "refuse" else set()
        self.gate.greeting = POISON if how == "greet" else b""
        if how != "hang":
            self.gate.connect()

    # --- keys, time, the end ------------------------------------------------------------------------------------------

    @rule(waits=st.booleans(), down=st.booleans())
    def store_changes_its_ways(self, *, waits: bool, down: bool) -> None:
        self.gate.store.waits, self.gate.store.down = waits, down

    @rule()
    def store_answers(self) -> None:
        self.gate.answer_lookups()

    @rule(how=st.sampled_from(["revoke", "restore", "touch", "forget"]))
    def key_changes(self, how: str) -> None:
        gate = self.gate
        if how == "forget":
            gate.happens(gate.cache.forget_everything)
        elif how == "revoke":
            gate.revoke()
        else:
            if how == "restore":
                gate.store.put(SECRET)
            gate.change()

    @rule(seconds=st.sampled_from([0.25, 1.0, 2.0, 5.0, 11.0, 62.0, 80.0]))
    def time_passes(self, seconds: float) -> None:
        self.gate.advance(seconds, step=min(seconds, 1.0))

    @precondition(lambda self: not self.drained and self.asked > 3)
    @rule(really=st.integers(0, 5))
    def worker_drains(self, really: int) -> None:
        if not really:
            self.drained = True
            self.gate.drain()

    # --- what holds ---------------------------------------------------------------------------------------------------

    @invariant()
    def the_counts_are_true(self) -> None:
        if hasattr(self, "gate"):
            self.gate.check_counts()

    @invariant()
    def every_client_gets_its_own_answers_in_order(self) -> None:
        for model in getattr(self, "clients", []):
            client = model.client
            assert POISON not in client.received
            finals = [each for each in model.answers() if each.status >= 200]
            assert len(finals) <= len(model.paths) + 1, finals
            for path, answer in zip(model.paths, finals, strict=False):
                named = answer.one("x-for")
                assert named is None or named.encode() == path, (named, path)

    @invariant()
    def every_upstream_gets_whole_requests_one_after_the_other(self) -> None:
        if not hasattr(self, "gate") or not self.gate.upstreams:
            return
        self._model(0)
        for model in self.upstreams:
            received = model.upstream.received
            assert SECRET not in received
            if not model.tunnels:
                whole = model.requests()
                assert not any(_HEAD in each.body for each in whole), whole
                assert len(whole) <= received.count(_HEAD) <= len(whole) + 1
                assert len(whole) <= model.answered + 1, "one at a time"

    def teardown(self) -> None:
        """Upstreams go, lookups are answered, time passes: then every client's connection has come to its end."""
        if not hasattr(self, "gate"):
            return
        gate = self.gate
        gate.dials_hang, gate.store.waits = False, False
        gate.connect()
        gate.answer_lookups()
        for upstream in list(gate.upstreams):
            upstream.reset()
        gate.advance(400, step=5.0)
        gate.check_nothing_is_left()


AnyOrder.TestCase.settings = settings(
    max_examples=scaled(60),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestAnyOrder = pytest.mark.timeout(0)(AnyOrder.TestCase)
