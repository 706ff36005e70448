"""The gateway under test, started as a user starts it: `gateway run --config FILE` on a seeded SQLite store.

Its row counts the proxy workers; the whole process tree (supervisor, control process) is reported beside it.
"""

import argparse
import subprocess
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from benchmarks.known_keys import ROUTE_PERMISSION
from benchmarks.peers.peer import EVERYTHING, INSTALLED_GATEWAY, Peer, Site, render, template
from benchmarks.processes import free_port

WORKER_MARKER = "gateway.proxy.process"
ENTRY_POINTS = ("gateway.__main__", "gateway.proxy.process", "gateway.store.migrate")


def _missing() -> str | None:
    for module in ENTRY_POINTS:
        try:
            found = find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return f"{module} does not exist"
    return None


def _command(site: Site, workers: int, record: str) -> list[str]:
    # Imported here: the store's writing side needs SQLAlchemy, which the other peers do not.
    from benchmarks.seed_keys import seed  # noqa: PLC0415

    seed(f"sqlite:///{site.directory}/gateway.db", site.keys.stored)
    return gateway_command(site, workers=workers, record=record)


def gateway_command(site: Site, *, workers: int = 1, control_port: int | None = None, record: str = "all") -> list[str]:
    """Write the settings of a gateway whose store stands in the site already, and return the command that runs it."""
    path = site.directory / "gateway.toml"
    path.write_text(
        render(
            template("gateway.toml"),
            DIRECTORY=str(site.directory),
            PORT=str(site.port),
            CONTROL_PORT=str(control_port or free_port()),
            UPSTREAM_PORT=str(site.upstream_port),
            WORKERS=str(workers),
            RECORD=record,
            PERMISSION=ROUTE_PERMISSION,
        )
    )
    return [*site.gateway, "run", "--config", str(path)]


def add_gateway_option(parser: argparse.ArgumentParser) -> None:
    """Let the command line say which gateway is measured."""
    parser.add_argument(
        "--gateway",
        type=lambda path: (path,),
        default=INSTALLED_GATEWAY,
        metavar="PATH",
        help="the command `gateway` to measure (default: the one installed for this interpreter)",
    )


def version(gateway: tuple[str, ...]) -> str:
    """Return what a gateway says it is: its version, and whether its data plane is compiled."""
    return subprocess.run([*gateway, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def _with(workers: int = 1, record: str = "all") -> Callable[[Site], list[str]]:
    return partial(_command, workers=workers, record=record)


KEYGATE = Peer("keygate", "Keygate", EVERYTHING, _missing, _with(), WORKER_MARKER)
KEYGATE_TWO_WORKERS = Peer("keygate-2", "Keygate, 2 workers", EVERYTHING, _missing, _with(workers=2), WORKER_MARKER)
KEYGATE_WITHOUT_RECORDS = Peer(
    "keygate-unrecorded", "Keygate, audit.record = none", EVERYTHING, _missing, _with(record="none"), WORKER_MARKER
)
