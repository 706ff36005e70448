"""Making a key: by a secret of our own, which is returned once, or by the digest of another system's secret.

Invariant: key, secret, change and event are inserted within the caller's transaction, and the secret leaves this file
once, in the shape that is returned. It is made here and not handed in, so no caller can choose or keep one; of a key of
another system only the digest ever comes in.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import and_, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.keys.identifiers import new_id
from gateway.keys.naming import folded
from gateway.services import secret_rows
from gateway.services.actor import Actor
from gateway.services.changed import Changed
from gateway.services.key_request import Draft
from gateway.services.key_rows import key_from_row, select_keys
from gateway.services.shapes import ImportedKey, IssuedKey, Key, Warned
from gateway.services.trail import Target, record_event
from gateway.store import change_log
from gateway.store.schema import key_uses, keys

_Row = dict[str, Any]  # Any: each column has its own type


async def issue_key(
    connection: AsyncConnection,
    draft: Draft,
    *,
    organization_id: str,
    owner_id: str,
    prefix: str,
    actor: Actor,
    now: datetime,
) -> Changed[IssuedKey]:
    """Insert the key and return it with its secret. Only within a write transaction."""
    warnings = await _twin_warning(connection, organization_id, owner_id, draft.name)
    row = _row(draft, organization_id, owner_id, actor, now)
    await _insert(connection, row)
    secret = await secret_rows.add_own(connection, row["id"], slot=0, prefix=prefix, now=now)
    seq = await _tell(connection, "key.create", row, actor)
    key = await _shown(connection, row["id"], now)
    return Changed(IssuedKey(**dict(key), secret=secret, warnings=warnings), seq)


async def admit_key(
    connection: AsyncConnection,
    draft: Draft,
    secret: secret_rows.StoredSecret,
    *,
    organization_id: str,
    owner_id: str,
    actor: Actor,
    now: datetime,
) -> Changed[ImportedKey]:
    """Insert a key of another system. Raises Conflict where its digest is known here. Within a write transaction."""
    warnings = await _twin_warning(connection, organization_id, owner_id, draft.name)
    row = {**_row(draft, organization_id, owner_id, actor, now), "imported": True}
    await _insert(connection, row)
    await secret_rows.add_foreign(connection, row["id"], secret, now=now)
    seq = await _tell(connection, "key.import", row, actor)
    key = await _shown(connection, row["id"], now)
    return Changed(ImportedKey(**dict(key), warnings=warnings), seq)


def _row(draft: Draft, organization_id: str, owner_id: str, actor: Actor, now: datetime) -> _Row:
    return {
        "id": new_id("key"),
        "organization_id": organization_id,
        "owner_id": owner_id,
        "name": draft.name,
        "name_search": folded(draft.name),
        "description": draft.description,
        "permissions": draft.permissions,
        "version": 1,
        "created_at": now,
        "created_by_id": actor.id,
        "created_by_text": actor.text,
        "expires_at": draft.expires_at,
        "allowed_origins": draft.allowed_origins,
        "imported": False,
    }


async def _insert(connection: AsyncConnection, row: _Row) -> None:
    await connection.execute(insert(keys).values(row))
    unused = {"organization_id": row["organization_id"], "used": False, "idle_since": row["created_at"]}
    await connection.execute(insert(key_uses).values(key_id=row["id"], **unused))


async def _tell(connection: AsyncConnection, action: str, row: _Row, actor: Actor) -> int:
    """Leave the change in the log and the event in the trail; return the change's seq."""
    seq = await change_log.append(connection, "key", row["id"], 1)
    told = ("name", "description", "owner_id", "permissions", "expires_at", "allowed_origins")
    await record_event(
        connection,
        at=row["created_at"],
        actor=actor,
        action=action,
        target=Target(row["organization_id"], "key", row["id"], row["name"], row["owner_id"]),
        after={name: row[name] for name in told},
    )
    return seq


async def _shown(connection: AsyncConnection, key_id: str, now: datetime) -> Key:
    return key_from_row((await connection.execute(select_keys().where(keys.c.id == key_id))).one(), now)


async def _twin_warning(
    connection: AsyncConnection, organization_id: str, owner_id: str, name: str
) -> tuple[Warned, ...]:
    """Names need not be unique; but two keys of one name are easily taken for each other.

    Only the owner's own keys count: a warning must not tell anybody of keys that they cannot see.
    """
    named = and_(keys.c.organization_id == organization_id, keys.c.name_search == folded(name))
    twin = select(keys.c.id).where(named, keys.c.owner_id == owner_id, keys.c.revoked_at.is_(None)).limit(1)
    found = (await connection.execute(twin)).scalar_one_or_none()
    if found is None:
        return ()
    return (Warned(code="name_in_use", detail=f"Another key of the same owner, {found}, has this name as well."),)
