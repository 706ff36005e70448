"""Requests counted by the hour, as the recorder sums them up: for charts, where a list would be read whole.

Invariant: the bounds are those of the list, with one difference: a count belongs to a key and not to whoever owned it
at the time, so whoever is not an admin sees those of the keys that are theirs now.
"""

from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.keys.authority import ADMIN, Authority
from gateway.services.audit_shapes import HourCount
from gateway.store.schema import audit_counts, keys

_COUNTS = audit_counts.c


async def read_counts(
    connection: AsyncConnection, authority: Authority, key: str | None, since: datetime, until: datetime
) -> tuple[HourCount, ...]:
    """Return what there is of the hours that begin in [since, until), the oldest first."""
    scope = _COUNTS.organization_id == authority.organization_id
    if authority.operates and key is None:
        scope = or_(scope, _COUNTS.organization_id == "")
    conditions = [scope, _COUNTS.hour >= since, _COUNTS.hour < until]
    if key is not None:
        conditions.append(_COUNTS.key_id == key)
    if not (authority.administers and authority.allows(ADMIN)):
        conditions.append(_COUNTS.key_id.in_(select(keys.c.id).where(keys.c.owner_id == authority.owner_id)))
    requests = func.sum(_COUNTS.requests).label("requests")
    query = (
        select(_COUNTS.hour, _COUNTS.outcome, requests)
        .where(*conditions)
        .group_by(_COUNTS.hour, _COUNTS.outcome)
        .order_by(_COUNTS.hour, _COUNTS.outcome)
    )
    rows = (await connection.execute(query)).all()
    return tuple(HourCount(hour=row.hour, outcome=row.outcome, requests=int(row.requests)) for row in rows)
