"""How an organization is born: with its rules, a first admin who holds everything, and a key for them.

Invariant: all of it is one transaction, so that there is never an organization which nobody can get into. Whoever
founds it is named in the trail as the caller says: an organization that is founded for others by the operator gets
`System`, since a tenant learns nothing of the operator's people.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import exists, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import Conflict, NotFound
from gateway.keys.expiry import ExpiryRules
from gateway.keys.identifiers import new_id
from gateway.keys.quoting import quoted
from gateway.services.actor import Actor
from gateway.services.key_issuing import issue_key
from gateway.services.key_request import Draft, first_draft
from gateway.services.key_rows import key_from_row, select_keys
from gateway.services.organization_rows import active_organization, organization_from_row
from gateway.services.owner_rows import member_from_row, select_owners
from gateway.services.people_requests import ADMIN_PERMISSIONS, CreateOrganization
from gateway.services.people_shapes import FoundedOrganization
from gateway.services.shapes import IssuedKey
from gateway.services.trail import Fields, Target, record_event
from gateway.store import change_log
from gateway.store.schema import keys, members, organizations, owners

ADMIN_KEY_NAME: Final = "Admin key"


@dataclass(frozen=True, slots=True)
class Founded:
    """What was made. `seq` is the last number that it has in the change log."""

    organization_id: str
    member_id: str
    key: IssuedKey
    seq: int | None


async def found(
    connection: AsyncConnection, request: CreateOrganization, *, prefix: str, actor: Actor, now: datetime
) -> Founded:
    """Make the organization. The first one ever operates the gateway. Raises Conflict for a name or external id in use.

    Only within a write transaction.
    """
    await refuse_organization_twins(connection, name=request.name, external_id=request.external_id)
    organization_id, member_id = new_id("org"), new_id("mem")
    rules = {
        "external_id": request.external_id,
        "default_expiry": request.default_expiry,
        "max_expiry": request.max_expiry,
    }
    await connection.execute(
        insert(organizations).values(
            id=organization_id,
            name=request.name,
            **rules,
            version=1,
            keys_create_requires_admin=False,
            keys_revoke_requires_admin=False,
            created_at=now,
            operator=~exists(select(organizations.c.id).where(organizations.c.operator)),
        )
    )
    await change_log.append(connection, "organization", organization_id, 1)
    target = Target(organization_id, "organization", organization_id, request.name, None)
    after = {"name": request.name, **rules}
    await record_event(connection, at=now, actor=actor, action="organization.create", target=target, after=after)
    await _add_admin(connection, request.admin, organization_id, member_id, actor=actor, now=now)
    draft = first_draft(ADMIN_KEY_NAME, ExpiryRules(request.default_expiry, request.max_expiry), now)
    return await _issued(connection, draft, organization_id, member_id, prefix=prefix, actor=actor, now=now)


async def readmit(
    connection: AsyncConnection, request: CreateOrganization, *, prefix: str, actor: Actor, now: datetime
) -> Founded:
    """Make another key for an admin who lost theirs, in an organization of that name. Raises NotFound.

    Only within a write transaction.
    """
    of_name = organizations.c.name == request.name, organizations.c.removed_at.is_(None)
    rules = organizations.c.default_expiry, organizations.c.max_expiry
    organization = (await connection.execute(select(organizations.c.id, *rules).where(*of_name))).one_or_none()
    if organization is None:
        detail = f"There is no organization {quoted(request.name)} in this store."
        raise NotFound(detail, code="organization_not_found")
    of_admin = owners.c.name == request.admin, owners.c.removed_at.is_(None), members.c.role == "admin"
    member_id = (
        await connection.execute(
            select(owners.c.id)
            .join(members, members.c.owner_id == owners.c.id)
            .where(owners.c.organization_id == organization.id, *of_admin)
        )
    ).scalar_one_or_none()
    if member_id is None:
        detail = f"{quoted(request.admin)} is no admin of {quoted(request.name)}."
        raise NotFound(detail, code="member_not_found")
    draft = first_draft(ADMIN_KEY_NAME, ExpiryRules(organization.default_expiry, organization.max_expiry), now)
    return await _issued(connection, draft, organization.id, member_id, prefix=prefix, actor=actor, now=now)


async def founded(connection: AsyncConnection, organization_id: str, now: datetime) -> FoundedOrganization:
    """Return the organization as it is, with its first member and key (without a secret) as far as they are unchanged.

    What the organization has changed since is its own and no longer its founder's to see; so is the keys' use.
    """
    organization = await active_organization(connection, organization_id)
    with_it = owners.c.organization_id == organization_id, owners.c.created_at == organization.created_at
    first = select_owners().where(*with_it, owners.c.version == 1).order_by(owners.c.id).limit(1)
    member = (await connection.execute(first)).one_or_none()
    key = None
    if member is not None:
        of_member = keys.c.owner_id == member.id, keys.c.created_at == organization.created_at, keys.c.version == 1
        made = (await connection.execute(select_keys().where(*of_member).order_by(keys.c.id).limit(1))).one_or_none()
        if made is not None:
            shown = dict(key_from_row(made, now)) | {"last_used": None, "secret_last_used": None}
            key = IssuedKey(**shown, secret=None, code="secret_already_issued")
    return FoundedOrganization(
        **dict(organization_from_row(organization)),
        member=None if member is None else member_from_row(member),
        key=key,
    )


async def refuse_organization_twins(
    connection: AsyncConnection, *, name: str | None, external_id: str | None, but: str = ""
) -> None:
    """Raise Conflict where another organization than `but` has this name or external id; None: not to be looked for."""
    others = organizations.c.id != but
    if name is not None:
        same = others & (organizations.c.name == name) & organizations.c.removed_at.is_(None)
        if (await connection.execute(select(exists().where(same)))).scalar_one():
            detail = f"The organization {quoted(name)} exists already. Use another name for a further one."
            raise Conflict(detail, code="organization_exists")
    if external_id is not None:
        same = others & (organizations.c.external_id == external_id)
        if (await connection.execute(select(exists().where(same)))).scalar_one():
            raise Conflict(
                f"The external id {quoted(external_id)} is another organization's.", code="external_id_in_use"
            )


async def _issued(
    connection: AsyncConnection,
    draft: Draft,
    organization_id: str,
    member_id: str,
    *,
    prefix: str,
    actor: Actor,
    now: datetime,
) -> Founded:
    issued = await issue_key(
        connection, draft, organization_id=organization_id, owner_id=member_id, prefix=prefix, actor=actor, now=now
    )
    return Founded(organization_id, member_id, issued.resource, issued.seq)


async def _add_admin(
    connection: AsyncConnection, email: str, organization_id: str, member_id: str, *, actor: Actor, now: datetime
) -> None:
    await connection.execute(
        insert(owners).values(
            id=member_id,
            organization_id=organization_id,
            kind="member",
            name=email,
            permissions=ADMIN_PERMISSIONS,
            version=1,
            created_at=now,
        )
    )
    await connection.execute(insert(members).values(owner_id=member_id, role="admin"))
    await change_log.append(connection, "owner", member_id, 1)
    target = Target(organization_id, "member", member_id, email, member_id)
    after: Fields = {"email": email, "role": "admin", "permissions": ADMIN_PERMISSIONS}
    await record_event(connection, at=now, actor=actor, action="member.create", target=target, after=after)
