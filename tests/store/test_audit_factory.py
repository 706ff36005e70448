"""Which store requests are put on record in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.settings.model import Settings
from gateway.store.audit_factory import audit_store
from gateway.store.audit_postgres import PostgresAuditStore
from gateway.store.audit_query import EntryQuery
from gateway.store.audit_sqlite import SqliteAuditStore
from gateway.store.engine import create_engine
from tests.store.audit_entries import SPOOL, entry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.postgres import PostgresServer


def files(directory: Path) -> list[str]:
    return [str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()]


async def test_with_sqlite_it_is_files_beside_the_spool(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"store": {"url": f"sqlite:///{tmp_path}/gateway.db"}, "audit": {"directory": f"{tmp_path}/elsewhere"}}
    )
    engine = create_engine(settings.store.url)
    store = audit_store(settings, engine)
    assert isinstance(store, SqliteAuditStore)
    assert files(tmp_path) == []
    await store.write(SPOOL, [entry(0)])
    await store.close()
    await engine.dispose()
    assert files(tmp_path) == ["elsewhere/audit/2026-11-21.db"]


async def test_with_postgres_it_is_a_table_there(postgres: PostgresServer) -> None:
    settings = Settings.model_validate({"store": {"url": postgres.url(postgres.new_database())}})
    engine = create_engine(settings.store.url)
    store = audit_store(settings, engine)
    assert isinstance(store, PostgresAuditStore)
    await store.write(SPOOL, [entry(0)])
    assert len(await store.find(EntryQuery())) == 1
    await store.close()
    await engine.dispose()
