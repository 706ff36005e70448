"""Adding and changing members and service accounts: their rows, and what a change of one leaves behind.

Invariant: each change bumps the owner's version, adds a row to the change log (workers then drop what they remember of
all of the owner's keys) and tells the trail the fields that changed, in the words of the API. Nothing is added to an
owner that the caller does not hold, since each of the owner's keys may be given it; taking away needs no more than
`gateway:members`.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Table, exists, insert, select, update

from gateway.errors import Conflict
from gateway.keys.authority import GATEWAY_PERMISSIONS
from gateway.keys.identifiers import new_id
from gateway.keys.naming import folded
from gateway.keys.permissions import allows, covers
from gateway.keys.quoting import quoted
from gateway.keys.record import OwnerKind
from gateway.services.access import require_held
from gateway.services.owner_rows import NAMES, OwnerRow
from gateway.services.trail import Target, record_event
from gateway.services.writing import Writing
from gateway.store import change_log
from gateway.store.schema import members, owners, service_accounts

# Where the API's fields are kept. Both kinds call their name differently; the rest of `owners` has the same names.
_NAME_FIELDS: Final[Mapping[OwnerKind, str]] = {"member": "email", "service_account": "name"}
_DETAILS: Final[Mapping[OwnerKind, tuple[Table, str]]] = {
    "member": (members, "role"),
    "service_account": (service_accounts, "description"),
}

Values = Mapping[str, Any]  # Any: the API's fields, each of its own type


async def insert_owner(writing: Writing, kind: OwnerKind, values: Values) -> str:
    """Add an owner with these fields of the API; return the id.

    Raises NotAllowed for permissions that the caller does not hold, Conflict for a name or external id in use.
    """
    name = values[_NAME_FIELDS[kind]]
    require_held(writing.authority, values["permissions"])
    await _refuse_twins(writing, kind, values, but=None)
    owner_id = new_id("mem" if kind == "member" else "sva")
    await writing.connection.execute(
        insert(owners).values(
            id=owner_id,
            organization_id=writing.organization_id,
            kind=kind,
            name=name,
            external_id=values["external_id"],
            permissions=values["permissions"],
            version=1,
            created_at=writing.now,
        )
    )
    table, detail = _DETAILS[kind]
    await writing.connection.execute(insert(table).values({"owner_id": owner_id, detail: values[detail]}))
    await _tell(writing, f"{kind}.create", kind, owner_id, name, after=values)
    return owner_id


async def log_owner(writing: Writing, owner_id: str, version: int) -> int:
    """Add the owner to the change log; return the number. The last thing that a change does."""
    return await change_log.append(writing.connection, "owner", owner_id, version)


async def update_owner(writing: Writing, row: OwnerRow, wanted: Values) -> int | None:
    """Give the owner these fields of the API; return the change's number, None where all are so already.

    Raises NotAllowed for permissions that the caller does not hold, Conflict for a name or external id in use.
    """
    kind: OwnerKind = row.kind
    before = {field: _present(row, field) for field in wanted}
    changes = {field: value for field, value in wanted.items() if value != before[field]}
    if not changes:
        return None
    added = [each for each in changes.get("permissions", ()) if not allows(row.permissions, each)]
    require_held(writing.authority, added)
    await _refuse_twins(writing, kind, changes, but=row.id)
    name_field, (table, detail) = _NAME_FIELDS[kind], _DETAILS[kind]
    columns = {field: value for field, value in changes.items() if field in {"permissions", "external_id"}}
    if name_field in changes:
        columns |= {"name": changes[name_field], "name_search": folded(changes[name_field])}
    of_owner = owners.c.id == row.id
    await writing.connection.execute(update(owners).where(of_owner).values(**columns, version=row.version + 1))
    if detail in changes:
        in_detail = update(table).where(table.c.owner_id == row.id)
        await writing.connection.execute(in_detail.values({detail: changes[detail]}))
    told = {field: before[field] for field in changes}
    await _tell(writing, f"{kind}.update", kind, row.id, row.name, before=told, after=changes)
    return await log_owner(writing, row.id, row.version + 1)


async def refuse_last_admin(writing: Writing, row: OwnerRow, role: str | None, permissions: tuple[str, ...]) -> None:
    """Raise Conflict if nobody could administer the organization any more once the member has this role (None: gone).

    What counts is an admin who holds all of the gateway's permissions: whoever holds fewer can never give the rest.
    """
    if not _fully_administers(row.role, row.permissions) or _fully_administers(role, permissions):
        return
    others = select(owners.c.permissions).join(members, members.c.owner_id == owners.c.id)
    query = others.where(
        owners.c.organization_id == writing.organization_id,
        owners.c.removed_at.is_(None),
        owners.c.id != row.id,
        members.c.role == "admin",
    )
    if any(_fully_administers("admin", held) for held in (await writing.connection.execute(query)).scalars()):
        return
    detail = f"{row.name} is the last admin who holds all of the gateway's permissions. Make another one first."
    raise Conflict(detail, code="last_admin")


def _fully_administers(role: str | None, permissions: tuple[str, ...]) -> bool:
    return role == "admin" and covers(permissions, GATEWAY_PERMISSIONS)


def _present(row: OwnerRow, field: str) -> object:
    return getattr(row, "name" if field == "email" else field)


async def _refuse_twins(writing: Writing, kind: OwnerKind, values: Values, *, but: str | None) -> None:
    name, external_id = values.get(_NAME_FIELDS[kind]), values.get("external_id")
    here = owners.c.organization_id == writing.organization_id
    if but is not None:
        here &= owners.c.id != but
    if name is not None:
        same = here & (owners.c.kind == kind) & (owners.c.name == name) & owners.c.removed_at.is_(None)
        if (await writing.connection.execute(select(exists().where(same)))).scalar_one():
            raise Conflict(
                f"There is a {NAMES[kind]} {quoted(name)} in this organization already.", code=f"{kind}_exists"
            )
    if external_id is not None:
        same = here & (owners.c.external_id == external_id)
        if (await writing.connection.execute(select(exists().where(same)))).scalar_one():
            detail = f"The external id {quoted(external_id)} is that of another member or service account."
            raise Conflict(detail, code="external_id_in_use")


async def _tell(
    writing: Writing,
    action: str,
    kind: OwnerKind,
    owner_id: str,
    name: str,
    *,
    before: Values | None = None,
    after: Values | None = None,
) -> None:
    target = Target(writing.organization_id, kind, owner_id, name, owner_id)
    await record_event(
        writing.connection,
        at=writing.now,
        actor=writing.actor,
        action=action,
        target=target,
        before=before,
        after=after,
    )
