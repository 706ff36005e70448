"""From rows to `Key`: the one query that shows keys, used by show, list and every change.

Invariant: whatever shows a key shows it by this query and this function, so no two answers about a key can differ.
The present secret is the one without an end. One that was rotated out is shown beside it for as long as it is good for
a request, and no longer than the key itself is.
"""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Select, and_, select

from gateway.keys import record
from gateway.services.shapes import ActorShape, Key, LastUse, OwnerShape, PreviousSecret
from gateway.store.schema import key_secrets, key_uses, keys, owners, secret_uses

_PREVIOUS: Final = key_secrets.alias("previous")
_PREVIOUS_USE: Final = secret_uses.alias("previous_use")

_COLUMNS: Final = (
    *keys.c,
    owners.c.kind.label("owner_kind"),
    owners.c.name.label("owner_name"),
    owners.c.permissions.label("owner_permissions"),
    key_secrets.c.prefix,
    key_secrets.c.tail,
    key_uses.c.used,
    key_uses.c.idle_since,
    key_uses.c.address.label("used_from"),
    key_uses.c.user_agent.label("used_by"),
    secret_uses.c.used_at.label("secret_used_at"),
    secret_uses.c.address.label("secret_used_from"),
    secret_uses.c.user_agent.label("secret_used_by"),
    _PREVIOUS.c.id.label("previous_id"),
    _PREVIOUS.c.tail.label("previous_tail"),
    _PREVIOUS.c.valid_until.label("previous_valid_until"),
    _PREVIOUS_USE.c.used_at.label("previous_used_at"),
    _PREVIOUS_USE.c.address.label("previous_used_from"),
    _PREVIOUS_USE.c.user_agent.label("previous_used_by"),
)

KeyRow = Row[Any]  # Any: SQLAlchemy cannot type a row of columns given as a list


def select_keys() -> Select[Any]:
    """Select keys with all that a `Key` shows, and their owner's permissions; the caller adds the conditions."""
    current = and_(key_secrets.c.key_id == keys.c.id, key_secrets.c.valid_until.is_(None))
    rotated_out = and_(_PREVIOUS.c.key_id == keys.c.id, _PREVIOUS.c.valid_until.is_not(None))
    return select(*_COLUMNS).select_from(
        keys.join(owners, owners.c.id == keys.c.owner_id)
        .outerjoin(key_secrets, current)
        .outerjoin(key_uses, key_uses.c.key_id == keys.c.id)
        .outerjoin(secret_uses, secret_uses.c.secret_id == key_secrets.c.id)
        .outerjoin(_PREVIOUS, rotated_out)
        .outerjoin(_PREVIOUS_USE, _PREVIOUS_USE.c.secret_id == _PREVIOUS.c.id)
    )


def status_of(row: KeyRow, now: datetime) -> record.Status:
    """Return the key's status at `now`."""
    return record.status(**_moments(row), now=now.timestamp())


def key_from_row(row: KeyRow, now: datetime) -> Key:
    """Build the shape; the status is what it is at `now`."""
    return Key(
        id=row.id,
        organization_id=row.organization_id,
        name=row.name,
        description=row.description,
        prefix=row.prefix,
        tail=row.tail,
        status=status_of(row, now),
        expires_soon=record.expires_soon(**_moments(row), now=now.timestamp()),
        permissions=row.permissions,
        allowed_origins=row.allowed_origins,
        owner=OwnerShape(id=row.owner_id, kind=row.owner_kind, name=row.owner_name),
        created_at=row.created_at,
        created_by=ActorShape(id=row.created_by_id, text=row.created_by_text),
        expires_at=row.expires_at,
        disabled_at=row.disabled_at,
        disabled_by=_actor(row.disabled_by_id, row.disabled_by_text),
        revoked_at=row.revoked_at,
        revoked_by=_actor(row.revoked_by_id, row.revoked_by_text),
        revoked_reason=row.revoked_reason,
        last_used=_use(row.idle_since if row.used else None, row.used_from, row.used_by),
        secret_last_used=_use(row.secret_used_at, row.secret_used_from, row.secret_used_by),
        previous_secret=_previous(row, now),
        imported=row.imported,
        version=row.version,
    )


def _moments(row: KeyRow) -> dict[str, float | None]:
    return {name: _seconds(getattr(row, name)) for name in ("revoked_at", "expires_at", "disabled_at")}


def _previous(row: KeyRow, now: datetime) -> PreviousSecret | None:
    if row.previous_valid_until is None or row.revoked_at is not None:
        return None
    end = min(row.previous_valid_until, row.expires_at or row.previous_valid_until)
    if end <= now:
        return None
    used = _use(row.previous_used_at, row.previous_used_from, row.previous_used_by)
    return PreviousSecret(tail=row.previous_tail, valid_until=end, last_used=used)


def _actor(actor_id: str | None, actor_text: str | None) -> ActorShape | None:
    return None if actor_text is None else ActorShape(id=actor_id, text=actor_text)


def _use(at: datetime | None, address: str | None, user_agent: str | None) -> LastUse | None:
    return None if at is None or address is None else LastUse(at=at, address=address, user_agent=user_agent)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
