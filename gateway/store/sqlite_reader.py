"""Read-only point reads for proxy workers, on the standard library's sqlite3 alone.

Invariants: nothing here writes, waits (`busy_timeout_milliseconds` is 0 unless a thread asks for more) or imports more
than the standard library and our own pure parts. One `read` is one statement of four indexed look-ups, so its cost does
not grow with the number of keys. What cannot be read is an error, never "no such key".

Turned down: the async SQL layer that services use. A thread hop and an ORM row cost several times the read itself.
Measured at 1,000,000 keys: see docs/store.md.

A reader belongs to one thread at a time. The file may be moved away or replaced underneath it (a restored backup is
often renamed into place). `data_version` notices, which whoever follows the log asks for many times a second; a `stat`
before each `read` would cost a tenth of it, so `read` makes one only when nobody has looked for a while (a process that
was stopped). From then on the old file is let go of and nothing can be read; as soon as there is a file again,
`data_version` opens it, and `opened` counts one more.
"""

import os
import sqlite3
from math import inf
from pathlib import Path
from time import monotonic
from typing import Final, NoReturn

from gateway.errors import StoreBusy, StoreUnavailable
from gateway.keys.projection import LogLook
from gateway.keys.record import CredentialRecord
from gateway.store.log_rows import LOG_COLUMNS, LOG_TABLES, look_of
from gateway.store.record_rows import SELECT_RECORD, record_from_row

_READ: Final = SELECT_RECORD + "?"
_LOOK: Final = "SELECT " + LOG_COLUMNS + LOG_TABLES.format(seq="?", rows="?")
_HEAD: Final = "SELECT max(seq) FROM key_changes"
_EPOCH: Final = "SELECT epoch FROM store_identity"

# KiB. Holds the inner pages of all indexes of 1,000,000 keys; a read then misses at most its three leaves.
_CACHE: Final = "PRAGMA cache_size = -8192"
_NO_FILE: Final = (-1, -1)
_NAME_SECONDS: Final = 1.0
"""For how long the file that is open is taken for the one with the store's name."""

# Primary result codes (https://sqlite.org/rescode.html); extended codes carry them in their low byte.
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class SqliteReader:
    """One read-only connection. Opening, and every method, raises StoreBusy or StoreUnavailable, and nothing else."""

    __slots__ = ("_busy_timeout_milliseconds", "_connection", "_file", "_held", "_named_until", "_path", "opened")

    def __init__(self, path: Path, *, busy_timeout_milliseconds: int = 0, lazy: bool = False) -> None:
        """Open the file, which must exist and be migrated already; `lazy`: leave that to `data_version`."""
        self._path = path
        self._busy_timeout_milliseconds = busy_timeout_milliseconds
        self.opened = 0
        """How often a file was opened here: what was read before the last time may have been another one's."""
        self._file = _NO_FILE
        self._held = False
        """Nothing is open because somebody held the whole file when it was to be opened."""
        self._named_until = inf
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.close()  # a closed connection refuses every question, which costs the hot path no test
        if not lazy:
            self._open()

    def __repr__(self) -> str:
        """Name the file, for diagnostics."""
        return f"<SqliteReader {self._path} opened={self.opened}>"

    def read(self, digest: bytes) -> CredentialRecord | None:
        """Return what the secret with this digest means, None where no such secret exists."""
        if monotonic() > self._named_until:
            self._look_at_name()
        try:
            row = self._connection.execute(_READ, (digest,)).fetchone()
        except sqlite3.Error as error:
            self._fail(error)
        return None if row is None else record_from_row(digest, row)

    def data_version(self) -> int:
        """Return a number that differs from the last one whenever something was committed, or the file was replaced.

        Costs a few microseconds. Numbers of different readers cannot be compared.
        """
        try:
            identity = _file_identity(self._path)
        except OSError as error:
            self._let_go()
            raise _unavailable(self._path, error) from error
        if identity != self._file:
            self._let_go()
            self._open()
        try:
            version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error as error:
            self._fail(error)
        self._named_until = monotonic() + _NAME_SECONDS
        # SQLite's number is 32 bits and belongs to one connection, so the count of openings goes above it.
        return (self.opened << 32) | (version & 0xFFFF_FFFF)

    def head(self) -> int:
        """Return the seq of the newest change, 0 when there is none."""
        try:
            row = self._connection.execute(_HEAD).fetchone()
        except sqlite3.Error as error:
            self._fail(error)
        return int(row[0] or 0)

    def look(self, seq: int, limit: int = 1000) -> LogLook:
        """Return epoch and head of the log, the change at `seq`, and those that follow it, all of one moment."""
        try:
            rows = self._connection.execute(_LOOK, (seq, limit + 1)).fetchall()
        except sqlite3.Error as error:
            self._fail(error)
        if not rows:
            raise self._without_identity()
        return look_of(seq, limit, rows)

    def close(self) -> None:
        """Close the connection; doing it twice is harmless."""
        self._held = False
        self._connection.close()

    def _let_go(self) -> None:
        """Close what is not, or no longer, the store; every look at `data_version` tries to open what is there."""
        self.close()
        self._file = _NO_FILE
        self._named_until = inf

    def _look_at_name(self) -> None:
        """Let go of a file that has lost its name; to open another is for `data_version`, whose caller tells of it."""
        try:
            named = _file_identity(self._path) == self._file
        except OSError:
            named = False
        if named:
            self._named_until = monotonic() + _NAME_SECONDS
        else:
            self._let_go()

    def _open(self) -> None:
        """Connect, and prove by one read that the file is a migrated store. What was open is closed before.

        A WAL database needs its -shm file even for reading. `mode=ro` still lets SQLite make it, as long as this user
        may write in the directory; else opening fails here, with a reason, and not at the first request.
        """
        try:
            identity = _file_identity(self._path)
            self._connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                timeout=self._busy_timeout_milliseconds / 1000,
                check_same_thread=False,
                cached_statements=16,
            )
        except (OSError, sqlite3.Error) as error:
            raise _unavailable(self._path, error) from error
        try:
            self._connection.execute(_CACHE)
            self._connection.execute(_EPOCH).fetchone()
        except sqlite3.Error as error:
            self._connection.close()
            self._held = _is_busy(error)
            self._fail(error)
        self._file = identity
        self._named_until = monotonic() + _NAME_SECONDS
        self.opened += 1

    def _without_identity(self) -> StoreUnavailable:
        detail = f"The key store {self._path} has no identity. Run the gateway's migrations on it."
        return StoreUnavailable(detail, internal="store_identity is empty")

    def _fail(self, error: sqlite3.Error) -> NoReturn:
        """Tell "held by a writer just now" from "cannot be read"."""
        if self._held or _is_busy(error):
            detail = "The key store is busy for a moment. Try again."
            raise StoreBusy(detail, internal=str(error)) from error
        raise _unavailable(self._path, error) from error


def _is_busy(error: sqlite3.Error) -> bool:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _BUSY


def _unavailable(path: Path, error: Exception) -> StoreUnavailable:
    detail = (
        f"The key store {path} cannot be read. Check that the file exists, is undamaged and migrated, and that the "
        "gateway's user may read it and write in its directory."
    )
    return StoreUnavailable(detail, internal=f"{type(error).__name__}: {error}")


def _file_identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116 - called 20 times a second; Path.stat costs twice as much
    return found.st_dev, found.st_ino
