"""How many requests each key made in each hour, by what became of them: for charts that need not read every entry.

Invariant: a request is counted once, in the transaction that notes that it was recorded. One that is still open is
counted when it has ended. What was refused too often to be recorded one by one is counted as well, of nobody.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import orjson
from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.keys.request_entry import Outcome, RequestEntry
from gateway.store.engine import single_reads, write_transaction
from gateway.store.json_rows import Kind, json_rows
from gateway.store.schema import audit_counts

_HOUR: Final = 3_600_000_000
_COLUMNS: Final[dict[str, Kind]] = {
    "key_id": "text",
    "hour": "bigint",
    "outcome": "text",
    "organization_id": "text",
    "requests": "bigint",
}
_ADD: Final = """
INSERT INTO audit_counts (key_id, hour, outcome, organization_id, requests)
SELECT key_id, hour, outcome, organization_id, requests FROM ({rows}) AS n
 WHERE true
 ORDER BY key_id, hour, outcome, organization_id
ON CONFLICT (key_id, hour, outcome, organization_id)
DO UPDATE SET requests = audit_counts.requests + excluded.requests
"""


def counted(entries: Iterable[RequestEntry], refusals: Iterable[tuple[int, str, int]]) -> bytes | None:
    """Count requests that have ended, and refusals (moment, code, how many); a text for `add`, None where all is 0."""
    counts: Counter[tuple[str, int, str, str]] = Counter()
    for entry in entries:
        outcome = entry.outcome
        if outcome == Outcome.ANSWERED:
            said = f"{entry.status // 100}xx"
        elif outcome == Outcome.REFUSED:
            said = f"refused:{entry.code}"
        elif outcome == Outcome.ABORTED:
            said = "aborted"
        else:
            continue
        counts[entry.key_id, entry.at - entry.at % _HOUR, said, entry.organization_id] += 1
    for at, code, count in refusals:
        counts["", at - at % _HOUR, f"refused:{code}", ""] += count
    return orjson.dumps([(*of, count) for of, count in counts.items()]) if counts else None


async def add(connection: AsyncConnection, counts: bytes | None) -> None:
    """Add what was counted, in a write transaction of the caller's."""
    if counts is not None:
        statement = text(_ADD.format(rows=json_rows(connection, _COLUMNS)))
        await connection.execute(statement, {"rows": counts.decode()})


async def forget(engine: AsyncEngine, before: datetime) -> None:
    """Remove what is older, an hour of it at a time, so that no change of a key waits for long."""
    while True:
        async with single_reads(engine) as connection:
            oldest = (await connection.execute(select(func.min(audit_counts.c.hour)))).scalar()
        if oldest is None or oldest >= before:
            return
        async with write_transaction(engine) as connection:
            await connection.execute(delete(audit_counts).where(audit_counts.c.hour == oldest))
