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
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import JsonValue
from sqlalchemy import ColumnElement, Row, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.errors import FieldError, Invalid
from gateway.keys.authority import ADMIN, Authority
from gateway.keys.identifiers import is_id
from gateway.services import paging
from gateway.services.access import require_reading
from gateway.services.actor import Caller
from gateway.services.key_rules import find_owner
from gateway.services.shapes import ActorShape, Shape
from gateway.store.engine import read_transaction
from gateway.store.schema import management_events

_ORDER: Final = "events"
_COLUMNS: Final = management_events.c
_SYSTEM: Final = "system"

EventRow = Row[Any]  # Any: SQLAlchemy cannot type a row of a whole table
Told = dict[str, JsonValue] | None


class EventTarget(Shape):
    """What was acted upon, named as it was then. It may be gone, or have another name now."""

    kind: str
    """key, member, service_account, organization or gateway."""
    id: str
    name: str


class Event(Shape):
    """One change: who made it, from where, to what, and the fields that changed."""

    id: str
    at: datetime
    """When, in UTC."""
    actor: ActorShape
    action: str
    """What was done: the kind of thing and a verb, such as key.revoke."""
    target: EventTarget
    address: str | None
    """Where the call came from; null for the system."""
    request_id: str | None
    """The X-Request-ID of the call; null for the system."""
    before: Told
    """The fields that changed, as they were; null where there were none."""
    after: Told
    """The fields that changed, as they are since; null where the thing is gone."""


class EventPage(Shape):
    """One page of the trail; `next_cursor` is null on the last one."""

    items: tuple[Event, ...]
    next_cursor: str | None
    """Give it as `cursor` to get the next page; null on the last one."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What to read; all that is given has to fit.

    `actor`: the id of a key; the id, e-mail address or name of a member or service account, removed ones too, for what
    was done with any of their keys; or `system`. `key` and `target` are ids of what was acted upon.
    `since` is included, `until` is not.
    """

    actor: str | None = None
    action: str | None = None
    key: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None


EVERYTHING: Final = EventFilter()


class EventService:
    """The management trail in the store behind `engine`."""

    __slots__ = ("_engine",)

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def list(
        self,
        caller: Caller,
        wanted: EventFilter = EVERYTHING,
        *,
        cursor: str | None = None,
        limit: int = paging.DEFAULT_LIMIT,
    ) -> EventPage:
        """Return one page, newest first. Raises NotAllowed, and Invalid for a bad cursor or limit.

        An actor's name that fits nobody within reach is NotFound, one that fits several Conflict.
        """
        require_reading(caller.authority, ADMIN)
        beyond = _examined(cursor, limit)
        async with read_transaction(self._engine) as connection:
            conditions = [*await _acted(connection, caller.authority, wanted.actor), *_conditions(wanted), *beyond]
            found: dict[str, EventRow] = {}
            for scope in _scopes(caller.authority):
                for row in await _rows(connection, [*scope, *conditions], limit + 1):
                    found[row.id] = row
        rows = sorted(found.values(), key=lambda row: (row.at, row.id), reverse=True)
        more, last = len(rows) > limit, rows[min(limit, len(rows)) - 1] if rows else None
        next_cursor = paging.encode(_ORDER, last.at.isoformat(), last.id) if more and last is not None else None
        return EventPage(items=tuple(_event(row) for row in rows[:limit]), next_cursor=next_cursor)


def _scopes(authority: Authority) -> list[list[ColumnElement[bool]]]:
    """Return the walks that together are all the caller may read."""
    here = _COLUMNS.organization_id == authority.organization_id
    if authority.administers and authority.allows(ADMIN):
        return [[here]]
    own = _COLUMNS.actor_owner_id, _COLUMNS.target_owner_id
    return [[here, column == authority.owner_id] for column in own]


def _conditions(wanted: EventFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.action is not None:
        conditions.append(_COLUMNS.action == wanted.action)
    if wanted.key is not None:
        conditions += [_COLUMNS.target_id == wanted.key, _COLUMNS.target_kind == "key"]
    if wanted.target is not None:
        conditions.append(_COLUMNS.target_id == wanted.target)
    if wanted.since is not None:
        conditions.append(_COLUMNS.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(_COLUMNS.at < wanted.until)
    return conditions


async def _acted(connection: AsyncConnection, authority: Authority, actor: str | None) -> list[ColumnElement[bool]]:
    if actor is None:
        return []
    if actor == _SYSTEM:
        return [_COLUMNS.actor_id.is_(None)]
    if is_id("key", actor):
        return [_COLUMNS.actor_id == actor]
    if is_id("mem", actor) or is_id("sva", actor):
        return [_COLUMNS.actor_owner_id == actor]
    owner = await find_owner(connection, authority, actor, removed=True)
    return [_COLUMNS.actor_owner_id == owner.id]


def _examined(cursor: str | None, limit: int) -> list[ColumnElement[bool]]:
    """Return where the page begins. The first comparison is redundant, and what the index is entered by."""
    faults, beyond = paging.limit_fault(limit), []
    if cursor is not None:
        try:
            text, last_id = paging.decode(cursor, _ORDER)
            at = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            faults.append(FieldError("cursor", paging.CURSOR_RULE))
        else:
            beyond = [_COLUMNS.at <= at, or_(_COLUMNS.at < at, _COLUMNS.id < last_id)]
    if faults:
        raise Invalid(faults)
    return beyond


async def _rows(
    connection: AsyncConnection, conditions: Sequence[ColumnElement[bool]], limit: int
) -> Sequence[EventRow]:
    query = select(management_events).where(*conditions)
    ordered = query.order_by(_COLUMNS.at.desc(), _COLUMNS.id.desc()).limit(limit)
    return (await connection.execute(ordered)).all()


def _event(row: EventRow) -> Event:
    return Event(
        id=row.id,
        at=row.at,
        actor=ActorShape(id=row.actor_id, text=row.actor_text),
        action=row.action,
        target=EventTarget(kind=row.target_kind, id=row.target_id, name=row.target_name),
        address=row.address,
        request_id=row.request_id,
        before=None if row.before is None else json.loads(row.before),
        after=None if row.after is None else json.loads(row.after),
    )
