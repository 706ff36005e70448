"""Removing a member or a service account: what becomes of their keys is said first, and done with the removal.

Invariant: nothing is orphaned. In one transaction the owner is marked as removed and each key of theirs that is not
revoked is revoked, or moved to a service account which the caller could have made it for. One row in the change log for
each owner concerned is enough for that: workers drop all keys of an owner who changed, whoever they belong to by then.

Revoked keys stay with the removed owner, as history. Each key's own trail tells what became of it, so a removal takes
time that grows with the number of keys; nobody removes an owner of very many of them often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Row, Select, func, select, update

from gateway.errors import Conflict, FieldError, Invalid
from gateway.services.access import refuse_escalation
from gateway.services.owner_changes import log_owner
from gateway.services.owner_rows import NAMES, OwnerRow, find_owner, owner_shape
from gateway.services.people_requests import RemoveOwner
from gateway.services.people_shapes import KeysLeft
from gateway.services.requests import validate
from gateway.services.trail import Fields, Target, record_event, record_events
from gateway.services.writing import Writing
from gateway.store.schema import keys, owners

_BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal has done."""

    keys: KeysLeft
    seq: int


def removal(owner_id: str, body: Mapping[str, object]) -> RemoveOwner:
    """Return the request if its fields fit together and the owner. Raises Invalid."""
    request = validate(RemoveOwner, body)
    faults: list[FieldError] = []
    if request.keys == "move" and request.move_to is None:
        faults.append(FieldError("move_to", "is required with keys=move: the id of a service account"))
    if request.keys != "move" and request.move_to is not None:
        faults.append(FieldError("keys", "must be move where move_to is given"))
    if request.move_to == owner_id:
        faults.append(FieldError("move_to", "must not be the one who is removed"))
    if faults:
        raise Invalid(faults)
    return request


async def remove_owner(writing: Writing, row: OwnerRow, request: RemoveOwner) -> Removed:
    """Remove the owner. Raises Conflict (own account, a choice is missing), NotFound (of the heir), NotAllowed."""
    if row.id == writing.authority.owner_id:
        raise Conflict("Nobody removes themselves. Let another admin do it.", code="own_account")
    count = await _count(writing, row)
    if count and request.keys is None:
        detail = (
            f"{row.name} has {count} {'key that is' if count == 1 else 'keys that are'} not revoked. Say what becomes "
            "of them: keys=revoke, or keys=move with move_to=<id of a service account>."
        )
        raise Conflict(detail, code="keys_need_a_choice")
    if request.move_to is None:
        await _dispose(writing, row, "key.revoke", _revocation(writing, row), row.id)
        left = KeysLeft(revoked=count, moved=0, moved_to=None)
    else:
        heir = await find_owner(writing.connection, writing.authority, "service_account", request.move_to)
        await _refuse_escalation(writing, row, heir)
        await _dispose(writing, row, "key.move", {"owner_id": heir.id}, heir.id)
        # Whoever keeps records by owner finds the keys that were moved at their new one alone.
        await log_owner(writing, heir.id, heir.version)
        left = KeysLeft(revoked=0, moved=count, moved_to=owner_shape(heir))
    return Removed(left, await _mark(writing, row, left))


async def _count(writing: Writing, row: OwnerRow) -> int:
    query = select(func.count()).where(keys.c.owner_id == row.id, keys.c.revoked_at.is_(None))
    return int((await writing.connection.execute(query)).scalar_one())


async def _refuse_escalation(writing: Writing, row: OwnerRow, heir: OwnerRow) -> None:
    """A move hands the key what its new owner holds: only who could make such a key for them may move it there."""
    having = select(keys.c.permissions).where(keys.c.owner_id == row.id, keys.c.revoked_at.is_(None)).distinct()
    for permissions in (await writing.connection.execute(having)).scalars():
        if not writing.authority.may_hand_on(permissions, heir.permissions):
            refuse_escalation(
                f"A key of {row.name} would give more with {heir.name} as its owner than the calling key may hand on. "
                "Use a key that holds it all and is not limited, or revoke the keys."
            )


def _revocation(writing: Writing, row: OwnerRow) -> Fields:
    return {
        "revoked_at": writing.now,
        "revoked_by_id": writing.actor.id,
        "revoked_by_text": writing.actor.text,
        "revoked_reason": f"Its owner, the {NAMES[row.kind]} {row.name}, was removed.",
    }


async def _dispose(
    writing: Writing, row: OwnerRow, action: Literal["key.revoke", "key.move"], changes: Fields, owner_id: str
) -> None:
    """Change all keys that are not revoked at once, and tell each one's trail."""
    wanted = keys.c.owner_id == row.id, keys.c.revoked_at.is_(None)
    told = {name: value for name, value in changes.items() if name != "revoked_by_id"}
    last = ""
    while batch := await _next_keys(writing, row, last):
        targets = [Target(row.organization_id, "key", key.id, key.name, owner_id) for key in batch]
        await record_events(
            writing.connection,
            at=writing.now,
            actor=writing.actor,
            action=action,
            targets=targets,
            before={name: row.id if name == "owner_id" else None for name in told},
            after=told,
        )
        last = batch[-1].id
    await writing.connection.execute(update(keys).where(*wanted).values(**changes, version=keys.c.version + 1))


async def _next_keys(writing: Writing, row: OwnerRow, after: str) -> Sequence[Row[Any]]:  # Any: as in `OwnerRow`
    query: Select[Any] = select(keys.c.id, keys.c.name).where(keys.c.owner_id == row.id, keys.c.revoked_at.is_(None))
    page = query.where(keys.c.id > after).order_by(keys.c.id).limit(_BATCH)
    found: Sequence[Row[Any]] = (await writing.connection.execute(page)).all()
    return found


async def _mark(writing: Writing, row: OwnerRow, left: KeysLeft) -> int:
    """Mark the owner as removed; their e-mail or name and external id may be given to others from now on."""
    changes = {"removed_at": writing.now, "external_id": None, "version": row.version + 1}
    await writing.connection.execute(update(owners).where(owners.c.id == row.id).values(changes))
    await record_event(
        writing.connection,
        at=writing.now,
        actor=writing.actor,
        action=f"{row.kind}.remove",
        target=Target(row.organization_id, row.kind, row.id, row.name, row.id),
        before={"role": row.role, "permissions": row.permissions, "external_id": row.external_id},
        after={
            "keys_revoked": left.revoked,
            "keys_moved": left.moved,
            "moved_to": None if left.moved_to is None else left.moved_to.id,
        },
    )
    return await log_owner(writing, row.id, row.version + 1)
