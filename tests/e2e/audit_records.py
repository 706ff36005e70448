"""The record of requests as it lies on the disk, read with plain SQL, and what of a spool is not on it yet.

Invariant: nothing here goes through the gateway's own reading, so a fault there can hide nothing, nor can an index that
has lost an entry: every read is of whole tables.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from abc import ABC, abstractmethod
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.keys.request_entry import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.postgres import PostgresServer


_HEADER_BYTES: Final = 64
_SPOOL_DIGITS: Final = 16
_SPOOL_AT: Final = 16  # in the header
_USES: Final = "SELECT key_id, idle_since FROM key_uses WHERE used"
_USES_OF_SECRETS: Final = """
SELECT s.key_id, max(u.used_at) FROM secret_uses AS u JOIN key_secrets AS s ON s.id = u.secret_id GROUP BY s.key_id
"""
_READ_TO: Final = "SELECT spool, segment, read_to FROM audit_segments"
_COUNTS: Final = "SELECT outcome, requests FROM audit_counts"
_DAMAGE: Final = "SELECT damaged_bytes FROM audit_segments"


class Kept(NamedTuple):
    """What is on record of one request."""

    request_id: str
    outcome: Outcome
    method: str
    path: str
    status: int
    code: str
    key_id: str
    at: int
    duration: int
    bytes_in: int
    bytes_out: int


class Records(ABC):
    """One gateway's, or that of several with one store."""

    @abstractmethod
    def kept(self) -> list[Kept]:
        """Return every entry, in no order."""

    @abstractmethod
    def rows(self, query: str) -> list[Any]:
        """Ask the store that keys are in."""

    def last_uses(self) -> dict[str, int]:
        """When each key was last used, in microseconds since 1970; keys that never were are left out."""
        return dict(self.rows(_USES))

    def last_uses_of_secrets(self) -> dict[str, int]:
        """When each key was last used, by what is known of its secrets."""
        return dict(self.rows(_USES_OF_SECRETS))

    def read_to(self) -> dict[tuple[str, int], int]:
        """How far each segment of each spool was recorded."""
        return {(spool, segment): end for spool, segment, end in self.rows(_READ_TO)}

    def refusals(self, code: str) -> int:
        """How many refusals of this code were counted, one by one on record or not."""
        return sum(requests for outcome, requests in self.rows(_COUNTS) if outcome == f"refused:{code}")

    def counted(self) -> int:
        """How many requests were counted, by the hour and in all."""
        return sum(requests for _, requests in self.rows(_COUNTS))

    def damaged_bytes(self) -> int:
        """How much could not be read."""
        return sum(count for (count,) in self.rows(_DAMAGE))


def unread(records: Records, spool: Path) -> list[str]:
    """The segments in which something stands behind what was recorded of them: it is zero where nothing was written."""
    read_to = records.read_to()
    own = (spool / "id").read_text()[:_SPOOL_DIGITS]
    found = []
    for file in spool.glob("*.segment"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, ValueError), file.open("rb") as opened:
            number = int(file.stem)
            name = opened.read(_HEADER_BYTES)[_SPOOL_AT : _SPOOL_AT + _SPOOL_DIGITS].decode("ascii", "replace")
            opened.seek(read_to.get((name, number), read_to.get((own, number), _HEADER_BYTES)))
            if opened.read().strip(b"\0"):
                found.append(file.name)
    return found


class SqliteRecords(Records):
    """The store, and the daily files beside it."""

    def __init__(self, data: Path) -> None:
        """`data`: the directory of both."""
        self._store = data / "gateway.db"
        self._days = data / "audit"

    def kept(self) -> list[Kept]:
        return [each for file in sorted(self._days.glob("*.db")) for each in self._of_day(file)]

    def _of_day(self, file: Path) -> Iterator[Kept]:
        with closing(_opened(file)) as connection:
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return  # it is being made
            texts: dict[int, str] = dict(connection.execute("SELECT id, text FROM texts"))
            rows = connection.execute(
                "SELECT request_id, outcome, method, path, status, code, key, at, duration, bytes_in, bytes_out"
                " FROM entries NOT INDEXED"
            )
            for request, outcome, method, path, status, code, key, *numbers in rows:
                told = (texts[method], path, status, texts[code], texts[key])
                yield Kept(request, Outcome(outcome), *told, *numbers)

    def rows(self, query: str) -> list[Any]:
        with closing(_opened(self._store)) as connection:
            return connection.execute(query).fetchall()


class PostgresRecords(Records):
    """The database that nodes share. It may be asked for as long as the server is there, whatever lies between."""

    def __init__(self, server: PostgresServer, database: str) -> None:
        self._server, self._database = server, database

    def kept(self) -> list[Kept]:
        if self.rows("SELECT to_regclass('audit_entries') IS NULL") == [[True]]:
            return []
        rows = self.rows(f"SELECT {', '.join(Kept._fields)} FROM audit_entries")  # noqa: S608 - our own names
        return [Kept(request, Outcome(outcome), *others) for request, outcome, *others in rows]

    def rows(self, query: str) -> list[Any]:
        printed = self._server.execute(f"SELECT row_to_json(r) FROM ({query}) AS r", self._database)  # noqa: S608 - the same
        return [list(json.loads(line).values()) for line in printed.splitlines()]


def _opened(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)
    connection.execute("BEGIN")  # one moment for all that is read
    return connection
