"""From rows to `Key`: the one query that shows keys, used by show, list and every change.

Invariant: whatever shows a key shows it by this query and this function, so no two answers about a key can differ.
The current secret is the one without an end; a rotated-out one is not what a key is recognised by.
"""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Select, and_, select

from gateway.keys import record
from gateway.services.shapes import ActorShape, Key, LastUse, OwnerShape
from gateway.store.schema import key_secrets, keys, owners, secret_uses

_COLUMNS: Final = (
    *keys.c,
    owners.c.kind.label("owner_kind"),
    owners.c.name.label("owner_name"),
    key_secrets.c.prefix,
    key_secrets.c.tail,
    secret_uses.c.used_at,
    secret_uses.c.address.label("used_from"),
    secret_uses.c.user_agent,
)

KeyRow = Row[Any]  # Any: SQLAlchemy cannot type a row of columns given as a list


def select_keys() -> Select[Any]:
    """Select keys with all that a `Key` shows; the caller adds the conditions."""
    current = and_(key_secrets.c.key_id == keys.c.id, key_secrets.c.valid_until.is_(None))
    return select(*_COLUMNS).select_from(
        keys.join(owners, owners.c.id == keys.c.owner_id)
        .outerjoin(key_secrets, current)
        .outerjoin(secret_uses, secret_uses.c.secret_id == key_secrets.c.id)
    )


def key_from_row(row: KeyRow, now: datetime) -> Key:
    """Build the shape; the status is what it is at `now`."""
    moments = {
        "revoked_at": _seconds(row.revoked_at),
        "expires_at": _seconds(row.expires_at),
        "disabled_at": _seconds(row.disabled_at),
    }
    return Key(
        id=row.id,
        organization_id=row.organization_id,
        name=row.name,
        description=row.description,
        prefix=row.prefix,
        tail=row.tail,
        status=record.status(**moments, now=now.timestamp()),
        expires_soon=record.expires_soon(**moments, now=now.timestamp()),
        permissions=row.permissions,
        owner=OwnerShape(id=row.owner_id, kind=row.owner_kind, name=row.owner_name),
        created_at=row.created_at,
        created_by=ActorShape(id=row.created_by_id, text=row.created_by_text),
        expires_at=row.expires_at,
        disabled_at=row.disabled_at,
        disabled_by=_actor(row.disabled_by_id, row.disabled_by_text),
        revoked_at=row.revoked_at,
        revoked_by=_actor(row.revoked_by_id, row.revoked_by_text),
        revoked_reason=row.revoked_reason,
        last_used=_last_use(row),
        version=row.version,
    )


def _actor(actor_id: str | None, actor_text: str | None) -> ActorShape | None:
    return None if actor_text is None else ActorShape(id=actor_id, text=actor_text)


def _last_use(row: KeyRow) -> LastUse | None:
    if row.used_at is None:
        return None
    return LastUse(at=row.used_at, address=row.used_from, user_agent=row.user_agent)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
