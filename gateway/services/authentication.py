"""Who calls the admin API: from a presented secret to a `Caller`.

Invariant: three answers, as at the proxy, in the same codes and words: a caller, an `Unauthenticated` that says why,
or a failure of the store, which is never told as a bad key. Nothing is cached: the store is asked at each call, so that
a change of a key, its owner or its organization counts from the next call on.

Turned down: authenticating by the worker's key cache. It answers in microseconds and may be a moment behind; the admin
API is called rarely and has to be right.
"""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import NotAllowed, Unauthenticated
from gateway.keys import secret as secrets
from gateway.keys.record import Status
from gateway.keys.refused import INACTIVE, MALFORMED, MISSING, UNKNOWN, WRONG_ORIGIN
from gateway.keys.secret import Form
from gateway.services.actor import Caller
from gateway.services.authority_rows import caller_from_row, refuse_inactive, select_callers
from gateway.services.clock import Clock, utc_now
from gateway.services.key_rows import key_from_row, select_keys
from gateway.services.owner_rows import owner_shape, select_owners
from gateway.services.people_shapes import Me, MyOrganization, MyOwner
from gateway.store.engine import read_transaction
from gateway.store.schema import key_secrets, keys, organizations, owners


class Authenticator:
    """Reads the store behind `engine`. With `generic` every key that is not good looks like an unknown one."""

    __slots__ = ("_clock", "_engine", "_generic", "_key_prefix")

    def __init__(
        self, engine: AsyncEngine, *, key_prefix: str = "sk_", generic: bool = False, clock: Clock = utc_now
    ) -> None:
        self._engine = engine
        self._key_prefix = key_prefix.encode()
        self._generic = generic
        self._clock = clock

    async def authenticate(
        self,
        secret: str | None,
        address: str | None = None,
        request_id: str | None = None,
        *,
        origin: str | None = None,
    ) -> Caller:
        """Return the caller whose secret this is; spaces around it are forgiven.

        `origin` is the page that a browser sends the call from: a key with allowed origins serves these pages alone.
        Raises Unauthenticated, or NotAllowed for another origin.
        """
        # What is not UTF-8 comes as lone surrogates, and is no secret of ours; nor is what no header could hold.
        presented = (secret or "").strip().encode(errors="surrogatepass")
        if not presented:
            raise Unauthenticated(MISSING, code="missing_api_key")
        form = secrets.form(presented, self._key_prefix)
        if form is Form.BROKEN or len(presented) > secrets.MAX_SECRET_BYTES:
            raise Unauthenticated(MALFORMED)
        try:
            return await self._look_up(presented, form, address, request_id, origin)
        except Unauthenticated as error:
            if self._generic:
                raise Unauthenticated(UNKNOWN) from error
            raise

    async def me(self, caller: Caller, *, uses_recorded: bool) -> Me:
        """Return who the calling key is and what it may do. Needs no permission; raises Unauthenticated."""
        authority = caller.authority
        of_key = keys.c.id == authority.key_id
        at_home = organizations.c.id == authority.organization_id
        async with read_transaction(self._engine) as connection:
            key = (await connection.execute(select_keys().where(of_key))).one_or_none()
            owner = (await connection.execute(select_owners().where(owners.c.id == authority.owner_id))).one()
            organization = (await connection.execute(select(organizations).where(at_home))).one()
        if key is None:
            raise Unauthenticated(UNKNOWN)
        return Me(
            key=key_from_row(key, self._clock()),
            owner=MyOwner(
                **dict(owner_shape(owner)),
                role=authority.role,
                permissions=authority.owner_permissions,
                external_id=owner.external_id,
            ),
            organization=MyOrganization(
                id=organization.id,
                name=organization.name,
                external_id=organization.external_id,
                operator=organization.operator,
            ),
            permissions=authority.permissions,
            uses_recorded=uses_recorded,
        )

    async def _look_up(
        self, presented: bytes, form: Form, address: str | None, request_id: str | None, origin: str | None
    ) -> Caller:
        query = select_callers(key_secrets.c.valid_until, keys.c.allowed_origins)
        having = query.join(key_secrets, key_secrets.c.key_id == keys.c.id)
        async with read_transaction(self._engine) as connection:
            found = await connection.execute(having.where(key_secrets.c.digest == secrets.digest(presented)))
            row = found.one_or_none()
        if row is None:
            raise Unauthenticated(UNKNOWN if form is Form.GENUINE else MALFORMED)
        now = self._clock()
        refuse_inactive(row, now)
        if row.valid_until is not None and row.valid_until <= now:
            code, detail = INACTIVE[Status.EXPIRED]
            raise Unauthenticated(detail, code=code)
        if row.allowed_origins is not None and origin not in row.allowed_origins:
            raise NotAllowed(WRONG_ORIGIN, code="origin_not_allowed")
        return caller_from_row(row, address=address, request_id=request_id)
