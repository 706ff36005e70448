"""Real redis-servers on free ports, each with a directory of its own."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.ports import free_port
from tests.servers.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class RedisServer:
    """Keeps its port over a restart. Nothing is persisted: a restarted one is empty."""

    def __init__(self, program: str, directory: Path, *options: str) -> None:
        self._program, self._directory, self._options = program, directory, options
        self.port = 0
        self.process = self._start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def ask(self, *words: str) -> bytes:
        """One command, and the first line of its answer, in the protocol's own words."""
        line = b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection, connection.makefile("rb") as answer:
            connection.sendall(b"*%d\r\n%s" % (len(words), line))
            return answer.readline().rstrip()

    def restart(self) -> None:
        """After `process.kill()`: the same port, and nothing in it."""
        self.process = self._start()

    def _start(self) -> ServerProcess:
        for _ in range(10):
            self.port = self.port or free_port()
            options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
            directory = ["--dir", str(self._directory)]
            argv = [self._program, *options, *directory, *self._options]
            process = ServerProcess(argv, self._directory / "redis.log")
            try:
                process.wait_until(self._answers)
            except RuntimeError:
                if not process.has_ended():
                    process.kill()
                    raise
                self.port = 0  # somebody was faster
            else:
                return process
        raise process.complain("redis-server does not start")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.ask("PING") in {b"+PONG", b"-NOAUTH Authentication required."}
        return False


@contextlib.contextmanager
def redis_servers(system_program: Callable[[str], str]) -> Iterator[Callable[..., RedisServer]]:
    """Give a function that starts them, with more options of redis-server if wanted; at the end none is left."""
    started: list[RedisServer] = []
    with tempfile.TemporaryDirectory(prefix="keygate-redis-") as directory:

        def start(*options: str) -> RedisServer:
            own = Path(directory) / str(len(started))
            own.mkdir()
            started.append(RedisServer(system_program("redis-server"), own, *options))
            return started[-1]

        try:
            yield start
        finally:
            for server in started:
                server.process.terminate()
