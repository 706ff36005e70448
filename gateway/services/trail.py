"""What a change leaves behind: a row in the change log and an event in the management trail.

Invariant: both are written in the transaction of the change itself, so there is no change without its trace and no
trace without its change. Events hold only the fields that changed; secrets and digests have no way in here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.keys.identifiers import new_id
from gateway.services.actor import Actor
from gateway.store.schema import management_events

Field = str | int | bool | datetime | tuple[str, ...] | None
Fields = Mapping[str, Field]


@dataclass(frozen=True, slots=True)
class Target:
    """What was acted upon, named as it is at that moment."""

    organization_id: str
    kind: Literal["key", "member", "service_account", "organization"]
    id: str
    name: str


async def record_event(
    connection: AsyncConnection,
    *,
    at: datetime,
    actor: Actor,
    action: str,
    target: Target,
    before: Fields | None = None,
    after: Fields | None = None,
) -> None:
    """Add one event. `action` is `<kind>.<verb>`, such as `key.revoke`."""
    await connection.execute(
        insert(management_events).values(
            id=new_id("evt"),
            at=at,
            organization_id=target.organization_id,
            actor_id=actor.id,
            actor_text=actor.text,
            action=action,
            target_kind=target.kind,
            target_id=target.id,
            target_name=target.name,
            address=actor.address,
            request_id=actor.request_id,
            before=_json(before),
            after=_json(after),
        )
    )


def _json(fields: Fields | None) -> str | None:
    if fields is None:
        return None
    return json.dumps(fields, default=_json_value, ensure_ascii=False, separators=(",", ":"))


def _json_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} has no place in the trail")
