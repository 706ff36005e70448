"""The admin API on a free port and a real store, called over HTTP by people with different powers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from gateway.control.api.operation import Services
from gateway.control.api.propagation import PropagationShape, SilentWorker
from gateway.control.api.routes import routes
from gateway.control.listener import serve
from gateway.services.audit import AuditService
from gateway.services.authentication import Authenticator
from gateway.services.keys import KeyService
from gateway.services.members import MemberService
from gateway.services.organizations import OrganizationService
from gateway.services.service_accounts import ServiceAccountService
from gateway.store.engine import create_engine
from gateway.store.migrate import migrate
from tests.administration import administration
from tests.memory_audit_store import FixedVerification, MemoryAuditStore
from tests.servers.postgres_store import PostgresStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from sqlalchemy.ext.asyncio import AsyncEngine

Json = dict[str, Any]  # a JSON object, which has no narrower type

ROUTE_PERMISSIONS = ("orders:read",)


class Clock:
    """The time that services are told."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, 0, 0, 250000, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **parts: float) -> None:
        self.now += timedelta(**parts)


class CountingPropagation:
    """Answers at once, and remembers what it was asked to wait for."""

    def __init__(self) -> None:
        self.waited: list[int | None] = []
        self.silent: tuple[SilentWorker, ...] = ()

    async def wait(self, seq: int | None) -> PropagationShape:
        self.waited.append(seq)
        return PropagationShape(seq=seq, applied=2 - len(self.silent), of=2, milliseconds=1, silent=self.silent)


@dataclass
class Answer:
    """One answer, with its body read."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Json:
        parsed: Json = json.loads(self.content)
        return parsed

    @property
    def code(self) -> str:
        return str(self.json["code"])


@dataclass
class Api:
    """A running admin API. `keys` are the secrets of those who call it."""

    url: str
    session: aiohttp.ClientSession
    clock: Clock
    propagation: CountingPropagation
    requests: MemoryAuditStore
    keys: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def of(self, name: str, *then: str) -> str:
        """The path of a thing of `ids`, and what is below it."""
        thing = self.ids[name]
        collections = {"key": "keys", "mem": "members", "sva": "service-accounts", "org": "organizations"}
        return "/".join(["/v1", collections[thing[:3]], thing, *then])

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        by: str | None = "admin",
        headers: Iterable[tuple[str, str]] = (),
        data: bytes | None = None,
    ) -> Answer:
        """Call as somebody of `keys`, or with no key at all. `data` is a body as it is."""
        fields = list(headers)
        if by is not None:
            fields.append(("X-API-KEY", self.keys[by]))
        if body is not None:
            data = json.dumps(body).encode()
            fields.append(("Content-Type", "application/json"))
        async with self.session.request(
            method, self.url + path, data=data and BytesIO(data), headers=fields, skip_auto_headers=["Content-Type"]
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def done(self, method: str, path: str, body: object = None, *, by: str = "admin") -> Json:
        """Call, and return the body of an answer that has to be a success."""
        answer = await self.call(method, path, body, by=by)
        assert answer.status in {200, 201}, answer
        return answer.json


def build_services(engine: AsyncEngine, clock: Clock, requests: MemoryAuditStore) -> Services:
    return Services(
        authenticator=Authenticator(engine, clock=clock),
        keys=KeyService(engine, clock=clock),
        members=MemberService(engine, clock=clock),
        service_accounts=ServiceAccountService(engine, clock=clock),
        organizations=OrganizationService(engine, clock=clock),
        audit=AuditService(engine, requests, FixedVerification(), clock=clock),
        gateway=administration(engine, clock),
        route_permissions=ROUTE_PERMISSIONS,
    )


async def populate(api: Api, services: Services) -> None:
    """Make the people: two admins of organizations, a member, a service account, and a limited key of the admin."""
    acme = await services.organizations.initialise("Acme", "ada@example.com")
    other = await services.organizations.initialise("Other", "eve@example.com")
    api.keys = {"admin": acme.key.secret or "", "stranger": other.key.secret or ""}
    mia = await api.done("POST", "/v1/members", {"email": "mia@example.com", "first_key": True})
    bot = await api.done("POST", "/v1/service-accounts", {"name": "Robot", "permissions": ["orders:*", "gateway:read"]})
    robot = await api.done("POST", "/v1/keys", {"name": "Robot's", "owner": bot["id"], "permissions": ["orders:read"]})
    limited = await api.done("POST", "/v1/keys", {"name": "Limited", "permissions": ["gateway:read", "orders:read"]})
    api.keys |= {"member": mia["key"]["secret"], "robot": robot["secret"], "limited": limited["secret"]}
    api.ids = {
        "organization": acme.organization.id,
        "other organization": other.organization.id,
        "admin": acme.member.id,
        "stranger": other.member.id,
        "admin's key": acme.key.id,
        "stranger's key": other.key.id,
        "member": mia["id"],
        "member's key": mia["key"]["id"],
        "service account": bot["id"],
        "robot's key": robot["id"],
        "limited key": limited["id"],
    }


@contextlib.asynccontextmanager
async def running(store_url: str, clock: Clock) -> AsyncIterator[tuple[Api, Services]]:
    """Serve on a migrated store, inside the block."""
    engine, propagation, requests = create_engine(store_url), CountingPropagation(), MemoryAuditStore()
    services = build_services(engine, clock, requests)
    with socket.create_server(("127.0.0.1", 0)) as opened:
        url, fd = f"http://127.0.0.1:{opened.getsockname()[1]}", opened.detach()
    async with serve(fd, routes(services, propagation)), aiohttp.ClientSession() as session:
        yield Api(url, session, clock, propagation, requests), services
    await engine.dispose()


@dataclass
class Populated:
    """A store with people in it: their keys and their ids. A file that nobody has open, or a database."""

    store: Path | PostgresStore
    keys: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.store}" if isinstance(self.store, Path) else self.store.url

    def copied(self, directory: Path) -> str:
        """The URL of a copy that lasts."""
        if not isinstance(self.store, Path):
            return self.store.copied().url
        shutil.copy(self.store, directory / "gateway.db")  # the last connection has folded its log into the one file
        return f"sqlite:///{directory / 'gateway.db'}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what says little about the store on SQLite alone, and a module with other `STORES` on each of those."""
    if "store_kind" in metafunc.fixturenames:
        kinds: tuple[str, ...] = getattr(metafunc.module, "STORES", ("sqlite",))
        metafunc.parametrize("store_kind", kinds, scope="session")


@pytest.fixture(scope="session")
def populated(store_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Populated:
    """Made once for all tests, which use copies."""
    if store_kind == "postgres":
        made = Populated(PostgresStore(request.getfixturevalue("postgres")))
    else:
        made = Populated(tmp_path_factory.mktemp("populated") / "gateway.db")
    migrate(made.url)

    async def make() -> Api:
        async with running(made.url, Clock()) as (api, services):
            await populate(api, services)
        if isinstance(made.store, PostgresStore):
            await made.store.save()
        return api

    api = asyncio.run(make())
    made.keys, made.ids = api.keys, api.ids
    return made


@pytest.fixture
async def api(populated: Populated, tmp_path: Path) -> AsyncIterator[Api]:
    """An API of its own for each test, on that store as it was."""
    if isinstance(populated.store, PostgresStore):
        await populated.store.restore()
        url = populated.url
    else:
        url = populated.copied(tmp_path)
    async with running(url, Clock()) as (api, _):
        api.keys, api.ids = dict(populated.keys), dict(populated.ids)
        yield api
