"""New settings, and the end, under load: no request is lost by either; and what `gateway reload` and SIGHUP say.

The clients here are as simple as they can be, so that nothing hides a lost request: raw connections that are kept, one
request after the other, no retry, and a new connection only where an answer said `Connection: close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import requests

from tests.e2e.site import CONTROL, WORKER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.e2e.conftest import Command, Running
    from tests.e2e.site import Site

    Start = Callable[..., Running]
    Serve = Callable[..., Site]
    Eventually = Callable[[Callable[[], object]], None]

CONNECTIONS = 64
PAUSE_SECONDS = 0.1
BODY = b"x" * 200


@contextlib.asynccontextmanager
async def upstream() -> AsyncIterator[str]:
    """An API that answers after a moment, so that there is always something in flight."""
    connections: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[writer] = asyncio.current_task()
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(0.005)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY))
        writer.close()
        del connections[writer]

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in connections:
            writer.close()
        await asyncio.gather(*filter(None, connections.values()))


@dataclass
class Load:
    """Clients that ask and ask. `lost`: what went wrong with requests that were sent on a connection."""

    site: Site
    answered: int = 0
    told_to_close: int = 0
    lost: list[str] = field(default_factory=list)
    stopping: bool = False
    """From now on a connect may be refused, and a client that is refused has come to its end."""
    over: bool = False

    async def client(self) -> None:
        """One connection after the other."""
        while not self.over:
            try:
                reader, writer = await asyncio.open_connection(*self.site.address)
            except ConnectionError as error:
                if not self.stopping:
                    self.lost.append(f"connect: {error!r}")
                return
            try:
                await self._use(reader, writer)
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ask until told that this was the last answer."""
        request = f"GET / HTTP/1.1\r\nHost: x\r\nX-API-KEY: {self.site.secret}\r\n\r\n".encode()
        used = False
        while not self.over:
            try:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(re.findall(rb"(?i)content-length: (\d+)", head)[0]))
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                # Between the last look into a queue and its closing a connection may come: it counts as refused.
                if used or not self.stopping:
                    self.lost.append(f"request: {error!r}, used before: {used}, stopping: {self.stopping}")
                return
            used = True
            if not head.startswith(b"HTTP/1.1 200 ") or body != BODY:
                self.lost.append(head.decode())
            self.answered += 1
            if b"connection: close" in head.lower():
                self.told_to_close += 1
                return
            await asyncio.sleep(PAUSE_SECONDS)

    async def until_answered(self, more: int) -> None:
        """Let so many requests pass."""
        wanted = self.answered + more
        while self.answered < wanted and not self.lost:
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def load(site: Site) -> AsyncIterator[Load]:
    """Load inside the block; all clients have come to their end behind it."""
    made = Load(site)
    clients = [asyncio.create_task(made.client()) for _ in range(CONNECTIONS)]
    try:
        await made.until_answered(2 * CONNECTIONS)
        yield made
        made.over = not made.stopping
        await asyncio.gather(*clients)
    finally:
        for each in clients:
            each.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def test_a_reload_under_load_loses_no_request(serve: Serve) -> None:
    async with upstream() as url:
        site = serve(url, SERVER__WORKERS="2")
        async with load(site) as clients:
            for _ in range(2):
                before = {*site.processes(WORKER), *site.processes(CONTROL)}
                await asyncio.to_thread(_reload, site)
                while before & {*site.processes(WORKER), *site.processes(CONTROL)}:
                    await asyncio.sleep(0.01)
                await clients.until_answered(2 * CONNECTIONS)
    assert clients.lost == []
    assert clients.told_to_close >= CONNECTIONS
    assert len(site.processes(WORKER)) == 2


def _reload(site: Site) -> None:
    with site.client() as client:
        assert client.reload().changed == ()


async def test_a_stop_under_load_loses_no_request(serve: Serve) -> None:
    async with upstream() as url:
        site = serve(url, SERVER__WORKERS="2")
        async with load(site) as clients:
            clients.stopping = True
            site.running.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(site.running.process.wait) == 0
    assert clients.lost == []
    assert clients.told_to_close >= CONNECTIONS


def _write(path: Path, settings: str = "") -> None:
    upstreams = '[[upstreams]]\nname = "api"\ntargets = ["http://127.0.0.1:9"]\n'
    path.write_text(f"{settings}\n{upstreams}")


def test_reload_and_status_say_what_there_is(start: Start, command: Command, eventually: Eventually) -> None:
    file = command.directory / "gateway.toml"
    _write(file)
    secret = command.json("init", "--config", str(file), "--org", "Acme", "--admin", "a@example.com")["key"]["secret"]
    run = start("--config", str(file))
    command.environ |= {"GATEWAY_ADMIN_URL": run.control, "GATEWAY_API_KEY": secret}

    _write(file, "[cache]\nmax_entries = 50")
    done = command.run("reload")
    assert (done.returncode, done.stdout) == (0, "reloaded; changed: cache.max_entries\n"), done.stderr
    assert command.json("audit", "list")["items"][0]["action"] == "gateway.reload"

    _write(file, "[cache]\nmax_entries = 0\nmin_entries = 1")
    done = command.run("reload")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.count(f"gateway: {file}:") == 2

    _write(file, "[store]\nurl = 'sqlite:///other.db'")
    done = command.run("reload")
    assert done.returncode == 78
    assert "store.url cannot be changed while the gateway runs" in done.stderr

    eventually(lambda: command.json("status")["reloads_failed"] == 2)
    told = command.json("status")
    assert (told["reloads"], told["workers_ready"], told["workers_of"]) == (1, 1, 1)
    assert "worker-0" in command.run("status").stdout
    metrics = requests.get(f"{run.control}/metrics", timeout=30).text
    assert "gateway_reloads_total 1.0" in metrics
    assert secret not in metrics


def test_a_hangup_reloads_where_there_is_no_terminal(start: Start, command: Command) -> None:
    file = command.directory / "gateway.toml"
    _write(file)
    run = start("--config", str(file))
    _write(file, "[cache]\nmax_entries = 50")
    run.process.send_signal(signal.SIGHUP)
    assert run.logged("reloaded")["changed"] == "cache.max_entries"
    _write(file, "[cache]\nmax_entries = 0")
    run.process.send_signal(signal.SIGHUP)
    assert "max_entries" in run.logged("cannot reload")["message"]
    assert requests.get(f"{run.proxy}/", timeout=30).status_code == 401
    assert run.stop() == 0
