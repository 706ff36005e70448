"""Sends bytes to a real data plane and holds what comes out, on both sides, against what must come of them.

Three readers judge: the model (`fuzz_request_model`) says what must be forwarded and answered; the strict reader and
h11 each read what the upstream received; and h11 reads the client's own bytes, where nothing may be accepted that it
reads in another way. Invariant: what is forwarded is exactly the requests that the gateway itself says it authorised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import h11
from hypothesis import strategies as st

from tests.proxy.harness import SECRET, Gate
from tests.proxy.wire_reader import Incomplete, Message, read_request, read_responses
from tests.wire.fuzz_gates import Gates
from tests.wire.fuzz_request_model import (
    BODY_LIMIT,
    COUNT_LIMIT,
    LINE_LIMIT,
    PEER,
    SECTION_LIMIT,
    Judged,
    judge,
)
from tests.wire.fuzz_requests import LINES, requests

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from gateway.proxy.exchange import Exchange
    from tests.proxy.harness import Client, Upstream
    from tests.wire.fuzz_mutations import Piece

KNOWN_OF_H11: Final = {
    "no request line received": "an empty line before a request, which RFC 9112 section 2.2 asks to overlook",
    "illegal request line": "the same, with the request not yet whole",
    "illegal chunk header": "blanks behind a chunk size; see LENIENT",
    "Receive buffer too long": "h11 has a limit of its own for lines",
}
"""What h11 says of requests that the gateway accepts; each is stricter than the contract, and none another reading."""

Read = tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]]]
"""Method, target, body, fields."""


@dataclass(slots=True)
class Seen:
    """What came out."""

    requests: list[Message] = field(default_factory=list)
    begun: Message | None = None
    """A request that came to no end."""
    received: bytes = b""
    ended: bool = False


class Front(Gates):
    """Where clients are the ones that are fuzzed."""

    def new_gate(self) -> Gate:
        limits = {"request_line_limit_bytes": LINE_LIMIT, "header_section_limit_bytes": SECTION_LIMIT}
        return Gate(server={**limits, "header_count_limit": COUNT_LIMIT}, routes=[{"max_body_bytes": BODY_LIMIT}])

    def sent(self, pieces: Sequence[bytes]) -> Seen:
        """What comes of these pieces, each a read of its own."""
        gate, seen = self.gate, Seen()
        client = gate.client(PEER.decode())
        for piece in pieces:
            client.send(piece)
            while self._answer(seen):
                pass
        transport = client.transport
        assert not transport.aborted, "nobody broke off"
        seen.received, seen.ended = client.received, transport.eof_sent or transport.closing
        self._end(client, seen)
        return seen

    def _answer(self, seen: Seen) -> bool:
        """Answer the request that is whole, if there is one."""
        for upstream in self.gate.upstreams:
            data = upstream.received
            if upstream.gone or not data:
                continue
            try:
                message, rest = read_request(data)
            except Incomplete:
                continue
            assert rest == b"", f"one request at a time, not {rest!r} behind it"
            _check_told(message, upstream)
            check_with_h11(message, data)
            seen.requests.append(message)
            del upstream.transport.sent[:]
            body = b"" if message.method == b"HEAD" else b"ok"
            upstream.send(b"HTTP/1.1 200 OK\r\nX-For: %d\r\nContent-Length: 2\r\n\r\n%b" % (len(seen.requests), body))
            return True
        return False

    def _end(self, client: Client, seen: Seen) -> None:
        gate = self.gate
        client.end()
        for upstream in gate.upstreams:
            if upstream.received:
                assert seen.begun is None, "one request at a time"
                try:
                    read_request(upstream.received)
                except Incomplete as incomplete:
                    seen.begun = incomplete.begun
                assert seen.begun is not None, "a head goes out in one write"
                assert upstream.gone, "what got half a request is never used again"
        self.input_over()


def exchange_of(upstream: Upstream) -> Exchange | None:
    """The exchange that a connection is lent to."""
    found = [each.exchange for each in upstream.gate.target.connections if each.transport is upstream.transport]
    return found[0] if found else None


def _check_told(message: Message, upstream: Upstream) -> None:
    """It is the request of the exchange that the connection is lent to, as the gateway itself tells it."""
    exchange = exchange_of(upstream)
    assert exchange is not None
    head = exchange.head
    assert exchange.passed, "authorised"
    assert exchange.entry is not None, "with a key"
    assert (message.method, message.target) == (head.method, head.path + head.query)


def check_with_h11(message: Message, data: bytes) -> None:
    """H11 reads the same one request in what was forwarded."""
    found, error = read_with_h11(data)
    assert (len(found), error) == (1, ""), (found, error)
    method, target, body, fields = found[0]
    assert (method, target, body) == (message.method, message.target, message.body)
    assert fields == [(name.lower(), value) for name, value in message.fields]


def read_with_h11(data: bytes) -> tuple[list[Read], str]:
    """All requests that h11 finds whole, and its error, if any."""
    found: list[Read] = []
    try:
        while data:
            reader = h11.Connection(h11.SERVER)
            reader.receive_data(data)
            request = reader.next_event()
            if not isinstance(request, h11.Request):
                break
            body = b""
            while isinstance(event := reader.next_event(), h11.Data):
                body += bytes(event.data)
            if not isinstance(event, h11.EndOfMessage):
                break
            found.append((request.method, request.target, body, list(request.headers)))
            data = bytes(reader.trailing_data[0])
    except h11.RemoteProtocolError as error:
        return found, str(error)
    return found, ""


def check(pieces: Sequence[bytes], judged: list[Judged], seen: Seen) -> None:
    """What came out is what must, of every request in its order."""
    answers = read_responses(seen.received, [each.method for each in judged], ended=seen.ended)
    assert all(each.whole for each in answers), answers
    forwarded = 0
    for at, each in enumerate(judged):
        if each.forwarded and not each.whole:
            _check_begun(each, seen, answers[at:])
            assert len(seen.requests) == forwarded
            return
        if each.may_wait and len(answers) == at and not seen.ended:
            break
        assert len(answers) > at, (each, answers)
        if each.forwarded:
            assert len(seen.requests) > forwarded, each
            _check_forwarded(seen.requests[forwarded], each, answers[at])
            forwarded += 1
            assert (answers[at].status, answers[at].one("x-for")) == (200, str(forwarded))
        else:
            assert answers[at].status in each.statuses, (each, answers[at])
            if each.may_end and len(pieces) > 1 and len(answers) == at + 1 and seen.ended:
                break  # its body had not arrived
    else:
        assert len(answers) == len(judged), answers[len(judged) :]
        assert seen.ended == bool(judged and judged[-1].ends), (judged[-1:], seen)
    assert seen.begun is None, seen.begun
    assert len(seen.requests) == forwarded, seen.requests[forwarded:]


def _check_forwarded(message: Message, each: Judged, answer: Message) -> None:
    assert message.start == (each.method, each.target), (message, each)
    assert message.body == each.body, (message, each)
    assert message.fields[:-1] == each.fields, (message.fields, each.fields)
    name, value = message.fields[-1]
    assert name == b"X-Request-ID"
    assert value.decode() == answer.one("x-request-id")


def _check_begun(each: Judged, seen: Seen, answers: list[Message]) -> None:
    """Of a body that broke or never ended: what went on is its beginning, and no reader takes it for whole."""
    assert len(answers) == bool(each.statuses), "what is broken is refused at once, what may go on is not"
    assert all(answer.status in each.statuses for answer in answers), (each, answers)
    assert seen.ended == bool(answers)
    if seen.begun is not None:
        assert seen.begun.start == (each.method, each.target)
        assert seen.begun.fields[:-1] == each.fields
        assert each.body.startswith(seen.begun.body), (seen.begun, each)


def check_others(stream: bytes, judged: list[Judged]) -> None:
    """What is forwarded, h11 reads in the client's own bytes, too, and in the same way, or refuses by a known rule."""
    last = max((at for at, each in enumerate(judged) if each.forwarded and each.whole), default=-1)
    if last < 0:
        return
    found, error = read_with_h11(stream.removeprefix(b"\r\n"))
    for each, (method, target, body, _) in zip(judged, found, strict=False):
        if each.forwarded and each.whole:
            assert (each.method, each.raw_target, each.body) == (method, target, body)
    if len(found) <= last and not judged[len(found)].frames_in_trailers:
        assert any(known in error for known in KNOWN_OF_H11), (error, judged)


class RequestSide:
    """What `fuzz_campaign` asks of a side."""

    name = "requests"

    def __init__(self) -> None:
        self.front = Front()

    def messages(self) -> st.SearchStrategy[list[list[Piece]]]:
        """A pipeline."""
        return st.lists(requests(), min_size=1, max_size=4)

    def lines(self) -> Sequence[bytes]:
        return LINES

    def try_one(self, stream: bytes, ways: Sequence[Sequence[bytes]], told: Counter[str], *, valid: bool) -> None:
        """See Side."""
        judged = judge(stream)
        if valid:
            assert all(each.whole if each.forwarded else each.statuses == {401} for each in judged), judged
        for pieces in [[stream], *ways]:
            try:
                seen = self.front.sent(pieces)
                check(pieces, judged, seen)
                if stream.count(SECRET) == len(seen.requests):  # one for each: none is there for another field
                    assert not any(SECRET in value for each in seen.requests for _, value in each.fields)
            except BaseException:
                self.front = Front()
                raise
        check_others(stream, judged)
        for each in judged:
            told["forwarded" if each.whole else "broken off" if each.forwarded else f"{min(each.statuses)}"] += 1
        told["nothing yet"] += not judged

    def again_on_sockets(self, kept: list[tuple[bytes, list[bytes]]]) -> None:
        """See Side."""
        from tests.wire.fuzz_sockets import requests_on_sockets  # noqa: PLC0415  which needs `check`

        requests_on_sockets(kept)
