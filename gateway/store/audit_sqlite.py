"""Requests on record in SQLite: one file for each UTC day, `audit/2026-11-21.db`.

Invariants: each entry is in the file of its own `at`, so days follow each other without overlapping, a page is read
file after file from the newest on, and retention removes files, however many entries they have. No transaction spans
two files; a batch that ends in the middle is repeated, which harms nothing.

A file that is damaged or not ours is moved aside (`2026-11-21.db.broken-1`), which is said once, and the day goes on in
a new one: neither recording nor reading ends because of it. What can be saved from it, `sqlite3 FILE .recover` saves.

One thread writes, two others read and remove, so that neither a long look nor the removal of a day of gigabytes holds
up the recorder. Turned down: one file with rows that are deleted when their day is over, which takes as long as writing
them did, and leaves the file as large as it was.
"""

import asyncio
import errno
import logging
import re
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple, TypeVar

from gateway.errors import StoreBusy, StoreUnavailable, Unreachable
from gateway.keys.request_entry import RequestEntry
from gateway.store import audit_day
from gateway.store.audit_day import Broken, DayFile
from gateway.store.audit_query import DAY_MICROSECONDS, EntryQuery, day_of, first_kept_day
from gateway.store.audit_store import StoredEntry

FILES_KEPT_OPEN: Final = 2
"""About midnight two days are written to by turns; what comes later opens its file for a batch."""
READERS: Final = 2
READ_SECONDS: Final = 10.0
"""What hardly any entry fits is looked for in all days, and others wait for that."""

_NAME: Final = re.compile(r"\d{4}-\d\d-\d\d\.db")
_DAY_CHARACTERS: Final = 10
_BESIDE: Final = ("-wal", "-shm")
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_log: Final = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class _Suspect(NamedTuple):
    """A file that could not be read, as it was then; another one may have its name by now."""

    path: Path
    inode: int
    reason: str


class SqliteAuditStore:
    """The files of one directory, which is made when it is needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer = ThreadPoolExecutor(1, "audit-writer")
        self._readers = ThreadPoolExecutor(READERS, "audit-reader")
        self._closed = False
        # What the writer's thread alone uses:
        self._open: dict[Path, DayFile] = {}
        """The one used last is at the end."""
        self._settled: set[Path] = set()
        """Those in which nothing was open when that was last asked, and that were not written to since."""
        # What readers use:
        self._segments: dict[Path, tuple[object, set[tuple[str, int]]]] = {}
        """How a file was when it was looked at, and which segments of which spools it has entries of."""

    def __repr__(self) -> str:
        """Name the directory, for diagnostics."""
        return f"<SqliteAuditStore {self._directory} open={[path.name for path in self._open]}>"

    async def write(self, spool: str, entries: Sequence[RequestEntry]) -> None:
        """Keep entries of one spool; each day's in one transaction, the oldest day first."""
        await self._in(self._writer, lambda: self._write(spool, entries))

    async def interrupt(self, spool: str, run: int) -> int:
        """Note that a run is over: what it left open was interrupted. Return how many there were."""
        return await self._in(self._writer, lambda: self._interrupt(spool, run))

    async def find(self, wanted: EntryQuery) -> list[StoredEntry]:
        """Return the newest entries that fit, newest first by (`at`, id)."""
        suspects: list[_Suspect] = []
        found = await self._in(self._readers, lambda: self._find(wanted, suspects))
        await self._examine(suspects)
        return found

    async def count(self, spool: str, segment: int) -> int:
        """Return how many entries there are whose position lies in this segment."""
        suspects: list[_Suspect] = []
        number = await self._in(self._readers, lambda: self._count(spool, segment, suspects))
        await self._examine(suspects)
        return number

    async def retain(self, days: int, now: int) -> list[str]:
        """Remove the files of days that are over, broken ones too; return the days."""
        kept = first_kept_day(days, now)
        over = await self._in(self._readers, lambda: [path for path in self._files() if path.name < kept])
        await self._in(self._writer, lambda: self._let_go(over))
        await self._in(self._readers, lambda: self._remove(over))
        return sorted({path.name[:_DAY_CHARACTERS] for path in over})

    async def close(self) -> None:
        """Wait for what is being done, and close all files; doing it twice is harmless."""
        if not self._closed:
            self._closed = True
            closing = self._writer.submit(lambda: self._let_go(list(self._open)))
            await asyncio.wrap_future(closing)
            self._writer.shutdown(wait=False)
            await asyncio.to_thread(self._readers.shutdown)

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[[], _Result]) -> _Result:
        if self._closed:
            raise StoreUnavailable(f"The record of requests in {self._directory} is closed in this process.")
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    async def _examine(self, suspects: list[_Suspect]) -> None:
        if suspects:
            await self._in(self._writer, lambda: self._set_all_aside(suspects))

    # --- in the writer's thread ---------------------------------------------------------------------------------------

    def _write(self, spool: str, entries: Iterable[RequestEntry]) -> None:
        days: defaultdict[int, list[RequestEntry]] = defaultdict(list)
        for entry in entries:
            days[entry.at // DAY_MICROSECONDS].append(entry)
        with self._errors():
            for number in sorted(days):
                self._write_day(day_of(number * DAY_MICROSECONDS), spool, days[number])

    def _write_day(self, day: str, spool: str, entries: Sequence[RequestEntry]) -> None:
        path = self._directory / f"{day}.db"
        self._settled.discard(path)
        self._do(path, lambda file: file.write(spool, entries))

    def _interrupt(self, spool: str, run: int) -> int:
        total = 0
        with self._errors():
            for path in self._days():
                if path in self._settled:
                    continue
                try:
                    settled = not audit_day.has_open(path)
                except (Broken, sqlite3.DatabaseError) as error:
                    self._set_aside(path, error)
                    continue
                if settled:
                    self._settled.add(path)
                else:
                    total += self._do(path, lambda file: file.interrupt(spool, run))
        return total

    def _do(self, path: Path, work: Callable[[DayFile], _Result]) -> _Result:
        """Do something with a file, or with a new one where it is broken."""
        try:
            return work(self._file(path))
        except (Broken, sqlite3.DatabaseError) as error:
            self._set_aside(path, error)
        return work(self._file(path))

    def _file(self, path: Path) -> DayFile:
        file = self._open.pop(path, None)
        if file is not None and not file.is_there():
            _log.warning("a file with requests on record was removed, and is begun anew", extra={"file": str(path)})
            file.close()
            file = None
        if file is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = DayFile(path)
        self._open[path] = file
        while len(self._open) > FILES_KEPT_OPEN:
            self._close(next(iter(self._open)))
        return file

    def _close(self, path: Path) -> None:
        file = self._open.pop(path, None)
        if file is not None:
            file.close()

    def _let_go(self, paths: Iterable[Path]) -> None:
        """Close these, and all but the one that was used last."""
        for path in [*paths, *list(self._open)[:-1]]:
            self._close(path)

    def _set_all_aside(self, suspects: Iterable[_Suspect]) -> None:
        with self._errors():
            for suspect in suspects:
                with suppress(FileNotFoundError):
                    if suspect.path.stat().st_ino == suspect.inode:
                        self._move(suspect.path, suspect.reason)

    def _set_aside(self, path: Path, error: Exception) -> None:
        """Move a broken file aside; raises the error where it says nothing of that kind."""
        if not _is_broken(error):
            raise error
        self._move(path, str(error))

    def _move(self, path: Path, reason: str) -> None:
        self._close(path)
        self._settled.discard(path)
        aside = next(
            aside for number in count(1) if not (aside := path.with_name(f"{path.name}.broken-{number}")).exists()
        )
        path.rename(aside)
        for ending in _BESIDE:  # what `.recover` needs of the newest entries is in the write-ahead log
            with suppress(FileNotFoundError):
                path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
        extra = {"file": str(path), "moved_to": aside.name, "reason": reason}
        _log.error("a file with requests on record is damaged or not ours, and was moved aside", extra=extra)

    # --- in a reader's thread -----------------------------------------------------------------------------------------

    def _find(self, wanted: EntryQuery, suspects: list[_Suspect]) -> list[StoredEntry]:
        first, last = wanted.days()
        found: list[StoredEntry] = []
        deadline = monotonic() + READ_SECONDS
        with self._errors():
            for path in reversed(self._days()):
                if first <= path.stem <= last:
                    with _noted(path, suspects):
                        found += audit_day.read(path, wanted, deadline)
                if len(found) >= wanted.limit:
                    break
        return found[: wanted.limit]

    def _count(self, spool: str, segment: int, suspects: list[_Suspect]) -> int:
        total = 0
        with self._errors():
            for path in self._days():
                with _noted(path, suspects):
                    if (spool, segment) in self._segments_of(path):
                        total += audit_day.count(path, spool, segment)
        return total

    def _segments_of(self, path: Path) -> set[tuple[str, int]]:
        """Return what a file can have been counted for: to open every file for each segment would take minutes."""
        state = _state(path), _state(path.with_name(path.name + "-wal"))
        known = self._segments.get(path)
        if known is None or known[0] != state:
            known = self._segments[path] = state, audit_day.segments(path)
        return known[1]

    def _remove(self, paths: Iterable[Path]) -> None:
        """Remove files. A write-ahead log goes before its file: what is left of two would be taken for one later."""
        with self._errors():
            for path in sorted(paths, key=lambda path: path.name.endswith(".db")):
                path.unlink(missing_ok=True)
                self._segments.pop(path, None)

    # --- in any thread ------------------------------------------------------------------------------------------------

    def _files(self) -> list[Path]:
        """Return all files that belong to a day, also those beside a daily file, and broken ones."""
        try:
            return sorted(path for path in self._directory.iterdir() if _NAME.match(path.name))
        except FileNotFoundError:
            return []

    def _days(self) -> list[Path]:
        """Return the daily files, the oldest first."""
        return [path for path in self._files() if _NAME.fullmatch(path.name)]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what SQLite and the file system say into errors of ours."""
        try:
            yield
        except (Broken, sqlite3.Error, OSError) as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> Unreachable:
        code = _code(error)
        internal = f"{type(error).__name__}: {error}"
        if code in _BUSY:
            return StoreBusy("The record of requests is held by another process; try again.", internal=internal)
        if code == sqlite3.SQLITE_INTERRUPT:
            detail = f"Nothing was found within {READ_SECONDS:g} seconds; narrow down the time that is looked through."
            return StoreBusy(detail, internal=internal)
        if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
            detail = f"The disk that holds the record of requests in {self._directory} is full."
        else:
            detail = (
                f"The record of requests in {self._directory} cannot be used just now. Check the files and the disk."
            )
        return StoreUnavailable(detail, internal=internal)


@contextmanager
def _noted(path: Path, suspects: list[_Suspect]) -> Iterator[None]:
    """Go on without a file that is broken; note which one that is."""
    try:
        inode = path.stat().st_ino
        yield
    except FileNotFoundError:
        pass  # retention was faster
    except (Broken, sqlite3.DatabaseError) as error:
        if not _is_broken(error):
            raise
        suspects.append(_Suspect(path, inode, str(error)))


def _is_broken(error: Exception) -> bool:
    return isinstance(error, Broken) or _code(error) in _BROKEN


def _code(error: Exception) -> int:
    """Return SQLite's primary code (https://sqlite.org/rescode.html), 0 where it is none of its errors."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
