"""Daily files: what becomes of broken ones, of those that somebody took away, and who may read them."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import threading
from contextlib import closing
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import StoreBusy, StoreUnavailable
from gateway.keys.request_entry import Outcome
from gateway.store import audit_day, audit_sqlite
from gateway.store.audit_query import EntryQuery
from gateway.store.audit_sqlite import FILES_KEPT_OPEN, SqliteAuditStore
from tests.store.audit_entries import DAY, NOON, SEGMENT, SPOOL, entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

TODAY = "2026-11-21.db"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "audit"


@pytest.fixture
async def store(directory: Path) -> AsyncIterator[SqliteAuditStore]:
    opened = SqliteAuditStore(directory)
    yield opened
    await opened.close()


async def paths(store: SqliteAuditStore) -> list[str]:
    return [each.entry.path for each in await store.find(EntryQuery())]


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def modes(directory: Path) -> set[int]:
    """Of the directory and its files."""
    return {path.stat().st_mode & 0o777 for path in (directory, *directory.iterdir())}


def made(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def touched(path: Path) -> Path:
    path.touch()
    return path


def overwrite(path: Path) -> None:
    path.write_bytes(b"no database at all, but long enough to have a header of one" * 100)


def make_foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE entries (something_else)")


def make_newer(path: Path) -> None:
    """The shape of a later version."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1000")


def garble_pages(path: Path) -> None:
    """All but the first one, with the schema: it opens, and then it does not read."""
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)


BREAKING = pytest.mark.parametrize("break_file", [overwrite, make_foreign, make_newer, garble_pages])


# --- where entries go -------------------------------------------------------------------------------------------------


async def test_each_day_has_a_file_that_is_nobody_elses_to_read(store: SqliteAuditStore, directory: Path) -> None:
    await store.write(SPOOL, [entry(0), entry(1, at=NOON + DAY)])
    assert {TODAY, "2026-11-22.db"} <= names(directory)
    assert modes(directory) == {0o700, 0o600}


async def test_the_last_microsecond_of_a_day_is_that_days(store: SqliteAuditStore, directory: Path) -> None:
    midnight = NOON + DAY // 2
    await store.write(SPOOL, [entry(0, at=midnight - 1, path="/before")])
    await store.write(SPOOL, [entry(1, at=midnight, path="/after")])
    await store.close()
    assert [each.entry.path for each in audit_day.read(directory / TODAY, EntryQuery(), inf)] == ["/before"]
    assert [each.entry.path for each in audit_day.read(directory / "2026-11-22.db", EntryQuery(), inf)] == ["/after"]


async def test_a_day_that_is_not_written_to_any_more_is_closed(store: SqliteAuditStore, directory: Path) -> None:
    """Its write-ahead log is in the file then, and gone."""
    for day in range(FILES_KEPT_OPEN + 2):
        await store.write(SPOOL, [entry(day, at=NOON + day * DAY)])
    logs = {name for name in names(directory) if name.endswith("-wal")}
    assert logs == {"2026-11-23.db-wal", "2026-11-24.db-wal"}
    await store.retain(90, NOON)
    assert {name for name in names(directory) if name.endswith("-wal")} == {"2026-11-24.db-wal"}


async def test_an_entry_is_on_the_disk_when_the_call_returns(store: SqliteAuditStore, directory: Path) -> None:
    """As far as can be asked: SQLite is told to wait for the disk with each commit."""
    await store.write(SPOOL, [entry(0)])
    (file,) = store._open.values()
    assert file._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert file._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert names(directory) == {TODAY, f"{TODAY}-wal", f"{TODAY}-shm"}


# --- broken files -----------------------------------------------------------------------------------------------------


@BREAKING
async def test_a_broken_file_is_moved_aside_and_the_day_goes_on(
    directory: Path, break_file: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    before = SqliteAuditStore(directory)
    await before.write(SPOOL, [entry(number, user_agent=f"agent {number}") for number in range(300)])
    await before.close()
    break_file(directory / TODAY)
    broken = (directory / TODAY).read_bytes()
    store = SqliteAuditStore(directory)
    await store.write(SPOOL, [entry(300, path="/new")])
    await store.write(SPOOL, [entry(301, path="/newer")])
    assert await paths(store) == ["/newer", "/new"]
    assert (directory / f"{TODAY}.broken-1").read_bytes() == broken
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    await store.close()


@BREAKING
async def test_whoever_reads_goes_on_without_a_broken_file(
    directory: Path, break_file: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    before = SqliteAuditStore(directory)
    await before.write(SPOOL, [entry(number, user_agent=f"agent {number}") for number in range(300)])
    await before.write(SPOOL, [entry(300, at=NOON - DAY, path="/yesterday")])
    await before.close()
    break_file(directory / TODAY)
    store = SqliteAuditStore(directory)
    for _ in range(2):
        assert await paths(store) == ["/yesterday"]
        assert await store.count(SPOOL, SEGMENT) == 1
    assert await store.interrupt(SPOOL, SEGMENT) == 0
    assert names(directory) & {TODAY, f"{TODAY}.broken-1"} == {f"{TODAY}.broken-1"}
    assert len(caplog.records) == 1
    await store.close()


async def test_files_that_break_one_after_the_other_are_all_kept(directory: Path) -> None:
    for _ in range(3):
        store = SqliteAuditStore(directory)
        await store.write(SPOOL, [entry(0)])
        assert await paths(store) == ["/v1/things"]
        await store.close()
        overwrite(directory / TODAY)
    assert names(directory) == {TODAY, f"{TODAY}.broken-1", f"{TODAY}.broken-2"}


async def test_a_file_that_breaks_while_it_is_open_is_moved_aside(store: SqliteAuditStore, directory: Path) -> None:
    """With what the write-ahead log still has, from which a tool can save the newest."""
    await store.write(SPOOL, [entry(0)])
    (file,) = store._open.values()
    file._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file._connection.execute("PRAGMA cache_size = 0")
    garble_pages(directory / TODAY)
    await store.write(SPOOL, [entry(number, user_agent=f"agent {number}") for number in range(1, 300)])
    assert len(await store.find(EntryQuery(limit=1000))) == 299
    assert f"{TODAY}.broken-1" in names(directory)


async def test_an_empty_file_is_a_day_that_was_not_begun(store: SqliteAuditStore, directory: Path) -> None:
    """Somebody was killed right after making it."""
    touched(made(directory) / TODAY)
    assert await paths(store) == []
    assert await store.count(SPOOL, SEGMENT) == 0
    await store.write(SPOOL, [entry(0)])
    assert await paths(store) == ["/v1/things"]
    assert not any("broken" in name for name in names(directory))


async def test_what_another_file_left_behind_is_not_taken_for_the_days(
    store: SqliteAuditStore, directory: Path
) -> None:
    """SQLite would play a write-ahead log into whatever file has its name."""
    elsewhere = SqliteAuditStore(directory.with_name("elsewhere"))
    await elsewhere.write(SPOOL, [entry(number, path="/old") for number in range(50)])
    made(directory)
    left = (directory.with_name("elsewhere") / f"{TODAY}-wal").read_bytes()
    (directory / f"{TODAY}-wal").write_bytes(left)
    await elsewhere.close()
    await store.write(SPOOL, [entry(0, path="/new")])
    assert await paths(store) == ["/new"]


async def test_a_day_that_somebody_took_away_is_begun_anew(
    store: SqliteAuditStore, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is written to a file without a name would be lost with it."""
    await store.write(SPOOL, [entry(0, path="/old")])
    (directory / TODAY).rename(directory / "saved")
    await store.write(SPOOL, [entry(1, path="/new")])
    assert await paths(store) == ["/new"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_other_files_in_the_directory_are_let_be(store: SqliteAuditStore, directory: Path) -> None:
    made(directory)
    others = {"notes.txt", "2026-11-21", "x2026-11-21.db", "gateway.db"}
    for name in others:
        overwrite(directory / name)
    assert await paths(store) == []
    assert await store.retain(1, NOON + 1000 * DAY) == []
    assert names(directory) == others


# --- retention --------------------------------------------------------------------------------------------------------


async def test_all_files_of_a_day_go_with_it(directory: Path) -> None:
    """Broken ones too: what is in them is as old."""
    left = SqliteAuditStore(directory)
    await left.write(SPOOL, [entry(0), entry(1, at=NOON + DAY)])
    overwrite(directory / f"{TODAY}.broken-1")
    overwrite(directory / f"{TODAY}.broken-1-wal")
    store = SqliteAuditStore(directory)
    assert await store.retain(1, NOON + 2 * DAY) == ["2026-11-21"]
    assert not any(name.startswith("2026-11-21") for name in names(directory))
    assert len(await store.find(EntryQuery())) == 1
    await left.close()
    await store.close()


async def test_a_day_goes_while_it_is_read(store: SqliteAuditStore, directory: Path) -> None:
    await store.write(SPOOL, [entry(0)])
    with closing(sqlite3.connect(directory / TODAY, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM entries").fetchone()
        assert await store.retain(1, NOON + 5 * DAY) == ["2026-11-21"]
        assert names(directory) == set()
    assert await paths(store) == []


# --- failures ---------------------------------------------------------------------------------------------------------


async def test_a_file_that_another_process_holds_is_busy(
    store: SqliteAuditStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_day, "BUSY_TIMEOUT_SECONDS", 0.01)
    await store.write(SPOOL, [entry(0)])
    with closing(sqlite3.connect(directory / TODAY, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            await store.write(SPOOL, [entry(1, user_agent="new")])
        assert await store.count(SPOOL, SEGMENT) == 1
        other.execute("ROLLBACK")
    await store.write(SPOOL, [entry(1, user_agent="new"), entry(2, user_agent="new")])
    assert [each.entry.user_agent for each in await store.find(EntryQuery())] == ["new", "new", "example/1.0"]


async def test_a_batch_that_fails_in_the_middle_leaves_nothing_and_can_be_repeated(store: SqliteAuditStore) -> None:
    """Its texts and segments go with it, and what was remembered of them as well."""
    await store.write(SPOOL, [entry(0)])
    too_much = entry(2, bytes_out=1 << 70)
    with pytest.raises(OverflowError):
        await store.write(SPOOL, [entry(1, user_agent="new", position=entry(1).position + (5 << 24)), too_much])
    await store.write(SPOOL, [entry(1, user_agent="newer"), entry(2, user_agent="new")])
    assert [each.entry.user_agent for each in await store.find(EntryQuery())] == ["new", "newer", "example/1.0"]


async def test_a_directory_that_cannot_be_made_is_a_store_that_is_away(tmp_path: Path) -> None:
    store = SqliteAuditStore(touched(tmp_path / "file") / "audit")
    with pytest.raises(StoreUnavailable):
        await store.write(SPOOL, [entry(0)])
    await store.close()


async def test_a_full_disk_is_named(store: SqliteAuditStore, directory: Path) -> None:
    await store.write(SPOOL, [entry(0)])
    (file,) = store._open.values()
    pages = file._connection.execute("PRAGMA page_count").fetchone()[0]
    file._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnavailable, match=f"{re.escape(str(directory))} is full"):
        await store.write(SPOOL, [entry(number) for number in range(5000)])
    file._connection.execute("PRAGMA max_page_count = 1000000")
    await store.write(SPOOL, [entry(number) for number in range(5000)])
    assert await store.count(SPOOL, SEGMENT) == 5000


async def test_a_closed_store_says_so(store: SqliteAuditStore) -> None:
    await store.close()
    for work in (store.write(SPOOL, [entry(0)]), store.find(EntryQuery()), store.retain(1, NOON)):
        with pytest.raises(StoreUnavailable):
            await work


async def test_nothing_is_done_in_the_event_loops_thread(
    store: SqliteAuditStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A health check would wait for the disk."""
    threads = set()
    connect = sqlite3.connect

    def noting(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - handed on
        threads.add(threading.current_thread())
        return connect(*arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", noting)
    await store.write(SPOOL, [entry(0)])
    await store.find(EntryQuery())
    await store.count(SPOOL, SEGMENT)
    await store.interrupt(SPOOL, SEGMENT)
    assert threads
    assert threading.main_thread() not in threads


# --- how it is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (EntryQuery(key_id="key_1", organization_id="org_1", owner_id="sva_1"), "entries_by_key (slot=? AND key=?"),
        (EntryQuery(owner_id="sva_1", organization_id="org_1"), "entries_by_owner (slot=? AND owner=?"),
        (EntryQuery(organization_id="org_1"), "entries_by_organization (slot=? AND organization=?"),
        (EntryQuery(organization_id="org_1", outcome=Outcome.OPEN, statuses=(0, 999)), "entries_by_organization (slot"),
        (EntryQuery(organization_id="org_1", before=(NOON, "req_")), "entries_by_organization (slot=? AND organiz"),
        (EntryQuery(), "(slot=?"),
    ],
)
async def test_a_page_is_read_along_one_index(
    store: SqliteAuditStore, directory: Path, wanted: EntryQuery, index: str
) -> None:
    """From the newest slot back, and nothing is sorted but what lies within one moment, or within one slot."""
    await store.write(SPOOL, [entry(0)])
    asked: list[tuple[str, tuple[Any, ...]]] = []

    class Connection(sqlite3.Connection):
        def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:  # noqa: ANN401 - as sqlite3 has it
            asked.append((statement, values))
            return super().execute(statement, values)

    with closing(sqlite3.connect(directory / TODAY, factory=Connection)) as connection:
        audit_day._walk(connection, "2026-11-21", wanted, wanted.organization_id)
        statement, values = asked[-1]
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    found = plan[: next(number for number, step in enumerate(plan) if "texts" in step)]
    assert any(step.startswith("SEARCH slots USING INTEGER PRIMARY KEY") for step in found), plan
    assert any(step.startswith("SEARCH entries USING") and index in step for step in found), plan
    assert not any(step.startswith("SCAN entries") for step in plan), plan
    inner = found[: next(number for number, step in enumerate(found) if "found" in step or "SUBQUERY" in step) + 1]
    assert "USE TEMP B-TREE FOR ORDER BY" not in inner, plan


async def test_a_look_for_what_hardly_any_entry_fits_ends_in_time(
    store: SqliteAuditStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.write(SPOOL, [entry(number) for number in range(5000)])
    monkeypatch.setattr(audit_day, "_STEPS_BETWEEN_LOOKS", 100)
    monkeypatch.setattr(audit_sqlite, "READ_SECONDS", 0.0)
    with pytest.raises(StoreBusy, match="narrow down"):
        await store.find(EntryQuery(statuses=(999, 999)))
    monkeypatch.setattr(audit_sqlite, "READ_SECONDS", 60.0)
    assert len(await store.find(EntryQuery(limit=3))) == 3
