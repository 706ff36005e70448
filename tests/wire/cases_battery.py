"""Tries one case in all ways in which its bytes can arrive, many connections at a time.

Whole; cut in two; byte by byte; and each of these with a second good request behind it. All connections of a case send
their next piece in the same turn, and only when the gateway has read the last one, so a case costs a few dozen turns of
the loop and not one per connection. What came out upstream is found back by the request id of its answer.
Every offset of a cut is tried with KEYGATE_LONG=1, but in requests of thousands of bytes; else those around the ends
of lines and a fraction of the others, another fraction for each case.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from tests.proxy.harness import DEFECTS, problem
from tests.proxy.wire_reader import Incomplete, Message, read_request
from tests.wire.cases import KEYS, SECOND, UPSTREAM_HOST, Denied, Forwarded, Refused
from tests.wire.live import live, run

if TYPE_CHECKING:
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
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_BEHIND: Final = Forwarded("the second one", SECOND, b"GET /2")


def try_case(case: Case, **settings: Any) -> int:  # noqa: ANN401  tables of the settings
    """Try a case on a gateway with these settings (see `live`); returns in how many ways it was tried."""
    ways = _ways(case.sends)
    crumbs = [_crumbs(each) for each in (case.sends, case.sends + SECOND)]

    async def whole() -> None:
        async with live(**settings) as gate:
            for secret, changes in KEYS.items():
                gate.keys.put(secret, **changes)
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
    forwarded = _forwarded(gate)
    for client, second, pieces in zip(clients, seconds, ways, strict=True):
        where = (case.name, [len(piece) for piece in pieces[:3]], second)
        _judge(gate, case, client, forwarded, second=second, where=where)
    assert not forwarded, (case.name, "requests that belong to no answer", forwarded)
    if isinstance(case, Refused) and not case.begins:
        assert gate.upstream.received == b"", case.name
    for client in clients:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    gate.close_clients()
    await gate.until(lambda: not gate.worker.connections)
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
    forwarded = _forwarded(gate)
    for client in clients:
        good, refusal = client.answers
        _judge_forwarded(gate, _BEHIND, good, forwarded, (case.name, "before"))
        _judge_own(case, refusal, (case.name, "behind a good one"))
    assert not forwarded, case.name
    assert case.begins or len(gate.upstream.requests) == len(ways), case.name
    gate.close_clients()
    await gate.until(lambda: not gate.worker.connections)


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
    forwarded: dict[bytes, tuple[bytes, Message]],
    *,
    second: bool,
    where: object,
) -> None:
    assert not client.was_reset, where
    client.methods = [case.sends.lstrip(b"\r\n").partition(b" ")[0], b"GET"]
    if isinstance(case, Refused):  # its answer has a body whatever it was meant to be
        client.methods = []
    answers = client.answers
    assert all(answer.whole for answer in answers), (where, client.received)
    if isinstance(case, Denied) and case.ends is None and client.ended:
        assert len(answers) in {1, _expected(case, second=second)}, (where, client.received)
    else:
        ends = isinstance(case, Refused) or case.ends or False
        assert len(answers) == _expected(case, second=second), (where, client.received)
        assert client.ended is ends, (where, client.received)
        assert (answers[0].one("connection") == "close") is ends, where
    if isinstance(case, Forwarded):
        _judge_forwarded(gate, case, answers[0], forwarded, where)
    else:
        _judge_own(case, answers[0], where)
    for answer in answers[1:]:
        _judge_forwarded(gate, _behind(case), answer, forwarded, where)


def _behind(case: Case) -> Forwarded:
    """The second request: what its route says of Host, and that its peer is trusted, is so for both."""
    if isinstance(case, Forwarded) and case.host_field != UPSTREAM_HOST:
        return replace(_BEHIND, host_field=b"h")
    return _BEHIND


def _judge_own(case: Refused | Denied, answer: Message, where: object) -> None:
    told = [name for key, _ in answer.fields if (name := key.decode().lower()) in {"www-authenticate", "allow"}]
    assert told == _TOLD.get(answer.status, []), (where, answer)
    head_only = isinstance(case, Denied) and case.sends.startswith(b"HEAD ")
    assert answer.status == case.verdict[0], (where, answer)
    if head_only:
        assert answer.body == b"", where
    else:
        assert problem(answer)["code"] == case.verdict[1], (where, answer)


def _judge_forwarded(
    gate: Live, case: Forwarded, answer: Message, forwarded: dict[bytes, tuple[bytes, Message]], where: object
) -> None:
    assert answer.status == 200, (where, answer)
    request_id = (answer.one("x-request-id") or "").encode()
    head, request = forwarded.pop(request_id)
    assert head == case.head(b"127.0.0.1:%d" % gate.upstream.port, request_id), (where, head)
    assert request.body == case.body, (where, request)
    if request.method != b"HEAD":
        assert answer.body == request.method + b" " + request.target, where


def _forwarded(gate: Live) -> dict[bytes, tuple[bytes, Message]]:
    """Each whole request that the upstream got, with the bytes of its head; nothing else may have come."""
    found = {}
    assert not gate.upstream.faults, gate.upstream.faults
    for peer in gate.upstream.connections:
        data = peer.received
        while data:
            try:
                request, rest = read_request(data)
            except Incomplete:
                assert peer.ended, "a request without an end is cut off"
                assert b"GET /2" not in data, "and nothing of the next one is in it"
                break
            head = data[: data.index(b"\r\n\r\n") + 4]
            found[(request.one("x-request-id") or "").encode()] = head, request
            data = rest
    return found
