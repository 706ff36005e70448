"""The same inputs once more on real sockets, judged by the same rules: what a made-up transport might hide.

Invariant: inputs go one after the other through one worker, as they were cut. What the clock decides is left out, since
real time would have to pass.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from tests.proxy.wire_reader import Incomplete, read_request
from tests.wire import fuzz_request_judge as front
from tests.wire import fuzz_response_judge as back
from tests.wire.fuzz_request_model import BODY_LIMIT, COUNT_LIMIT, LINE_LIMIT, SECTION_LIMIT
from tests.wire.fuzz_request_model import judge as judge_requests
from tests.wire.fuzz_response_model import TUNNEL, judge
from tests.wire.fuzz_responses import context
from tests.wire.live import Live, live, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.proxy.wire_reader import Message

Kept = list[tuple[bytes, list[bytes]]]
_PEER = b"127.0.0.1"
_RESET = struct.pack("ii", 1, 0)


def requests_on_sockets(kept: Kept) -> None:
    run(_requests(kept))


def responses_on_sockets(kept: Kept) -> None:
    run(_responses(kept))


async def _requests(kept: Kept) -> None:
    limits = {"request_line_limit_bytes": LINE_LIMIT, "header_section_limit_bytes": SECTION_LIMIT}
    server = {**limits, "header_count_limit": COUNT_LIMIT}
    async with live(server=server, routes=[{"max_body_bytes": BODY_LIMIT}]) as gate:
        for stream, pieces in kept:
            try:
                judged = judge_requests(stream, _PEER, b"127.0.0.1:%d" % gate.upstream.port)
                front.check(pieces, judged, await _sent(gate, pieces))
            except Exception as error:
                error.add_note(f"on sockets: {stream!r}\ncut as: {pieces!r}")
                raise


async def _sent(gate: Live, pieces: Sequence[bytes]) -> front.Seen:
    answered = 0

    def answer(request: Message) -> bytes:
        nonlocal answered
        answered += 1
        body = b"" if request.method == b"HEAD" else b"ok"
        return b"HTTP/1.1 200 OK\r\nX-For: %d\r\nContent-Length: 2\r\n\r\n%b" % (answered, body)

    upstream = gate.upstream
    upstream.answer = answer
    client = await gate.ask(*pieces)
    assert not upstream.faults, upstream.faults
    seen = front.Seen(upstream.requests, None, client.received, client.over())
    for each in upstream.connections:
        if each._unread:
            try:
                read_request(each._unread)
            except Incomplete as incomplete:
                seen.begun = incomplete.begun
    gate.close_clients()
    await gate.settled()
    upstream.forget()
    return seen


async def _responses(kept: Kept) -> None:
    async with live(upstream={"ejection_failures": 0}) as gate:
        gate.upstream.reads_requests = False
        for stream, pieces in kept:
            if len(stream) < 2 or b"10.0.0.1" in stream:  # the target of the other fuzzing, in a Location
                continue
            try:
                await _answered(gate, stream, pieces)
            except Exception as error:
                error.add_note(f"on sockets: {stream!r}\ncut as: {pieces!r}")
                raise


async def _answered(gate: Live, stream: bytes, cut: Sequence[bytes]) -> None:
    asked, ending = context(stream[0])
    pieces = [each for each in [cut[0][1:], *cut[1:]] if each]
    ending = "ends" if ending == "is silent" else ending
    client = await gate.ask(asked.request)
    (peer,) = [each for each in gate.upstream.connections if each.received]
    for piece in pieces:
        peer.transport.write(piece)
        await gate.settled()
        if peer.ended:
            break
    judged = judge(stream[1:], asked)
    reusable = not peer.ended
    if ending == "is reset" and not peer.ended:
        peer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    peer.transport.abort() if ending == "is reset" else peer.transport.close()
    await gate.settled()
    seen = back.Seen(client.received, client.was_reset, client.ended, reusable)
    if judged.kind != TUNNEL or ending == "ends":
        back.check(judged, asked, seen, ending, at_once=len(pieces) == 1)
    gate.close_clients()
    await gate.settled()
    gate.upstream.forget()
