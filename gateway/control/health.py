"""`/healthz` and `/readyz`, for orchestrators and load balancers.

`/healthz` says that this process answers: restart the container when it does not. `/readyz` says whether requests
can be served: take the node out of the balancer when they cannot. One ready worker is enough for that: it
serves what arrives at the slots of the others, too. A store that cannot be read is not enough, since unknown keys would
be refused with a 503. Both are answered without a key, so they tell numbers and fixed texts, never what an exception
said.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.lifecycle import Message

_STORE_TIMEOUT_SECONDS: Final = 2.0
_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Workers:
    """What the supervisor said last about the workers."""

    ready: int = 0
    of: int = 0
    draining: bool = False

    def update(self, message: Message) -> None:
        """Take over what the supervisor's "workers" message says."""
        self.ready, self.of, self.draining = message["ready"], message["of"], message["draining"]


class Health:
    """The two answers. `probe_store` returns when the store can be read and raises GatewayError when it cannot."""

    def __init__(self, workers: Workers, probe_store: Callable[[], Awaitable[None]]) -> None:
        self._workers = workers
        self._probe_store = probe_store

    def routes(self) -> list[web.RouteDef]:
        """To be added to the control application."""
        return [web.get("/healthz", self.healthz), web.get("/readyz", self.readyz)]

    async def healthz(self, _: web.Request) -> web.Response:
        """200 `{"status": "ok"}`, always."""
        return _answer(200, {"status": "ok"})

    async def readyz(self, _: web.Request) -> web.Response:
        """200 or 503 `{"ready", "workers": {"ready", "of"}, "reasons": [{"code", "detail"}]}`."""
        reasons = self._worker_reasons() + await self._store_reasons()
        workers = {"ready": self._workers.ready, "of": self._workers.of}
        return _answer(503 if reasons else 200, {"ready": not reasons, "workers": workers, "reasons": reasons})

    def _worker_reasons(self) -> list[dict[str, str]]:
        if self._workers.draining:
            return [{"code": "draining", "detail": "The gateway is stopping."}]
        if self._workers.ready == 0:
            return [{"code": "no_worker_ready", "detail": f"None of {self._workers.of} workers is ready."}]
        return []

    async def _store_reasons(self) -> list[dict[str, str]]:
        try:
            async with asyncio.timeout(_STORE_TIMEOUT_SECONDS):
                await self._probe_store()
        except (GatewayError, TimeoutError) as error:
            _log.warning("the store cannot be read", extra={"reason": getattr(error, "internal", "") or repr(error)})
            return [{"code": "key_store_unavailable", "detail": "The key store cannot be read."}]
        return []


def _answer(status: int, body: dict[str, object]) -> web.Response:
    return web.json_response(body, status=status, headers={"Cache-Control": "no-store"})
