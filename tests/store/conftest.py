"""A migrated store in a file of its own, and rows put in without going through services."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


ACME = """
INSERT INTO organizations (id, external_id, name, version, default_expiry, keys_create_requires_admin,
                           keys_revoke_requires_admin, created_at)
VALUES ('org_1', 'ext-1', 'Acme', 1, '1y', 0, 0, 1);
INSERT INTO owners (id, organization_id, kind, name, external_id, permissions, version, created_at)
VALUES ('mem_1', 'org_1', 'member', 'ada@example.com', 'u-7', '*:* gateway:*', 1, 1);
INSERT INTO members (owner_id, role) VALUES ('mem_1', 'admin');
"""  # in columns that every revision has


@dataclass
class StoreFile:
    """A store's file, with a plain connection that writes to it as any other process might."""

    path: Path
    connection: sqlite3.Connection

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def execute(self, statement: str, *values: object) -> None:
        self.connection.execute(statement, values)

    def add_key(self, name: str, **columns: object) -> bytes:
        """Add a key with a secret of the same name; return the secret's digest."""
        row = {
            "id": f"key_{name}", "organization_id": "org_1", "owner_id": "mem_1", "name": name, "name_search": name,
            "description": "", "version": 1, "created_at": 1, "created_by_text": "System", **columns,
        }  # fmt: skip
        marks = ",".join("?" * len(row))
        self.execute(f"INSERT INTO keys ({','.join(row)}) VALUES ({marks})", *row.values())  # noqa: S608 - made up here
        return self.add_secret(name, f"key_{name}", slot=0)

    def add_secret(self, name: str, key_id: str, *, slot: int, valid_until: int | None = None) -> bytes:
        digest = hashlib.sha256(name.encode()).digest()
        self.execute(
            "INSERT INTO key_secrets (digest, id, key_id, slot, prefix, tail, created_at, valid_until)"
            " VALUES (?, ?, ?, ?, 'sk_', ?, 1, ?)",
            *(digest, f"sec_{name}", key_id, slot, name[-6:], valid_until),
        )
        return digest

    def log(self, seq: int, kind: str = "key", subject_id: str = "key_1", version: int = 1) -> None:
        self.execute("INSERT INTO key_changes VALUES (?, ?, ?, ?)", seq, kind, subject_id, version)


@pytest.fixture
def store(tmp_path: Path, migrated_file: Path) -> Iterator[StoreFile]:
    path = tmp_path / "gateway.db"
    shutil.copy(migrated_file, path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(ACME)
        yield StoreFile(path, connection)
