"""Making a key: the rows of a new key and the one moment at which its secret exists in the clear.

Invariant: key, secret, change and event are inserted within the caller's transaction, and the secret leaves this file
once, in the shape that is returned. It is made here and not handed in, so no caller can choose or keep one.
"""

from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.keys import secret as secrets
from gateway.keys.identifiers import new_id
from gateway.keys.naming import folded
from gateway.services.actor import Actor
from gateway.services.key_request import Draft
from gateway.services.key_rows import key_from_row, select_keys
from gateway.services.shapes import IssuedKey, Warned
from gateway.services.trail import Target, record_event
from gateway.store import change_log
from gateway.store.schema import key_secrets, keys


async def issue_key(
    connection: AsyncConnection,
    draft: Draft,
    *,
    organization_id: str,
    owner_id: str,
    prefix: str,
    actor: Actor,
    now: datetime,
) -> IssuedKey:
    """Insert the key and return it with its secret. Only within a write transaction."""
    warnings = await _twin_warning(connection, organization_id, draft.name)
    key_id, secret = new_id("key"), secrets.generate(prefix)
    await connection.execute(
        insert(keys).values(
            id=key_id,
            organization_id=organization_id,
            owner_id=owner_id,
            name=draft.name,
            name_search=folded(draft.name),
            description=draft.description,
            permissions=draft.permissions,
            version=1,
            created_at=now,
            created_by_id=actor.id,
            created_by_text=actor.text,
            expires_at=draft.expires_at,
        )
    )
    await connection.execute(
        insert(key_secrets).values(
            digest=secrets.digest(secret.encode()),
            id=new_id("sec"),
            key_id=key_id,
            slot=0,
            prefix=prefix,
            tail=secrets.tail(secret),
            created_at=now,
        )
    )
    await change_log.append(connection, "key", key_id, 1)
    await record_event(
        connection,
        at=now,
        actor=actor,
        action="key.create",
        target=Target(organization_id, "key", key_id, draft.name),
        after={
            "name": draft.name,
            "description": draft.description,
            "owner": owner_id,
            "permissions": draft.permissions,
            "expires_at": draft.expires_at,
        },
    )
    row = (await connection.execute(select_keys().where(keys.c.id == key_id))).one()
    return IssuedKey(**dict(key_from_row(row, now)), secret=secret, warnings=warnings)


async def _twin_warning(connection: AsyncConnection, organization_id: str, name: str) -> tuple[Warned, ...]:
    """Names need not be unique; but two keys of one name are easily taken for each other."""
    twin = (
        select(keys.c.id)
        .where(
            keys.c.organization_id == organization_id, keys.c.name_search == folded(name), keys.c.revoked_at.is_(None)
        )
        .limit(1)
    )
    found = (await connection.execute(twin)).scalar_one_or_none()
    if found is None:
        return ()
    return (Warned(code="name_in_use", detail=f"Another key, {found}, has this name as well."),)
