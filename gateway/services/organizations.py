"""Organizations: the first one, and looking them up.

Invariant: an organization is born whole: with an admin member and a key for them, in one transaction, so that there is
never one which nobody can get into.
"""

from sqlalchemy import Select, exists, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.errors import Conflict, FieldError, Invalid
from gateway.keys.identifiers import new_id
from gateway.keys.naming import clean_email, clean_name
from gateway.services.actor import SYSTEM, Actor
from gateway.services.key_issuing import issue_key
from gateway.services.key_request import CreateKey, ExpiryRules, examine
from gateway.services.keys import Clock, utc_now
from gateway.services.organization_rows import OrganizationRow, resolve_organization
from gateway.services.shapes import Initialised, MemberName, Organization, OrganizationName
from gateway.services.trail import Target, record_event
from gateway.store import change_log
from gateway.store.engine import read_transaction, write_transaction
from gateway.store.schema import members, organizations, owners

DEFAULT_EXPIRY = "1y"
ADMIN_PERMISSIONS = ("*:*", "gateway:*")  # `*` never matches the gateway itself, so that is granted by name
ADMIN_KEY_NAME = "Admin key"


class OrganizationService:
    """The organizations of the store behind `engine`."""

    __slots__ = ("_clock", "_engine", "_key_prefix")

    def __init__(self, engine: AsyncEngine, *, key_prefix: str = "sk_", clock: Clock = utc_now) -> None:
        self._engine = engine
        self._key_prefix = key_prefix
        self._clock = clock

    async def is_initialised(self) -> bool:
        """Tell whether there is any organization."""
        async with read_transaction(self._engine) as connection:
            found = await connection.execute(select(exists(select(organizations.c.id))))
            return bool(found.scalar_one())

    async def initialise(self, name: str, admin_email: str, *, actor: Actor = SYSTEM) -> Initialised:
        """Make an organization, its first admin and their key. Raises Conflict where the name is taken, Invalid."""
        name, admin_email = _clean(name, admin_email)
        async with write_transaction(self._engine) as connection:
            if (await connection.execute(_named(name))).first() is not None:
                detail = f"The organization {name!r} exists already. Use another name for a further one."
                raise Conflict(detail, code="organization_exists")
            return await self._establish(connection, name, admin_email, actor)

    async def resolve(self, reference: str | None = None) -> Organization:
        """Return the organization with this id, external id or name; without a reference the only one there is.

        Raises NotFound, and Conflict where several fit.
        """
        async with read_transaction(self._engine) as connection:
            return _organization(await resolve_organization(connection, reference))

    async def _establish(self, connection: AsyncConnection, name: str, admin_email: str, actor: Actor) -> Initialised:
        now = self._clock()
        organization_id, member_id = new_id("org"), new_id("mem")
        await connection.execute(
            insert(organizations).values(
                id=organization_id,
                name=name,
                version=1,
                default_expiry=DEFAULT_EXPIRY,
                keys_create_requires_admin=False,
                keys_revoke_requires_admin=False,
                created_at=now,
            )
        )
        await connection.execute(
            insert(owners).values(
                id=member_id,
                organization_id=organization_id,
                kind="member",
                name=admin_email,
                permissions=ADMIN_PERMISSIONS,
                version=1,
                created_at=now,
            )
        )
        await connection.execute(insert(members).values(owner_id=member_id, role="admin"))
        await change_log.append(connection, "organization", organization_id, 1)
        await change_log.append(connection, "owner", member_id, 1)
        for action, target, after in (
            ("organization.create", Target(organization_id, "organization", organization_id, name), {"name": name}),
            ("member.create", Target(organization_id, "member", member_id, admin_email), {"role": "admin"}),
        ):
            await record_event(connection, at=now, actor=actor, action=action, target=target, after=after)
        rules = ExpiryRules(default=DEFAULT_EXPIRY, maximum=None)
        key = await issue_key(
            connection,
            examine(CreateKey(name=ADMIN_KEY_NAME), rules, now),
            organization_id=organization_id,
            owner_id=member_id,
            prefix=self._key_prefix,
            actor=actor,
            now=now,
        )
        return Initialised(
            organization=OrganizationName(id=organization_id, name=name),
            member=MemberName(id=member_id, email=admin_email),
            key=key,
        )


def _named(name: str) -> Select[tuple[str]]:
    return select(organizations.c.id).where(organizations.c.name == name, organizations.c.removed_at.is_(None))


def _clean(name: str, admin_email: str) -> tuple[str, str]:
    faults: list[FieldError] = []
    for field, clean, text in (("org", clean_name, name), ("admin", clean_email, admin_email)):
        try:
            clean(text)
        except ValueError as error:
            faults.append(FieldError(field, str(error)))
    if faults:
        raise Invalid(faults)
    return clean_name(name), clean_email(admin_email)


def _organization(row: OrganizationRow) -> Organization:
    return Organization(
        id=row.id,
        name=row.name,
        external_id=row.external_id,
        default_expiry=row.default_expiry,
        max_expiry=row.max_expiry,
        keys_create_requires_admin=row.keys_create_requires_admin,
        keys_revoke_requires_admin=row.keys_revoke_requires_admin,
        created_at=row.created_at,
        version=row.version,
    )
