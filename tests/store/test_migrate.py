"""Migration: idempotent, private, safe for several starters, and clear about what it refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, pool

from gateway.errors import ConfigurationError, GatewayError, StoreBusy, StoreUnavailable
from gateway.store import sqlite_migration as migration
from gateway.store.location import sqlite_path
from gateway.store.migrate import migrate
from gateway.store.revision import REVISIONS
from gateway.store.revisions import MIGRATIONS
from gateway.store.schema import metadata

if TYPE_CHECKING:
    from pathlib import Path

    from tests.store.conftest import StoreFile


def schema_of(path: Path) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_the_migrations_make_exactly_the_tables_that_the_code_describes(store: StoreFile) -> None:
    engine = create_engine(store.url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_constraints_and_indexes_are_those_the_code_describes(store: StoreFile, tmp_path: Path) -> None:
    """Alembic's comparison does not look at checks, WITHOUT ROWID and partial indexes; the texts of SQLite do."""
    engine = create_engine(f"sqlite:///{tmp_path / 'described.db'}", poolclass=pool.NullPool)
    metadata.create_all(engine)

    def parts(sql: str) -> set[str]:
        """The lines of a table in no order, for a later revision adds its columns behind the constraints."""
        body, _, options = sql.rpartition(")")
        found = {" ".join(part.split()) for part in body.replace("\n", ",").replace("(,", ",").split(",")}
        return {*found - {""}, options.strip()}

    def normal(path: Path) -> dict[str, set[str]]:
        return {name: parts(sql or "") for name, sql in schema_of(path) if "alembic_version" not in name}

    assert normal(store.path) == normal(tmp_path / "described.db")


def test_every_revision_file_is_listed_in_order() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert tuple(script.revision for script in reversed(list(scripts.walk_revisions()))) == REVISIONS


def test_a_second_migration_changes_nothing_and_imports_no_alembic(store: StoreFile) -> None:
    before = schema_of(store.path)
    program = (
        f"import sys; from gateway.store.migrate import migrate; migrate({store.url!r}); "
        "print({'alembic', 'sqlalchemy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
    assert schema_of(store.path) == before


def test_the_store_belongs_to_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "made" / "for it" / "100% gateway.db"
    migrate(f"sqlite:///{path}")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO key_changes VALUES (1, 'key', 'k', 1)")
        connection.commit()
        modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert modes == {path.name + suffix: 0o600 for suffix in ("", "-wal", "-shm")}


def test_the_store_is_in_wal_mode_and_has_one_identity(store: StoreFile) -> None:
    assert store.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    [(number, epoch)] = store.connection.execute("SELECT id, epoch FROM store_identity").fetchall()
    assert number == 1
    assert int(epoch, 16) > 0


def test_of_several_processes_starting_at_once_each_finds_a_whole_store(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    program = (
        "import sys, sqlite3; from gateway.store.migrate import migrate; import alembic.command, sqlalchemy\n"
        "print('here', flush=True); sys.stdin.readline(); migrate(sys.argv[1])\n"
        "c = sqlite3.connect(sys.argv[2]); print(c.execute('SELECT epoch FROM store_identity').fetchall()); c.close()"
    )
    command = [sys.executable, "-W", "error", "-c", program, f"sqlite:///{path}", str(path)]
    starters = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for starter in starters:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "here\n"
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    ends = [starter.communicate() for starter in starters]
    assert [(starter.returncode, end[1]) for starter, end in zip(starters, ends, strict=True)] == [(0, "")] * 3
    assert len({end[0] for end in ends}) == 1


def test_a_migration_that_fails_half_way_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda _size: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        migrate(f"sqlite:///{tmp_path / 'gateway.db'}")
    assert schema_of(tmp_path / "gateway.db") == []
    monkeypatch.undo()
    migrate(f"sqlite:///{tmp_path / 'gateway.db'}")
    assert schema_of(tmp_path / "gateway.db")


def test_a_store_of_a_newer_gateway_is_refused_and_left_alone(store: StoreFile) -> None:
    store.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(GatewayError, match="newer gateway") as caught:
        migrate(store.url)
    assert caught.value.code == "store_newer"


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE cookies (name)")
        connection.commit()
    with pytest.raises(GatewayError, match="another program"):
        migrate(f"sqlite:///{path}")
    assert [name for name, _ in schema_of(path)] == ["cookies"]


def test_a_damaged_file_is_named_as_damaged(tmp_path: Path, store: StoreFile) -> None:
    (tmp_path / "noise.db").write_bytes(b"noise" * 1000)
    store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (tmp_path / "cut.db").write_bytes(store.path.read_bytes()[:4096] + b"\0" * 8192)
    for name in ("noise.db", "cut.db"):
        with pytest.raises(StoreUnavailable, match="damaged") as caught:
            migrate(f"sqlite:///{tmp_path / name}")
        assert caught.value.code == "store_damaged"


def test_a_path_that_cannot_be_made_or_written_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "gateway.db", tmp_path):
        with pytest.raises(StoreUnavailable, match="cannot be opened for writing") as caught:
            migrate(f"sqlite:///{path}")
        assert "\n" not in caught.value.detail


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(0o500)
    with pytest.raises(StoreUnavailable, match="Permission denied"):
        migrate(f"sqlite:///{tmp_path / 'locked' / 'gateway.db'}")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_without_room_for_the_file_is_called_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(StoreUnavailable, match="is full") as caught:
            migrate(f"sqlite:///{tmp_path / 'gateway.db'}")
    assert "opened" not in caught.value.detail


def _file_system(*, free_blocks: int, inodes: int, free_inodes: int) -> os.statvfs_result:
    """A file system of 4 KiB blocks."""
    return os.statvfs_result((4096, 4096, 1 << 20, free_blocks, free_blocks, inodes, free_inodes, free_inodes, 0, 255))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (_file_system(free_blocks=0, inodes=100, free_inodes=50), "is full"),
        (_file_system(free_blocks=2, inodes=100, free_inodes=50), "is full"),  # not enough for -shm
        (_file_system(free_blocks=1 << 19, inodes=100, free_inodes=0), "is full"),
        (_file_system(free_blocks=1 << 19, inodes=100, free_inodes=50), "cannot be opened"),
        (_file_system(free_blocks=1 << 19, inodes=0, free_inodes=0), "cannot be opened"),  # Btrfs counts none
    ],
)
def test_a_disk_without_room_beside_the_file_is_called_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: os.statvfs_result, reason: str
) -> None:
    """SQLite calls that an I/O error or a file that cannot be opened, as it does other things."""
    (tmp_path / "gateway.db-wal").mkdir()
    monkeypatch.setattr(os, "statvfs", lambda _path: found)
    with pytest.raises(StoreUnavailable, match=reason):
        migrate(f"sqlite:///{tmp_path / 'gateway.db'}")


def test_a_store_that_has_no_room_to_grow_is_called_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = migration._connect

    def cramped(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("PRAGMA max_page_count = 2")
        return connection

    monkeypatch.setattr(migration, "_connect", cramped)
    with pytest.raises(StoreUnavailable, match="is full"):
        migrate(f"sqlite:///{tmp_path / 'gateway.db'}")


def test_a_store_held_by_another_process_is_busy(store: StoreFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "BUSY_TIMEOUT_SECONDS", 0.0)
    store.execute("UPDATE alembic_version SET version_num = version_num")
    store.execute("PRAGMA locking_mode = EXCLUSIVE")
    store.execute("BEGIN EXCLUSIVE")
    store.execute("DELETE FROM key_changes")
    with pytest.raises(StoreBusy, match="another process"):
        migrate(store.url)


def test_urls_mean_relative_and_absolute_files_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sqlite_path("sqlite:///data/gateway.db") == tmp_path / "data" / "gateway.db"
    assert sqlite_path("sqlite:////var/lib/x.db").as_posix() == "/var/lib/x.db"
    for url in ("sqlite:///", "sqlite://", "sqlite:///:memory:", "sqlite:///x?mode=ro", "postgresql://x/y", "x.db", ""):
        with pytest.raises(ConfigurationError, match=r"store\.url"):
            sqlite_path(url)
