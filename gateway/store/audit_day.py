"""One day's entries in one SQLite file: its shape, how it is written, and how it is read.

    entries    one row for each: `place`, which is the rowid, then the numbers, and numbers of texts
    texts      every text that many entries share, once: 0 is the empty one
    segments   which segments of which spools the entries come from
    slots      the slots of the day, twenty minutes each

Invariants: a commit is on the disk when it returns (`synchronous=FULL`). `place` is `segments.id << 24 | offset`: one
for each spool, segment and offset, so that what two spools call by the same position is two rows, and what is written
again finds itself. A path and a request id are in the row itself: hardly two are the same.

An index for each way of asking: by key, owner and organization, within a slot. What comes in one goes to a small
part of each index, so a batch changes few pages, whatever number of keys it is of; a look for a key's newest
entries walks back slot by slot. The indexes hold what else an entry is chosen by: a look for the one refusal of a day
walks past index entries and not past rows.

Turned down, as measured in docs/audit-store.md: indexes without slots, for which a batch changes a page for each of its
keys, and takes more than twice as long; all texts in the rows, which makes the file twice as large; an entry's texts in
groups (who, by which route), which saves little and makes a table of each group; several rows in one INSERT, which
saves nothing.

Blocking; a `DayFile` is used by one thread at a time. What SQLite raises comes out as it is.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, Final

from gateway.keys.request_entry import OFFSET_BITS, Outcome, RequestEntry
from gateway.store.audit_query import SLOTS, EntryQuery, slot_of
from gateway.store.audit_store import StoredEntry

BUSY_TIMEOUT_SECONDS: Final = 5.0

_OFFSET_MASK: Final = (1 << OFFSET_BITS) - 1
_TEXTS_REMEMBERED: Final = 50_000  # a text has up to 2 KB, if somebody means ill
_CACHE_KIBIBYTES: Final = 16_384  # what a slot has in all indexes
_APPLICATION: Final = 0x4B67_6174  # "Kgat"
_SHAPE: Final = 1
_STEPS_BETWEEN_LOOKS: Final = 20_000  # at the clock; of SQLite's machine, a millisecond or so

_SCHEMA: Final = f"""
CREATE TABLE segments (
  id INTEGER PRIMARY KEY, spool TEXT NOT NULL, number INTEGER NOT NULL, UNIQUE (spool, number)
);
CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
INSERT INTO texts VALUES (0, '');
CREATE TABLE slots (id INTEGER PRIMARY KEY);
WITH RECURSIVE n (id) AS (VALUES (0) UNION ALL SELECT id + 1 FROM n WHERE id < {SLOTS - 1})
INSERT INTO slots SELECT id FROM n;
CREATE TABLE entries (
  place INTEGER PRIMARY KEY, at INTEGER NOT NULL, duration INTEGER NOT NULL, outcome INTEGER NOT NULL,
  status INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL, request_id TEXT NOT NULL,
  method INTEGER NOT NULL, path TEXT NOT NULL, route INTEGER NOT NULL, upstream INTEGER NOT NULL,
  address INTEGER NOT NULL, user_agent INTEGER NOT NULL, code INTEGER NOT NULL, key INTEGER NOT NULL,
  key_name INTEGER NOT NULL, secret INTEGER NOT NULL, organization INTEGER NOT NULL, owner INTEGER NOT NULL,
  run INTEGER NOT NULL, slot INTEGER NOT NULL
);
CREATE INDEX entries_by_key ON entries (slot, key, at, status, outcome, code);
CREATE INDEX entries_by_owner ON entries (slot, owner, at, status, outcome, code);
CREATE INDEX entries_by_organization ON entries (slot, organization, at, status, outcome, code);
CREATE INDEX entries_open ON entries (run) WHERE outcome = {Outcome.OPEN:d};
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_SHAPE};
"""  # noqa: S608 - numbers of our own
_REPLACED: Final = (
    "duration", "outcome", "status", "bytes_in", "bytes_out", "request_id", "method", "path", "route", "upstream",
    "address", "user_agent", "code", "key", "key_name", "secret", "organization", "owner", "run",
)  # fmt: skip
_INSERT: Final = (
    f"INSERT INTO entries VALUES ({','.join('?' * (3 + len(_REPLACED)))})"  # noqa: S608 - names of our own columns
    f" ON CONFLICT (place) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _REPLACED)}"
    # An end that comes late is the truth still; a repeated beginning says nothing new.
    f" WHERE entries.outcome IN ({Outcome.OPEN:d}, {Outcome.INTERRUPTED:d}) AND excluded.outcome <> {Outcome.OPEN:d}"
)
_INTERRUPT: Final = f"""
UPDATE entries SET outcome = {Outcome.INTERRUPTED:d}
 WHERE outcome = {Outcome.OPEN:d} AND run = ? AND place >> {OFFSET_BITS} IN (SELECT id FROM segments WHERE spool = ?)
"""  # noqa: S608 - numbers of our own
_ANY_OPEN: Final = f"SELECT run FROM entries WHERE outcome = {Outcome.OPEN:d} LIMIT 1"  # noqa: S608 - the same
_COUNT: Final = "SELECT count(*) FROM entries WHERE place BETWEEN ? AND ?"
_SEGMENT: Final = "SELECT id FROM segments WHERE spool = ? AND number = ?"
# `entry_id`, in SQL.
_NAME: Final = f"""
(SELECT 'req_' || spool || printf('%016x', (number << {OFFSET_BITS}) + (place & {_OFFSET_MASK}))
   FROM segments WHERE id = place >> {OFFSET_BITS})
"""  # noqa: S608 - the same
_TEXT_COLUMNS: Final = ("route", "upstream", "address", "user_agent", "code", "key", "key_name", "secret",
                        "organization", "owner")  # fmt: skip
# Which ones is found in the index alone, where the conditions allow that; then their rows are looked up.
_SELECT: Final = f"""
SELECT spool, (number << {OFFSET_BITS}) + (place & {_OFFSET_MASK}), at, duration, outcome, status, bytes_in, bytes_out,
       request_id, (SELECT text FROM texts WHERE id = method), path,
       {", ".join(f"(SELECT text FROM texts WHERE id = {name})" for name in _TEXT_COLUMNS)}, run
  FROM (SELECT place AS found FROM slots CROSS JOIN entries ON entries.slot = slots.id
         WHERE {{conditions}} ORDER BY slots.id DESC, at DESC, {_NAME} DESC LIMIT ?)
 CROSS JOIN entries ON place = found CROSS JOIN segments ON segments.id = place >> {OFFSET_BITS}
 ORDER BY at DESC, spool DESC, number DESC, place DESC
"""  # noqa: S608 - the same


class Broken(Exception):
    """The file is damaged, or another program's."""


class DayFile:
    """A file that is open for writing."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it (0600). Raises Broken, sqlite3.Error, OSError."""
        self._path = path
        if not path.exists():
            _make(path)
        self._connection = _connected(path, "rw")
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise
        found = os.stat(path)  # noqa: PTH116 - as `is_there`
        self._identity = found.st_dev, found.st_ino
        self._texts = _Texts(self._connection)
        self._places = _Places(self._connection)

    def __repr__(self) -> str:
        """Name the file, for diagnostics."""
        return f"<DayFile {self._path} texts={len(self._texts)}>"

    def is_there(self) -> bool:
        """Tell whether the file still has its name: what is written to one that was removed would be lost."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - asked for each batch
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def write(self, spool: str, entries: Iterable[RequestEntry]) -> None:
        """Keep entries of one spool, in one transaction."""
        with self._transaction():
            self._places.turn_to(spool)
            # A list, as making a row may add texts, which must not happen in the middle of a statement.
            rows = [_row(each, self._places, self._texts) for each in entries]
            self._connection.executemany(_INSERT, rows)

    def interrupt(self, spool: str, run: int) -> int:
        """Note that a run is over; return how many entries it left open."""
        with self._transaction():
            return self._connection.execute(_INTERRUPT, (run, spool)).rowcount

    def close(self) -> None:
        """Put what is in the write-ahead log into the file, as far as no reader is in the way, and close it."""
        with closing(self._connection), suppress(sqlite3.Error):
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Hold the write lock from the beginning, commit at the end."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._texts.forget()  # they may have been new
            self._places.clear()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _prepare(self) -> None:
        for pragma in (
            "PRAGMA synchronous = FULL",
            f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}",
            "PRAGMA wal_autocheckpoint = 8000",  # 32 MiB: a page that many batches change is put in place once
            "PRAGMA journal_size_limit = 67108864",
        ):
            self._connection.execute(pragma)
        if _is_blank(self._connection, self._path):
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")


def read(path: Path, wanted: EntryQuery, deadline: float) -> list[StoredEntry]:
    """Return the newest entries of the day that fit, newest first. Raises Broken, sqlite3.Error.

    After `deadline`, on the monotonic clock, that is an OperationalError with SQLITE_INTERRUPT.
    """
    with _reading(path) as connection:
        if connection is None:
            return []
        connection.set_progress_handler(lambda: monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
        walks = [_walk(connection, path.stem, wanted, organization) for organization in wanted.organizations()]
    found = [each for walk in walks for each in walk]
    if len(walks) > 1:
        found.sort(key=lambda stored: (stored.entry.at, stored.id), reverse=True)
    return found[: wanted.limit]


def segments(path: Path) -> set[tuple[str, int]]:
    """Return which segments of which spools the day has entries of."""
    with _reading(path) as connection:
        return set() if connection is None else set(connection.execute("SELECT spool, number FROM segments"))


def count(path: Path, spool: str, segment: int) -> int:
    """Return how many entries of the day lie in a segment."""
    with _reading(path) as connection:
        row = None if connection is None else connection.execute(_SEGMENT, (spool, segment)).fetchone()
        if connection is None or row is None:
            return 0
        first = row[0] << OFFSET_BITS
        return int(connection.execute(_COUNT, (first, first | _OFFSET_MASK)).fetchone()[0])


def has_open(path: Path) -> bool:
    """Tell whether any entry of the day is open."""
    with _reading(path) as connection:
        return connection is not None and connection.execute(_ANY_OPEN).fetchone() is not None


class _Texts(dict[str, int]):
    """Numbers of texts. One that is not remembered is looked up, or gets the next number, within a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__({"": 0})
        self._connection = connection

    def __missing__(self, text: str) -> int:
        row = self._connection.execute("SELECT id FROM texts WHERE text = ?", (text,)).fetchone()
        if row is None:
            number = self._connection.execute("INSERT INTO texts (text) VALUES (?)", (text,)).lastrowid
            assert number is not None  # noqa: S101 - one row was inserted
        else:
            number = int(row[0])
        if len(self) > _TEXTS_REMEMBERED:
            self.forget()
        self[text] = number
        return number

    def forget(self) -> None:
        """Remember the empty text alone."""
        self.clear()
        self[""] = 0


class _Places(dict[int, int]):
    """Where in the table a segment's entries begin, by its number, of the spool that was turned to."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self._connection = connection
        self._spool = ""

    def turn_to(self, spool: str) -> None:
        """Be those of this spool."""
        if spool != self._spool:
            self.clear()
            self._spool = spool

    def __missing__(self, number: int) -> int:
        row = self._connection.execute(_SEGMENT, (self._spool, number)).fetchone()
        if row is None:
            insert = "INSERT INTO segments (spool, number) VALUES (?, ?)"
            found = self._connection.execute(insert, (self._spool, number)).lastrowid
            assert found is not None  # noqa: S101 - one row was inserted
        else:
            found = int(row[0])
        self[number] = found << OFFSET_BITS
        return self[number]


def _row(entry: RequestEntry, places: _Places, texts: _Texts) -> tuple[int | str, ...]:
    (
        position, at, duration, outcome, status, bytes_in, bytes_out, request_id, method, path, route, upstream,
        address, user_agent, code, key, key_name, secret, organization, owner, run,
    ) = entry  # fmt: skip
    return (
        places[position >> OFFSET_BITS] | position & _OFFSET_MASK, at, duration, int(outcome), status, bytes_in,
        bytes_out, request_id, texts[method], path, texts[route], texts[upstream], texts[address], texts[user_agent],
        texts[code], texts[key], texts[key_name], texts[secret], texts[organization], texts[owner], run,
        slot_of(at),
    )  # fmt: skip


def _walk(
    connection: sqlite3.Connection, day: str, wanted: EntryQuery, organization: str | None
) -> Sequence[StoredEntry]:
    conditions = ["1"]
    values: list[int | str] = []
    texts = {"key": wanted.key_id, "owner": wanted.owner_id, "organization": organization, "code": wanted.code}
    # The first of those that have an index is the one to walk along: a key's is the shortest, an organization's the
    # longest. The others only test.
    walked = next((name for name in ("key", "owner", "organization") if texts[name] is not None), None)
    for name, text in texts.items():
        if text is None:
            continue
        row = connection.execute("SELECT id FROM texts WHERE text = ?", (text,)).fetchone()
        if row is None:
            return ()  # no entry of the day has it
        conditions.append(f"{'' if name == walked else '+'}{name} = ?")
        values.append(row[0])
    if wanted.request_id is not None:
        conditions.append("request_id = ?")
        values.append(wanted.request_id)
    bounds: list[tuple[str, int | None]] = [("at >= ?", wanted.since), ("at < ?", wanted.until)]
    bounds += [("outcome = ?", wanted.outcome)]
    if wanted.statuses is not None:
        bounds += [("status >= ?", wanted.statuses[0]), ("status <= ?", wanted.statuses[1])]
    for condition, value in bounds:
        if value is not None:
            conditions.append(condition)
            values.append(int(value))
    if wanted.before is not None:
        at, name = wanted.before
        conditions += ["at <= ?", f"(at < ? OR {_NAME} < ?)"]
        values += [at, at, name]
    conditions.append("slots.id BETWEEN ? AND ?")
    values += wanted.slots(day)
    query = _SELECT.format(conditions=" AND ".join(conditions))
    return [_stored(row) for row in connection.execute(query, (*values, wanted.limit))]


def _stored(row: tuple[Any, ...]) -> StoredEntry:  # Any: SQLite knows no types of columns
    spool, position, at, duration, outcome, *others = row
    return StoredEntry(spool, RequestEntry(position, at, duration, Outcome(outcome), *others))


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Lend a connection that sees one moment; None where there is nothing in the file yet, or no file any more.

    It is opened each time, which takes a fifth of a millisecond: a connection that is kept would keep a file that
    retention has removed.
    """
    try:
        opened = _connected(path, "ro")
    except sqlite3.OperationalError:
        if path.exists():
            raise
        yield None
        return
    with closing(opened) as connection:
        if _is_blank(connection, path):
            yield None
            return
        connection.execute("BEGIN")
        yield connection


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        timeout=BUSY_TIMEOUT_SECONDS,
        check_same_thread=False,
    )


def _make(path: Path) -> None:
    """Make an empty file that is nobody else's to read, and see to it that its name outlives a power cut.

    A write-ahead log that was left behind by another file of this name would be taken for the new one's.
    """
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _is_blank(connection: sqlite3.Connection, path: Path) -> bool:
    """Tell whether nothing was put into the file yet. Raises Broken for what is not ours, or of another shape."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    shape = connection.execute("PRAGMA user_version").fetchone()[0]
    if (application, shape) == (_APPLICATION, _SHAPE):
        return False
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise Broken(f"{path} is no day of requests of this version: {application:#x}, {shape}")
    return True
