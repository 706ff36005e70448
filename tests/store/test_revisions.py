"""Revisions on stores that hold something: each row comes out as the newer code would have written it."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, pool

from gateway.store.migrate import migrate
from gateway.store.revisions import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILLED = """
INSERT INTO organizations VALUES
    ('org_1', NULL, 'Gone', 1, '1y', NULL, 0, 0, 1, 5),
    ('org_3', NULL, 'Later', 1, '1y', NULL, 0, 0, 30, NULL),
    ('org_2', NULL, 'ACME Ä', 1, '1y', '2y', 1, 0, 20, NULL);
INSERT INTO owners VALUES
    ('mem_1', 'org_2', 'member', 'ada@example.com', NULL, '*:* gateway:*', 1, 20, NULL),
    ('sva_1', 'org_2', 'service_account', 'CI Straße', NULL, '', 1, 21, NULL);
INSERT INTO members VALUES ('mem_1', 'admin', NULL);
INSERT INTO service_accounts VALUES ('sva_1', '');
INSERT INTO keys (id, organization_id, owner_id, name, name_search, description, version, created_at, created_by_text,
                  expires_at, disabled_at, revoked_at)
VALUES
    ('key_used', 'org_2', 'mem_1', 'Used', 'used', '', 1, 40, 'System', 900, NULL, NULL),
    ('key_idle', 'org_2', 'sva_1', 'Idle', 'idle', '', 1, 41, 'System', NULL, 50, NULL),
    ('key_over', 'org_2', 'sva_1', 'Over', 'over', '', 1, 42, 'System', 900, 50, 60);
INSERT INTO key_secrets (digest, id, key_id, slot, created_at) VALUES
    (randomblob(32), 'sec_used', 'key_used', 0, 40),
    (randomblob(32), 'sec_idle', 'key_idle', 0, 41);
INSERT INTO secret_uses VALUES ('sec_used', 77, '192.0.2.7', 'curl');
INSERT INTO management_events (id, at, organization_id, actor_text, action, target_kind, target_id, target_name) VALUES
    ('evt_1', 1, 'org_2', 'System', 'organization.create', 'organization', 'org_2', 'ACME Ä'),
    ('evt_2', 2, 'org_2', 'System', 'member.create', 'member', 'mem_1', 'ada@example.com'),
    ('evt_3', 3, 'org_2', 'System', 'key.create', 'key', 'key_idle', 'Idle'),
    ('evt_4', 4, 'org_2', 'System', 'key.delete', 'key', 'key_gone', 'Gone');
"""


@pytest.fixture
def upgraded(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A filled store of revision 0001, brought to the newest one."""
    path = tmp_path / "gateway.db"
    engine = create_engine(f"sqlite:///{path}", poolclass=pool.NullPool)
    with engine.begin() as connection:
        run(connection, "0001")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(FILLED)
        migrate(f"sqlite:///{path}")
        yield connection


def test_the_oldest_organization_that_is_still_there_becomes_the_operator(upgraded: sqlite3.Connection) -> None:
    found = upgraded.execute("SELECT id, operator FROM organizations ORDER BY id").fetchall()
    assert found == [("org_1", 0), ("org_2", 1), ("org_3", 0)]
    with pytest.raises(sqlite3.IntegrityError):
        upgraded.execute("UPDATE organizations SET operator = 1 WHERE id = 'org_3'")


def test_names_are_folded_for_searches_beyond_ascii(upgraded: sqlite3.Connection) -> None:
    found = upgraded.execute("SELECT name_search FROM owners ORDER BY id").fetchall()
    assert found == [("ada@example.com",), ("ci strasse",)]
    assert upgraded.execute("SELECT name_search FROM organizations WHERE id = 'org_2'").fetchone() == ("acme ä",)


def test_every_key_is_listed_by_its_use_or_else_by_its_creation(upgraded: sqlite3.Connection) -> None:
    columns = "key_id, organization_id, used, idle_since, address, user_agent"
    assert upgraded.execute(f"SELECT {columns} FROM key_uses ORDER BY key_id").fetchall() == [  # noqa: S608 - above
        ("key_idle", "org_2", 0, 41, None, None),
        ("key_over", "org_2", 0, 42, None, None),
        ("key_used", "org_2", 1, 77, "192.0.2.7", "curl"),
    ]


def test_what_the_lists_are_read_by_follows_from_what_is_stored(upgraded: sqlite3.Connection) -> None:
    columns = "id, standing, ends_at, imported, allowed_origins"
    assert upgraded.execute(f"SELECT {columns} FROM keys ORDER BY id").fetchall() == [  # noqa: S608 - above
        ("key_idle", "disabled", None, 0, None),
        ("key_over", "revoked", None, 0, None),
        ("key_used", "enabled", 900, 0, None),
    ]


def test_events_are_whose_they_were_as_far_as_that_is_known(upgraded: sqlite3.Connection) -> None:
    found = upgraded.execute("SELECT target_owner_id, actor_owner_id FROM management_events ORDER BY id").fetchall()
    assert found == [(None, None), ("mem_1", None), ("sva_1", None), (None, None)]


def test_the_store_is_sound_afterwards(upgraded: sqlite3.Connection) -> None:
    assert upgraded.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert upgraded.execute("PRAGMA foreign_key_check").fetchall() == []
