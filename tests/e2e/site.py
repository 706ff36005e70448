"""A gateway that serves an organization: what most end-to-end tests talk to.

Invariant: everything about it is its own (directory, ports, store), so that tests run beside each other. The
organization is made through the services and its keys through the admin API, both in this process: a command per key
would take a second each.
"""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.cli.store_access import opened
from gateway.client import Client
from gateway.settings.model import Settings, StoreSettings
from tests.e2e.wire import Message, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from typing import Any, TypeVar

    from gateway.services.shapes import Initialised
    from tests.e2e.conftest import Command, Running

    Result = TypeVar("Result")
    Table = Mapping[str, object]

WORKER: Final = b"gateway.proxy.process"
CONTROL: Final = b"gateway.control.process"


@dataclass(frozen=True)
class Issued:
    """A key, as far as most tests care."""

    id: str
    secret: str


class Site:
    """A running gateway, its organization, and the admin's key."""

    def __init__(self, command: Command, running: Running, made: Initialised) -> None:
        self.command = command
        self.running = running
        self.made = made
        assert made.key.secret is not None
        self.secret = made.key.secret
        self.command.environ |= {"GATEWAY_ADMIN_URL": running.control, "GATEWAY_API_KEY": self.secret}
        self.url = running.proxy
        host, _, port = running.proxy.partition("://")[2].rpartition(":")
        self.address = (host, int(port))

    @property
    def store(self) -> Path:
        return store_of(self.command)

    def client(self, secret: str | None = None) -> Client:
        """The admin API, with the admin's key unless another is named."""
        return Client(secret or self.secret, base_url=self.running.control)

    def issue(self, name: str = "another", **wishes: Any) -> Issued:  # noqa: ANN401 - whatever a create takes
        """Make a key; it is known to the gateway when this returns."""
        with self.client() as client:
            made = client.keys.create(name, **wishes)
        assert made.secret is not None
        return Issued(made.id, made.secret)

    def wire(self) -> Wire:
        return Wire.to(self.address)

    def ask(self, *lines: str, body: bytes = b"") -> Message:
        """One request on a connection of its own."""
        with self.wire() as connection:
            return connection.ask(*lines, body=body)

    def get(self, path: str = "/", secret: str | None = None) -> Message:
        """One GET with a key: the admin's unless another is named."""
        return self.ask(f"GET {path} HTTP/1.1", f"X-API-KEY: {secret or self.secret}")

    def processes(self, module: bytes) -> list[int]:
        """The supervisor's children that run this module."""
        parent = self.running.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [int(pid) for pid in children if module in _command_line(pid)]


def make_site(
    command: Command,
    run: Callable[..., Running],
    upstreams: str | Sequence[Table],
    routes: Sequence[Table] = (),
    **settings: str,
) -> Site:
    """Initialise a store and start a gateway on it.

    `upstreams`: the address of the only one, or tables of settings. `settings`: by the names of their variables.
    """
    made = _apart(lambda: _initialise(command, settings.pop("admin", "admin@example.com")))
    environ = {f"GATEWAY__{name}": value for name, value in settings.items()}
    if isinstance(upstreams, str):
        upstreams = [{"name": "default", "targets": [upstreams]}]
    environ["GATEWAY__UPSTREAMS"] = json.dumps(upstreams)
    if routes:  # one upstream alone has a route to it anyway
        environ["GATEWAY__ROUTES"] = json.dumps([{"upstream": upstreams[0]["name"], **route} for route in routes])
    return Site(command, run(environ=environ), made)


def store_of(command: Command) -> Path:
    return command.directory / "data" / "gateway.db"


def _settings(command: Command) -> Settings:
    return Settings(store=StoreSettings(url=f"sqlite:///{store_of(command)}"))


async def _initialise(command: Command, admin: str) -> Initialised:
    async with opened(_settings(command)) as organizations:
        return await organizations.initialise("Acme", admin)


def _apart(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine to its end in a thread, so that tests with an event loop of their own may do so too."""
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(work())))
    thread.start()
    thread.join()
    return results[0]


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
