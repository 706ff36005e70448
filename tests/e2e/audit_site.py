"""A gateway whose record is judged: killed and started again in its directory, under load, and read behind its back.

    with recorded_site(directory, upstream) as site, site.load(rate) as load: …

Invariant: only processes of this gateway are killed, by their numbers as its supervisor's children. The record is read
as it lies on the disk (`audit_records`), not by the gateway's own queries, and only when `drained` says that nothing
waits in the spool: that is found out from the segments and the checkpoints, never by waiting for a while.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.keys.request_entry import Outcome
from tests.e2e.audit_load import AuditLoad, judged
from tests.e2e.audit_records import SqliteRecords, unread
from tests.e2e.conftest import Command, starting
from tests.e2e.nodes import seed
from tests.e2e.site import CONTROL, WORKER, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.e2e.audit_load import Rested, Verdict
    from tests.e2e.audit_records import Records
    from tests.e2e.conftest import Running
    from tests.e2e.nodes import Seeded

LONG: Final = os.environ.get("KEYGATE_LONG") == "1"
"""Set by `make test-audit`: as many rounds, and as much load, as is promised; without it, less of both."""
WORKERS: Final = 2
KEYS: Final = 50
RATE: Final = 2000.0 if LONG else 500.0
ME: Final = "/me"
_SHIPPED: Final = "requests.ndjson"
_HEADER_BYTES: Final = 64
_LOOK_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 100.0
"""What has not come by then never comes: most of it takes a second."""


class RecordedSite:
    """See the module."""

    def __init__(
        self,
        directory: Path,
        start: Callable[..., Running],
        environ: Mapping[str, str],
        seeded: Seeded,
        records: Records,
    ) -> None:
        self.directory, self._start, self._environ = directory, start, dict(environ)
        self.seeded, self.records = seeded, records
        self.spool = directory / "data" / "spool"
        self.shipped = directory / _SHIPPED
        self.site = self._started()

    def _started(self) -> Site:
        return Site(Command(self.directory), self._start(environ=self._environ), self.seeded.made)

    def restart(self, **settings: str) -> None:
        """Start it again after everything was killed, or stopped; on other ports. `settings`: changes of them."""
        assert self.site.running.process.poll() is not None
        self._environ |= {f"GATEWAY__{name}": value for name, value in settings.items()}
        self.site = self._started()

    @property
    def workers(self) -> list[int]:
        return self.site.processes(WORKER)

    @property
    def control(self) -> list[int]:
        """The control process, or none while there is none."""
        return self.site.processes(CONTROL)

    @property
    def is_whole(self) -> bool:
        """Whether every process is there."""
        return len(self.workers) == WORKERS and len(self.control) == 1

    def kill_supervisor(self) -> None:
        """Its children notice, and end what is in flight."""
        kill(self.site.running.process.pid)
        self.site.running.process.wait()

    def kill_all(self) -> None:
        """Everything at once, as the end of a container does: no child outlives the supervisor and drains."""
        supervisor = self.site.running.process
        supervisor.send_signal(signal.SIGSTOP)
        try:
            while not _is_stopped(supervisor.pid):
                time.sleep(_LOOK_SECONDS / 10)
            children = [*self.workers, *self.control]  # all there are: it starts no other
            kill(*children)
        finally:
            supervisor.kill()
        supervisor.wait()
        while any(_lives(pid) for pid in children):  # nobody is left to wait for them but the system
            time.sleep(_LOOK_SECONDS / 10)

    @contextmanager
    def recorder_asleep(self) -> Iterator[None]:
        """Nobody reads the spool; the workers do not notice."""
        sleepers = self.control
        assert len(sleepers) == 1
        for pid in sleepers:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in sleepers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    @contextmanager
    def load(self, rate: float = RATE, **wishes: int) -> Iterator[AuditLoad]:
        """Clients that rest until told to go."""
        with AuditLoad([self.site.address], self.seeded.keys, rate=rate, me=ME, **wishes) as load:
            yield load

    def assert_told(self) -> None:
        """What is made of the record says the same: counts, last uses, the gateway's own check, an export, the copy."""
        kept = self.records.kept()
        ids = {each.request_id for each in kept}
        ended = [each for each in kept if each.outcome not in {Outcome.OPEN, Outcome.INTERRUPTED}]
        assert self.records.counted() == len(ended)
        used: dict[str, int] = {}
        for each in kept:
            if each.key_id and each.outcome != Outcome.REFUSED:
                used[each.key_id] = max(used.get(each.key_id, 0), each.at + each.duration)
        assert self.records.last_uses() == self.records.last_uses_of_secrets() == used
        with self.site.client() as client:
            checked = client.events.verify()
        assert (checked.complete, checked.found) == (True, len(kept)), checked
        exported = self.site.command.run("audit", "export", "--kind", "request")
        assert exported.returncode == 0, exported.stderr
        told = [json.loads(line)["request_id"] for line in exported.stdout.splitlines()]
        assert len(told) == len(kept)
        assert set(told) == ids
        with self.shipped.open() as lines:
            assert {json.loads(line)["request_id"] for line in lines} == ids

    def orphaned(self, asked: dict[str, str]) -> Orphaned:
        """What is left, when everything was killed."""
        return Orphaned(self.directory, self._environ, self.seeded, asked)

    def rested(self, load: AuditLoad) -> Rested:
        return load.rest(self.directory)

    def drain(self) -> None:
        """Return when all that is in the spool is on record."""
        _patiently(lambda: not unread(self.records, self.spool), lambda: unread(self.records, self.spool))

    def assert_tidy(self) -> None:
        """Nothing is left of dead workers: every segment is open in one that lives."""
        _patiently(lambda: not self._left_over(), self._left_over)

    def _left_over(self) -> list[Path]:
        held = {target for pid in self.workers for target in _open_files(pid)}
        return [file for file in self.spool.glob("*.segment") if file.is_file() and str(file.resolve()) not in held]

    def verdict(
        self, *rests: Rested, counted: frozenset[str] = frozenset(), missing: frozenset[str] = frozenset()
    ) -> Verdict:
        """When everything is read: what is on record, against what the clients received whole in these times."""
        self.drain()
        whole = (each for rest in rests for each in rest.whole)
        return judged(whole, self.records.kept(), self.records.last_uses(), counted=counted, missing=missing)


def _patiently(condition: Callable[[], bool], state: Callable[[], object]) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until, state()
        time.sleep(_LOOK_SECONDS)


def _open_files(pid: int) -> list[str]:
    """Without a lock or an open of our own, which the gateway's processes might notice."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(str(descriptor.readlink()))
    return found


def kill(*pids: int) -> None:
    """With SIGKILL; whoever was faster has died already."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _is_stopped(pid: int) -> bool:
    """Whether the signal has come through to it (proc(5): the state comes behind the name)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "T"


def _lives(pid: int) -> bool:
    """One that is dead and that nobody has waited for has no command line any more."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def shared_site(
    directory: Path, upstream_url: str, store_url: str, seeded: Seeded, records: Records, **settings: str
) -> Iterator[RecordedSite]:
    """A node on a store that is there. `settings`: by the names of their variables, without the beginning."""
    directory.mkdir(exist_ok=True)
    environ = {
        "GATEWAY__SERVER__WORKERS": str(WORKERS),
        "GATEWAY__SERVER__ME_PATH": ME,
        "GATEWAY__SERVER__DRAIN_TIMEOUT_SECONDS": "6",
        "GATEWAY__UPSTREAM": upstream_url,
        "GATEWAY__STORE__URL": store_url,
        "GATEWAY__AUDIT__NDJSON": _SHIPPED,
        "GATEWAY__AUDIT__REFUSALS_PER_SECOND": "100000",  # a load that was held up catches up in bursts
        **{f"GATEWAY__{name}": value for name, value in settings.items()},
    }
    with starting(Command(directory), directory) as start:
        yield RecordedSite(directory, start, environ, seeded, records)


@contextmanager
def recorded_site(directory: Path, upstream_url: str, **settings: str) -> Iterator[RecordedSite]:
    """One with an SQLite store of its own."""
    data = directory / "data"
    data.mkdir()
    seeded = seed(f"sqlite:///{data}/gateway.db", KEYS)
    with shared_site(
        directory, upstream_url, "sqlite:///data/gateway.db", seeded, SqliteRecords(data), **settings
    ) as site:
        yield site


@dataclass(frozen=True)
class Orphaned:
    """The directory of a gateway that was killed, with what nobody has read yet."""

    directory: Path
    environ: Mapping[str, str]
    seeded: Seeded
    asked: dict[str, str]
    """Path of each request that was answered, by its id."""

    @property
    def spool(self) -> Path:
        return self.directory / "data" / "spool"

    @property
    def segments(self) -> list[Path]:
        """Those that hold something, of all workers."""
        return [file for file in sorted(self.spool.glob("*.segment")) if file.read_bytes()[_HEADER_BYTES:].strip(b"\0")]

    def copied(self, directory: Path) -> Orphaned:
        """The same in another place."""
        shutil.copytree(self.directory, directory)
        return replace(self, directory=directory)


@contextmanager
def orphaned_site(orphaned: Orphaned) -> Iterator[Callable[[], RecordedSite]]:
    """Give a function that starts a gateway there."""
    directory = orphaned.directory
    with starting(Command(directory), directory) as start:
        records = SqliteRecords(directory / "data")
        yield lambda: RecordedSite(directory, start, orphaned.environ, orphaned.seeded, records)
