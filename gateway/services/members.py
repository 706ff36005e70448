"""Members: the people of an organization, added, changed and removed by its admins.

Invariant: nobody gives more than they hold (permissions, the role of an admin, a first key), nobody removes themselves,
and there is always an admin who holds all of the gateway's permissions, so that an organization cannot lock itself out.
A member who is no admin sees themselves and nobody else.

Until members can log in, the way in is a first key that an admin has made along with them and hands on; it inherits, so
it never gives more than the member holds. From then on a member's keys are made by the member alone.
"""

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.keys.authority import ADMIN, KEYS, MEMBERS
from gateway.keys.expiry import ExpiryRules
from gateway.services import paging
from gateway.services.access import refuse_escalation, require, require_admin, require_reading
from gateway.services.actor import Caller
from gateway.services.changed import Changed
from gateway.services.clock import Clock, utc_now
from gateway.services.idempotency import repeatable
from gateway.services.key_issuing import issue_key
from gateway.services.key_request import Draft
from gateway.services.key_rows import key_from_row, select_keys
from gateway.services.named_listing import Page
from gateway.services.organization_rows import active_organization
from gateway.services.owner_changes import insert_owner, log_owner, refuse_last_admin, update_owner
from gateway.services.owner_removal import removal, remove_owner
from gateway.services.owner_rows import find_owner, member_from_row, owner_page
from gateway.services.people_requests import CreateMember, FirstKey, UpdateMember, given
from gateway.services.people_shapes import InvitedMember, Member, MemberPage, RemovedMember
from gateway.services.requests import RequestContext, validate
from gateway.services.shapes import IssuedKey
from gateway.services.writing import Writing, refuse_lost_race, writing
from gateway.store.engine import read_transaction
from gateway.store.schema import keys


class MemberService:
    """The members of the caller's organization, in the store behind `engine`."""

    __slots__ = ("_clock", "_engine", "_key_prefix")

    def __init__(self, engine: AsyncEngine, *, key_prefix: str = "sk_", clock: Clock = utc_now) -> None:
        self._engine = engine
        self._key_prefix = key_prefix
        self._clock = clock

    async def create(
        self, caller: Caller, body: Mapping[str, object], idempotency_key: str | None = None
    ) -> Changed[InvitedMember]:
        """Add a member, and a first key where `first_key` asks for one. The answer alone carries its secret.

        A repeated call changes nothing and answers with what the first one made, without the secret.
        Raises NotAllowed, Invalid with all bad fields, Conflict for an e-mail address or external id in use.
        """
        async with writing(self._engine, self._clock, caller, MEMBERS) as change:
            require_admin(change.authority, "add members")
            call = repeatable(change.authority, "member.create", body, idempotency_key)
            member_id = await call.made_before(change.connection, change.now)
            if member_id is not None:  # not judged again: what was right then may break a rule of today
                with_key = body.get("first_key") not in (None, False)
                return Changed(await _invited_before(change, member_id, with_key=with_key), None)
            organization = await active_organization(change.connection, change.organization_id)
            rules = ExpiryRules(default=organization.default_expiry, maximum=organization.max_expiry)
            request = validate(CreateMember, body, RequestContext(rules, change.now))
            if request.role == "admin":
                require(change.authority, ADMIN)
            member_id = await insert_owner(change, "member", _values(request))
            key = await self._first_key(change, member_id, request, rules)
            seq = await log_owner(change, member_id, 1)
            await call.remember(change.connection, member_id, change.now)
            row = await find_owner(change.connection, change.authority, "member", member_id)
            return Changed(InvitedMember(**dict(member_from_row(row)), key=key), seq)

    async def list(
        self, caller: Caller, search: str | None = None, cursor: str | None = None, limit: int = paging.DEFAULT_LIMIT
    ) -> MemberPage:
        """Return one page, newest first; with `search` those whose e-mail address begins so, in alphabetical order."""
        require_reading(caller.authority, MEMBERS)
        async with read_transaction(self._engine) as connection:
            page = Page(search, cursor, limit)
            rows, next_cursor = await owner_page(connection, caller.authority, "member", page)
        return MemberPage(items=tuple(member_from_row(row) for row in rows), next_cursor=next_cursor)

    async def show(self, caller: Caller, member_id: str) -> Member:
        """Return the member. Raises NotFound."""
        require_reading(caller.authority, MEMBERS)
        async with read_transaction(self._engine) as connection:
            return member_from_row(await find_owner(connection, caller.authority, "member", member_id))

    async def update(
        self, caller: Caller, member_id: str, body: Mapping[str, object], if_match: int | None = None
    ) -> Changed[Member]:
        """Change what the body gives. It counts for all keys of the member at once.

        Raises NotAllowed, NotFound, Invalid, Conflict (`last_admin`, names in use), PreconditionFailed.
        """
        async with writing(self._engine, self._clock, caller, MEMBERS) as change:
            row = await find_owner(change.connection, change.authority, "member", member_id)
            require_admin(change.authority, "change members")
            wanted = given(validate(UpdateMember, body))
            refuse_lost_race(row.version, if_match)
            role = wanted.get("role", row.role)
            if role == "admin" and row.role != "admin":
                require(change.authority, ADMIN)
            await refuse_last_admin(change, row, role, wanted.get("permissions", row.permissions))
            seq = await update_owner(change, row, wanted)
            row = await find_owner(change.connection, change.authority, "member", member_id)
            return Changed(member_from_row(row), seq)

    async def remove(self, caller: Caller, member_id: str, body: Mapping[str, object]) -> Changed[RemovedMember]:
        """Remove the member; the body says what becomes of their keys: `RemoveOwner`.

        Raises NotAllowed, NotFound, Invalid, Conflict (`keys_need_a_choice`, `own_account`, `last_admin`).
        """
        async with writing(self._engine, self._clock, caller, MEMBERS) as change:
            row = await find_owner(change.connection, change.authority, "member", member_id)
            require_admin(change.authority, "remove members")
            request = removal(member_id, body)
            removed = await remove_owner(change, row, request)
            await refuse_last_admin(change, row, None, row.permissions)
            return Changed(RemovedMember(**dict(member_from_row(row)), keys=removed.keys), removed.seq)

    async def _first_key(
        self, change: Writing, member_id: str, request: CreateMember, rules: ExpiryRules
    ) -> IssuedKey | None:
        """Make the key that was asked for. It inherits, which a limited key cannot hand on."""
        wanted = request.first_key
        if wanted is None:
            return None
        require(change.authority, KEYS)
        if not change.authority.may_hand_on(None, request.granted):
            refuse_escalation("A first key inherits what its member holds: only a key that is not limited makes one.")
        issued = await issue_key(
            change.connection,
            _draft(wanted, request.email, rules, change),
            organization_id=change.organization_id,
            owner_id=member_id,
            prefix=self._key_prefix,
            actor=change.actor,
            now=change.now,
        )
        return issued.resource


def _values(request: CreateMember) -> dict[str, object]:
    return {
        "email": request.email,
        "role": request.role,
        "permissions": request.granted,
        "external_id": request.external_id,
    }


async def _invited_before(change: Writing, member_id: str, *, with_key: bool) -> InvitedMember:
    """Return the member as they are now, and their first key if it is still there."""
    row = await find_owner(change.connection, change.authority, "member", member_id)
    key = None
    if with_key:
        made_along = keys.c.owner_id == member_id, keys.c.created_at == row.created_at
        first = select_keys().where(*made_along).order_by(keys.c.id).limit(1)
        found = (await change.connection.execute(first)).one_or_none()
        if found is not None:
            shown = dict(key_from_row(found, change.now))
            key = IssuedKey(**shown, secret=None, code="secret_already_issued")
    return InvitedMember(**dict(member_from_row(row)), key=key)


def _draft(wanted: FirstKey, email: str, rules: ExpiryRules, change: Writing) -> Draft:
    return Draft(
        name=wanted.name or f"First key of {email}"[:128],
        description="",
        permissions=None,
        expires_at=rules.default_at(change.now) if wanted.expires is None else wanted.expires.at,
    )
