"""TLS with clients, the handshake: what is agreed on, with clients that nobody here wrote too, and what is refused."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.certificates import authority, issued
from tests.proxy.harness import KEY_FIELD, SECRET, get, post, problem
from tests.wire.live import live, ok, run
from tests.wire.tls_front import handshakes, nobody_left, tls, trusting

if TYPE_CHECKING:
    from tests.wire.conftest import Tried

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
            nobody_left(gate.worker)

    run(case())
    tried("tls: in front", 1)


class _nothing:  # noqa: N801  stands in for a function
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


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


# --- what is no TLS, or no whole handshake ----------------------------------------------------------------------------


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
                await gate.until(client.over)
                assert not client.received.startswith(b"HTTP"), noise
            nobody_left(gate.worker)
            gate.worker.tick()
            gate.worker.tick()

    run(case())
    told = [each for each in caplog.records if each.name.startswith("gateway")]
    assert [each.levelname for each in told] == ["INFO"], "one line for all of them"
    assert f"failed: {len(NO_TLS)}" in told[0].getMessage()
    assert not [each for each in caplog.records if each.exc_info]
    tried("tls: in front", len(NO_TLS))


def test_a_failed_handshake_is_told_at_once_and_what_failed_since_when_the_worker_ends(
    tried: Tried, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def case() -> None:
        async with live(server=tls()) as gate:
            assert gate.worker.tls is not None
            for told in (gate.worker.tick, gate.worker.tls.end):
                gate.worker.tick()
                client = await gate.ask(get())
                await gate.until(client.over)
                assert not caplog.messages
                told()
                [line] = caplog.messages
                assert line.startswith("TLS handshakes with clients failed: 1, ")
                assert line.endswith("127.0.0.1: it spoke plain HTTP (http request)")
                caplog.clear()

    run(case())
    tried("tls: in front", 2)


def test_plain_http_is_told_that_this_is_https(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            for request in (get(), post(b"x" * 100_000), get().replace(b"GET", b"HEAD", 1)):
                client = await gate.ask(request, methods=[b"GET"])
                await gate.until(client.over)
                assert not client.was_reset
                assert [(each.status, problem(each)["code"]) for each in client.answers] == [(400, "tls_required")]
                client.close()
            await gate.until(lambda: not handshakes(gate.worker))
            assert not gate.upstream.connections
            nobody_left(gate.worker)

    run(case())
    tried("tls: in front", 3)


def test_tls_on_the_plain_port_is_a_malformed_request(tried: Tried) -> None:
    async def case() -> None:
        async with live() as gate:
            client = await gate.tls_client(trusting(), shakes=False)
            await client.send_raw(client.step())
            await gate.until(lambda: client.fin or client.was_reset)
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
            await gate.until(lambda: client.fin or client.was_reset)
            nobody_left(gate.worker)

    run(case())
    tried("tls: in front", 1)


def test_dribbling_does_not_make_a_handshake_s_time_longer(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls(client_head_timeout_seconds=0.2)) as gate:
            client = await gate.ask(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03")  # 16 KiB are to follow
            while not client.over():  # for minutes, if each byte gave it more time
                await client.send(b"A")
                await asyncio.sleep(0.02)
            nobody_left(gate.worker)

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
            await gate.until(lambda: not handshakes(gate.worker))
            clients = [await gate.tls_client(trusting()) for _ in range(21)]
            clients[-1].methods = [b"GET"]
            await gate.settled()
            assert [each.status for each in clients[-1].answers] == [503]
            assert clients[-1].ended
            assert all(not each.received for each in clients[:-1])

    run(case())
    tried("tls: in front", 3)
