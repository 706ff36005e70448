"""The fault proxy does to a real Redis' connections what it says, so that tests which rely on it test something."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.e2e.fault_proxy import FaultProxy, Tampering, end_of_value, is_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis.client import PubSub

    from tests.servers.redis import RedisServer

CHANNEL = "changes"


@pytest.fixture
def server(redis_server: Callable[..., RedisServer]) -> RedisServer:
    return redis_server()


@pytest.fixture
def link(server: RedisServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.port, tampering=True) as proxy:
        yield proxy


@contextlib.contextmanager
def client(port: int, protocol: int = 3, timeout: float = 5) -> Iterator[redis.Redis]:
    """Through the proxy; without retries, which would hide what it does."""
    made = redis.Redis(port=port, protocol=protocol, socket_timeout=timeout, retry=Retry(NoBackoff(), 0))
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def subscribed(port: int, protocol: int) -> Iterator[PubSub]:
    with client(port, protocol) as connection, connection.pubsub() as subscription:  # type: ignore[no-untyped-call] # redis-py leaves it so
        subscription.subscribe(CHANNEL)
        assert subscription.get_message(timeout=5)["type"] == "subscribe"
        yield subscription


def published(server: RedisServer, *messages: int) -> None:
    for message in messages:
        server.ask("PUBLISH", CHANNEL, str(message))


def heard(subscription: PubSub, until: int) -> list[int]:
    """The messages up to and with this one, as they come."""
    numbers: list[int] = []
    while until not in numbers:
        message = subscription.get_message(timeout=5)
        assert message is not None, numbers
        numbers.append(int(message["data"]))
    return numbers


VALUES = (
    b"+OK\r\n",
    b"-ERR no\r\n",
    b":12\r\n",
    b"_\r\n",
    b"#t\r\n",
    b",1.5\r\n",
    b"(123\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"$4\r\n\r\n\r\n\r\n",
    b"!3\r\nERR\r\n",
    b"=7\r\ntxt:abc\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
    b"%1\r\n+a\r\n~1\r\n:1\r\n",
    b"|1\r\n+ttl\r\n:5\r\n*1\r\n$1\r\na\r\n",
    b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n\r\n\r\n",
)


@pytest.mark.parametrize("value", VALUES)
def test_a_value_of_resp_ends_where_it_ends_and_never_before(value: bytes) -> None:
    assert end_of_value(value) == len(value)
    assert end_of_value(value + b"+OK\r\n") == len(value)
    assert end_of_value(b"+OK\r\n" + value, 5) == 5 + len(value)
    assert [end_of_value(value[:cut]) for cut in range(len(value))] == [None] * len(value)


def test_only_messages_are_taken_for_messages() -> None:
    assert is_message(b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\n1\r\n")
    assert is_message(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\n1\r\n")
    assert not is_message(b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
    assert not any(is_message(value) for value in VALUES[:-1])


def test_what_is_no_resp_is_said_so() -> None:
    with pytest.raises(ValueError, match="no RESP"):
        end_of_value(b"HTTP/1.1 200 OK\r\n")


def test_everything_passes_until_something_is_broken(link: FaultProxy) -> None:
    with client(link.port) as connection:
        connection.set("large", b"\r\n" * 1_000_000)
        assert connection.get("large") == b"\r\n" * 1_000_000
        assert connection.eval("return {1, {'a', {2, 3}}, 'z'}", 0) == [1, [b"a", [2, 3]], b"z"]


def test_refused_connections_are_refused_until_it_heals(link: FaultProxy) -> None:
    """On the same port; the connection that was open goes on."""
    with client(link.port) as old, client(link.port) as new:
        assert old.ping()
        link.refuse()
        with pytest.raises(redis.ConnectionError):
            new.ping()
        assert old.ping()
        link.heal()
        assert new.ping()


def test_a_cut_ends_what_is_open_and_new_connections_come_through(link: FaultProxy) -> None:
    with socket.create_connection(("127.0.0.1", link.port)) as raw, client(link.port) as connection:
        raw.settimeout(5)
        raw.sendall(b"PING\r\n")
        assert raw.recv(100) == b"+PONG\r\n"
        assert link.connections == 1
        link.cut()
        with pytest.raises(ConnectionResetError):
            raw.recv(100)
        assert connection.ping()


def test_a_swallowed_connection_stays_open_and_is_silent_and_goes_on_when_it_heals(link: FaultProxy) -> None:
    with client(link.port, timeout=0.2) as connection, socket.create_connection(("127.0.0.1", link.port)) as raw:
        assert connection.ping()
        link.swallow()
        with pytest.raises(redis.TimeoutError):
            connection.ping()
        raw.sendall(b"PING\r\n")
        raw.settimeout(0.2)
        with pytest.raises(TimeoutError):
            raw.recv(100)
        link.heal()
        raw.settimeout(5)
        assert raw.recv(100) == b"+PONG\r\n"


def test_a_delay_delays(link: FaultProxy) -> None:
    with client(link.port) as connection:
        assert connection.ping()
        link.delay(0.05)
        began = time.monotonic()
        assert connection.ping()
        assert time.monotonic() - began >= 0.1  # there and back; never less, whatever the machine does


def test_it_can_lead_to_another_server(link: FaultProxy, redis_server: Callable[..., RedisServer]) -> None:
    other = redis_server()
    other.ask("SET", "who", "other")
    with client(link.port) as connection:
        assert connection.get("who") is None
        link.heal(other.port)
        link.cut()
        with contextlib.suppress(redis.ConnectionError):
            connection.ping()
        assert connection.get("who") == b"other"


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_are_dropped_and_nothing_else_is(link: FaultProxy, server: RedisServer, protocol: int) -> None:
    with subscribed(link.port, protocol) as subscription, client(link.port, protocol) as other:
        tampering = Tampering(drop=1)
        link.tamper(tampering)
        published(server, 1, 2, 3)
        assert other.ping()
        while tampering.dropped < 3:
            time.sleep(0.001)
        link.tamper(None)
        published(server, 4)
        assert heard(subscription, 4) == [4]


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_are_repeated(link: FaultProxy, server: RedisServer, protocol: int) -> None:
    with subscribed(link.port, protocol) as subscription:
        link.tamper(Tampering(repeat=1))
        published(server, 1, 2)
        assert heard(subscription, 2) == [1, 1, 2]
        assert heard(subscription, 2) == [2]


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_are_held_back_until_after_a_later_one(link: FaultProxy, server: RedisServer, protocol: int) -> None:
    """And none is lost by that: what is still held comes when it heals."""
    with subscribed(link.port, protocol) as subscription:
        tampering = Tampering(reorder=1)
        link.tamper(tampering)
        published(server, 1, 2)
        while tampering.reordered < 2:
            time.sleep(0.001)
        link.tamper(None)
        published(server, 3)
        assert sorted(
            heard(subscription, 3) + [int(subscription.get_message(timeout=5)["data"]) for _ in range(2)]
        ) == [
            1,
            2,
            3,
        ]
        link.tamper(Tampering(reorder=1))
        published(server, 4)
        link.heal()
        assert heard(subscription, 4) == [4]


def test_a_mixture_of_all_three_is_repeatable(link: FaultProxy, server: RedisServer) -> None:
    told = []
    for _ in range(2):
        with subscribed(link.port, 3) as subscription:
            tampering = Tampering(drop=0.2, repeat=0.2, reorder=0.2, seed=7)
            link.tamper(tampering)
            published(server, *range(100))
            while tampering.dropped + tampering.reordered + tampering.passed < 100:
                time.sleep(0.001)
            link.tamper(None)
            published(server, 100)
            told.append(heard(subscription, 100))
    assert told[0] == told[1]
    assert told[0] != sorted(told[0])
    assert len(set(told[0])) < 101
    assert len(told[0]) > len(set(told[0]))
