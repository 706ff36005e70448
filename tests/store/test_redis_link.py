"""The link to one Redis: any number of callers on one connection, and an end to every wait."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from typing import TYPE_CHECKING, Final

import pytest
import uvloop

from gateway.errors import ConfigurationError, RedisUnavailable
from gateway.store import redis_connection, redis_link
from gateway.store.redis_link import RedisLink, RedisRefused, connect
from tests.servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.servers.redis import RedisServer


@pytest.fixture
def redis(redis_server: Callable[..., RedisServer]) -> RedisServer:
    return redis_server()


@contextlib.asynccontextmanager
async def linked(url: str, timeout_seconds: float = 2.0) -> AsyncIterator[RedisLink]:
    link = connect(url, timeout_seconds=timeout_seconds)
    try:
        yield link
    finally:
        await link.close()


async def test_each_of_many_callers_gets_its_own_answer(redis: RedisServer) -> None:
    async with linked(redis.url) as link:
        answers = await asyncio.gather(*[link.call("ECHO", f"{number}") for number in range(1000)])
        assert answers == [b"%d" % number for number in range(1000)]
        clients = await link.call("CLIENT", "LIST")
        assert isinstance(clients, bytes)
        assert clients.count(b"name=keygate") == 1


def test_it_works_on_uvloop_as_well(redis: RedisServer) -> None:
    async def ask() -> object:
        async with linked(redis.url) as link:
            return await link.call("PING")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(ask()) == b"PONG"


async def test_a_caller_that_gives_up_leaves_the_answers_of_the_others_in_order(redis: RedisServer) -> None:
    async with linked(redis.url) as link:
        asking = [asyncio.ensure_future(link.call("ECHO", f"{number}")) for number in range(10)]
        await asyncio.sleep(0)
        for each in asking[::2]:
            each.cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert answers[1::2] == [b"%d" % number for number in range(1, 10, 2)]


async def test_an_error_answer_is_of_its_caller_alone(redis: RedisServer) -> None:
    async with linked(redis.url) as link:
        wrong, right = await asyncio.gather(link.call("NONSENSE"), link.call("PING"), return_exceptions=True)
        assert isinstance(wrong, RedisRefused)
        assert right == b"PONG"


async def test_a_redis_that_is_stopped_costs_each_caller_its_time_out_at_the_most(redis: RedisServer) -> None:
    async with linked(redis.url, timeout_seconds=0.1) as link:
        await link.call("PING")
        redis.process.pause()
        waiting = [link.call("PING") for _ in range(100)]
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(each, RedisUnavailable) for each in answers)
        assert link._connection is not None
        assert link._connection.is_closed  # it may be half open
        connecting = link._connecting
        with pytest.raises(RedisUnavailable):
            await link.call("PING")
        assert link._connecting is connecting is None  # for a moment, nobody tries
        redis.process.resume()
        await asyncio.sleep(0.3)
        assert await link.call("PING") == b"PONG"


async def test_a_connection_that_redis_closes_is_made_anew_at_the_next_call(redis: RedisServer) -> None:
    async with linked(redis.url) as link:
        await link.call("PING")
        redis.ask("CLIENT", "KILL", "TYPE", "normal")
        assert link._connection is not None
        await link._connection.lost
        assert await link.call("PING") == b"PONG"


async def test_a_half_open_subscription_is_found(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link, "_LISTENING_PING_SECONDS", 0.05)
    async with linked(redis.url, timeout_seconds=0.2) as link:
        messages = link.subscribe("here")
        assert await anext(messages) is None
        asking = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0.3)  # some pings later it still holds
        assert not asking.done()
        redis.process.pause()
        with pytest.raises(RedisUnavailable):
            await asking


async def test_no_password_is_in_an_error(redis_server: Callable[..., RedisServer]) -> None:
    redis = redis_server("--requirepass", "right-one")
    url = redis.url.replace("redis://", "redis://:very-secret@")
    async with linked(url) as link:
        with pytest.raises(RedisRefused) as refused:
            await link.call("PING")
        assert "user name and password of redis.url" in refused.value.detail
        assert "very-secret" not in f"{refused.value.detail} {refused.value.internal} {link} {link._address!r}"
    async with linked(url.replace("very-secret", "right-one")) as link:
        assert await link.call("PING") == b"PONG"


async def test_a_database_and_a_unix_socket(redis_server: Callable[..., RedisServer], tmp_path: Path) -> None:
    redis = redis_server("--unixsocket", str(tmp_path / "redis.sock"))
    async with linked(redis.url.replace("/0", "/3")) as link:
        await link.call("SET", "here", "1")
    async with linked(f"unix://{tmp_path}/redis.sock?db=3") as link:
        assert await link.call("GET", "here") == b"1"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Of `localhost`, and its key."""
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(command, check=True, capture_output=True)
    return files


async def test_tls_is_spoken_with_a_server_whose_certificate_is_trusted_and_no_other(
    redis_server: Callable[..., RedisServer], certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    names, key = certificate
    port = free_port()
    files = "--tls-cert-file", str(names), "--tls-key-file", str(key)
    redis_server("--tls-port", str(port), *files, "--tls-auth-clients", "no")
    url = f"rediss://localhost:{port}/0"
    async with linked(f"{url}?ca_file={names}") as link:
        assert await link.call("PING") == b"PONG"
    async with linked(url) as link:
        with pytest.raises(RedisUnavailable) as refused:
            await link.call("PING")
        assert "CERTIFICATE_VERIFY_FAILED" in refused.value.internal
    async with linked(f"{url}?ca_file={tmp_path}/missing.pem") as link:
        with pytest.raises(RedisUnavailable) as refused:
            await link.call("PING")
        assert "files for TLS" in refused.value.internal


async def test_what_is_closed_stays_closed(redis: RedisServer) -> None:
    async with linked(redis.url) as link:
        await link.call("PING")
        await link.close()
        with pytest.raises(RedisUnavailable):
            await link.call("PING")


async def test_more_questions_than_fit_are_refused_at_once(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_connection, "_MOST_WAITING", 10)
    async with linked(redis.url) as link:
        await link.call("PING")
        answers = await asyncio.gather(*[link.call("PING") for _ in range(20)], return_exceptions=True)
        assert answers[:10] == [b"PONG"] * 10
        assert all(isinstance(each, RedisUnavailable) for each in answers[10:])


def test_an_address_of_no_known_form_is_refused_without_repeating_it() -> None:
    with pytest.raises(ConfigurationError) as refused:
        connect("redis://:very-secret@host:6379/0?nonsense=1", timeout_seconds=1)
    assert "very-secret" not in str(refused.value)


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example", "no-such-host.invalid"])
async def test_a_name_that_no_host_has_is_an_outage_like_any_other(host: str) -> None:
    async with linked(f"redis://{host}") as link:
        with pytest.raises(RedisUnavailable):
            await link.call("PING")


ODD_ANSWERS: Final = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a text without end": b"$536870912000\r\nxxx",
    "a list without end": b"*2000000000\r\n",
    "lists in lists": b"*1\r\n" * 10_000,
    "more than was asked for": b":1\r\n" * 100_000,
    "more than is kept": b"$500000000\r\n" + b"x" * 20_000_000,
    "a map by a list": b"%1\r\n*1\r\n+a\r\n+b\r\n",
    "an error of no text": b"-\xff\xfe\r\n",
}


@pytest.mark.parametrize("answer", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
async def test_an_answer_that_no_redis_gives_is_an_outage_and_fills_no_memory(answer: bytes) -> None:
    serving = set[asyncio.Task[None] | None]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                writer.write(answer)
                await writer.drain()
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        async with linked(f"redis://127.0.0.1:{port}/0", timeout_seconds=0.5) as link, asyncio.timeout(5):
            with contextlib.suppress(RedisUnavailable):
                await link.call("PING")
                await link.call("PING")
            with pytest.raises(RedisUnavailable):
                async for _ in link.subscribe("here"):
                    pass
        await asyncio.gather(*(each for each in serving if each is not None))
