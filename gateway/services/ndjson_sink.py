"""A copy of what is on record for log shippers: one JSON object per line, to a file or to standard output.

Invariants: a line is an entry exactly as the admin API shows it, and nobody's failure here holds up recording: what
cannot be written is counted, the first time of each outage is said, and the next batch is tried again. A request that
lasts has two lines with one id. After a crash the last lines may be there twice, for they are written before the entry
is known to be in the store; a shipper that drops ids it has seen loses nothing.

Standard output may be a pipe that nobody reads. So no more is written than a pipe that says it has room is bound to
take. Making it non-blocking was turned down: it is one open file with the supervisor's and the workers'.
"""

import logging
import os
import select
import stat
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import orjson

from gateway.keys.request_entry import Outcome, RequestEntry, entry_id
from gateway.services.audit_filter import REQUEST
from gateway.services.request_trail import ANONYMOUS

PATIENCE_SECONDS: Final = 1.0
"""How long a pipe that is full is waited for; not at all once it has cost a batch that much."""
_STDOUT: Final = "stdout"
_GATEWAY: Final = "gateway"
_PIPE_BYTES: Final = 4096
"""POSIX: what a pipe takes without blocking once it is writable (PIPE_BUF, on Linux)."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WORDS: Final = {outcome: outcome.name.lower() for outcome in Outcome}
_LOG: Final = logging.getLogger(__name__)


class NdjsonSink:
    """Standard output, or one file. Not for several threads at once."""

    def __init__(self, target: str, *, stdout_fd: int = 1) -> None:
        """`target`: "stdout", or the name of a file. No I/O."""
        self._path = None if target == _STDOUT else Path(target)
        self._fd = stdout_fd if self._path is None else -1
        self._cut = False
        """Whether the last line was not written whole."""
        self._failing = False
        self.failures = 0
        """Entries that have no line, or half of one."""

    def write(self, spool: str, entries: Iterable[RequestEntry]) -> None:
        """Append lines; blocking, and never raises for what the file or the pipe does."""
        lines = [line_of(spool, entry) for entry in entries]
        if not lines:
            return
        written, reason = 0, "nobody reads it"
        patience = 0.0 if self._failing else PATIENCE_SECONDS
        try:
            fd = self._open()
            if self._cut:
                self._cut = _write(fd, b"\n", patience) == 0
            if not self._cut:
                written = _write(fd, b"".join(lines), patience)
        except OSError as error:
            reason = error.strerror or repr(error)
        self._judge(lines, written, reason)

    def close(self) -> None:
        """Let go of the file."""
        if self._path is not None and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        """The file under its name: another one, where a log rotation has moved the last one away."""
        if self._path is None:
            return self._fd
        if self._fd >= 0 and _same(self._fd, self._path):
            return self._fd
        self.close()
        # For reading too: a named pipe without a reader is then no reason to wait.
        self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        found = os.fstat(self._fd)
        regular = stat.S_ISREG(found.st_mode) and found.st_size > 0
        self._cut = regular and os.pread(self._fd, 1, found.st_size - 1) != b"\n"
        return self._fd

    def _judge(self, lines: list[bytes], written: int, reason: str) -> None:
        """Count the lines that are not there, and say so once."""
        whole = 0
        for line in lines:
            if written < len(line):
                break
            written -= len(line)
            whole += 1
        lost = len(lines) - whole
        self._cut = self._cut or written > 0
        self.failures += lost
        where = "standard output" if self._path is None else str(self._path)
        if lost and not self._failing:
            _LOG.error("requests cannot be written to %s: %s; they are on record all the same", where, reason)
        elif self._failing and not lost:
            _LOG.warning("requests can be written to %s again", where, extra={"lines_lost": self.failures})
        self._failing = lost > 0


def line_of(spool: str, entry: RequestEntry) -> bytes:
    """The entry as one line; what `request_trail.request_event` makes of it, at a tenth of the cost."""
    actor: dict[str, str | None]
    if entry.key_id:
        actor = {"id": entry.key_id, "text": f"API Key: {entry.key_name}"}
        target = {"kind": "key", "id": entry.key_id, "name": entry.key_name}
    else:
        actor = {"id": None, "text": ANONYMOUS}
        kind, name = ("route", entry.route) if entry.route else (_GATEWAY, _GATEWAY)
        target = {"kind": kind, "id": name, "name": name}
    told = {
        "id": entry_id(spool, entry.position),
        "kind": "request",
        "at": _EPOCH + timedelta(microseconds=entry.at),
        "actor": actor,
        "action": REQUEST,
        "target": target,
        "address": entry.address or None,
        "request_id": entry.request_id or None,
        "before": None,
        "after": None,
        "request": {
            "method": entry.method or None,
            "path": entry.path or None,
            "route": entry.route or None,
            "upstream": entry.upstream or None,
            "status": entry.status or None,
            "outcome": _WORDS[entry.outcome],
            "bytes_in": entry.bytes_in,
            "bytes_out": entry.bytes_out,
            "duration_milliseconds": entry.duration / 1000,
            "user_agent": entry.user_agent or None,
            "code": entry.code or None,
            "secret_id": entry.secret_id or None,
        },
    }
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def _same(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _write(fd: int, text: bytes, patience_seconds: float) -> int:
    """Write, and return how much of it went; less than all where a pipe stayed full, or a disk is."""
    rest = memoryview(text)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        written = 0
        while written < len(rest):
            try:
                written += os.write(fd, rest[written:])
            except OSError:
                if not written:
                    raise
                break
        return written
    deadline = time.monotonic() + patience_seconds
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    written = 0
    while written < len(rest):
        if not poll.poll(max(0.0, (deadline - time.monotonic()) * 1000)):
            break
        written += os.write(fd, rest[written : written + _PIPE_BYTES])
    return written
