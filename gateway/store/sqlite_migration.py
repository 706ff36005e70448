"""Bring an SQLite file to the schema this code knows.

Invariant: after `migrate_sqlite` the file exists, belongs to this user alone (0600), is in WAL mode and has the newest
known revision; or an error says in one sentence why not, and the file is as it was. All revisions run in one immediate
transaction, in which the revision is looked up again: of two processes starting at once one migrates, the other waits
and finds nothing to do.

A lock file was turned down: it would have to be cleaned up after a crash, SQLite's lock goes with the process.
"""

import contextlib
import errno
import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from gateway.errors import GatewayError, StoreBusy, StoreUnavailable
from gateway.store.location import sqlite_path
from gateway.store.revision import REVISIONS, accepted

BUSY_TIMEOUT_SECONDS: Final = 30.0  # another process may be migrating a big store
# Short of this, SQLite may find no room for -wal and -shm, about which it says "disk I/O error" or "unable to open".
_LEAST_FREE_BYTES: Final = 1 << 20
_log: Final = logging.getLogger(__name__)


def migrate_sqlite(url: str) -> None:
    """Create or upgrade the file at `url`."""
    path = sqlite_path(url)
    _prepare_file(path)
    try:
        with contextlib.closing(_connect(path)) as connection:
            if _revision(connection, path) != REVISIONS[-1]:
                _upgrade(connection, path)
    except sqlite3.Error as error:
        raise _translated(path, error) from error


def _prepare_file(path: Path) -> None:
    """Make the directory (0700) and an empty file (0600) where they are missing. SQLite gives -wal the same mode."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        writable = os.access(path.parent, os.W_OK | os.X_OK)  # for -wal and -shm beside it
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _full(path, repr(error)) from error
        reason = error.strerror or str(error)
        detail = f"The key store {path} cannot be opened for writing: {reason}. Check the path and its permissions."
        raise StoreUnavailable(detail, internal=repr(error)) from error
    if not writable:
        detail = f"The directory {path.parent} is not writable, and the key store needs to keep files beside itself."
        raise StoreUnavailable(detail)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        _enter_wal_mode(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _enter_wal_mode(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL, for good. SQLite does not wait for a lock here by itself, so two starters take turns."""
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise StoreUnavailable("The key store's file system does not support SQLite's WAL mode. Use a local disk.")
        return


def _revision(connection: sqlite3.Connection, path: Path) -> str | None:
    """Return the revision of the file, None for an empty one. What is not ours, or newer than us, is refused."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    row = None
    if "alembic_version" in tables:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None:
        raise GatewayError(f"{path} is a database of another program. Choose another file.", code="store_foreign")
    return accepted(str(row[0]), str(path))


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Let Alembic run all missing revisions on this very connection, in one immediate transaction."""
    # Imported only here, so that a start with nothing to do pays for neither.
    from sqlalchemy import create_engine, event, pool  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    from gateway.store.revisions import run_all  # noqa: PLC0415

    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=pool.StaticPool)
    event.listen(engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.begin() as transaction:
            found = _revision(connection, path)
            if found == REVISIONS[-1]:
                return  # another process was faster
            run_all(transaction)
        _log.info("prepared the key store", extra={"store": str(path), "schema_was": found, "schema": REVISIONS[-1]})
    except DBAPIError as error:
        raise (error.orig if isinstance(error.orig, sqlite3.Error) else error) from error


def _translated(path: Path, error: sqlite3.Error) -> GatewayError:
    """Say in one sentence what SQLite found."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    internal = f"{type(error).__name__}: {error}"
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreBusy(f"The key store {path} is held by another process. Try again.", internal=internal)
    if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        detail = f"The key store {path} is damaged or no SQLite database. Restore a backup, or choose another file."
        return StoreUnavailable(detail, code="store_damaged", internal=internal)
    if code == sqlite3.SQLITE_FULL or (code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN} and _lacks_room(path)):
        return _full(path, internal)
    detail = f"The key store {path} cannot be opened: {error}. Check the file, its directory and their permissions."
    return StoreUnavailable(detail, internal=internal)


def _full(path: Path, internal: str) -> StoreUnavailable:
    detail = f"The disk that holds the key store {path} is full. Make room, or choose a file on another disk."
    return StoreUnavailable(detail, internal=internal)


def _lacks_room(path: Path) -> bool:
    """Tell whether blocks or inodes have run out where the store is; False where that cannot be asked."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return False
    # File systems without a fixed number of inodes count none at all.
    return found.f_bavail * found.f_frsize < _LEAST_FREE_BYTES or (found.f_files > 0 and found.f_favail == 0)
