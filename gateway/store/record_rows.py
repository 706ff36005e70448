"""What a worker reads of one secret, and the record that it makes of the row; the same for every store.

Invariant: a row of `SELECT_RECORD` becomes the same `CredentialRecord` wherever it was read, so that two stores cannot
mean two things by one key. Imports the standard library and our own pure parts alone, since workers load it.
"""

from functools import lru_cache
from typing import Any, Final

from gateway.keys.record import CredentialRecord, OwnerKind

_MICROSECONDS: Final = 1e6

SELECT_RECORD: Final = """
SELECT s.id, s.valid_until,
       k.id, k.name, k.version, k.expires_at, k.disabled_at, k.revoked_at, k.permissions,
       g.id, g.external_id, o.kind, o.id, o.name, o.external_id, o.permissions,
       o.removed_at, g.removed_at, k.allowed_origins
  FROM key_secrets s
  JOIN keys k ON k.id = s.key_id
  JOIN owners o ON o.id = k.owner_id
  JOIN organizations g ON g.id = k.organization_id
 WHERE s.digest = """
"""The driver's own mark for the digest belongs behind it."""


def record_from_row(digest: bytes, row: Any) -> CredentialRecord:  # noqa: ANN401 - a driver's row has no static type
    """Make the record of a row of `SELECT_RECORD`."""
    (
        secret_id, secret_valid_until,
        key_id, key_name, version, expires_at, disabled_at, revoked_at, permissions,
        *owner_parts, owner_removed_at, organization_removed_at, allowed_origins,
    ) = row  # fmt: skip
    if revoked_at is None:
        # Services revoke or move the keys of whoever is removed. Should one be left over, it is dead all the same.
        revoked_at = owner_removed_at if owner_removed_at is not None else organization_removed_at
    # By position, and the owner as one cached piece: a third of the time that keywords and single fields take.
    return CredentialRecord(
        digest,
        secret_id,
        None if secret_valid_until is None else secret_valid_until / _MICROSECONDS,
        key_id,
        key_name,
        version,
        None if expires_at is None else expires_at / _MICROSECONDS,
        None if disabled_at is None else disabled_at / _MICROSECONDS,
        None if revoked_at is None else revoked_at / _MICROSECONDS,
        None if permissions is None else words(permissions),
        *owner(*owner_parts),
        None if allowed_origins is None else words(allowed_origins),
    )


_Owner = tuple[str, str | None, OwnerKind, str, str, str | None, tuple[str, ...]]

# Many keys have the same owner, organization, permissions and origins. Handing out the same objects again keeps 100,000
# cached records small; the bound keeps these tables small too. (sys.intern was turned down: it never forgets on
# Python 3.12.)


@lru_cache(maxsize=4096)
def owner(
    organization_id: str,
    organization_external_id: str | None,
    kind: OwnerKind,
    owner_id: str,
    name: str,
    external_id: str | None,
    permissions: str,
) -> _Owner:
    """Give the last seven fields of a record, as they follow each other there."""
    return organization_id, organization_external_id, kind, owner_id, name, external_id, words(permissions)


@lru_cache(maxsize=4096)
def words(text: str) -> tuple[str, ...]:
    """Split permissions or origins as they are stored: neither holds spaces, so one between two is all it takes."""
    return tuple(text.split())
