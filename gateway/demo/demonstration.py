"""The demo: a store with a key, a demo API, the gateway, and the commands that show what it does.

Invariant: everything it makes is inside one temporary directory or a child of this process, and all of it goes when
the demo ends, by Ctrl-C or otherwise. It listens on the loopback interface only, since its key is on a screen, and
prefers the usual ports so that what is pasted from the README works, but takes any others where those are in use.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway import logs
from gateway.demo.upstream_process import demo_upstream
from gateway.services.organizations import OrganizationService
from gateway.settings.loading import load
from gateway.store.engine import create_engine
from gateway.store.migrate import migrate
from gateway.supervisor.foreground import run_in_foreground
from gateway.supervisor.listeners import is_free, open_listeners

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from gateway.settings.model import Settings
    from gateway.supervisor.listeners import Listeners

PROXY_ADDRESS: Final = "127.0.0.1:8080"
CONTROL_ADDRESS: Final = "127.0.0.1:8081"
ANY_ADDRESS: Final = "127.0.0.1:0"
_DRAIN_SECONDS: Final = "3"


def demonstrate(say: Callable[[str], None]) -> int:
    """Run the demo until a signal ends it; `say` prints a text for people. Returns the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end_cleanly)  # until the supervisor has its own: so that nothing is left behind
    say("Starting the demo …")
    with contextlib.ExitStack() as until_the_end:
        directory = Path(until_the_end.enter_context(tempfile.TemporaryDirectory(prefix="keygate-demo-")))
        upstream = until_the_end.enter_context(demo_upstream())
        settings = _settings(upstream, directory / "gateway.db")
        logs.configure(settings.log, "supervisor")
        listeners = open_listeners(settings)
        secret = asyncio.run(_first_key(settings))
        introduction = _introduction(secret, listeners, settings, upstream)
        return run_in_foreground(settings, listeners, lambda _: say(introduction), lambda: settings)


def _settings(upstream: str, store: Path) -> Settings:
    """The settings of the demo, which the environment has no say in."""
    return load(
        None,
        {
            "upstream": upstream,
            "server.listen": PROXY_ADDRESS if is_free(PROXY_ADDRESS) else ANY_ADDRESS,
            "server.drain_timeout_seconds": _DRAIN_SECONDS,
            "control.listen": CONTROL_ADDRESS if is_free(CONTROL_ADDRESS) else ANY_ADDRESS,
            "store.url": f"sqlite:///{store}",
            "log.level": "warning",
        },
        {},
        require_upstream=True,
    ).settings


async def _first_key(settings: Settings) -> str:
    migrate(settings.store.url)
    engine = create_engine(settings.store.url)
    try:
        organizations = OrganizationService(engine, key_prefix=settings.auth.key_prefix)
        made = await organizations.initialise("Demo", "admin@example.com")
    finally:
        await engine.dispose()
    return made.key.secret or ""


def _introduction(secret: str, listeners: Listeners, settings: Settings, upstream: str) -> str:
    url, admin_url = f"http://{listeners.proxy_address}", f"http://{listeners.control_address}"
    return f"""
The gateway is ready at {url}, in front of a demo API at {upstream}.
{_elsewhere(listeners)}
Your API key:
  {secret}

With the key, either way, the request goes through:
  curl -H 'X-API-KEY: {secret}' {url}/hello
  curl -H 'Authorization: Bearer {secret}' {url}/hello

Without it, it does not:
  curl -i {url}/hello

More to try with the key: {url}/sse (events), /ws (WebSocket echo), /bytes/1000000 (a download).

Keys are managed through the admin API, described at {admin_url}/docs, and from another terminal:
  export GATEWAY_ADMIN_URL={admin_url} GATEWAY_API_KEY={secret}
  {_this_command()} keys list

The data is in {settings.store.sqlite_path.parent} until the demo ends.
Ctrl-C ends the demo and removes its data.
"""


def _elsewhere(listeners: Listeners) -> str:
    """A line for each port that is not the usual one: what was pasted from a page would ask somebody else."""
    places = ((PROXY_ADDRESS, listeners.proxy_address), (CONTROL_ADDRESS, listeners.control_address))
    return "".join(
        f"(Another process listens on {usual}, perhaps a gateway started before: this one took {taken}.)\n"
        for usual, taken in places
        if taken != usual
    )


def _this_command() -> str:
    """How to call this command line again, from any directory."""
    started = Path(sys.argv[0]).absolute()
    return shlex.join([sys.executable, "-m", "gateway"] if started.name == "__main__.py" else [str(started)])


def _end_cleanly(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
