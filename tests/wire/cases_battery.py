"""Tries one case in all ways in which its bytes can arrive, many connections at a time.

Whole; cut in two; byte by byte; and each of these with a second good request behind it. All connections of a case send
their next piece in the same turn, and only when the gateway has read the last one, so a case costs a few dozen turns of
the loop and not one per connection. What came out upstream is found back by the request id of its answer, and counted:
as many requests as have to come there and no more, each once.
Every offset of a cut is tried with KEYGATE_LONG=1, but in requests of thousands of bytes; else those around the ends
of lines and a fraction of the others, another fraction for each case.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import zlib
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from tests.proxy.harness import DEFECTS, problem
from tests.proxy.wire_reader import Incomplete, Message, read_request
from tests.wire.cases import KEYS, SECOND, UPSTREAM_HOST, Answered, Denied, Forwarded, Refused
from tests.wire.live import live, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.wire.cases import Case
    from tests.wire.live import Live
    from tests.wire.live_clients import Client

LONG: Final = os.environ.get("KEYGATE_LONG") == "1"
_FRACTION: Final = 8
_MOST: Final = 400 if LONG else 40
"""Of offsets, from the end of a long request."""
_ALL_BYTES: Final = 2000
"""Requests up to here are cut everywhere."""
_BEFORE: Final = 4
"""Ways with a good request before one that is refused."""
_CRUMBS: Final = 500
_AT_ONCE: Final = 100
_TOLD: Final = {401: ["www-authenticate"] * 2, 403: ["www-authenticate"] * 2, 405: ["allow"]}
"""Fields that answers of a status have: a challenge for each way to send a key; what is served."""
_SENT_ON: Final = ["content-length", "date", "x-request-id"]
"""Fields that each answer has, once: of the upstream's; of the gateway's, without and with a body."""
_EMPTY: Final = ["date", "x-request-id"]
_OWN: Final = ["cache-control", "content-length", "content-type", "date", "x-request-id"]
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_BEHIND: Final = Forwarded("the second one", SECOND, b"GET /2")


@dataclass(slots=True)
class Arrived:
    """What the upstream got."""

    whole: dict[bytes, tuple[bytes, Message]] = field(default_factory=dict)
    """By its id, each whole request with the bytes of its head; those that belong to an answer are taken out."""
    begun: set[bytes] = field(default_factory=set)
    """The ids of those that were cut off behind their head."""


def try_case(
    case: Case,
    *,
    prepare: Callable[[Live], Awaitable[None]] | None = None,
    **settings: Any,  # noqa: ANN401  tables of the settings
) -> int:
    """Try a case on a gateway with these settings (see `live`); returns in how many ways it was tried.

    `prepare` is done before the first of them.
    """
    ways = _ways(case.sends)
    crumbs = [_crumbs(each) for each in (case.sends, case.sends + SECOND)]

    async def whole() -> None:
        async with live(**settings) as gate:
            for secret, changes in KEYS.items():
                gate.keys.put(secret, **changes)
            if prepare is not None:
                await prepare(gate)
            for start in range(0, len(ways), _AT_ONCE):
                await _try(gate, case, ways[start : start + _AT_ONCE])
            await _try(gate, case, crumbs)
            if isinstance(case, Refused):
                await _try_behind(gate, case)

    run(whole())
    return len(ways) + len(crumbs) + (_BEFORE if isinstance(case, Refused) else 0)


def _ways(data: bytes) -> list[list[bytes]]:
    """The pieces in which a case arrives, with and without a second request, in a read of its own or in the last one.

    What is left over of a read takes another way through the gateway than what comes later.
    """
    ways = [[data], [data, SECOND], [data + SECOND]]
    for turn, at in enumerate(_offsets(data)):
        cuts = [data[:at], data[at:]], [data[:at], data[at:], SECOND], [data[:at], data[at:] + SECOND]
        ways += cuts if LONG else [cuts[turn % 3]]
    return ways


def _crumbs(data: bytes) -> list[bytes]:
    """Byte by byte; what is long in a few thousand pieces."""
    size = len(data) // _CRUMBS + 1
    return [data[at : at + size] for at in range(0, len(data), size)]


def _offsets(data: bytes) -> list[int]:
    every = range(1, len(data))
    if LONG and len(data) <= _ALL_BYTES:
        return list(every)
    seed = zlib.crc32(data)
    near = [at for at in every if b"\n" in data[at - 2 : at + 1] or b"\r" in data[at - 1 : at + 1]]
    some = [at for at in every if (at + seed) % _FRACTION == 0]
    return sorted({*near[-_MOST:], *some[-_MOST:]})


async def _try(gate: Live, case: Case, ways: list[list[bytes]]) -> None:
    """Send these streams side by side, and judge what came of each."""
    gate.upstream.forget()
    clients = [await gate.client() for _ in ways]
    await gate.until(lambda: len(gate.worker.connections) == len(clients))
    for index in range(max(map(len, ways))):
        for client, pieces in zip(clients, ways, strict=True):
            if index < len(pieces) and not client.was_reset:
                _send(client, pieces[index])
        await _read_through(gate)
    seconds = [b"".join(pieces).endswith(SECOND) for pieces in ways]
    await gate.until(lambda: all(map(_is_answered, clients, seconds, [case] * len(clients))))
    await gate.settled()
    arrived = _arrived(gate, case)
    reached = 0
    for client, second, pieces in zip(clients, seconds, ways, strict=True):
        where = (case.name, [len(piece) for piece in pieces[:3]], second)
        reached += _judge(gate, case, client, arrived, second=second, where=where)
    _judge_rest(gate, case, arrived, reached)
    if isinstance(case, Refused) and not case.begins:
        assert gate.upstream.received == b"", case.name
    for client in clients:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    gate.close_clients()
    await gate.until(lambda: not gate.worker.connections)
    await gate.settled()
    assert len(gate.upstream.requests) == reached, (case.name, "some came late", gate.upstream.requests)
    assert gate.worker.in_flight == 0, case.name
    assert not DEFECTS.records, [each.getMessage() for each in DEFECTS.records]


async def _try_behind(gate: Live, case: Refused) -> None:
    """The same refusal where a good request stands before it, which is answered and forwarded as ever."""
    stream = SECOND + case.sends + SECOND
    ways = [[stream], [SECOND, case.sends + SECOND], [SECOND + case.sends, SECOND], _crumbs(stream)]
    assert len(ways) == _BEFORE
    gate.upstream.forget()
    clients = [await gate.client() for _ in ways]
    await gate.until(lambda: len(gate.worker.connections) == len(clients))
    for index in range(max(map(len, ways))):
        for client, pieces in zip(clients, ways, strict=True):
            if index < len(pieces):
                _send(client, pieces[index])
        await _read_through(gate)
    await gate.until(lambda: all(client.ended or client.was_reset for client in clients))
    await gate.settled()
    arrived = _arrived(gate, case)
    for client in clients:
        good, refusal = client.answers
        _judge_forwarded(gate, _BEHIND, good, arrived, (case.name, "before"))
        _judge_own(case, refusal, (case.name, "behind a good one"))
        arrived.begun.discard(_id(refusal))
    _judge_rest(gate, case, arrived, len(ways))
    gate.close_clients()
    await gate.until(lambda: not gate.worker.connections)
    await gate.settled()
    assert len(gate.upstream.requests) == len(ways), (case.name, "some came late", gate.upstream.requests)


async def _read_through(gate: Live) -> None:
    """Let the gateway read what was sent, so that the next piece comes in another read."""
    await asyncio.sleep(0)
    while gate.has_unread():
        await asyncio.sleep(0)


def _send(client: Client, piece: bytes) -> None:
    try:
        client.socket.send(piece)  # a few hundred bytes into an empty buffer of the kernel's
    except ConnectionError:
        client.was_reset = True


# --- what must come of it ---------------------------------------------------------------------------------------------


def _expected(case: Case, *, second: bool) -> int:
    """How many answers there are."""
    ends = isinstance(case, Refused) or case.ends
    return 2 if second and not ends else 1


def _is_answered(client: Client, second: bool, case: Case) -> bool:  # noqa: FBT001  one of several lists
    """Whether nothing more has to come; what comes all the same is found later."""
    if isinstance(case, Refused) or case.ends:
        return client.ended or client.was_reset
    heads = client.received.count(b"\r\n\r\n")
    return client.ended or client.was_reset or heads >= _expected(case, second=second)


def _judge(
    gate: Live,
    case: Case,
    client: Client,
    arrived: Arrived,
    *,
    second: bool,
    where: object,
) -> int:
    """Judge what a client got; returns how many requests of its connection the upstream must have got."""
    assert not client.was_reset, where
    client.methods = [case.sends.lstrip(b"\r\n").partition(b" ")[0], b"GET"]
    if isinstance(case, Refused):  # its answer has a body whatever it was meant to be
        client.methods = []
    answers = client.answers
    assert all(answer.whole for answer in answers), (where, client.received)
    if isinstance(case, Denied | Answered) and case.ends is None and client.ended:
        assert len(answers) in {1, _expected(case, second=second)}, (where, client.received)
    else:
        ends = isinstance(case, Refused) or case.ends or False
        assert len(answers) == _expected(case, second=second), (where, client.received)
        assert client.ended is ends, (where, client.received)
        assert (answers[0].one("connection") == "close") is ends, where
    if isinstance(case, Forwarded):
        _judge_forwarded(gate, case, answers[0], arrived, where)
    else:
        _judge_own(case, answers[0], where)
        arrived.begun.discard(_id(answers[0]))
    for answer in answers[1:]:
        if isinstance(case, Denied) and case.alike:
            _judge_own(case, answer, where)
        else:
            _judge_forwarded(gate, _behind(case), answer, arrived, where)
    if isinstance(case, Denied) and case.alike:
        return 0
    return len(answers) - (not isinstance(case, Forwarded))


def _behind(case: Case) -> Forwarded:
    """The second request: what its route says of Host, and that its peer is trusted, is so for both."""
    if isinstance(case, Forwarded) and case.host_field != UPSTREAM_HOST:
        return replace(_BEHIND, host_field=b"h")
    return _BEHIND


def _judge_own(case: Refused | Denied | Answered, answer: Message, where: object) -> None:
    if isinstance(case, Answered):
        assert answer.status == case.status, (where, answer)
        assert answer.body == (case.body or b""), (where, answer)
        assert _further_lines(answer, _EMPTY if case.body is None else _OWN) == case.fields, (where, answer)
        return
    status, code = case.verdict
    assert answer.status == status, (where, answer)
    told = [name for key, _ in answer.fields if (name := key.decode().lower()) in {"www-authenticate", "allow"}]
    assert told == _TOLD.get(status, []), (where, answer)
    fields = case.fields if isinstance(case, Denied) else b""
    assert _further_lines(answer, [*_OWN, *set(told)]) == fields, (where, answer)
    if isinstance(case, Denied) and case.sends.startswith(b"HEAD "):
        assert answer.body == b"", where
        return
    body = problem(answer)
    assert body["code"] == code, (where, answer)
    assert body["type"] == f"urn:keygate:problem:{code}", (where, answer)
    assert body["title"] == HTTPStatus(status).phrase, (where, answer)
    if isinstance(case, Denied) and case.detail is not None:
        assert body["detail"] == case.detail, (where, answer)


def _judge_forwarded(gate: Live, case: Forwarded, answer: Message, arrived: Arrived, where: object) -> None:
    assert answer.status == 200, (where, answer)
    request_id = _id(answer)
    head, request = arrived.whole.pop(request_id)
    assert head == case.head(b"127.0.0.1:%d" % gate.upstream.port, request_id), (where, head)
    assert request.body == case.body, (where, request)
    assert _further_lines(answer, _SENT_ON) == case.told, (where, answer)
    if request.method != b"HEAD":
        assert answer.body == request.method + b" " + request.target, where


def _judge_rest(gate: Live, case: Case, arrived: Arrived, reached: int) -> None:
    """Whether nothing reached the upstream but what was answered, or what the case says may have begun to."""
    assert not arrived.whole, (case.name, "requests that belong to no answer", arrived.whole)
    assert not arrived.begun, (case.name, "beginnings that belong to no refusal", arrived.begun)
    assert len(gate.upstream.requests) == reached, (case.name, gate.upstream.requests)


def _id(message: Message) -> bytes:
    return (message.one("x-request-id") or "").encode()


def _further_lines(answer: Message, usual: list[str]) -> bytes:
    """Its field lines but for the usual ones, which have to be there, and what it says of the connection."""
    assert all(answer.all(name) for name in usual), answer
    names = {"connection", *usual}
    return b"".join(b"%b: %b\r\n" % each for each in answer.fields if each[0].decode().lower() not in names)


def _arrived(gate: Live, case: Case) -> Arrived:
    """All that the upstream got, every byte of it; nothing came twice, and no request without an end but as allowed."""
    found = Arrived()
    assert not gate.upstream.faults, gate.upstream.faults
    for peer in gate.upstream.connections:
        data = peer.received
        while data:
            try:
                request, rest = read_request(data)
            except Incomplete as cut:
                assert isinstance(case, Refused) and case.begins, (case.name, "a request without an end", data)
                assert peer.ended, "a request without an end is cut off"
                assert b"GET /2" not in data, "and nothing of the next one is in it"
                assert cut.begun is not None, (case.name, "a head without an end", data)
                assert _id(cut.begun) not in found.begun, (case.name, "it began twice", data)
                found.begun.add(_id(cut.begun))
                break
            head = data[: data.index(b"\r\n\r\n") + 4]
            assert _id(request) not in found.whole, (case.name, "a request came twice", head)
            found.whole[_id(request)] = head, request
            data = rest
    return found
