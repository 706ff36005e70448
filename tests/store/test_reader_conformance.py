"""Both readers of workers mean the same by the same rows."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import StoreUnavailable
from gateway.keys.change import Change
from gateway.keys.projection import LogLook
from gateway.keys.record import CredentialRecord
from gateway.store.engine import create_engine, write_transaction
from gateway.store.migrate import migrate
from gateway.store.postgres_reader import PostgresReader
from gateway.store.sqlite_reader import SqliteReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.servers.postgres import PostgresServer

ACME = """
INSERT INTO organizations (id, external_id, name, version, default_expiry, keys_create_requires_admin,
                           keys_revoke_requires_admin, created_at)
VALUES ('org_1', 'ext-1', 'Acme', 1, '1y', false, false, 1);
INSERT INTO owners (id, organization_id, kind, name, external_id, permissions, version, created_at)
VALUES ('mem_1', 'org_1', 'member', 'ada@example.com', 'u-7', '*:* gateway:*', 1, 1);
INSERT INTO owners (id, organization_id, kind, name, external_id, permissions, version, created_at)
VALUES ('sva_1', 'org_1', 'service_account', 'CI', NULL, '', 1, 1)
"""


@dataclass
class Store:
    """A migrated store of one kind, and a reader of it."""

    engine: AsyncEngine
    reader: SqliteReader | PostgresReader

    async def execute(self, *statements: str) -> None:
        async with write_transaction(self.engine) as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)

    async def add_key(self, name: str, **columns: object) -> bytes:
        row = {
            "id": f"key_{name}", "organization_id": "org_1", "owner_id": "mem_1", "name": name, "name_search": name,
            "description": "", "version": 1, "created_at": 1, "created_by_text": "System", **columns,
        }  # fmt: skip
        values = ", ".join(str(value) if isinstance(value, int) else f"'{value}'" for value in row.values())
        await self.execute(f"INSERT INTO keys ({', '.join(row)}) VALUES ({values})")  # noqa: S608 - made up here
        return await self.add_secret(name, f"key_{name}")

    async def add_secret(self, name: str, key_id: str, *, slot: int = 0, valid_until: int | None = None) -> bytes:
        digest = hashlib.sha256(name.encode()).digest()
        literal = f"X'{digest.hex()}'" if isinstance(self.reader, SqliteReader) else f"'\\x{digest.hex()}'::bytea"
        await self.execute(
            "INSERT INTO key_secrets (digest, id, key_id, slot, prefix, tail, created_at, valid_until)"  # noqa: S608
            f" VALUES ({literal}, 'sec_{name}', '{key_id}', {slot}, 'sk_', 'x', 1, {valid_until or 'NULL'})"
        )
        return digest

    async def log(self, seq: int, kind: str = "key", subject_id: str = "key_1", version: int = 1) -> None:
        await self.execute(f"INSERT INTO key_changes VALUES ({seq}, '{kind}', '{subject_id}', {version})")  # noqa: S608

    async def read(self, digest: bytes) -> CredentialRecord | None:
        return await _answer(self.reader.read(digest))  # type: ignore[no-any-return]

    async def look(self, seq: int, limit: int = 1000) -> LogLook:
        return await _answer(self.reader.look(seq, limit))  # type: ignore[no-any-return]


async def _answer(found: Any) -> Any:  # noqa: ANN401 - whatever the reader answers, now or later
    return await found if inspect.isawaitable(found) else found


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, lazily: Callable[[str], Any]) -> AsyncIterator[Store]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'gateway.db'}"
    else:
        server: PostgresServer = lazily("postgres")
        url = server.url(server.new_database())
    migrate(url)
    made = Store(
        create_engine(url),
        SqliteReader(tmp_path / "gateway.db") if request.param == "sqlite" else PostgresReader(url),
    )
    await made.execute(*ACME.split(";"))
    yield made
    await _answer(made.reader.close())
    await made.engine.dispose()


@pytest.fixture
def lazily(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """Another fixture by its name, and only where it is needed."""
    return request.getfixturevalue


async def test_a_digest_reads_as_all_that_a_worker_needs(store: Store) -> None:
    digest = await store.add_key(
        "CI", permissions="docs:read docs:write", expires_at=1_500_000, disabled_at=2_000_000, revoked_at=3_000_000,
        allowed_origins="https://a.example http://localhost:3000",
    )  # fmt: skip
    assert await store.read(digest) == CredentialRecord(
        digest=digest, secret_id="sec_CI", secret_valid_until=None, key_id="key_CI", key_name="CI", version=1,
        expires_at=1.5, disabled_at=2.0, revoked_at=3.0, permissions=("docs:read", "docs:write"),
        organization_id="org_1", organization_external_id="ext-1", owner_kind="member", owner_id="mem_1",
        owner_name="ada@example.com", owner_external_id="u-7", owner_permissions=("*:*", "gateway:*"),
        allowed_origins=("https://a.example", "http://localhost:3000"),
    )  # fmt: skip


async def test_what_is_not_set_is_none_and_an_empty_list_is_empty(store: Store) -> None:
    bare = await store.read(await store.add_key("bare", owner_id="sva_1", version=7))
    empty = await store.read(await store.add_key("empty", permissions="", allowed_origins=""))
    assert bare is not None
    assert (bare.owner_kind, bare.owner_external_id, bare.owner_permissions) == ("service_account", None, ())
    assert (bare.permissions, bare.allowed_origins, bare.version) == (None, None, 7)
    assert (bare.expires_at, bare.disabled_at, bare.revoked_at) == (None, None, None)
    assert empty is not None
    assert (empty.permissions, empty.allowed_origins) == ((), ())


async def test_both_secrets_of_a_rotation_lead_to_the_key(store: Store) -> None:
    digests = await store.add_key("CI"), await store.add_secret("old", "key_CI", slot=1, valid_until=7_250_000)
    found = [await store.read(digest) for digest in digests]
    assert [each and (each.key_id, each.secret_valid_until) for each in found] == [("key_CI", None), ("key_CI", 7.25)]


async def test_an_unknown_and_a_deleted_digest_are_none(store: Store) -> None:
    digest = await store.add_key("CI")
    await store.execute("DELETE FROM keys")
    assert await store.read(digest) is None
    assert await store.read(b"") is None


@pytest.mark.parametrize("table", ["owners", "organizations"])
async def test_a_key_left_over_by_a_removed_owner_or_organization_reads_as_revoked(store: Store, table: str) -> None:
    digest = await store.add_key("CI")
    await store.execute(f"UPDATE {table} SET removed_at = 9000000")  # noqa: S608 - a parameter of this test
    record = await store.read(digest)
    assert record is not None
    assert record.revoked_at == 9.0


async def test_a_look_at_an_empty_log_finds_its_epoch_and_nothing_else(store: Store) -> None:
    look = await store.look(0)
    assert len(look.epoch) == 32
    assert look == LogLook(look.epoch, 0, None, ())
    assert await store.look(5) == look


async def test_a_look_finds_the_change_where_one_was_and_those_behind_it_in_order(store: Store) -> None:
    changes = [Change(seq, "owner", f"mem_{seq}", seq * 10) for seq in range(1, 6)]
    for each in reversed(changes):
        await store.log(each.seq, each.subject_kind, each.subject_id, each.version)
    look = await store.look(3)
    assert (look.head, look.at, list(look.changes)) == (5, changes[2], changes[3:])
    look = await store.look(5)
    assert (look.head, look.at, look.changes) == (5, changes[4], ())


async def test_from_the_beginning_there_is_no_change_to_compare_with(store: Store) -> None:
    for seq in (1, 2):
        await store.log(seq)
    look = await store.look(0)
    assert (look.at, [each.seq for each in look.changes]) == (None, [1, 2])


async def test_a_look_brings_no_more_than_was_asked_for_and_tells_of_the_head_all_the_same(store: Store) -> None:
    for seq in range(1, 6):
        await store.log(seq)
    look = await store.look(1, 2)
    assert (look.head, look.at and look.at.seq, [each.seq for each in look.changes]) == (5, 1, [2, 3])
    look = await store.look(0, 2)
    assert (look.head, look.at, [each.seq for each in look.changes]) == (5, None, [1, 2])
    assert (await store.look(0, 0)).changes == ()


async def test_a_log_that_lost_its_beginning_or_has_gone_back_shows_no_change_at_the_place(store: Store) -> None:
    for seq in (7, 8):
        await store.log(seq)
    assert (await store.look(3)).at is None
    assert [each.seq for each in (await store.look(3)).changes] == [7, 8]
    look = await store.look(9)
    assert (look.head, look.at, look.changes) == (8, None, ())


async def test_another_epoch_shows_at_the_next_look(store: Store) -> None:
    before = await store.look(0)
    await store.execute("UPDATE store_identity SET epoch = 'another'")
    assert (await store.look(0)).epoch == "another" != before.epoch


async def test_a_store_without_identity_is_no_empty_log(store: Store) -> None:
    await store.execute("DELETE FROM store_identity")
    with pytest.raises(StoreUnavailable, match="no identity"):
        await store.look(0)
