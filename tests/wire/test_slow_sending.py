"""Clients that send slowly: whatever comes in time is served, whatever does not is told so, and holds nothing."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import KEY_FIELD, get, post, problem
from tests.proxy.wire_reader import read_responses
from tests.wire.live import live, run
from tests.wire.slow_peers import SLICE, SlowClient, all_over, slow_client, upstream_peer

if TYPE_CHECKING:
    from tests.wire.conftest import Tried

SECTION = "slow and many"
BODY = b"0123456789" * 3
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" + KEY_FIELD + b"\r\n"
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n" + KEY_FIELD
FRAMINGS = {b"Content-Length: 100000\r\n\r\n": b"a", b"Transfer-Encoding: chunked\r\n\r\n": b"1\r\na\r\n"}


async def dribble(client: SlowClient, piece: bytes) -> None:
    """Send this again and again until there is an answer or an end."""
    while not client.read() and not client.over:
        client.send_what_goes(piece)
        await asyncio.sleep(SLICE)
    await client.read_to_end()


def refusal(client: SlowClient, method: bytes = b"POST") -> tuple[int, str]:
    (answer,) = read_responses(client.received, [method], ended=True)
    assert answer.one("connection") == "close"
    return answer.status, problem(answer)["code"]


def test_requests_that_come_byte_by_byte_are_served(tried: Tried) -> None:
    async def case() -> None:
        requests = [
            (get(b"/1"), b""),
            (post(BODY, b"/2"), BODY),
            (CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n", BODY),
        ]
        async with live() as gate:
            for request, body in requests:
                gate.upstream.forget()
                client = await gate.ask(*(request[at : at + 1] for at in range(len(request))))
                assert [each.status for each in client.answers] == [200]
                assert [each.body for each in gate.upstream.requests] == [body]
                tried(SECTION, len(request))

    run(case())


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("begun_fast", [False, True])
def test_a_body_that_dribbles_in_is_408_and_its_upstream_is_free(
    framing: bytes,
    tried: Tried,
    *,
    begun_fast: bool,
) -> None:
    """However often a byte comes, and whatever came before."""

    async def case() -> None:
        server = {"client_body_timeout_seconds": 0.5, "client_body_min_bytes_per_second": 10_000}
        piece = FRAMINGS[framing]
        async with live(server=server) as gate, slow_client(gate, HEAD + framing) as client:
            peer = await upstream_peer(gate)
            if begun_fast:
                await client.send(piece * 9000)
            await dribble(client, piece)
            assert refusal(client) == (408, "request_timeout")
            assert "more slowly" in json.loads(read_responses(client.received, [b"POST"], ended=True)[0].body)["detail"]
            await gate.until(lambda: peer.ended)
            client.leave("close")
            await all_over(gate)

    run(case())
    tried(SECTION, 1)
