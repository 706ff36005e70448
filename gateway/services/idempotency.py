"""Calls that may be sent again: who repeats an `Idempotency-Key` gets the thing that the first call made.

Invariant: key and thing are remembered in the transaction that makes the thing, so of two calls with one key, however
close to each other, exactly one makes something. A key belongs to whoever called (the owner of the calling key, so that
a rotated or another key of theirs repeats as well) and to one request: the same operation with the same body.

Turned down: keeping the first answer and sending it again. It held the secret, which is stored nowhere.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import Conflict, FieldError, Invalid
from gateway.keys.authority import Authority
from gateway.store.schema import idempotency_keys

HEADER: Final = "Idempotency-Key"
PATTERN: Final = r"[!-~]{1,255}"
MEMORY: Final = timedelta(hours=24)

_KEY: Final = re.compile(PATTERN, re.ASCII)


@dataclass(frozen=True, slots=True)
class Repeatable:
    """One call, as it will be recognised when it comes again. Without a key it never will be."""

    organization_id: str
    owner_id: str
    key: str | None
    digest: bytes

    async def made_before(self, connection: AsyncConnection, now: datetime) -> str | None:
        """Return the id of what this call made in the last 24 hours, None where it is the first.

        Raises Conflict where another call had the same key. Only within a write transaction.
        """
        if self.key is None:
            return None
        made = select(idempotency_keys).where(
            idempotency_keys.c.organization_id == self.organization_id,
            idempotency_keys.c.actor_id == self.owner_id,
            idempotency_keys.c.idempotency_key == self.key,
            idempotency_keys.c.created_at > now - MEMORY,
        )
        row = (await connection.execute(made)).one_or_none()
        if row is None:
            return None
        if row.request_digest != self.digest:
            detail = f"This {HEADER} was used for another request in the last 24 hours. Use a new one for each request."
            raise Conflict(detail, code="idempotency_key_reused")
        return str(row.resource_id)

    async def remember(self, connection: AsyncConnection, resource_id: str, now: datetime) -> None:
        """Note what the call made, and forget what is older than 24 hours. Only within a write transaction."""
        if self.key is None:
            return
        await connection.execute(delete(idempotency_keys).where(idempotency_keys.c.created_at <= now - MEMORY))
        await connection.execute(
            insert(idempotency_keys).values(
                organization_id=self.organization_id,
                actor_id=self.owner_id,
                idempotency_key=self.key,
                request_digest=self.digest,
                resource_id=resource_id,
                created_at=now,
            )
        )


def repeatable(authority: Authority, operation: str, body: Mapping[str, object], key: str | None) -> Repeatable:
    """Describe the call. `operation` is its event's action, such as `key.create`. Raises Invalid for a bad key."""
    if key is not None and _KEY.fullmatch(key) is None:
        raise Invalid([FieldError(HEADER, "must be 1 to 255 visible ASCII characters")])
    request = json.dumps([operation, dict(body)], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(request.encode()).digest()
    return Repeatable(authority.organization_id, authority.owner_id, key, digest)
