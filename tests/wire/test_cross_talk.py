"""What an upstream says unasked does not become the answer to somebody else's request, as far as that can be told.

Where it was read while nobody waited, its connection is gone. What is in the kernel when the next request comes is
found where the connection is looked at before it is used again, as that of each new target is. What arrives later than
that request was sent cannot be told from its answer, in HTTP/1.1, by anybody: it shifts the answers of its connection
until that rests, and of a target that is known for it the connection rests at once.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from gateway.proxy.upstream_pool import SHORTEST_REST_SECONDS, USES_BEFORE_REST
from tests.certificates import authority, issued
from tests.proxy.harness import OTHER_SECRET, always_rested
from tests.wire.hostile_upstream import (
    MARK,
    SECOND,
    Line,
    begin,
    check_next_client,
    code_of,
    hostile,
    outcome,
    request,
    send_unread,
)
from tests.wire.live import live, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.wire.conftest import Tried
    from tests.wire.hostile_upstream import HostileUpstream
    from tests.wire.live import Live
    from tests.wire.live_clients import Client

SECTION = "cross-talk"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n" + MARK


async def idle(gate: Live, upstream: HostileUpstream, count: int = 1) -> list[Line]:
    """Connections that the first client's requests have left behind, open and silent."""
    begun = [await begin(gate, request(b"/first/%d" % number), upstream=upstream) for number in range(count)]
    for client, line in begun:
        await line.say(OK)
        await outcome(gate, client)
        assert client.answers[0].body == b"ok"
        client.close()
        gate.clients.remove(client)
    await gate.settled()
    await asyncio.sleep(2 * SHORTEST_REST_SECONDS)  # a target that spoke unasked gets no request before that
    return [line for _, line in begun]


async def second_client(gate: Live, upstream: HostileUpstream) -> Client:
    """A client that the gateway reads from already: what it sends is there in the next turn of the loop."""
    client = await gate.client()
    await gate.settled()
    client.methods = [b"GET"]
    assert not upstream.look()
    return client


async def check_own(gate: Live, upstream: HostileUpstream, client: Client, target: bytes) -> Line:
    """The second client's request comes on a fresh connection, and its answer is its own."""
    line = await upstream.request(target)
    assert len(line.requests) == 1
    assert line.requests[0].one("x-credential-identifier") == "key_2"
    await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine")
    await outcome(gate, client)
    assert [each.body for each in client.answers] == [b"mine"]
    assert MARK not in client.received
    return line


def answer_and_end(line: Line) -> None:
    line.say_unread(POISON)
    line.end_unread()


SPEAKS: dict[str, Callable[[Line], object]] = {
    "an answer": lambda line: line.say_unread(POISON),
    "a byte": lambda line: line.say_unread(b"H"),
    "an empty line": lambda line: line.say_unread(b"\r\n"),
    "100 Continue": lambda line: line.say_unread(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the end of a timeout": lambda line: line.say_unread(b"HTTP/1.1 408 " + MARK + b"\r\nConnection: close\r\n\r\n"),
    "an answer and the end": answer_and_end,
    "the end": Line.end_unread,
    "much": lambda line: line.say_unread(POISON * 100),
}


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("first", ["client", "upstream"])
@pytest.mark.parametrize("what", SPEAKS)
def test_what_the_kernel_still_holds_ends_a_connection_that_is_to_be_used_again(
    what: str, first: str, method: bytes, tried: Tried
) -> None:
    """Both are there in one turn of the loop, in either order; a POST is not lost, since it is sent only then."""

    async def story() -> None:
        for count in (1, 2, 5):
            async with hostile() as (gate, upstream):
                lines = await idle(gate, upstream, count)
                client = await second_client(gate, upstream)
                asks = request(b"/second", method=method, key=SECOND, body=b"x" * (method == b"POST"))
                client.methods = [method]
                if first == "client":
                    send_unread(client.socket, asks)
                for line in lines:
                    SPEAKS[what](line)
                if first == "upstream":
                    send_unread(client.socket, asks)
                own = await check_own(gate, upstream, client, b"/second")
                assert own not in lines
                await gate.settled()
                upstream.look()
                assert all(line.ended and len(line.requests) == 1 for line in lines)
                tried(SECTION, 1)

    run(story())


def test_a_connection_that_was_silent_is_used_though_the_others_spoke(tried: Tried) -> None:
    async def story() -> None:
        async with hostile() as (gate, upstream):
            always_rested(gate.worker)
            for quiet in range(4):
                lines = await idle(gate, upstream, 4)
                client = await second_client(gate, upstream)
                send_unread(client.socket, request(b"/second", key=SECOND))
                for number, line in enumerate(lines):
                    if number != quiet:
                        line.say_unread(POISON)
                used = await upstream.request(b"/second")
                assert used is lines[quiet]
                await used.say(OK)
                await outcome(gate, client)
                assert client.answers[0].body == b"ok"
                upstream.forget()
                await upstream.read_by_gateway()
                tried(SECTION, 1)

    run(story())


@pytest.mark.parametrize("known", [False, True])
def test_a_second_answer_at_any_distance_reaches_nobody(tried: Tried, *, known: bool) -> None:
    """In one write with the first, right behind it, some turns of the loop later, or after a while.

    `known`: of a target that has done so before.
    """

    async def story() -> None:
        for apart, before_request in itertools.product(range(6), range(6)):
            async with hostile() as (gate, upstream):
                if known:
                    (line,) = await idle(gate, upstream)
                    await line.say(POISON)
                    upstream.forget()
                client, line = await begin(gate, request(b"/first"), upstream=upstream)
                other = await second_client(gate, upstream)
                if apart:
                    line.say_unread(OK)
                    for _ in range(apart - 1):
                        await asyncio.sleep(0)
                    line.say_unread(POISON)
                else:
                    line.say_unread(OK + POISON)
                for _ in range(before_request):
                    await asyncio.sleep(0)
                send_unread(other.socket, request(b"/second", key=SECOND))
                await check_own(gate, upstream, other, b"/second")
                assert MARK not in client.received
                await gate.settled()
                assert client.answers[0].status in {200, 502}
                upstream.look()
                assert line.ended
                tried(SECTION, 1)

    run(story())


def test_a_known_one_s_second_answer_reaches_nobody_though_it_comes_after_the_next_request(tried: Tried) -> None:
    """The connection is resting then: that request went out on another one."""

    async def story() -> None:
        async with hostile() as (gate, upstream):
            (line,) = await idle(gate, upstream)
            await line.say(POISON)
            gate.target.precise_clock = lambda: 0.0  # nothing rests
            for _ in range(10):
                upstream.forget()
                client, line = await begin(gate, request(b"/first"), upstream=upstream)
                other = await second_client(gate, upstream)
                line.say_unread(OK)
                send_unread(other.socket, request(b"/second", key=SECOND))
                own = await upstream.request(b"/second")
                line.say_unread(POISON)
                assert own is not line
                await own.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine")
                await outcome(gate, other)
                assert [each.body for each in other.answers] == [b"mine"]
                await outcome(gate, client)
                assert [each.body for each in client.answers] == [b"ok"]
                upstream.look()
                assert line.ended
                tried(SECTION, 1)

    run(story())


def test_an_idle_connection_that_speaks_is_gone_at_once(tried: Tried) -> None:
    async def story() -> None:
        async with hostile() as (gate, upstream):
            for said in (POISON, b"H", b"\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"):
                (line,) = await idle(gate, upstream)
                await line.say(said)
                await gate.settled()
                upstream.look()
                assert line.ended
                await check_next_client(gate, upstream, line)
                upstream.forget()
                tried(SECTION, 1)

    run(story())


def test_an_upstream_that_speaks_before_it_is_asked_is_no_upstream(tried: Tried) -> None:
    async def story() -> None:
        async with hostile() as (gate, upstream):
            for said in (POISON, b"H", b"220 " + MARK + b" ESMTP\r\n"):
                client = await gate.client()
                client.methods = [b"GET"]
                send_unread(client.socket, request(b"/first"))
                line = await upstream.connection()
                line.say_unread(said)
                await outcome(gate, client)
                assert code_of(client.answers[0]) == (502, "upstream_unreachable")
                upstream.look()
                assert not line.requests
                await check_next_client(gate, upstream, line)
                upstream.forget()
                tried(SECTION, 1)

    run(story())


def test_the_second_try_of_a_request_takes_no_idle_connection(tried: Tried) -> None:
    """A reused connection ends under a request: the second try is on a fresh one, which has to be silent, too."""

    async def story() -> None:
        async with hostile() as (gate, upstream):
            lines = await idle(gate, upstream, 2)
            client, line = await begin(gate, request(b"/second", key=SECOND), upstream=upstream)
            assert line in lines
            upstream.lines.remove(line)
            next(each for each in lines if each is not line).say_unread(POISON)
            await line.reset()
            own = await check_own(gate, upstream, client, b"/second")
            assert own not in lines
            upstream.forget()
            await upstream.read_by_gateway()
            await idle(gate, upstream)
            client, line = await begin(gate, request(b"/second", key=SECOND), upstream=upstream)
            upstream.lines.remove(line)
            await line.reset()
            retried = await upstream.connection()
            retried.say_unread(POISON)
            await outcome(gate, client)
            assert MARK not in client.received
            assert code_of(client.answers[0]) == (502, "upstream_unreachable")
            tried(SECTION, 2)

    run(story())


@pytest.mark.parametrize("owed", ["before the next request is read", "after it"])
def test_one_surplus_shifts_the_answers_of_a_connection_until_it_rests(owed: str, tried: Tried) -> None:
    """The worst case: one request follows the other at once, and each gets the answer to the one before."""

    async def story() -> None:
        async with hostile() as (gate, upstream):
            gate.target._probation = 0
            gate.target.precise_clock = lambda: 0.0
            client, line = await begin(gate, request(b"/first"), upstream=upstream)
            await line.say(OK)
            await outcome(gate, client)
            answer, wrong = POISON, 0
            while not line.ended:
                client = await second_client(gate, upstream)
                send_unread(client.socket, request(b"/second", key=SECOND))
                if owed == "after it":
                    await gate.settled()
                line.say_unread(answer)  # before: the gateway has read neither
                await gate.settled()
                upstream.look()
                wrong += bool(client.answers)
                answer = OK
            assert 1 <= wrong <= USES_BEFORE_REST
            assert gate.target.distrusted
            tried(SECTION, 1)

    run(story())


async def with_tls(story: Callable[[Live], Awaitable[None]], version: ssl.TLSVersion) -> None:
    context = authority().server(issued(), maximum_version=version)
    async with live(upstream={"tls": {"ca_file": authority().file}}, upstream_tls=context) as gate:
        gate.keys.put(OTHER_SECRET, key_id="key_2")
        await story(gate)


async def answered(gate: Live, client: Client) -> bytes:
    """The body of the answer that comes; handshakes take turns of the loop in which nothing else happens."""
    await outcome(gate, client)
    return client.answers[-1].body


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_behind_tls_too_and_what_is_of_tls_itself_costs_no_connection(version: ssl.TLSVersion, tried: Tried) -> None:
    """Session tickets come unasked, right behind the handshake: connections are used again all the same."""

    async def story(gate: Live) -> None:
        for number in range(10):
            path = b"/%d" % number
            assert await answered(gate, await gate.ask(request(path))) == b"GET " + path
        assert len(gate.upstream.connections) == 1
        (line,) = gate.target.idle
        line.transport.pause_reading()  # as if its turn had not come yet
        gate.upstream.connections[0].transport.write(POISON)
        while not line.has_unread():
            await asyncio.sleep(0)
        other = await gate.ask(request(b"/second", key=SECOND))
        assert await answered(gate, other) == b"GET /second"
        assert MARK not in other.received
        assert len(gate.upstream.connections) == 2
        assert not gate.target.distrusted, "it may have been a ticket"
        tried(SECTION, 11)

    run(with_tls(story, version))


def test_what_the_layer_of_tls_still_holds_ends_a_connection_too(tried: Tried) -> None:
    """A slow client's last piece may leave it there: decrypted or not, the kernel no longer has it.

    A POST shows that it was not sent there, since it would not be sent again.
    """
    post = request(b"/second", method=b"POST", key=SECOND, body=b"x")

    async def story(gate: Live) -> None:
        for where in ("_backlog", "_incoming"):
            assert await answered(gate, await gate.ask(request(b"/first"))) == b"GET /first"
            (line,) = gate.target.idle
            assert not line.has_unread()
            tls: Any = line.transport
            if where == "_backlog":
                tls._backlog = b"\x17"
            else:
                tls._incoming.write(b"\x17")
            assert await answered(gate, await gate.ask(post)) == b"POST /second"
            assert line.closing
            tried(SECTION, 1)

    run(with_tls(story, ssl.TLSVersion.TLSv1_3))
