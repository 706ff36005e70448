"""Lets go of what is older than requests are kept: entries, their counts, and what is known of the spools' segments.

Invariant: it does not depend on anything being recorded here and now, so what was on record before recording was turned
off goes in its time as well. Any number of processes may do it at once.
"""

import asyncio
import logging
from datetime import timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import Unreachable
from gateway.services import request_counts, segment_rows
from gateway.services.clock import Clock, utc_now
from gateway.store.audit_store import AuditStore
from gateway.store.engine import write_transaction

RETENTION_SECONDS: Final = 3600.0
_LOG: Final = logging.getLogger(__name__)


async def keep_to(days: int, engine: AsyncEngine, audit_store: AuditStore, *, clock: Clock = utc_now) -> None:
    """Remove what is older, at once and then every hour, until cancelled. Outages are told, and end nothing."""
    while True:
        try:
            await _let_go(days, engine, audit_store, clock)
        except Unreachable as error:
            _LOG.warning("old requests stay on record for now: %s", error.detail, extra={"reason": error.internal})
        except Exception:  # noqa: BLE001 - whatever it is: the control process must not end with it
            _LOG.exception("old requests could not be removed, in a way that was not foreseen")
        await asyncio.sleep(RETENTION_SECONDS)


async def _let_go(days: int, engine: AsyncEngine, audit_store: AuditStore, clock: Clock) -> None:
    now = clock()
    gone = await audit_store.retain(days, int(now.timestamp() * 1e6))
    if gone:
        _LOG.info("requests are no longer on record", extra={"days": " ".join(gone)})
    before = now - timedelta(days=days)
    await request_counts.forget(engine, before)
    async with write_transaction(engine) as connection:
        await segment_rows.forget(connection, before)
