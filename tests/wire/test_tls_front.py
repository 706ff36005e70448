"""TLS with clients, on real sockets, with the contexts that the product makes from its settings."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import ssl
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.certificates import authority, issued
from tests.proxy.harness import KEY_FIELD, SECRET, get, post, problem
from tests.wire.live import live, ok, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.proxy.worker import Worker
    from tests.proxy.wire_reader import Message
    from tests.wire.conftest import Tried
    from tests.wire.live import Live, TlsClient

BLOCK = bytes(range(256)) * 256
LARGE = BLOCK * 64  # 4 MiB


def tls(**changes: object) -> dict[str, Any]:
    """Settings of a server with TLS."""
    return {"tls": issued().table(), **changes}


def trusting(**changes: object) -> ssl.SSLContext:
    return authority().context(**changes)


async def until(gate: Live, condition: Callable[[], object]) -> None:
    """Let everybody go on until it is so; what takes time here is the transfer of megabytes."""
    async with asyncio.timeout(30):
        while not condition():
            await gate.settled()
            await asyncio.sleep(0.001)


# --- what is agreed on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_request_is_answered_and_its_upstream_told_of_https(version: ssl.TLSVersion, tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls(), routes=[{}]) as gate:
            client = await gate.ask_tls(trusting(maximum_version=version), get())
            assert client.tls.version() == ("TLSv1.3" if version is ssl.TLSVersion.TLSv1_3 else "TLSv1.2")
            assert [each.status for each in client.answers] == [200]
            fields = gate.upstream.requests[0]
            assert fields.one("X-Forwarded-Proto") == "https"
            assert ";proto=https" in (fields.one("Forwarded") or "")
            assert not client.ended

    run(case())
    tried("tls: in front", 1)


def test_a_trusted_proxy_s_word_on_the_scheme_goes_before_our_own(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls(trusted_proxies=["127.0.0.0/8"])) as gate:
            await gate.ask_tls(trusting(), get(fields=KEY_FIELD + b"X-Forwarded-Proto: http\r\n"))
            assert gate.upstream.requests[0].one("X-Forwarded-Proto") == "http"

    run(case())
    tried("tls: in front", 1)


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [(["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), (["h2"], None), (["acme-tls/1"], None), ([], None)],
)
def test_no_other_protocol_is_agreed_on(offered: list[str], agreed: str | None, tried: Tried) -> None:
    async def case() -> None:
        context = trusting()
        if offered:
            context.set_alpn_protocols(offered)
        async with live(server=tls()) as gate:
            client = await gate.ask_tls(context, get())
            assert client.tls.selected_alpn_protocol() == agreed
            assert [each.status for each in client.answers] == [200]
            preface = await gate.ask_tls(context, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert [each.status for each in preface.answers] == [505]

    run(case())
    tried("tls: in front", 2)


@pytest.mark.parametrize(("minimum", "spoken"), [("1.2", ssl.TLSVersion.TLSv1_1), ("1.3", ssl.TLSVersion.TLSv1_2)])
def test_an_older_version_is_refused_with_an_alert(minimum: str, spoken: ssl.TLSVersion, tried: Tried) -> None:
    async def case() -> None:
        context = trusting()
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLS") if spoken is ssl.TLSVersion.TLSv1_1 else _nothing():
            context.minimum_version = context.maximum_version = spoken
        async with live(server={"tls": {**issued().table(), "minimum_version": minimum}}) as gate:
            client = await gate.tls_client(context)
            client.step()
            assert client.error is not None
            assert client.error.reason == "TLSV1_ALERT_PROTOCOL_VERSION"
            assert client.fin
            _nobody_left(gate.worker)

    run(case())
    tried("tls: in front", 1)


class _nothing:  # noqa: N801  stands in for a function
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


# --- what is no TLS, or no whole handshake ----------------------------------------------------------------------------


def _nobody_left(worker: Worker) -> None:
    assert worker.tls is not None
    assert not worker.tls.handshakes
    assert not worker.connections


HELLO = b"\x16\x03\x01"
NO_TLS = [
    b"\x00" * 64,
    b"SSH-2.0-OpenSSH_9.2\r\n",
    HELLO + b"\xff\xff" + b"A" * 400,
    HELLO + b"\x00\x04\x01\xff\xff\xff" + b"A" * 70_000,
    b"\x80\x2e\x01\x00\x02" + b"\x00" * 60,  # SSLv2
    b"\x15\x03\x01\x00\x02\x02\x28",  # an alert
    b"\x17\x03\x03\x00\x10" + b"A" * 16,  # data before any handshake
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
]


def test_bytes_that_are_no_tls_are_closed_quietly(tried: Tried, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def case() -> None:
        async with live(server=tls()) as gate:
            for noise in NO_TLS:
                client = await gate.ask(noise)
                client.socket.shutdown(socket.SHUT_WR)
                await until(gate, lambda each=client: each.ended or each.was_reset)  # type: ignore[misc]
                assert not client.received.startswith(b"HTTP"), noise
            _nobody_left(gate.worker)
            gate.worker.tick()
            gate.worker.tick()

    run(case())
    told = [each for each in caplog.records if each.name.startswith("gateway")]
    assert [each.levelname for each in told] == ["INFO"], "one line for all of them"
    assert f"failed: {len(NO_TLS)}" in told[0].getMessage()
    assert not [each for each in caplog.records if each.exc_info]
    tried("tls: in front", len(NO_TLS))


def test_plain_http_is_told_that_this_is_https(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            for request in (get(), post(b"x" * 100_000), get().replace(b"GET", b"HEAD", 1)):
                client = await gate.ask(request, methods=[b"GET"])
                await until(gate, lambda each=client: each.ended or each.was_reset)  # type: ignore[misc]
                assert not client.was_reset
                assert [(each.status, problem(each)["code"]) for each in client.answers] == [(400, "tls_required")]
                client.close()
            await until(gate, lambda: not gate.worker.tls.handshakes)  # type: ignore[union-attr]
            assert not gate.upstream.connections
            _nobody_left(gate.worker)

    run(case())
    tried("tls: in front", 3)


def test_tls_on_the_plain_port_is_a_malformed_request(tried: Tried) -> None:
    async def case() -> None:
        async with live() as gate:
            client = await gate.tls_client(trusting(), shakes=False)
            await client.send_raw(client.step())
            await until(gate, lambda: client.fin or client.was_reset)
            assert client.raw_received.startswith(b"HTTP/1.1 400 ")
            assert not gate.upstream.connections

    run(case())
    tried("tls: in front", 1)


def test_a_handshake_in_single_bytes_is_a_handshake(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            client = await gate.tls_client(trusting(), shakes=False)
            while not client.shaken:
                for byte in client.step():
                    await client.send_raw(bytes((byte,)))
                await gate.settled()
            await client.send(get())
            await gate.settled()
            client.methods = [b"GET"]
            assert [each.status for each in client.answers] == [200]

    run(case())
    tried("tls: in front", 1)


@pytest.mark.parametrize("sent", [0, 1, 5, 100, -1])
def test_a_handshake_that_stalls_ends_with_the_time_of_a_head(sent: int, tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls(client_head_timeout_seconds=0.05)) as gate:
            client = await gate.tls_client(trusting(), shakes=False)
            hello = client.step()
            await client.send_raw(hello[: sent if sent >= 0 else len(hello)])
            await gate.settled()
            assert gate.worker.tls is not None
            assert len(gate.worker.tls.handshakes) == 1
            await until(gate, lambda: client.fin or client.was_reset)
            _nobody_left(gate.worker)

    run(case())
    tried("tls: in front", 1)


def test_dribbling_does_not_make_a_handshake_s_time_longer(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls(client_head_timeout_seconds=0.2)) as gate:
            client = await gate.tls_client(trusting(), shakes=False)
            for byte in client.step():
                if client.fin or client.was_reset:
                    break
                await client.send_raw(bytes((byte,)))
                await asyncio.sleep(0.01)
            else:
                pytest.fail("it was given all the time that it wanted")
            await until(gate, lambda: not gate.worker.tls.handshakes)  # type: ignore[union-attr]

    run(case())
    tried("tls: in front", 1)


def test_half_made_handshakes_count_among_the_connections(tried: Tried) -> None:
    """Whoever takes all places is alone with it: memory is bounded, and nothing is computed for who comes then."""

    async def case() -> None:
        async with live(server=tls(max_connections=20)) as gate:
            stalled = [await gate.tls_client(trusting(), shakes=False) for _ in range(120)]
            await gate.settled()
            assert gate.worker.tls is not None
            assert len(gate.worker.tls.handshakes) == 20 + 64
            assert len([each for each in stalled if each.was_reset or each.fin]) == 120 - 84
            for each in stalled:
                each.close()
            gate.clients.clear()
            await until(gate, lambda: not gate.worker.tls.handshakes)  # type: ignore[union-attr]
            clients = [await gate.tls_client(trusting()) for _ in range(21)]
            clients[-1].methods = [b"GET"]
            await gate.settled()
            assert [each.status for each in clients[-1].answers] == [503]
            assert clients[-1].ended
            assert all(not each.received for each in clients[:-1])

    run(case())
    tried("tls: in front", 3)


# --- requests and answers ---------------------------------------------------------------------------------------------


def echo(request: Message) -> bytes:
    body = request.body
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [1, 16_383, 16_384, 16_385, 65_536, len(LARGE)])
def test_bodies_are_the_same_both_ways(size: int, version: ssl.TLSVersion, tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            gate.upstream.answer = echo
            client = await gate.tls_client(trusting(maximum_version=version))
            client.methods = [b"POST"]
            sending = asyncio.ensure_future(client.send(post(LARGE[:size])))
            await until(gate, lambda: len(client.received) > size)
            await sending
            assert client.answers[0].body == LARGE[:size]

    run(case())
    tried("tls: in front", 1)


def test_a_slow_reader_gets_all_of_it_and_holds_the_upstream_back(tried: Tried) -> None:
    """Also what was sent by an upstream that has closed the connection long before."""

    async def case() -> None:
        async with live(server=tls()) as gate:
            gate.upstream.answer = lambda _: b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + LARGE * 2
            client = await gate.tls_client(trusting())
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            gate.clients.clear()  # nobody reads
            await client.send(get())
            await until(gate, lambda: any(each.flow.writing_paused for each in gate.worker.connections))
            for _ in range(20):
                await gate.settled()
            [held] = gate.worker.connections
            assert held.transport.get_write_buffer_size() < 1 << 20
            gate.upstream.connections[0].transport.close()
            gate.clients.append(client)
            await until(gate, lambda: client.received.endswith(b"0\r\n\r\n"))
            client.methods = [b"GET"]
            assert hashlib.sha256(client.answers[0].body).digest() == hashlib.sha256(LARGE * 2).digest()

    run(case())
    tried("tls: in front", 1)


def test_pipelined_requests_are_answered_in_order(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            requests = [get(b"/%d" % number) for number in range(40)]
            together = await gate.ask_tls(trusting(), b"".join(requests), methods=[b"GET"] * 40)
            apart = await gate.ask_tls(trusting(), *requests, methods=[b"GET"] * 40)
            for client in (together, apart):
                await until(gate, lambda each=client: len(each.answers) == 40)  # type: ignore[misc]
                assert [each.body for each in client.answers] == [b"GET /%d" % number for number in range(40)]

    run(case())
    tried("tls: in front", 80)


def test_a_request_split_at_every_byte(tried: Tried) -> None:
    request = get()

    async def case() -> None:
        async with live(server=tls()) as gate:
            client = await gate.tls_client(trusting())
            for position in range(1, len(request)):
                before = len(gate.upstream.requests)
                await client.send(request[:position], request[position:])
                await until(gate, lambda n=before: len(gate.upstream.requests) > n)  # type: ignore[misc]
            await gate.settled()
            client.methods = [b"GET"] * (len(request) - 1)
            assert {each.status for each in client.answers} == {200}

    run(case())
    tried("tls: in front", len(request) - 1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_refused_upload_is_answered_before_it_is_over(
    version: ssl.TLSVersion,
    chunked: bool,  # noqa: FBT001  a parameter of the test
    tried: Tried,
) -> None:
    """The answer, close_notify, a FIN; and what still comes is read and thrown away: no reset takes the answer back."""

    async def case() -> None:
        async with live(server=tls()) as gate:
            framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(LARGE)
            head = b"POST / HTTP/1.1\r\nHost: x\r\nX-API-KEY: sk_no\r\n%b\r\n\r\n" % framing
            client = await gate.tls_client(trusting(maximum_version=version))
            client.methods = [b"POST"]
            await client.send(head)
            for _ in range(32):
                await client.send(b"10000\r\n" + BLOCK + b"\r\n" if chunked else BLOCK)
            await gate.settled()
            assert [each.status for each in client.answers] == [401]
            assert client.ended
            assert client.fin
            assert not client.was_reset
            assert client.error is None
            [held] = gate.worker.connections
            assert held.transport.is_reading()
            client.close()
            gate.clients.clear()
            await until(gate, lambda: not gate.worker.connections)

    run(case())
    tried("tls: in front", 1)


def test_an_abort_is_a_reset_without_close_notify(tried: Tried) -> None:
    """A length that is not kept: no client may take what came for the whole."""

    async def case() -> None:
        async with live(server=tls()) as gate:
            gate.upstream.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
            client = await gate.ask_tls(trusting(), get())
            gate.upstream.connections[0].transport.close()
            await until(gate, lambda: client.was_reset or client.fin)
            assert client.was_reset
            assert not client.ended
            assert b"half" in client.received

    run(case())
    tried("tls: in front", 1)


def test_a_client_that_is_gone_ends_what_is_done_for_it(tried: Tried) -> None:
    """By close_notify, by a bare FIN, by a reset, and by bytes that are no record."""

    async def end_properly(client: TlsClient) -> None:
        await client.send_end()

    async def end_badly(client: TlsClient) -> None:
        client.socket.shutdown(socket.SHUT_WR)

    async def reset(client: TlsClient) -> None:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        client.was_reset = True

    async def garbage(client: TlsClient) -> None:
        await client.send_raw(b"\x17\x03\x03\x00\x20" + b"A" * 32)

    async def case(leave: Callable[[TlsClient], Awaitable[None]]) -> None:
        async with live(server=tls()) as gate:
            gate.upstream.answer = lambda _: None
            client = await gate.ask_tls(trusting(), get())
            assert len(gate.upstream.requests) == 1
            await leave(client)
            await until(gate, lambda: gate.upstream.connections[0].ended)
            await until(gate, lambda: not gate.worker.connections)
            _nobody_left(gate.worker)

    for leave in (end_properly, end_badly, reset, garbage):
        run(case(leave))
    tried("tls: in front", 4)


def test_a_connection_that_is_idle_too_long_ends_properly(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls(client_idle_timeout_seconds=0.05)) as gate:
            client = await gate.ask_tls(trusting(), get())
            await until(gate, lambda: client.fin)
            assert client.ended
            assert client.error is None

    run(case())
    tried("tls: in front", 1)


def test_a_drain_waits_for_a_handshake_and_answers_its_request(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            client = await gate.tls_client(trusting(), shakes=False)
            await client.send_raw(client.step())
            gate.worker.pre_shutdown()
            over = asyncio.ensure_future(gate.worker.shutdown(30))
            await gate.settled()
            assert not over.done()
            await client.shake_hands()
            await client.send(get())
            await gate.settled()
            client.methods = [b"GET"]
            assert [(each.status, each.one("Connection")) for each in client.answers] == [(200, "close")]
            assert client.ended
            client.close()
            gate.clients.clear()
            await over

    run(case())
    tried("tls: in front", 1)


def test_a_drain_s_end_ends_a_handshake(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            client = await gate.tls_client(trusting(), shakes=False)
            await client.send_raw(b"\x16")
            gate.worker.pre_shutdown()
            await gate.worker.shutdown(0.01)
            await until(gate, lambda: client.fin or client.was_reset)
            _nobody_left(gate.worker)

    run(case())
    tried("tls: in front", 1)


# --- tunnels ----------------------------------------------------------------------------------------------------------

UPGRADE = KEY_FIELD + (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_tunnel_s_halves_close_apart(version: ssl.TLSVersion, tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            gate.upstream.answer = lambda _: SWITCH + b"hello"
            client = await gate.ask_tls(trusting(maximum_version=version), get(fields=UPGRADE))
            assert client.received.endswith(b"\r\n\r\nhello")
            [behind] = gate.upstream.connections
            gate.upstream.reads_requests = False
            sending = asyncio.ensure_future(client.send(LARGE))
            await until(gate, lambda: behind.received.endswith(LARGE[-4096:]) and len(behind.received) > len(LARGE))
            await sending
            behind.transport.write(LARGE)
            await until(gate, lambda: client.received.endswith(LARGE))
            behind.transport.write_eof()
            await until(gate, lambda: client.ended)
            await client.send(b"still here")
            await until(gate, lambda: behind.received.endswith(b"still here"))
            await client.send_end()
            await until(gate, lambda: behind.ended)
            await until(gate, lambda: not gate.worker.connections)

    run(case())
    tried("tls: tunnels", 1)


def test_a_tunnel_whose_client_ends_first_still_hears_the_rest(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            gate.upstream.answer = lambda _: SWITCH
            client = await gate.ask_tls(trusting(), get(fields=UPGRADE))
            [behind] = gate.upstream.connections
            gate.upstream.reads_requests = False
            behind.keeps_its_half = True
            await client.send_end()
            await until(gate, lambda: behind.ended)
            behind.transport.write(b"the rest")
            await until(gate, lambda: client.received.endswith(b"the rest"))
            behind.transport.close()
            await until(gate, lambda: client.ended and client.fin)

    run(case())
    tried("tls: tunnels", 1)


def test_a_tunnel_that_is_cut_without_close_notify_is_over(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            gate.upstream.answer = lambda _: SWITCH
            client = await gate.ask_tls(trusting(), get(fields=UPGRADE))
            [behind] = gate.upstream.connections
            client.socket.shutdown(socket.SHUT_WR)
            await until(gate, lambda: behind.ended)
            await until(gate, lambda: not gate.worker.connections)

    run(case())
    tried("tls: tunnels", 1)


# --- clients that nobody here wrote -----------------------------------------------------------------------------------

CLIENTS = {
    "curl": ["curl", "-sS", "--cacert", "{ca}", "-H", "X-API-KEY: {key}", "{url}"],
    "curl, HTTP/2 if it can be": ["curl", "-sS", "--http2", "--cacert", "{ca}", "-H", "X-API-KEY: {key}", "{url}"],
    "httpx": [
        sys.executable,
        "-c",
        """import sys, ssl, httpx; ca, key, url = sys.argv[1:]; believed = ssl.create_default_context(cafile=ca)
print(httpx.get(url, headers=dict([('X-API-KEY', key)]), verify=believed).text, end='')""",
        "{ca}",
        "{key}",
        "{url}",
    ],
    "requests": [
        sys.executable,
        "-c",
        """import sys, requests; ca, key, url = sys.argv[1:]
print(requests.get(url, headers=dict([('X-API-KEY', key)]), verify=ca).text, end='')""",
        "{ca}",
        "{key}",
        "{url}",
    ],
}


@pytest.mark.parametrize("name", CLIENTS)
def test_real_clients(name: str, tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            gate.upstream.answer = ok
            places = {
                "ca": authority().file,
                "key": SECRET.decode(),
                "url": f"https://localhost:{gate.address[1]}/there",
            }
            command = [each.format(**places) for each in CLIENTS[name]]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
            assert (done.stdout, done.returncode) == ("GET /there", 0), done.stderr

    run(case())
    tried("tls: in front", 1)
