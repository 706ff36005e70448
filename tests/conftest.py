"""What tests of every part share: programs of the system, and waiting for a condition instead of for a time."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import pytest

from gateway.cli.compilation import WITNESS, is_compiled
from gateway.store.migrate import migrate
from tests.servers.postgres import PostgresServer, postgres_server
from tests.servers.redis import RedisServer, redis_servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.postgres_store import PostgresStore

_LIST: Final = Path(__file__).parent / "system-packages.txt"
_SYSTEM_PATH: Final = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/sbin"


def pytest_report_header() -> str:
    return f"data plane: {'compiled' if is_compiled() else 'not compiled'}"


def pytest_configure() -> None:
    """A run that is to test the compiled build ends at once where the checkout would be imported instead."""
    if os.environ.get("KEYGATE_EXPECT_COMPILED") == "1" and not is_compiled():
        raise pytest.UsageError(f"{WITNESS} is not compiled: another gateway than the compiled one would be tested")
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # Under nohup(1) the gateways that tests start would inherit it, and rightly take no SIGHUP for a reload. A
        # handler keeps what nohup is for, and is not inherited.
        signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.hookimpl(optionalhook=True)  # without xdist nobody asks
def pytest_xdist_auto_num_workers() -> int | None:
    """One more than there are cores: a third of what the end-to-end tests do is to wait for clocks and processes."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else len(os.sched_getaffinity(0)) + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured on the way (`record_property("figure", …)`), and how much was tried (`tried`)."""
    tried: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figure":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {value}")
            elif name == "tried":
                section, count = cast("tuple[str, int]", value)
                tried[section] += count
    for section, count in sorted(tried.items()):
        terminalreporter.write_line(f"tried, {section}: {count:,}")


def system_packages() -> dict[str, str]:
    """Program → Debian package, of all that tests need beyond Python."""
    rows = (line.split() for line in _LIST.read_text().splitlines() if line and not line.startswith("#"))
    return {row[0]: row[1] for row in rows}


@pytest.fixture(scope="session")
def system_program() -> Callable[[str], str]:
    """Find a program of the system; the test fails, and says what to install, where it is missing."""

    def find(name: str) -> str:
        package = system_packages()[name]
        found = shutil.which(name, path=_SYSTEM_PATH)
        if found is None:
            pytest.fail(f"{name} is missing; install it: sudo apt-get install {package}", pytrace=False)
        return found

    return find


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], object]], None]:
    """Wait until a condition holds, however slow the machine is; what bounds it is the test's own time limit."""

    def wait(condition: Callable[[], object]) -> None:
        while not condition():
            time.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite store to copy, which takes no time; its last connection has folded its log into the file."""
    path = tmp_path_factory.mktemp("migrated") / "gateway.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One for all tests of this process that take a database each and let the server itself be."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_store(postgres: PostgresServer) -> PostgresStore:
    """A migrated database that tests share one after the other: `await postgres_store.empty()` comes first."""
    from tests.servers.postgres_store import PostgresStore  # noqa: PLC0415 - SQLAlchemy, for a few of the tests

    return PostgresStore(postgres)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """For tests that kill or stop it."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def redis_server(system_program: Callable[[str], str]) -> Iterator[Callable[..., RedisServer]]:
    """Start redis-servers of this test's own, with more options if wanted."""
    with redis_servers(system_program) as start:
        yield start
