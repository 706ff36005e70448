"""What a change leaves behind in the management trail: one event, told so that it still reads right years later.

Invariant: an event is written in the transaction of the change itself, so there is no change without its trace and no
trace without its change. Events hold only the fields that changed; secrets and digests have no way in here. Whose thing
it was and in whose name it was done are noted as they were at that moment: by them people find their own trail, also
that of keys which are gone or have another owner since. Joining that in at reading time was turned down for this.
"""

import json
from collections.abc import Mapping, Sequence
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
    """What was acted upon, named as it is at that moment, and whose it is: a key's owner, or the owner themselves."""

    organization_id: str
    kind: Literal["key", "member", "service_account", "organization", "gateway"]
    id: str
    name: str
    owner_id: str | None


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
    await record_events(connection, at=at, actor=actor, action=action, targets=[target], before=before, after=after)


async def record_events(
    connection: AsyncConnection,
    *,
    at: datetime,
    actor: Actor,
    action: str,
    targets: Sequence[Target],
    before: Fields | None = None,
    after: Fields | None = None,
) -> None:
    """Add the same event for each target."""
    if not targets:
        return
    told = {
        "at": at,
        "actor_id": actor.id,
        "actor_owner_id": actor.owner_id,
        "actor_text": actor.text,
        "action": action,
        "address": actor.address,
        "request_id": actor.request_id,
        "before": _json(before),
        "after": _json(after),
    }
    rows = [
        {
            "id": new_id("evt"),
            "organization_id": target.organization_id,
            "target_kind": target.kind,
            "target_id": target.id,
            "target_name": target.name,
            "target_owner_id": target.owner_id,
            **told,
        }
        for target in targets
    ]
    await connection.execute(insert(management_events), rows)


def _json(fields: Fields | None) -> str | None:
    if fields is None:
        return None
    return json.dumps(fields, default=_json_value, ensure_ascii=False, separators=(",", ":"))


def _json_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} has no place in the trail")
