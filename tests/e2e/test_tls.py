"""HTTPS as it is used: real processes, clients that nobody here wrote, and a certificate that is renewed under load."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import httpx

from tests.certificates import authority, issued
from tests.e2e.test_reload import BODY, upstream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.certificates import Pair
    from tests.e2e.conftest import Command
    from tests.e2e.site import Site

CLIENTS = 24


def files(directory: Path, pair: Pair) -> dict[str, str]:
    """Put a pair where the settings of a gateway look for it, as a certbot hook does."""
    shutil.copy(pair.certificate, directory / "fullchain.pem")
    shutil.copy(pair.key, directory / "privkey.pem")
    return {
        "SERVER__TLS__CERTIFICATE_FILE": str(directory / "fullchain.pem"),
        "SERVER__TLS__PRIVATE_KEY_FILE": str(directory / "privkey.pem"),
    }


def serial(site: Site) -> int:
    """Of the certificate that a new connection is shown."""
    with (
        socket.create_connection(site.address) as raw,
        authority().context().wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        shown: Any = tls.getpeercert()
        return int(shown["serialNumber"], 16)


async def _use(site: Site, context: ssl.SSLContext, lost: list[str], asked: list[int], over: asyncio.Event) -> None:
    """Keep a connection until told that it ends, then take another one; no request is sent twice."""
    request = f"GET / HTTP/1.1\r\nHost: x\r\nX-API-KEY: {site.secret}\r\n\r\n".encode()
    while not over.is_set():
        reader, writer = await asyncio.open_connection(*site.address, ssl=context, server_hostname="localhost")
        ends = False
        while not ends and not over.is_set():
            try:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(len(BODY)) == BODY
            except (OSError, asyncio.IncompleteReadError) as error:
                lost.append(repr(error))
                return
            if not head.startswith(b"HTTP/1.1 200 "):
                lost.append(head.decode())
            asked[0] += 1
            ends = b"connection: close" in head.lower()
            await asyncio.sleep(0.02)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_renewed_certificate_is_shown_without_a_lost_request(
    serve: Callable[..., Site], command: Command
) -> None:
    async with upstream() as url:
        site = await asyncio.to_thread(
            lambda: serve(url, SERVER__WORKERS="2", **files(command.directory, issued(serial=7)))
        )
        assert site.url.startswith("https://")
        assert await asyncio.to_thread(serial, site) == 7
        lost: list[str] = []
        asked, over = [0], asyncio.Event()
        context = authority().context()
        clients = [asyncio.create_task(_use(site, context, lost, asked, over)) for _ in range(CLIENTS)]
        try:
            for number in (8, 9):
                await _use_more(asked, lost)
                files(command.directory, issued(serial=number))
                site.running.process.send_signal(signal.SIGHUP)
                # Both workers, or the second one would be started with the files of what comes next.
                while {await asyncio.to_thread(serial, site) for _ in range(30)} != {number}:
                    await asyncio.sleep(0.05)
            await _use_more(asked, lost)
        finally:
            over.set()
            await asyncio.gather(*clients)
        assert not lost
        # A key that does not fit changes nothing, and is told.
        shutil.copy(authority().pair.key, command.directory / "privkey.pem")
        site.running.process.send_signal(signal.SIGHUP)
        told = await asyncio.to_thread(site.running.logged, "cannot reload")
        assert "SERVER__TLS__PRIVATE_KEY_FILE" in told["message"]
        assert "not the key of the certificate" in told["message"]
        assert await asyncio.to_thread(serial, site) == 9


async def _use_more(asked: list[int], lost: list[str]) -> None:
    """Until each client was answered some more times, or something is lost."""
    wanted = asked[0] + 4 * CLIENTS
    await _until(lambda: asked[0] >= wanted or lost)


async def _until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_clients_check_and_what_expires_is_logged(
    serve: Callable[..., Site], command: Command, upstreams: Callable[..., Any]
) -> None:
    with upstreams() as behind:
        site = serve(behind.url, **files(command.directory, issued()))
    said = site.running.logged("server.tls.certificate_file names")
    assert (said["level"].lower(), "which expires on" in said["message"]) == ("warning", True)
    url = f"https://localhost:{site.address[1]}/"
    ask = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"X-API-KEY: {site.secret}", url]
    refused = subprocess.run(ask, capture_output=True, text=True, check=False)
    assert refused.returncode == 60, "no client should accept an authority that it does not know"
    plain = httpx.get(f"http://localhost:{site.address[1]}/", headers={"X-API-KEY": site.secret})
    assert (plain.status_code, plain.json()["code"]) == (400, "tls_required")


def test_a_start_with_a_wrong_key_fails_with_a_sentence(command: Command) -> None:
    names = {f"GATEWAY__{name}": value for name, value in files(command.directory, issued()).items()}
    shutil.copy(authority().pair.key, command.directory / "privkey.pem")
    for name in ("check", "run"):
        done = command.run(name, **names, GATEWAY__UPSTREAM="http://127.0.0.1:9")
        assert done.returncode == 78
        assert "GATEWAY__SERVER__TLS__PRIVATE_KEY_FILE" in done.stderr
        assert "which is not the key of the certificate" in done.stderr
