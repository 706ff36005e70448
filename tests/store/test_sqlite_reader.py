"""The workers' reader: what it reads, how it fails, and that it never mistakes trouble for "no such key"."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gateway.errors import StoreBusy, StoreUnavailable
from gateway.keys.change import Change
from gateway.keys.record import CredentialRecord
from gateway.store.sqlite_reader import SqliteReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.store.conftest import StoreFile


@pytest.fixture
def reader(store: StoreFile) -> Iterator[SqliteReader]:
    with contextlib.closing(SqliteReader(store.path)) as opened:
        yield opened


def test_a_digest_reads_as_all_that_a_worker_needs(store: StoreFile, reader: SqliteReader) -> None:
    digest = store.add_key(
        "CI", permissions="docs:read docs:write", expires_at=1_500_000, disabled_at=2_000_000, revoked_at=3_000_000
    )
    assert reader.read(digest) == CredentialRecord(
        digest=digest, secret_id="sec_CI", secret_valid_until=None, key_id="key_CI", key_name="CI", version=1,
        expires_at=1.5, disabled_at=2.0, revoked_at=3.0, permissions=("docs:read", "docs:write"),
        organization_id="org_1", organization_external_id="ext-1", owner_kind="member", owner_id="mem_1",
        owner_name="ada@example.com", owner_external_id="u-7", owner_permissions=("*:*", "gateway:*"),
    )  # fmt: skip


def test_inheriting_and_having_no_permission_are_told_apart(store: StoreFile, reader: SqliteReader) -> None:
    inherits, none = store.add_key("a"), store.add_key("b", permissions="")
    assert [record and record.permissions for record in map(reader.read, (inherits, none))] == [None, ()]


def test_origins_are_read_as_they_are_and_none_apart_from_no_list(store: StoreFile, reader: SqliteReader) -> None:
    origins = "https://a.example http://localhost:3000"
    keys = store.add_key("a"), store.add_key("b", allowed_origins=""), store.add_key("c", allowed_origins=origins)
    found = [record and record.allowed_origins for record in map(reader.read, keys)]
    assert found == [None, (), ("https://a.example", "http://localhost:3000")]


def test_both_secrets_of_a_rotation_lead_to_the_key(store: StoreFile, reader: SqliteReader) -> None:
    new = store.add_key("CI")
    old = store.add_secret("old", "key_CI", slot=1, valid_until=7_250_000)
    found = [(record.key_id, record.secret_valid_until) for record in map(reader.read, (new, old)) if record]
    assert found == [("key_CI", None), ("key_CI", 7.25)]


def test_an_unknown_and_a_deleted_digest_are_none(store: StoreFile, reader: SqliteReader) -> None:
    digest = store.add_key("CI")
    store.execute("DELETE FROM keys")
    assert reader.read(digest) is None
    assert reader.read(b"") is None


@pytest.mark.parametrize("table", ["owners", "organizations"])
def test_a_key_left_over_by_a_removed_owner_or_organization_reads_as_revoked(
    store: StoreFile, reader: SqliteReader, table: str
) -> None:
    digest = store.add_key("CI")
    store.execute(f"UPDATE {table} SET removed_at = 9000000")  # noqa: S608 - a parameter of this test
    record = reader.read(digest)
    assert record is not None
    assert record.revoked_at == 9.0


def test_a_commit_by_another_connection_is_seen_at_once_and_moves_data_version(
    store: StoreFile, reader: SqliteReader
) -> None:
    before = reader.data_version()
    assert reader.data_version() == before
    digest = store.add_key("CI")
    assert reader.data_version() != before
    assert reader.read(digest) is not None


def test_the_log_is_read_in_order_from_where_one_was(store: StoreFile, reader: SqliteReader) -> None:
    assert (reader.head(), reader.look(0).changes) == (0, ())
    for seq, kind in enumerate(("organization", "owner", "key", "key"), start=1):
        store.log(seq, kind, f"id_{seq}", seq * 10)
    assert reader.head() == 4
    assert reader.look(2).changes == (Change(3, "key", "id_3", 30), Change(4, "key", "id_4", 40))
    assert [change.seq for change in reader.look(0, limit=3).changes] == [1, 2, 3]


def test_the_epoch_is_the_stores_own_and_stays(store: StoreFile, reader: SqliteReader) -> None:
    assert len(reader.look(0).epoch) == 32
    with contextlib.closing(SqliteReader(store.path)) as other:
        assert other.look(0).epoch == reader.look(0).epoch


def test_a_writer_in_the_middle_of_a_transaction_disturbs_no_read(store: StoreFile, reader: SqliteReader) -> None:
    digest = store.add_key("CI")
    store.execute("BEGIN IMMEDIATE")
    store.execute("UPDATE keys SET revoked_at = 1")
    record = reader.read(digest)
    assert record is not None
    assert record.revoked_at is None
    store.execute("COMMIT")
    record = reader.read(digest)
    assert record is not None
    assert record.revoked_at is not None


def _hold(store: StoreFile) -> None:
    """Lock the whole file, so that it cannot even be opened."""
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.execute("PRAGMA locking_mode = EXCLUSIVE")
    store.execute("PRAGMA journal_mode = DELETE")
    store.execute("BEGIN EXCLUSIVE")


def test_a_file_locked_as_a_whole_is_busy_not_gone(store: StoreFile) -> None:
    store.add_key("CI")
    _hold(store)
    with pytest.raises(StoreBusy):
        SqliteReader(store.path)


def test_a_lazy_reader_is_there_before_its_file_and_opens_it_as_soon_as_it_can(store: StoreFile) -> None:
    """Only a look at `data_version` opens: a flood of reads during an outage opens nothing."""
    digest = store.add_key("CI")
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    away = store.path.with_name("away.db")
    store.path.rename(away)
    with contextlib.closing(SqliteReader(store.path, lazy=True)) as reader:
        for call in (reader.data_version, lambda: reader.read(digest), lambda: reader.look(0), reader.head):
            with pytest.raises(StoreUnavailable):
                call()
        away.rename(store.path)
        with pytest.raises(StoreUnavailable):
            reader.read(digest)
        reader.data_version()
        assert reader.opened == 1
        assert reader.read(digest) is not None


def test_a_lazy_reader_of_a_file_that_somebody_holds_is_busy_which_others_may_wait_for(store: StoreFile) -> None:
    digest = store.add_key("CI")
    _hold(store)
    with contextlib.closing(SqliteReader(store.path, lazy=True)) as reader:
        for _ in range(2):
            with pytest.raises(StoreBusy):
                reader.data_version()
            with pytest.raises(StoreBusy):
                reader.read(digest)
        store.connection.close()
        reader.data_version()
        assert reader.read(digest) is not None


def test_the_reader_cannot_write(reader: SqliteReader) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM keys")


def test_a_missing_file_is_unavailable_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        SqliteReader(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_an_unmigrated_or_damaged_file_is_unavailable_from_the_start(tmp_path: Path) -> None:
    for name, content in (("empty.db", b""), ("noise.db", b"noise" * 1000)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreUnavailable):
            SqliteReader(tmp_path / name)


def test_after_close_everything_is_unavailable_and_closing_again_is_harmless(reader: SqliteReader) -> None:
    reader.close()
    reader.close()
    for call in (
        lambda: reader.read(b""),
        reader.head,
        reader.data_version,
        lambda: reader.look(0),
    ):
        with pytest.raises(StoreUnavailable):
            call()


def test_a_file_renamed_into_place_is_noticed_and_read(store: StoreFile, reader: SqliteReader) -> None:
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    backup = store.path.with_name("backup.db")
    shutil.copyfile(store.path, backup)
    digest = store.add_key("later")
    before = reader.data_version()
    assert reader.read(digest) is not None
    store.connection.close()
    for suffix in ("-wal", "-shm"):
        store.path.with_name(store.path.name + suffix).unlink(missing_ok=True)
    backup.replace(store.path)
    assert reader.data_version() != before
    assert reader.read(digest) is None
    assert reader.opened == 2


def test_a_file_that_vanished_is_let_go_of_and_opened_again_when_it_is_back(
    store: StoreFile, reader: SqliteReader
) -> None:
    """Nothing is read from a file that has lost its name: what changes in its place would not be heard of."""
    digest = store.add_key("CI")
    before = reader.data_version()
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    away = store.path.with_name("away.db")
    store.path.rename(away)
    for _ in range(2):
        for call in (reader.data_version, lambda: reader.read(digest), reader.head):
            with pytest.raises(StoreUnavailable):
                call()
    away.rename(store.path)
    after = reader.data_version()
    assert after == reader.data_version() != before
    assert reader.opened == 2
    assert reader.read(digest) is not None


@pytest.mark.parametrize("outage", ["moved away", "replaced"])
def test_a_read_after_a_pause_looks_at_the_name_first(store: StoreFile, reader: SqliteReader, outage: str) -> None:
    """A process that was stopped reads before its follower has had its turn."""
    digest = store.add_key("CI")
    reader.data_version()
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if outage == "replaced":
        shutil.copyfile(store.path, store.path.with_name("other.db"))
        store.path.with_name("other.db").replace(store.path)
    else:
        store.path.rename(store.path.with_name("away.db"))
    assert reader.read(digest) is not None  # the follower is trusted to look many times a second
    reader._named_until = 0.0
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            reader.read(digest)


def test_a_read_after_a_pause_of_a_file_that_has_kept_its_name_is_a_read(
    store: StoreFile, reader: SqliteReader
) -> None:
    digest = store.add_key("CI")
    reader._named_until = 0.0
    assert reader.read(digest) is not None
    assert reader._named_until > 0
    assert reader.opened == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_the_wal_files_that_cannot_be_written_is_unavailable(store: StoreFile) -> None:
    store.connection.close()
    store.path.parent.chmod(0o500)
    try:
        with pytest.raises(StoreUnavailable, match="write in its directory"):
            SqliteReader(store.path)
    finally:
        store.path.parent.chmod(0o700)


def test_a_point_read_searches_indexes_alone(store: StoreFile, reader: SqliteReader) -> None:
    """Four searches by a unique index, no scan: the cost of a read does not grow with the number of keys."""
    from gateway.store import sqlite_reader  # noqa: PLC0415

    plan = [row[3] for row in reader._connection.execute("EXPLAIN QUERY PLAN " + sqlite_reader._READ, (b"",))]
    assert len(plan) == 4
    assert all(step.startswith("SEARCH") for step in plan)
    assert store.path.exists()


def test_equal_texts_and_permissions_are_one_object_in_many_records(store: StoreFile, reader: SqliteReader) -> None:
    """100,000 cached records of few owners stay small."""
    one, two = reader.read(store.add_key("a")), reader.read(store.add_key("b"))
    assert one is not None
    assert two is not None
    assert one.owner_permissions is two.owner_permissions
    assert one.organization_id is two.organization_id


def test_importing_the_workers_part_imports_neither_sqlalchemy_nor_pydantic() -> None:
    program = (
        "import pkgutil, sys, importlib, gateway.keys, gateway.store.sqlite_reader, gateway.store.location\n"
        "for found in pkgutil.iter_modules(gateway.keys.__path__, 'gateway.keys.'):\n"
        "    importlib.import_module(found.name)\n"
        "print(sorted({'sqlalchemy', 'pydantic', 'alembic', 'aiosqlite', 'asyncio'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
