"""Is this secret valid, and for what: the proxy's question, for services that cannot sit behind it.

Invariant: the answer is the one that the proxy would give at this moment, in the same codes and order; a key of another
organization looks like no key at all. A key that is bound to pages is good with one of their origins alone, so the
service tells which one the secret came with. Whoever asks holds the whole secret, so they are told why it is refused.
Nothing is noted: asking is no use of the key, and the secret is held no longer than the question takes.
"""

from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.keys import secret as secrets
from gateway.keys.permissions import both_allow, common
from gateway.keys.record import Status
from gateway.keys.secret import Form
from gateway.services.key_request import VerifyKey
from gateway.services.key_rows import KeyRow, key_from_row, select_keys, status_of
from gateway.services.shapes import Verification, VerificationCode
from gateway.store.schema import key_secrets, keys

UNKNOWN: Final = Verification(valid=False, code="invalid_api_key", key=None, permissions=())
_INACTIVE: Final[dict[Status, VerificationCode]] = {
    Status.REVOKED: "revoked_api_key",
    Status.EXPIRED: "expired_api_key",
    Status.DISABLED: "disabled_api_key",
}


async def verify(
    connection: AsyncConnection, organization_id: str, request: VerifyKey, *, prefix: str, now: datetime
) -> Verification:
    """Judge the presented secret."""
    presented = request.key.strip().encode(errors="surrogatepass")
    too_long = len(presented) > secrets.MAX_SECRET_BYTES
    if too_long or secrets.form(presented, prefix.encode()) is Form.BROKEN:
        return UNKNOWN
    digest = secrets.digest(presented)
    found = select(key_secrets.c.key_id, key_secrets.c.valid_until).where(key_secrets.c.digest == digest)
    secret = (await connection.execute(found)).one_or_none()
    if secret is None:
        return UNKNOWN
    query = select_keys().where(keys.c.id == secret.key_id, keys.c.organization_id == organization_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return UNKNOWN
    ended = secret.valid_until is not None and secret.valid_until <= now
    return _judged(row, request, ended=ended, now=now)


def _judged(row: KeyRow, request: VerifyKey, *, ended: bool, now: datetime) -> Verification:
    key, status = key_from_row(row, now), status_of(row, now)
    code = _INACTIVE.get(status)
    if ended and status is Status.ACTIVE:
        code = "expired_api_key"
    if code is not None:
        return Verification(valid=False, code=code, key=key, permissions=())
    if row.allowed_origins is not None and request.origin not in row.allowed_origins:
        return Verification(valid=False, code="origin_not_allowed", key=key, permissions=())
    held = row.owner_permissions if row.permissions is None else common(row.permissions, row.owner_permissions)
    if not all(both_allow(row.permissions, row.owner_permissions, each) for each in request.permissions):
        return Verification(valid=False, code="insufficient_permissions", key=key, permissions=held)
    return Verification(valid=True, code=None, key=key, permissions=held)
