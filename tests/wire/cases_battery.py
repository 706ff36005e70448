"""Tries one case in all ways in which its bytes can arrive, many connections at a time.

Whole; cut in two; byte by byte; and each of these with a second good request behind it. All connections of a case send
their next piece in the same turn, and only when the gateway has read the last one, so a case costs a few dozen turns of
the loop and not one per connection. What must come of it is `cases_judge`'s to say.
Every offset of a cut is tried with KEYGATE_LONG=1 (`make test-wire`), but in requests of thousands of bytes; else those
around the ends of lines and a fraction of the others, another fraction for each case.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import zlib
from typing import TYPE_CHECKING, Any, Final

from tests.proxy.harness import DEFECTS
from tests.wire.cases import KEYS, SECOND, Refused
from tests.wire.cases_judge import (
    BEHIND,
    id_of,
    is_answered,
    judge,
    judge_forwarded,
    judge_own,
    judge_rest,
    what_arrived,
)
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
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


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
    clients = await _send_all(gate, ways)
    seconds = [b"".join(pieces).endswith(SECOND) for pieces in ways]
    await gate.until(
        lambda: all(is_answered(client, case, second=each) for client, each in zip(clients, seconds, strict=True))
    )
    await gate.settled()
    arrived = what_arrived(gate, case)
    reached = 0
    for client, second, pieces in zip(clients, seconds, ways, strict=True):
        where = (case.name, [len(piece) for piece in pieces[:3]], second)
        reached += judge(gate, case, client, arrived, second=second, where=where)
    judge_rest(gate, case, arrived, reached)
    if isinstance(case, Refused) and not case.begins:
        assert gate.upstream.received == b"", case.name
    for client in clients:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    await _leave(gate, case, reached)


async def _try_behind(gate: Live, case: Refused) -> None:
    """The same refusal where a good request stands before it, which is answered and forwarded as ever."""
    stream = SECOND + case.sends + SECOND
    ways = [[stream], [SECOND, case.sends + SECOND], [SECOND + case.sends, SECOND], _crumbs(stream)]
    assert len(ways) == _BEFORE
    clients = await _send_all(gate, ways)
    await gate.until(lambda: all(client.over() for client in clients))
    await gate.settled()
    arrived = what_arrived(gate, case)
    for client in clients:
        good, refusal = client.answers
        judge_forwarded(gate, BEHIND, good, arrived, (case.name, "before"))
        judge_own(case, refusal, (case.name, "behind a good one"))
        arrived.begun.discard(id_of(refusal))
    judge_rest(gate, case, arrived, len(ways))
    await _leave(gate, case, len(ways))


async def _send_all(gate: Live, ways: list[list[bytes]]) -> list[Client]:
    """Send each stream on a connection of its own; the next pieces when the gateway has read the last ones."""
    gate.upstream.forget()
    clients = [await gate.client() for _ in ways]
    await gate.until(lambda: len(gate.worker.connections) == len(clients))
    for index in range(max(map(len, ways))):
        for client, pieces in zip(clients, ways, strict=True):
            if index < len(pieces) and not client.was_reset:
                _send(client, pieces[index])
        await _read_through(gate)
    return clients


async def _leave(gate: Live, case: Case, reached: int) -> None:
    """Close all connections: nothing may be left of them, and no more requests than those have reached the upstream."""
    gate.close_clients()
    await gate.until(lambda: not gate.worker.connections)
    await gate.settled()
    assert len(gate.upstream.requests) == reached, (case.name, "some came late", gate.upstream.requests)
    assert gate.worker.in_flight == 0, case.name
    assert not DEFECTS.records, [each.getMessage() for each in DEFECTS.records]


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
