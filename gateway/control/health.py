"""`/healthz` and `/readyz`, for orchestrators and load balancers.

`/healthz` says that this process answers: restart the container when it does not. `/readyz` says whether requests
can be served: take the node out of the balancer when they cannot. One ready worker is enough for that: it
serves what arrives at the slots of the others, too. Somebody has to know the keys: the store, or the shared key table
while it is complete; where neither can be asked, unknown keys would be refused with a 503. What is away without that is
named under `degraded`, for people and alarms: a node that serves must not leave the balancer. Both are answered without
a key, so they tell numbers and fixed texts, never what an exception said.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from aiohttp import web

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.control.recording_state import RecordingState
    from gateway.control.relay_state import RelayState
    from gateway.control.worker_counts import WorkerCounts
    from gateway.lifecycle import Message

    Reason = dict[str, str]

_STORE_TIMEOUT_SECONDS: Final = 2.0
_SPOOL_ALARM: Final = 0.8
"""Of the limit, by what waits: files that workers hold ready are full to the disk, and empty."""
_AWAY_ALARM_SECONDS: Final = 60.0
_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Workers:
    """What the supervisor said last about the workers, and about reloads."""

    ready: int = 0
    of: int = 0
    draining: bool = False
    reloads: int = 0
    reloads_failed: int = 0
    settings_loaded_at: datetime | None = None

    def update(self, message: Message) -> None:
        """Take over what the supervisor's "workers" message says."""
        self.ready, self.of, self.draining = message["ready"], message["of"], message["draining"]
        self.reloads, self.reloads_failed = message.get("reloads", 0), message.get("reloads_failed", 0)
        loaded = message.get("settings_loaded_at")
        self.settings_loaded_at = None if loaded is None else datetime.fromisoformat(loaded)


class Health:
    """The two answers. `probe_store` returns when the store can be read and raises GatewayError when it cannot."""

    def __init__(
        self,
        workers: Workers,
        probe_store: Callable[[], Awaitable[None]],
        relay: RelayState | None = None,
        *,
        recording: RecordingState | None = None,
        counts: WorkerCounts | None = None,
    ) -> None:
        """`relay` is there where Redis is configured, `recording` where requests are recorded."""
        self._workers = workers
        self._probe_store = probe_store
        self._relay = relay
        self._recording = recording
        self._counts = counts

    def routes(self) -> list[web.RouteDef]:
        """To be added to the control application."""
        return [web.get("/healthz", self.healthz), web.get("/readyz", self.readyz)]

    async def healthz(self, _: web.Request) -> web.Response:
        """200 `{"status": "ok"}`, always."""
        return _answer(200, {"status": "ok"})

    async def readyz(self, _: web.Request) -> web.Response:
        """200 or 503 `{"ready", "workers": {"ready", "of"}, "reasons": [{"code", "detail"}], "degraded": [the same]}`.

        `reasons` say why nothing can be served, `degraded` what is away although something can.
        """
        reasons = self._worker_reasons()
        redis_troubles = self._redis_troubles()
        degraded = [*redis_troubles, *self._recording_troubles()]
        if not await self._store_is_readable():
            if self._relay is not None and not redis_troubles:
                degraded.append(_reason("store_unreachable", "The store cannot be read; Redis knows every key."))
            else:
                reasons.append(_reason("key_store_unavailable", "The key store cannot be read."))
        workers = {"ready": self._workers.ready, "of": self._workers.of}
        body = {"ready": not reasons, "workers": workers, "reasons": reasons, "degraded": degraded}
        return _answer(503 if reasons else 200, body)

    def _worker_reasons(self) -> list[Reason]:
        if self._workers.draining:
            return [_reason("draining", "The gateway is stopping.")]
        if self._workers.ready == 0:
            return [_reason("no_worker_ready", f"None of {self._workers.of} workers is ready.")]
        told = [] if self._counts is None else self._counts.all()
        if told and all(each.audit_blocked for each in told):
            return [_reason("audit_log_full", "No request can be put on record, so none is served.")]
        return []

    def _redis_troubles(self) -> list[Reason]:
        if self._relay is None:
            return []
        if not self._relay.redis_reachable:
            return [_reason("redis_unreachable", "Redis does not answer; workers ask the store.")]
        if not self._relay.complete:
            detail = "The key table in Redis is being built; workers ask the store."
            return [_reason("key_table_incomplete", detail)]
        return []

    def _recording_troubles(self) -> list[Reason]:
        found = []
        recording = self._recording
        if recording is None:
            return []
        if recording.waiting_bytes >= _SPOOL_ALARM * recording.limit_bytes:
            detail = "The spool of requests that are not in the store yet is nearly full."
            found.append(_reason("audit_spool_filling", detail))
        if recording.store_away_seconds > _AWAY_ALARM_SECONDS:
            found.append(_reason("audit_store_unreachable", "Requests wait to be taken into the record."))
        return found

    async def _store_is_readable(self) -> bool:
        try:
            async with asyncio.timeout(_STORE_TIMEOUT_SECONDS):
                await self._probe_store()
        except (GatewayError, TimeoutError) as error:
            _log.warning("the store cannot be read", extra={"reason": getattr(error, "internal", "") or repr(error)})
            return False
        return True


def _reason(code: str, detail: str) -> Reason:
    return {"code": code, "detail": detail}


def _answer(status: int, body: dict[str, object]) -> web.Response:
    return web.json_response(body, status=status, headers={"Cache-Control": "no-store"})
