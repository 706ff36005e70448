"""Rotation: a new secret for the same key, beside the old one for as long as that is still needed.

    create -> switch -> verify -> finish        `rotate` is the first step, `finish` the last; time finishes as well

Invariant: a key has one present secret, and at most one that was rotated out and ends at a known moment. While that one
is still valid there is no other rotation (409 `rotation_in_progress`): a third secret would have to end one of the two,
and nobody could tell whether it is still in use. An old secret is retired when it is finished or replaced; until then
its row stays, dead by its own `valid_until`.
"""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import and_, select, update

from gateway.errors import Conflict
from gateway.keys import secret as secrets
from gateway.keys.record import Status
from gateway.services import secret_rows
from gateway.services.changed import Changed
from gateway.services.key_changing import Change
from gateway.services.key_request import Grace
from gateway.services.key_rows import status_of
from gateway.services.key_rules import refuse_revoked, require_coverage, require_own_secret
from gateway.services.shapes import IssuedKey, Key
from gateway.store.schema import key_secrets

_GRACES: Final[dict[Grace, timedelta]] = {
    "0": timedelta(0),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
}


async def rotate(change: Change, grace: Grace, prefix: str) -> Changed[IssuedKey]:
    """Make the new secret, and set the end of the present one."""
    row = change.row
    require_own_secret(change.authority, row.owner_kind, row.owner_id)
    require_coverage(change.authority, row.permissions, row.owner_permissions)
    _refuse_unusable(change)
    await _make_room(change)
    end = change.now + _GRACES[grace]
    end = end if row.expires_at is None else min(end, row.expires_at)
    slot = await _end_present(change, end)
    secret = await secret_rows.add_own(change.connection, row.id, slot=slot, prefix=prefix, now=change.now)
    after = {"tail": secrets.tail(secret), "previous_valid_until": end}
    rotated = await change.record("key.rotate", {}, before={"tail": row.tail}, after=after)
    return Changed(IssuedKey(**dict(rotated.resource), secret=secret), rotated.seq)


async def finish(change: Change) -> Changed[Key]:
    """End the old secret now. Where there is none, or its time is over, nothing changes."""
    row = change.row
    if row.previous_id is None or row.previous_valid_until <= change.now:
        return change.nothing()
    await secret_rows.retire(change.connection, key_secrets.c.id == row.previous_id, change.now)
    before = {"previous_tail": row.previous_tail, "previous_valid_until": row.previous_valid_until}
    return await change.record("key.finish_rotation", {}, before=before, after=dict.fromkeys(before))


def _refuse_unusable(change: Change) -> None:
    refuse_revoked(change.row)
    if status_of(change.row, change.now) is Status.EXPIRED:
        detail = f"The key {change.row.id} is expired, and a new secret would be, too. Move its date first."
        raise Conflict(detail, code="key_expired")


async def _make_room(change: Change) -> None:
    """Retire an old secret whose time is over. Raises Conflict where it is not."""
    row = change.row
    if row.previous_id is None:
        return
    if row.previous_valid_until > change.now:
        until = row.previous_valid_until.isoformat(timespec="seconds").replace("+00:00", "Z")
        detail = (
            f"The key {row.id} was rotated already, and its old secret is valid until {until}. "
            "Finish that rotation first, or wait."
        )
        raise Conflict(detail, code="rotation_in_progress")
    await secret_rows.retire(change.connection, key_secrets.c.id == row.previous_id, change.now)


async def _end_present(change: Change, end: datetime) -> int:
    """Let the present secret end at this moment, which may be now. Return the slot that is free for the next one."""
    present = and_(key_secrets.c.key_id == change.row.id, key_secrets.c.valid_until.is_(None))
    slot: int = (await change.connection.execute(select(key_secrets.c.slot).where(present))).scalar_one()
    if end <= change.now:
        await secret_rows.retire(change.connection, present, change.now)
    else:
        await change.connection.execute(update(key_secrets).where(present).values(valid_until=end))
    return 1 - slot
