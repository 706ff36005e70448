"""TLS with upstreams, on real sockets: whose certificates are believed, what is said where not, how responses end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.certificates import authority, issued
from tests.proxy.harness import get, post, problem
from tests.wire.live import live, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.wire.conftest import Tried

LARGE = bytes(range(256)) * 8192  # 2 MiB
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n"


def behind(**changes: Any) -> ssl.SSLContext:  # noqa: ANN401  attributes of a context
    """What an upstream with a good certificate has."""
    return authority().server(issued(), **changes)


def trusting(**changes: object) -> dict[str, Any]:
    """Settings that believe the authority of the tests."""
    return {"tls": {"ca_file": authority().file, **changes}}


def send_fin(transport: asyncio.Transport) -> None:
    """End our half of the TCP connection behind the back of the TLS on it."""
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as raw:
        raw.shutdown(socket.SHUT_WR)


async def speaking(words: bytes) -> asyncio.Server:
    """A server that says that to whoever connects, whatever they say, and closes when they do."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        with suppress(ConnectionError):
            while await reader.read(1 << 16):
                pass
        writer.close()

    return await asyncio.start_server(speak, "127.0.0.1", 0)


@contextmanager
def strict_server(context: ssl.SSLContext) -> Iterator[int]:
    """A server that shakes hands once and sends the alert that is due, which those of event loops forget; its port."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as tls:
            with suppress(OSError):
                tls.do_handshake()
                tls.recv(1)
            with socket.socket(fileno=tls.detach()) as raw, suppress(OSError):
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(1 << 16):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def expect(server: ssl.SSLContext, log: str, caplog: pytest.LogCaptureFixture, tls: dict[str, Any]) -> None:
    """502, and the words that tell the operator what to do."""
    caplog.set_level(logging.WARNING)

    async def case() -> None:
        with strict_server(server) as port:
            await refused({"targets": [f"https://localhost:{port}"], **tls})

    async def refused(upstream: dict[str, Any]) -> None:
        async with live(upstream=upstream) as gate:
            client = await gate.ask(get())
            await gate.until(lambda: client.answers)
            assert [(each.status, problem(each)["code"]) for each in client.answers] == [(502, "upstream_unreachable")]
            assert not gate.target.connections

    run(case())
    said = [each.getMessage() for each in caplog.records if each.name.startswith("gateway")]
    assert any(log in each for each in said), said
    assert not [each for each in caplog.records if each.exc_info]


def test_an_upstream_whose_certificate_is_good(tried: Tried) -> None:
    async def case() -> None:
        async with live(upstream_tls=behind(), upstream=trusting(minimum_version="1.3")) as gate:
            for _ in range(5):
                client = await gate.ask(get())
                await gate.until(client.is_answered)
                assert client.answers[0].status == 200
            assert len(gate.upstream.connections) == 1, "tickets must not keep a connection from being used again"
            shown = gate.upstream.connections[0].transport.get_extra_info("ssl_object")
            assert shown.selected_alpn_protocol() is None  # the upstream here knows no ALPN
            assert shown.version() == "TLSv1.3"

    run(case())
    tried("tls: behind", 5)


@pytest.mark.parametrize(
    ("server", "client", "log"),
    [
        (behind, {"ca_file": None}, "name that one in upstreams.tls.ca_file"),
        (lambda: authority().server(issued(by="Another")), {}, "name that one in upstreams.tls.ca_file"),
        (lambda: authority().server(issued(days=-1)), {}, "its certificate has expired: renew it there"),
        (lambda: authority().server(issued("other.test")), {}, "not for localhost: set upstreams.tls.server_name"),
        (behind, {"server_name": "wrong.test"}, "not for wrong.test: set upstreams.tls.server_name"),
        (
            lambda: behind(maximum_version=ssl.TLSVersion.TLSv1_2),
            {"minimum_version": "1.3"},
            "no version of TLS from upstreams.tls.minimum_version on",
        ),
        (lambda: behind(verify_mode=ssl.CERT_REQUIRED), {}, "it asks for a client certificate"),
        (
            lambda: behind(verify_mode=ssl.CERT_REQUIRED, maximum_version=ssl.TLSVersion.TLSv1_2),
            {},
            "wants a client certificate",
        ),
        (
            lambda: behind(verify_mode=ssl.CERT_REQUIRED),
            issued("me", by="Another").table(),
            "it does not accept our client certificate",
        ),
    ],
)
def test_a_handshake_that_fails_says_what_to_do(
    server: Callable[[], ssl.SSLContext],
    client: dict[str, str],
    log: str,
    caplog: pytest.LogCaptureFixture,
    tried: Tried,
) -> None:
    expect(server(), log, caplog, trusting(**client))
    tried("tls: behind", 1)


def test_plain_http_where_tls_was_expected(caplog: pytest.LogCaptureFixture, tried: Tried) -> None:
    caplog.set_level(logging.WARNING)

    async def case() -> None:
        plain = await speaking(b"HTTP/1.1 400 No\r\n\r\n")
        target = f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}"
        async with live(upstream={"targets": [target], **trusting()}) as gate:
            client = await gate.ask(get())
            await gate.until(lambda: client.answers)
            assert client.answers[0].status == 502
        plain.close()

    run(case())
    assert "what it speaks is no TLS" in caplog.text
    tried("tls: behind", 1)


def test_an_upstream_that_never_ends_its_handshake(caplog: pytest.LogCaptureFixture, tried: Tried) -> None:
    async def case() -> None:
        silent = await speaking(b"")
        target = f"https://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        settings = {"targets": [target], "connect_timeout_seconds": 0.05, **trusting()}
        async with live(upstream=settings) as gate:
            client = await gate.ask(get())
            await gate.until(lambda: client.answers)
            assert client.answers[0].status == 502
            assert not gate.target.in_flight
        silent.close()

    run(case())
    assert "no connection in time" in caplog.text
    tried("tls: behind", 1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_is_shown_where_it_is_asked_for(version: ssl.TLSVersion, tried: Tried) -> None:
    async def case() -> None:
        server = behind(verify_mode=ssl.CERT_REQUIRED, maximum_version=version)
        async with live(upstream_tls=server, upstream=trusting(**issued("gateway.test").table())) as gate:
            client = await gate.ask(get())
            await gate.until(lambda: client.answers)
            assert client.answers[0].status == 200
            peer = gate.upstream.connections[0].transport.get_extra_info("peercert")
            assert peer["subjectAltName"] == (("DNS", "gateway.test"),)

    run(case())
    tried("tls: behind", 1)


def test_another_name_and_no_name_at_all(tried: Tried) -> None:
    async def case(server: ssl.SSLContext, tls: dict[str, Any]) -> None:
        async with live(upstream_tls=server, upstream={"tls": tls}) as gate:
            client = await gate.ask(get())
            await gate.until(lambda: client.answers)
            assert client.answers[0].status == 200

    named = authority().server(issued("api.test"))
    run(case(named, {"ca_file": authority().file, "server_name": "api.test"}))
    run(case(authority().server(issued(by="Another", days=-1)), {"verify": False}))
    tried("tls: behind", 2)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bodies_are_the_same_both_ways_with_tls_on_both_sides(version: ssl.TLSVersion, tried: Tried) -> None:
    async def case() -> None:
        settings = {"tls": issued().table()}
        async with live(server=settings, upstream_tls=behind(maximum_version=version), upstream=trusting()) as gate:
            gate.upstream.answer = lambda request: (
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(request.body), request.body)
            )
            client = await gate.tls_client(authority().context())
            client.methods = [b"POST"]
            sending = asyncio.ensure_future(client.send(post(LARGE)))
            await gate.until(lambda: len(client.received) > len(LARGE))
            await sending
            assert client.answers[0].body == LARGE

    run(case())
    tried("tls: behind", 1)


HEAD = b"HTTP/1.1 200 OK\r\n"
ENDINGS = {
    "until the end of the connection": HEAD + b"Connection: close\r\n\r\nhalf",
    "a length": HEAD + b"Content-Length: 100\r\n\r\nhalf",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("minor", [0, 1])
def test_a_bare_fin_ends_no_response(ending: str, minor: int, tried: Tried) -> None:
    """Anybody on the way can send one: what came is not the whole, and the client sees that."""

    async def case() -> None:
        async with live(upstream_tls=behind(), upstream=trusting()) as gate:
            gate.upstream.answer = lambda _: ENDINGS[ending]
            client = await gate.ask(get().replace(b"HTTP/1.1", b"HTTP/1.%d" % minor))
            await gate.until(lambda: b"half" in client.received)
            send_fin(gate.upstream.connections[0].transport)
            await gate.until(client.over)
            assert client.was_reset
            assert not client.received.endswith(b"0\r\n\r\n")

    run(case())
    tried("tls: behind", 1)


@pytest.mark.parametrize("minor", [0, 1])
def test_close_notify_ends_a_response_that_lasts_until_then(minor: int, tried: Tried) -> None:
    async def case() -> None:
        async with live(upstream_tls=behind(), upstream=trusting()) as gate:
            gate.upstream.answer = lambda _: ENDINGS["until the end of the connection"]
            client = await gate.ask(get().replace(b"HTTP/1.1", b"HTTP/1.%d" % minor))
            await gate.until(lambda: b"half" in client.received)
            gate.upstream.connections[0].transport.close()
            await gate.until(lambda: client.received.endswith(b"half" if minor == 0 else b"0\r\n\r\n"))
            assert client.answers[0].body == b"half"
            assert not client.was_reset

    run(case())
    tried("tls: behind", 1)


@pytest.mark.parametrize("how", ["close_notify", "fin", "reset"])
def test_an_idle_connection_that_ends_is_dropped_at_once(how: str, tried: Tried) -> None:
    async def case() -> None:
        async with live(upstream_tls=behind(), upstream=trusting()) as gate:
            client = await gate.ask(get())
            await gate.until(lambda: client.answers)
            [target] = gate.worker.pools[0].targets
            assert len(target.idle) == 1
            transport = gate.upstream.connections[0].transport
            if how == "close_notify":
                transport.close()
            elif how == "fin":
                send_fin(transport)
            else:
                transport.abort()
            await gate.until(lambda: not target.connections)
            again = await gate.ask(get())
            await gate.until(lambda: again.answers)
            assert again.answers[0].status == 200

    run(case())
    tried("tls: behind", 1)


def test_health_checks_use_the_same_context(tried: Tried) -> None:
    """Also its name: without one, every target would soon be unhealthy."""
    from gateway.proxy.health_checks import check_health  # noqa: PLC0415  this test's alone

    async def case() -> None:
        server = authority().server(issued("api.test"), verify_mode=ssl.CERT_REQUIRED)
        tls = {"ca_file": authority().file, "server_name": "api.test", **issued("gateway.test").table()}
        settings = {"tls": tls, "health_path": "/health", "health_interval_seconds": 0.01, "health_timeout_seconds": 5}
        async with live(upstream_tls=server, upstream=settings) as gate:
            checks = asyncio.ensure_future(check_health(gate.worker.pools[0]))
            await gate.until(lambda: len(gate.upstream.requests) > 3)
            assert gate.target.healthy
            checks.cancel()
            await asyncio.gather(checks, return_exceptions=True)

    run(case())
    tried("tls: behind", 1)
