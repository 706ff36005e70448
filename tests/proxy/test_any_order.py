"""Whatever happens in whatever order: nobody gets what is another's, the counts stay true, and everything ends.

A model of clients and upstreams that behave well, badly and slowly, whose every interleaving is a test. The exchange
itself raises on an illegal change of phase, which fails the run; what is compared here is what peers can see, what the
worker counts, and what is on record: a whole answer at the moment somebody has it, and every request in the end, once.
Turned down: a list of scenarios, which holds the orders that somebody thought of.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.keys.request_entry import OFFSET_BITS, Outcome, RequestEntry
from gateway.recording import records, segment
from gateway.recording.spool import Spool
from gateway.recording.spool_directory import SpoolDirectory
from tests.proxy.harness import KEY_FIELD, SECRET, Client, Gate, Upstream
from tests.proxy.profiles import scaled
from tests.proxy.wire_reader import Incomplete, Message, read_request, read_responses

if TYPE_CHECKING:
    from collections.abc import Callable

POISON = b"<what no client may see>"
IMPORTED = b"legacy-key-1"
"""A key that does not look like one of ours, sent where an upstream's own token could stand."""
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
    "preflight": (
        b"OPTIONS %b HTTP/1.1\r\nHost: h\r\nOrigin: https://app.test\r\nAccess-Control-Request-Method: PUT\r\n",
        b"",
    ),
    "me": (b"GET /me?%b HTTP/1.1\r\nHost: h\r\n" + KEY_FIELD, b""),
    "me, body": (b"POST /me?%b HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n" + KEY_FIELD, _BODY),
    "another key": (b"GET %b HTTP/1.1\r\nHost: h\r\nAuthorization: Token " + IMPORTED + b"\r\n" + KEY_FIELD, b""),
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
SIZES = [1_000_000, 1, 7, 100, 200, 1_000_000, 1000, 70_000, 1_000_000]
_STATUSES = {200, 204, 304, 401, 405, 408, 502, 503, 504}
_Item = TypeVar("_Item")


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
        self.names: list[str] = []
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
    """An upstream connection: how many of its requests it has begun to answer, and what it has done wrong."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__()
        self.upstream = upstream
        self.answered = 0
        self.tunnels = False
        self.unbounded = False
        self.broken = False

    def requests(self) -> list[Message]:
        """The requests of which the head has come in."""
        found: list[Message] = []
        rest = self.upstream.received
        try:
            while rest and not (self.tunnels and len(found) == self.answered):
                message, rest = read_request(rest)
                found.append(message)
        except Incomplete as error:
            found += [error.begun] if error.begun is not None else []
        return found

    def asked(self) -> bool:
        """Whether there is something to answer."""
        return self.tunnels or self.answered < len(self.requests())

    def answer(self, kind: str) -> None:
        """Have an answer to send to the next request."""
        if self.tunnels:
            self.outbox += b"a frame of a websocket"
            return
        request = self.requests()[self.answered]
        response = RESPONSES[kind]
        if b"%b" in response:
            response %= request.target
        interim = kind in {"continue", "hints"}
        if kind == "switching":
            self.tunnels = request.one("upgrade") is not None
            self.broken = not self.tunnels
        elif request.method == b"HEAD" and not interim and kind != "no response":
            response = response[: response.find(b"\r\n\r\n") + 4]
            self.broken = kind == "two lengths"
        else:
            self.broken = POISON in response
        self.unbounded = kind == "until the end"
        self.answered += not interim
        self.outbox += response

    def speak_unasked(self) -> None:
        """Send what nobody asked for, where nothing is to be said."""
        nothing_is_asked = not self.asked() and not self.upstream.transport.unsent
        if nothing_is_asked and not (self.tunnels or self.unbounded or self.outbox):
            self.broken = True
            self.upstream.send(POISON)


class Record:
    """What is on record of one run, read as it grows."""

    def __init__(self, spool: Spool) -> None:
        [self._file] = spool._directory.segments()
        self._offset = segment.HEADER_BYTES
        self.begun: set[str] = set()
        self.ended: set[str] = set()

    def read_on(self) -> None:
        """What came since; nothing of it twice."""
        frames, self._offset = segment.scan(self._file.path.read_bytes(), self._offset)
        for frame in frames:
            found = records.decode(frame.payload, self._file.number, frame.offset, self._file.number)
            if not isinstance(found, RequestEntry):
                continue
            request = found.request_id
            assert request not in self.ended, found
            if found.outcome is Outcome.OPEN:
                assert request not in self.begun, found
                self.begun.add(request)
            else:
                assert (found.position == self._file.number << OFFSET_BITS | frame.offset) == (
                    request not in self.begun
                )
                self.ended.add(request)


class Walk:
    """One run: each step is an action with numbers that choose whom and what it concerns."""

    def __init__(self, server: dict[str, int], spool: Spool) -> None:
        self.spool = spool
        self.record = Record(spool)
        route = {"max_body_bytes": 200_000, "cors": {"allow_origins": ["https://app.test"]}}
        self.gate = Gate(
            server={"me_path": "/me", **server}, routes=[route], spool=spool, refusals_per_second=1_000_000
        )
        self.gate.store.put(IMPORTED, key_id="key_2")
        self.clients: list[ClientModel] = []
        self.upstreams: list[UpstreamModel] = []
        self.asked = 0
        self.had_no_room = False

    # --- clients ------------------------------------------------------------------------------------------------------

    def client_connects(self, *_: int) -> None:
        if len(self.clients) < 3 or not self.clients[-1].client.open:
            self.clients.append(ClientModel(self.gate.client()))

    def client_asks(self, number: int, kind: int, size: int) -> None:
        model = self._open_client(number)
        if model is None:
            return
        if model.tunnels:
            model.outbox += b"a frame of a websocket"
        elif not model.malformed:
            self.asked += 1
            path = b"/%d" % self.asked
            name = pick(sorted(REQUESTS), kind)
            head, body = REQUESTS[name]
            model.paths.append(path)
            model.names.append(name)
            model.queue(head % path + b"\r\n", body)
            model.tunnels = name == "websocket"
            model.malformed = name in {"no request", "broken chunks"}
        self._client_sends(model, size)

    def client_sends_more(self, number: int, _kind: int, size: int) -> None:
        model = self._open_client(number)
        if model is not None:
            self._client_sends(model, size)

    def _open_client(self, number: int) -> ClientModel | None:
        there = [each for each in self.clients if each.client.open]
        return pick(there, number) if there else None

    @staticmethod
    def _client_sends(model: ClientModel, size: int) -> None:
        piece = model.take(pick(SIZES, size))
        if piece:
            model.sent += len(piece)
            model.client.send(piece)

    # --- upstreams ----------------------------------------------------------------------------------------------------

    def _upstreams(self) -> list[UpstreamModel]:
        self.upstreams += [UpstreamModel(each) for each in self.gate.upstreams[len(self.upstreams) :]]
        return [each for each in self.upstreams if not each.upstream.gone]

    def upstream_answers(self, number: int, kind: int, size: int) -> None:
        asked = [each for each in self._upstreams() if each.asked()]
        if asked:
            model = pick(asked, number)
            model.answer(pick(sorted(RESPONSES), kind))
            self._upstream_sends(model, size)

    def upstream_answers_well(self, number: int, *_: int) -> None:
        """Whole and right, so that connections live long enough to be used again."""
        asked = [each for each in self._upstreams() if each.asked()]
        if asked:
            model = pick(asked, number)
            model.answer("length")
            self._upstream_sends(model, 0)

    def upstream_sends_more(self, number: int, _kind: int, size: int) -> None:
        waiting = [each for each in self._upstreams() if each.outbox]
        if waiting:
            self._upstream_sends(pick(waiting, number), size)

    @staticmethod
    def _upstream_sends(model: UpstreamModel, size: int) -> None:
        piece = model.take(pick(SIZES, size))
        if piece:
            model.upstream.send(piece)

    # --- trouble ------------------------------------------------------------------------------------------------------

    def client_changes(self, number: int, kind: int, _size: int) -> None:
        if self.clients:
            _change(pick(self.clients, number).client, kind)

    def upstream_changes(self, number: int, kind: int, _size: int) -> None:
        if self._upstreams():
            _change(pick(self._upstreams(), number).upstream, kind)

    def upstream_speaks_unasked(self, number: int, *_: int) -> None:
        if self._upstreams():
            pick(self._upstreams(), number).speak_unasked()

    def dial_changes(self, _number: int, kind: int, _size: int) -> None:
        how = pick(["accepts", "hangs", "is refused", "accepts", "greets", "accepts"], kind)
        self.gate.dials_hang = how == "hangs"
        self.gate.refuses_connections = {"10.0.0.1:9000"} if how == "is refused" else set()
        self.gate.greeting = POISON if how == "greets" else b""
        if how != "hangs":
            self.gate.connect()

    def store_changes(self, _number: int, kind: int, _size: int) -> None:
        how = pick(["answers", "waits", "is down", "answers"], kind)
        self.gate.store.waits, self.gate.store.down = how == "waits", how == "is down"
        if how == "answers":
            self.gate.answer_lookups()

    def key_changes(self, _number: int, kind: int, _size: int) -> None:
        how = pick(["touch", "restore", "revoke", "restore", "forget", "restore"], kind)
        if how == "forget":
            self.gate.happens(self.gate.cache.forget_everything)
        elif how == "revoke":
            self.gate.revoke()
        else:
            if how == "restore":
                self.gate.store.put(SECRET)
            self.gate.change()

    def spool_changes(self, _number: int, kind: int, _size: int) -> None:
        self.spool.blocked = kind < 3

    def time_passes(self, number: int, kind: int, _size: int) -> None:
        seconds = pick([0.25, 1.0, 0.25, 1.0, 2.0, 5.0, 11.0, 62.0, 80.0] if number < 2 else [0.25, 1.0], kind)
        self.gate.advance(seconds, step=min(seconds, 1.0))

    def worker_drains(self, number: int, kind: int, _size: int) -> None:
        if number == kind == 1:
            self.gate.drain()

    # --- what holds ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """After every step."""
        self.gate.check_counts()
        self.record.read_on()
        for model in self.clients:
            self._check_client(model)
            for answer in model.answers():
                if answer.whole and answer.status >= 200 and answer.one("x-request-id") not in self.record.ended:
                    assert answer.one("x-for") is None, answer
                    assert self.had_no_room, "only then the gateway's own answers may be counted alone"
        self.had_no_room |= self.spool.blocked
        self._upstreams()
        for each in self.upstreams:
            self._check_upstream(each)

    @staticmethod
    def _check_client(model: ClientModel) -> None:
        """It gets its own answers, in order, and none says that a good request was a bad one."""
        assert POISON not in model.client.received
        finals = [each for each in model.answers() if each.status >= 200]
        assert len(finals) <= len(model.paths) + 1, finals
        for path, name, answer in zip(model.paths, model.names, finals, strict=False):
            named = answer.one("x-for")
            assert named is None or named.encode() == path, (named, path)
            assert answer.status in _STATUSES or name in {"no request", "broken chunks"}, (name, answer)

    @staticmethod
    def _check_upstream(model: UpstreamModel) -> None:
        """It gets one request at a time, each from its beginning to its end, without a credential."""
        received, transport = model.upstream.received, model.upstream.transport
        assert SECRET not in received
        assert IMPORTED not in received
        assert b"/me" not in received
        assert b"OPTIONS" not in received
        if model.broken and not model.outbox and transport.reading:
            assert transport.closing, "what broke the rules is never used again"
        if not model.tunnels:
            begun = model.requests()
            assert not any(_HEAD in each.body for each in begun), begun
            assert len(begun) <= received.count(_HEAD) <= len(begun) + 1
            assert len(begun) <= model.answered + 1, "one at a time"

    def end(self) -> None:
        """Upstreams go, lookups are answered, time passes: then every client's connection has come to its end."""
        gate = self.gate
        gate.dials_hang, gate.store.waits = False, False
        gate.connect()
        gate.answer_lookups()
        for upstream in list(gate.upstreams):
            upstream.reset()
        gate.advance(1500, step=10.0)
        gate.check_nothing_is_left()
        self.record.read_on()
        assert self.record.begun <= self.record.ended, "what lasted has come to its end"
        recording, worker = self.gate.recording, self.gate.worker
        assert recording is not None
        assert len(self.record.ended) + recording.unrecorded >= worker.requests


def pick(among: list[_Item], number: int) -> _Item:
    """One of a list, the first for 0."""
    return among[number % len(among)]


def _change(peer: Client | Upstream, kind: int) -> None:
    pick([peer.read_on, peer.stop_reading, peer.end, peer.reset, peer.read_on], kind)()


Step = tuple[int, int, int, int]
ACTIONS: list[Callable[[Walk, int, int, int], None]] = [
    *[Walk.client_connects] * 2,
    *[Walk.client_asks] * 6,
    *[Walk.client_sends_more] * 3,
    *[Walk.upstream_answers] * 4,
    *[Walk.upstream_answers_well] * 4,
    *[Walk.upstream_sends_more] * 3,
    *[Walk.client_changes] * 2,
    *[Walk.upstream_changes] * 2,
    *(Walk.upstream_speaks_unasked, Walk.dial_changes, Walk.store_changes, Walk.key_changes, Walk.spool_changes),
    *(Walk.time_passes, Walk.time_passes, Walk.worker_drains),
]
SERVERS: list[dict[str, int]] = [{}, {}, {"max_in_flight": 1}, {"max_connections": 2}]
STEPS = st.tuples(st.integers(0, len(ACTIONS) - 1), st.integers(0, 3), st.integers(0, 17), st.integers(0, 8))


@settings(max_examples=scaled(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(SERVERS), st.lists(STEPS, min_size=1, max_size=80))
def test_any_order(server: dict[str, int], steps: list[Step]) -> None:
    run(server, steps)


@pytest.mark.parametrize("seed", range(scaled(60)))
def test_long_walks(seed: int) -> None:
    """The same, without the preference for short runs that makes failures of `test_any_order` readable."""
    chance = random.Random(seed)  # noqa: S311  reproducible on purpose
    steps = [
        (chance.randrange(len(ACTIONS)), chance.randrange(4), chance.randrange(18), chance.randrange(9))
        for _ in range(150)
    ]
    run(chance.choice(SERVERS), steps)


def run(server: dict[str, int], steps: list[Step]) -> None:
    """Take all steps, and check after each; a failure is told with the steps that led to it."""
    with tempfile.TemporaryDirectory() as directory:
        spool = Spool(
            SpoolDirectory(Path(directory)),
            limit_bytes=1 << 30,
            when_full="refuse",
            sync_interval_seconds=60,
            segment_bytes=1 << 20,
        )
        spool.start()
        try:
            _walk(Walk(server, spool), steps)
        finally:
            spool.close()


def _walk(walk: Walk, steps: list[Step]) -> None:
    taken = []
    try:
        walk.client_connects()
        for action, *numbers in steps:
            taken.append(f"{getattr(ACTIONS[action], '__name__', action)}{tuple(numbers)}")
            ACTIONS[action](walk, *numbers)
            walk.check()
        walk.end()
    except BaseException as error:
        error.add_note("after: " + ", ".join(taken))
        raise
