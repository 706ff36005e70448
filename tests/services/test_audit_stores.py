"""The list over the stores that there are: page for page what it is over the plain one, whoever asks for whatever."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from gateway.keys.request_entry import Outcome
from gateway.services.audit import AuditService
from gateway.services.audit_filter import EVERYTHING, AuditFilter
from gateway.store.audit_postgres import PostgresAuditStore
from gateway.store.audit_sqlite import SqliteAuditStore
from gateway.store.engine import create_engine
from tests.memory_audit_store import SPOOL, entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gateway.keys.request_entry import RequestEntry
    from gateway.services.actor import Caller
    from gateway.services.audit_shapes import Event
    from gateway.store.audit_store import AuditStore
    from tests.servers.postgres import PostgresServer
    from tests.services.conftest import World

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ENTRIES = 80


@pytest.fixture(params=["sqlite", "postgres"])
async def audit_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AuditStore]:
    if request.param == "sqlite":
        files = SqliteAuditStore(tmp_path / "audit")
        yield files
        await files.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.url(server.new_database())
    engine = create_engine(url)
    tables = PostgresAuditStore(url, engine)
    yield tables
    await tables.close()
    await engine.dispose()


def some(world: World, callers: list[Caller], number: int, chance: random.Random) -> RequestEntry:
    """A request of one of these, or of nobody, within a few days around the changes; many at their very moment."""
    moment = (world.clock.now - EPOCH) // timedelta(microseconds=1)
    at = moment + chance.choice([0, 0, -1, 1, *(chance.randrange(-2, 3) * 86_400_000_000 for _ in range(3))])
    caller, outcome = chance.choice([None, *callers]), chance.choice(list(Outcome))
    whose = {} if caller is None else {
        "key_id": caller.authority.key_id, "key_name": caller.actor.text, "owner_id": caller.authority.owner_id,
        "organization_id": caller.authority.organization_id, "secret_id": f"sec_{number % 3}",
    }  # fmt: skip
    code = chance.choice(["missing_api_key", "expired_api_key"]) if outcome is Outcome.REFUSED else ""
    status = 0 if outcome is Outcome.OPEN else chance.choice([200, 204, 404, 401, 502])
    return entry(number=number, at=at, outcome=outcome, code=code, status=status, request_id=f"r{number}", **whose)


async def read(service: AuditService, caller: Caller, wanted: AuditFilter, limit: int) -> list[Event]:
    found: list[Event] = []
    cursor = None
    while True:
        page = await service.list(caller, wanted, cursor=cursor, limit=limit)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_every_page_of_every_filter_is_that_of_the_plain_store(world: World, audit_store: AuditStore) -> None:
    chance = random.Random(7)  # noqa: S311 - the same entries each time
    invited, bob = await world.invite("bob@example.com")
    eve = await world.another()
    callers = [world.admin, bob, eve, await world.limited("gateway:read")]
    entries = [some(world, callers[:3], number, chance) for number in range(ENTRIES)]
    for store in (world.requests, audit_store):
        await store.write(SPOOL, entries)
        await store.write(SPOOL, entries[:10])
    plain, real = world.audit, AuditService(world.engine, audit_store, None, clock=world.clock)
    filters = [
        EVERYTHING,
        AuditFilter(kind="request"),
        AuditFilter(key=bob.authority.key_id),
        AuditFilter(actor=world.admin.authority.key_id),
        AuditFilter(actor=invited.id, status="4xx"),
        AuditFilter(status="404"),
        AuditFilter(status="refused"),
        AuditFilter(status="open"),
        AuditFilter(code="expired_api_key"),
        AuditFilter(since=world.clock.now),
        AuditFilter(since=world.clock.now - timedelta(days=1), until=world.clock.now),
    ]
    for caller in callers:
        for wanted in filters:
            expected = await read(plain, caller, wanted, 1000)
            for limit in (3, 50):
                assert await read(real, caller, wanted, limit) == expected, (wanted, limit)
    assert len(await read(real, world.admin, AuditFilter(kind="request"), 7)) > ENTRIES // 2
