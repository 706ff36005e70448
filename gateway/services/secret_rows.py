"""The rows of a key's secrets: adding one of our own or of another system, and retiring those that are over.

Invariant: a digest is in one of two tables: in `key_secrets` while it may still lead to its key, in `retired_digests`
for ever after, where it refuses to be imported again. A secret in the clear is made here, returned once and kept
nowhere. Marking retired ones in the table itself was turned down: workers would read through ever more dead rows.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import Conflict
from gateway.keys import secret as secrets
from gateway.keys.identifiers import new_id
from gateway.store.schema import key_secrets, retired_digests, secret_uses


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """All that is kept of a secret. `prefix` and `tail` are None where an import did not say."""

    digest: bytes
    prefix: str | None
    tail: str | None


async def add_own(connection: AsyncConnection, key_id: str, *, slot: int, prefix: str, now: datetime) -> str:
    """Make a secret for the key, and return it."""
    secret = secrets.generate(prefix)
    made = StoredSecret(secrets.digest(secret.encode()), prefix, secrets.tail(secret))
    await _insert(connection, key_id, made, slot=slot, now=now)
    return secret


async def add_foreign(connection: AsyncConnection, key_id: str, secret: StoredSecret, *, now: datetime) -> None:
    """Add another system's secret to the new key. Raises Conflict where its digest is in use, or was."""
    retired = select(retired_digests.c.key_id).where(retired_digests.c.digest == secret.digest)
    if (await connection.execute(retired)).first() is not None:
        detail = "A key with this secret was deleted or rotated here before. Retired secrets never come back."
        raise Conflict(detail, code="digest_retired")
    present = select(key_secrets.c.key_id).where(key_secrets.c.digest == secret.digest)
    if (await connection.execute(present)).first() is not None:
        raise Conflict("A key with this secret exists on this gateway already.", code="digest_in_use")
    await _insert(connection, key_id, secret, slot=0, now=now)


async def retire(connection: AsyncConnection, which: ColumnElement[bool], now: datetime) -> None:
    """Move the digests of the secrets that fit into the retired ones, and forget how the secrets were used."""
    moment = literal(now, retired_digests.c.retired_at.type)
    retired = select(key_secrets.c.digest, key_secrets.c.key_id, moment).where(which)
    await connection.execute(insert(retired_digests).from_select(["digest", "key_id", "retired_at"], retired))
    ids = select(key_secrets.c.id).where(which).scalar_subquery()
    await connection.execute(delete(secret_uses).where(secret_uses.c.secret_id.in_(ids)))
    await connection.execute(delete(key_secrets).where(which))


async def _insert(connection: AsyncConnection, key_id: str, secret: StoredSecret, *, slot: int, now: datetime) -> None:
    await connection.execute(
        insert(key_secrets).values(
            digest=secret.digest,
            id=new_id("sec"),
            key_id=key_id,
            slot=slot,
            prefix=secret.prefix,
            tail=secret.tail,
            created_at=now,
        )
    )
