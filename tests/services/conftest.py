"""An initialised store, its services, and a clock that stands still until a test moves it."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert, select

from gateway.keys import secret as secrets
from gateway.keys.identifiers import new_id
from gateway.services.audit import AuditService
from gateway.services.authentication import Authenticator
from gateway.services.keys import KeyService
from gateway.services.members import MemberService
from gateway.services.organizations import OrganizationService
from gateway.services.service_accounts import ServiceAccountService
from gateway.store.engine import create_engine, read_transaction, write_transaction
from gateway.store.location import is_postgres, sqlite_path
from gateway.store.postgres_reader import PostgresReader
from gateway.store.schema import key_changes, management_events, metadata, owners, service_accounts
from gateway.store.sqlite_reader import SqliteReader
from tests.memory_audit_store import FixedVerification, MemoryAuditStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import Executable
    from sqlalchemy.ext.asyncio import AsyncEngine

    from gateway.keys.record import CredentialRecord
    from gateway.services.actor import Caller
    from gateway.services.people_shapes import InvitedMember, ServiceAccount
    from gateway.services.shapes import Initialised
    from tests.servers.postgres_store import PostgresStore


@dataclass
class Clock:
    """The time that services are told."""

    now: datetime = datetime(2026, 3, 1, 12, 0, 0, 250000, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **parts: float) -> None:
        self.now += timedelta(**parts)


@dataclass
class World:
    """One store with one organization, `Acme`, whose admin is ada@example.com."""

    url: str
    engine: AsyncEngine
    clock: Clock
    keys: KeyService
    organizations: OrganizationService
    members: MemberService
    service_accounts: ServiceAccountService
    audit: AuditService
    requests: MemoryAuditStore
    verification: FixedVerification
    authenticator: Authenticator
    initialised: Initialised
    admin: Caller
    """Ada, by her first key, which is not limited."""

    @property
    def org(self) -> str:
        return self.initialised.organization.id

    async def caller(self, secret: str | None) -> Caller:
        """Whoever holds this secret, at this moment."""
        return await self.authenticator.authenticate(secret, "192.0.2.7", "req-1")

    async def limited(self, *permissions: str) -> Caller:
        """Ada again, by a key that is limited to these permissions."""
        made = await self.keys.create(self.admin, {"name": "Limited", "permissions": list(permissions)})
        return await self.caller(made.resource.secret)

    async def invite(self, email: str, **body: object) -> tuple[InvitedMember, Caller]:
        """A new member of Acme, and them calling by their first key."""
        made = (await self.members.create(self.admin, {"email": email, "first_key": True, **body})).resource
        assert made.key is not None
        return made, await self.caller(made.key.secret)

    async def employ(self, name: str, *permissions: str) -> tuple[ServiceAccount, Caller]:
        """A new service account of Acme, and it calling by a key that inherits."""
        body = {"name": name, "permissions": list(permissions)}
        made = (await self.service_accounts.create(self.admin, body)).resource
        key = await self.keys.create(self.admin, {"name": f"Key of {name}", "owner": made.id})
        return made, await self.caller(key.resource.secret)

    async def another(self, name: str = "Other", admin: str = "eve@example.com") -> Caller:
        """The admin of another organization."""
        made = await self.organizations.initialise(name, admin)
        return await self.caller(made.key.secret)

    async def record(self, secret: str | None) -> CredentialRecord | None:
        """What a worker that asks the store finds for this secret."""
        digest = secrets.digest((secret or "").encode())
        if not is_postgres(self.url):
            with contextlib.closing(SqliteReader(sqlite_path(self.url))) as reader:
                return reader.read(digest)
        asking = PostgresReader(self.url, connections=1)
        try:
            await asking.open()
            return await asking.read(digest)
        finally:
            await asking.close()

    async def stored(self) -> bytes:
        """Everything that the store has written down."""
        if not is_postgres(self.url):
            path = sqlite_path(self.url)
            return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))
        tables = [await self.rows(select(table)) for table in metadata.tables.values()]
        return repr(tables).encode()

    async def execute(self, statement: Executable) -> None:
        async with write_transaction(self.engine) as connection:
            await connection.execute(statement)

    async def rows(self, statement: Executable) -> list[Any]:  # Any: each test knows its columns
        async with read_transaction(self.engine) as connection:
            return list((await connection.execute(statement)).all())

    async def log(self) -> list[tuple[int, str, str, int]]:
        return [tuple(row) for row in await self.rows(select(key_changes).order_by(key_changes.c.seq))]

    async def trail(self) -> list[dict[str, Any]]:  # Any: as above
        rows = await self.rows(select(management_events).order_by(management_events.c.id))
        read = {"before", "after"}
        return [
            {name: json.loads(value) if name in read and value else value for name, value in row._mapping.items()}
            for row in rows
        ]

    async def add_service_account(self, name: str) -> str:
        owner = {"id": new_id("sva"), "organization_id": self.org, "kind": "service_account", "name": name}
        await self.execute(insert(owners).values(**owner, permissions=(), version=1, created_at=self.clock.now))
        await self.execute(insert(service_accounts).values(owner_id=owner["id"], description=""))
        return owner["id"]


@pytest.fixture(params=["sqlite", "postgres"])
async def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A migrated and empty store, of each kind in its turn."""
    if request.param == "postgres":
        store: PostgresStore = request.getfixturevalue("postgres_store")
        await store.empty()
        return store.url
    path = tmp_path / "gateway.db"
    shutil.copy(request.getfixturevalue("migrated_file"), path)
    return f"sqlite:///{path}"


@pytest.fixture
async def world(store_url: str) -> AsyncIterator[World]:
    engine, clock = create_engine(store_url), Clock()
    requests, verification = MemoryAuditStore(), FixedVerification()
    organizations = OrganizationService(engine, clock=clock)
    initialised = await organizations.initialise("Acme", "ada@example.com")
    authenticator = Authenticator(engine, clock=clock)
    yield World(
        url=store_url,
        engine=engine,
        clock=clock,
        keys=KeyService(engine, clock=clock),
        organizations=organizations,
        members=MemberService(engine, clock=clock),
        service_accounts=ServiceAccountService(engine, clock=clock),
        audit=AuditService(engine, requests, verification, clock=clock),
        requests=requests,
        verification=verification,
        authenticator=authenticator,
        initialised=initialised,
        admin=await authenticator.authenticate(initialised.key.secret, "192.0.2.7", "req-1"),
    )
    await engine.dispose()
