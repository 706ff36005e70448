"""Load on nodes and the API behind them: processes that are told what to do by lines of JSON; and how both are judged.

Invariant: what counts against a gateway is certain. A request is *late* if its first byte was written after the moment
in question; a request that was under way at that moment is judged at the upstream, by a barrier (`load_upstream`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

_HERE: Final = Path(__file__).parent
_MOMENT_SECONDS: Final = 0.5  # between two marks that are closer nothing may have been asked


class Instrument:
    """One of the processes, which share modules from the checkout's tests. Leaving it ends it."""

    def __init__(self, program: str, *arguments: str) -> None:
        environ = {**os.environ, "PYTHONPATH": str(_HERE.parents[1])}
        argv = [sys.executable, "-P", str(_HERE / program), *arguments]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0, env=environ
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, whatever it does; twice is fine."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def tell(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the process ended with {self._process.wait()}"
        message: dict[str, Any] = json.loads(line)
        return message

    def ask(self, command: str, **details: object) -> dict[str, Any]:
        self.tell({"command": command, **details})
        return self.hear()


@dataclass(frozen=True)
class Arrival:
    """A request with the key under test, as the upstream got it."""

    at: float
    token: str
    key_id: str


class LoadUpstream(Instrument):
    """The API behind all nodes."""

    def __init__(self) -> None:
        super().__init__("load_upstream.py")
        self.port = int(self.hear()["port"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def barrier(self) -> list[Arrival]:
        """Everything with the key under test that came before this, and since the last one."""
        return [Arrival(*each) for each in self.ask("barrier")["arrivals"]]


@dataclass(frozen=True)
class Summary:
    """What the load saw between two marks. Latencies in milliseconds; status "0 cut" is a connection's early end."""

    seconds: float
    requests: int
    statuses: dict[str, int]
    failures: list[dict[str, Any]]
    p50: float | None
    p99: float | None

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    def assert_all_good(self) -> None:
        """Not one good key was refused, or left without its own answer."""
        assert set(self.statuses) <= {"200"}, (self.statuses, self.failures[:5])
        assert self.requests or self.seconds < _MOMENT_SECONDS, "there was no load"

    def assert_none_refused(self, *allowed: str) -> None:
        """What goes wrong may show as these alone, such as "503 key_store_unavailable"; never as a bad key."""
        assert set(self.statuses) <= {"200", *allowed}, (self.statuses, self.failures[:5])


@dataclass(frozen=True)
class Watched:
    """One request with the key under test. Status 0: its connection ended before the answer."""

    node: int
    worker: str
    sent: float
    received: float
    status: int
    code: str
    token: str


class Load(Instrument):
    """The clients: `connections` keep-alive ones over all proxies with all keys in turn, `rate` a second in total."""

    def __init__(
        self,
        proxies: Sequence[tuple[str, int]],
        keys: Sequence[tuple[str, str]],
        *,
        workers: int,
        connections: int = 64,
        rate: float = 2000,
        pause: float = 0.005,
    ) -> None:
        """`keys`: secret and id of each. `workers` of each node. `rate` 0: as fast as it goes.

        `pause`: seconds between two requests with the key under test on one connection.
        """
        super().__init__("load_process.py")
        self._whole = workers * len(proxies)
        site = {"proxies": proxies, "keys": keys, "workers": workers, "connections": connections}
        self.tell({**site, "rate": rate, "pause": pause})
        assert self.hear() == {"ok": True}

    def mark(self) -> Summary:
        """What was seen since the last one."""
        return _summary(self.ask("mark"))

    def stop(self) -> Summary:
        """End; what was seen since the last mark, with what stayed without an answer as "0 silent"."""
        return _summary(self.ask("stop"))

    def cover(self) -> list[list[str]]:
        """Open a connection to every worker for the key under test. Returns the workers of each node."""
        workers: list[list[str]] = self.ask("cover")["workers"]
        assert sum(map(len, workers)) == self._whole, workers
        return workers

    def watch(self, secret: str, *, times: int = 2) -> None:
        """Send it to every worker from now on; returns when each of them has let it through `times` times."""
        found = self.ask("watch", secret=secret, times=times)
        assert len(found["workers"]) == self._whole, found

    def once(self, secret: str) -> list[Watched]:
        """One request at every worker, whatever comes of it."""
        told = [Watched(*each) for each in self.ask("once", secret=secret)["asked"]]
        assert len({each.worker for each in told}) == self._whole, told
        return told

    def unwatch(self) -> list[Watched]:
        """Send it no more; every request since `watch`, all of them answered."""
        told = self.ask("unwatch")
        assert not told["silent"], told["silent"]
        return [Watched(*each) for each in told["asked"]]


def _summary(told: dict[str, Any]) -> Summary:
    return Summary(**{name: told[name] for name in Summary.__dataclass_fields__})


def late(watched: Sequence[Watched], moment: float) -> list[Watched]:
    """Those that were sent after the moment and let through all the same. Empty is what everybody wants."""
    return [each for each in watched if each.sent > moment and each.status == 200]
