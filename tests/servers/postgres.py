"""Real PostgreSQL servers on free ports. They refuse to run as root, so root starts them as the user `postgres`."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.servers.ports import free_port
from tests.servers.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

USER: Final = "postgres"
# No test crashes the machine, and the disk is slow; a kill of the server alone loses nothing with these.
_OPTIONS: Final = ("fsync=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=200")


def _program(name: str) -> str:
    """Debian keeps them off the path, a folder for each version."""
    found = shutil.which(name)
    for candidate in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True):
        found = found or str(candidate)
    if found is None:
        pytest.fail(f"{name} is missing; install it: sudo apt-get install postgresql", pytrace=False)
    return found


class PostgresServer:
    """Keeps its port and its data over a restart."""

    def __init__(self, directory: Path, options: tuple[str, ...] = _OPTIONS) -> None:
        self._data = directory / "data"
        self._options = options
        self._log = directory / "postgres.log"
        self._user = USER if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(directory, self._user)
        self._log.touch()
        self._databases = itertools.count(1)
        self.port = 0
        command = [_program("initdb"), "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "-N"]
        groups: list[str] | None = [] if self._user else None
        done = subprocess.run(
            command, user=self._user, extra_groups=groups, capture_output=True, text=True, check=False, cwd="/"
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        self.process = self._start()

    def url(self, database: str = USER) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = USER) -> str:
        """Run a statement as the superuser; what psql prints of its rows, without heads."""
        command = [_program("psql"), "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", self.url(database), "-c", statement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.rstrip("\n")

    def new_database(self, template: str = "template0") -> str:
        """A database of its own for a test; its name (see `url`). Nobody may be connected to the template."""
        name = f"test_{os.getpid()}_{next(self._databases)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def restart(self) -> None:
        """After `process.kill()` or `process.terminate(…)`."""
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        self.process = self._start()

    def stop_fast(self) -> None:
        """As an administrator stops it: connections are ended, everything is written."""
        self.process.terminate(signal.SIGINT)

    def _start(self) -> ServerProcess:
        for _ in range(10):
            self.port = self.port or free_port()
            options = [word for option in self._options for word in ("-c", option)]
            place = ["-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
            argv = [_program("postgres"), "-D", str(self._data), *place, *options]
            process = ServerProcess(argv, self._log, self._user)
            try:
                process.wait_until(self._answers)
            except RuntimeError:
                if not process.has_ended():
                    process.kill()
                    raise
                self.port = 0  # somebody was faster
            else:
                return process
        raise process.complain("postgres does not start")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            command = [_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            return subprocess.run(command, check=False).returncode == 0
        return False


@contextlib.contextmanager
def postgres_server(options: tuple[str, ...] = _OPTIONS) -> Iterator[PostgresServer]:
    """One of its own; it takes a second or two to make."""
    with tempfile.TemporaryDirectory(prefix="keygate-postgres-", ignore_cleanup_errors=True) as directory:
        server = PostgresServer(Path(directory), options)
        try:
            yield server
        finally:
            server.process.terminate(signal.SIGQUIT)
