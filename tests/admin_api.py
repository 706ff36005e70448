"""The real admin API on a store of its own, inside of a test's process: all of it but the workers that changes reach.

A thread with an event loop, so that a command line or a client that waits can call it. What needs a whole gateway, with
a proxy that has to agree, is in `tests/e2e`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Self

from gateway.control.api.operation import Services
from gateway.control.api.propagation import NoWorkers
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

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from gateway.services.shapes import Initialised


class AdminApi:
    """Running inside the block. `secret` is the key of the first organization's admin."""

    def __init__(self, directory: Path, *, recording: bool = True) -> None:
        self._recording = recording
        self.store = directory / "gateway.db"
        self.requests = MemoryAuditStore()
        self.verification = FixedVerification()
        self.made: Initialised
        self.secret = ""
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self._fd = listening.detach()
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        url = f"sqlite:///{self.store}"
        migrate(url)
        engine = create_engine(url)
        try:
            organizations = OrganizationService(engine)
            self.made = await organizations.initialise("Acme", "admin@example.com")
            self.secret = self.made.key.secret or ""
            services = Services(
                authenticator=Authenticator(engine),
                keys=KeyService(engine),
                members=MemberService(engine),
                service_accounts=ServiceAccountService(engine),
                organizations=organizations,
                audit=AuditService(engine, self.requests, self.verification if self._recording else None),
                gateway=administration(engine),
                route_permissions=("orders:read",),
            )
            async with serve(self._fd, routes(services, NoWorkers())):
                self._ready.set()
                await self._ended.wait()
        finally:
            self._ready.set()
            await engine.dispose()
