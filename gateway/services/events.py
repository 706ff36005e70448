"""Reading the management trail: who changed what, newest first.

Invariant: who administers the organization and holds `gateway:admin` reads all of its trail; everybody else their own,
which is what was done to them and their keys, and what was done with their keys. Whose an event is was noted when it
happened (see `trail`), so that the events of a key that is gone stay where they were. Nobody reads another
organization's trail.

Each page is read along one index from the cursor on; one's own trail is two such walks, merged. Secrets and digests
never got in, so nothing is left out here.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.keys.authority import ADMIN, Authority
from gateway.keys.identifiers import is_id
from gateway.services.audit_filter import SYSTEM, ActedBy, AuditFilter, Place
from gateway.services.audit_shapes import Event, EventTarget
from gateway.services.key_rules import find_owner
from gateway.services.shapes import ActorShape
from gateway.store.schema import management_events

_COLUMNS: Final = management_events.c

EventRow = Row[Any]  # Any: SQLAlchemy cannot type a row of a whole table


async def acted_by(connection: AsyncConnection, authority: Authority, actor: str | None) -> ActedBy:
    """Return whom the text names. Raises NotFound where a name is nobody's within reach, Conflict where several's."""
    if actor is None:
        return ActedBy()
    if actor == SYSTEM:
        return ActedBy(system=True)
    if is_id("key", actor):
        return ActedBy(key_id=actor)
    if is_id("mem", actor) or is_id("sva", actor):
        return ActedBy(owner_id=actor)
    return ActedBy(owner_id=(await find_owner(connection, authority, actor, removed=True)).id)


async def read_changes(
    connection: AsyncConnection,
    authority: Authority,
    wanted: AuditFilter,
    actor: ActedBy,
    beyond: Place | None,
    limit: int,
) -> list[Event]:
    """Return the newest changes beyond that place that fit and may be read, newest first."""
    conditions = [*_acted(actor), *_conditions(wanted), *_beyond(beyond)]
    found: dict[str, EventRow] = {}
    for scope in _scopes(authority):
        for row in await _rows(connection, [*scope, *conditions], limit):
            found[row.id] = row
    rows = sorted(found.values(), key=lambda row: (row.at, row.id), reverse=True)
    return [_event(row) for row in rows[:limit]]


def _scopes(authority: Authority) -> list[list[ColumnElement[bool]]]:
    """Return the walks that together are all the caller may read."""
    here = _COLUMNS.organization_id == authority.organization_id
    if authority.administers and authority.allows(ADMIN):
        return [[here]]
    own = _COLUMNS.actor_owner_id, _COLUMNS.target_owner_id
    return [[here, column == authority.owner_id] for column in own]


def _conditions(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.action is not None:
        conditions.append(_COLUMNS.action == wanted.action)
    if wanted.key is not None:
        conditions += [_COLUMNS.target_id == wanted.key, _COLUMNS.target_kind == "key"]
    if wanted.target is not None:
        conditions.append(_COLUMNS.target_id == wanted.target)
    if wanted.request_id is not None:
        conditions.append(_COLUMNS.request_id == wanted.request_id)
    if wanted.since is not None:
        conditions.append(_COLUMNS.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(_COLUMNS.at < wanted.until)
    return conditions


def _acted(actor: ActedBy) -> list[ColumnElement[bool]]:
    if actor.system:
        return [_COLUMNS.actor_id.is_(None)]
    if actor.key_id is not None:
        return [_COLUMNS.actor_id == actor.key_id]
    return [] if actor.owner_id is None else [_COLUMNS.actor_owner_id == actor.owner_id]


def _beyond(place: Place | None) -> list[ColumnElement[bool]]:
    """Say where the page begins. The first comparison is redundant, and what the index is entered by."""
    if place is None:
        return []
    return [_COLUMNS.at <= place.at, or_(_COLUMNS.at < place.at, _COLUMNS.id < place.id)]


async def _rows(
    connection: AsyncConnection, conditions: Sequence[ColumnElement[bool]], limit: int
) -> Sequence[EventRow]:
    query = select(management_events).where(*conditions)
    ordered = query.order_by(_COLUMNS.at.desc(), _COLUMNS.id.desc()).limit(limit)
    return (await connection.execute(ordered)).all()


def _event(row: EventRow) -> Event:
    return Event(
        id=row.id,
        kind="change",
        at=row.at,
        actor=ActorShape(id=row.actor_id, text=row.actor_text),
        action=row.action,
        target=EventTarget(kind=row.target_kind, id=row.target_id, name=row.target_name),
        address=row.address,
        request_id=row.request_id,
        before=None if row.before is None else json.loads(row.before),
        after=None if row.after is None else json.loads(row.after),
        request=None,
    )
