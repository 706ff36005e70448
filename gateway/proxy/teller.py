"""Tells the holder of a key who the gateway takes them for (`server.me_path`): a first call that needs no API behind.

Invariant: what is told comes from the store at this moment, not from the worker's memory, and never holds a secret.
"""

import inspect
from datetime import UTC, datetime

import orjson

from gateway.cache.key_cache import KeySource
from gateway.keys.permissions import common
from gateway.keys.record import CredentialRecord
from gateway.keys.secret import digest


class Teller:
    """Answers at one path, for every host."""

    def __init__(self, source: KeySource) -> None:
        self._source = source

    async def tell(self, secret: bytes) -> bytes | None:
        """The key's holder as JSON; None when the key is gone by now. Raises StoreUnavailable."""
        found = self._source.read(digest(secret))
        record = await found if inspect.isawaitable(found) else found
        return None if record is None else orjson.dumps(_told(record))


def _told(record: CredentialRecord) -> dict[str, object]:
    expires_at = record.expires_at
    held = record.owner_permissions
    return {
        "key": {
            "id": record.key_id,
            "name": record.key_name,
            "expires_at": None
            if expires_at is None
            else datetime.fromtimestamp(expires_at, UTC).isoformat().replace("+00:00", "Z"),
        },
        "owner": {"id": record.owner_id, "kind": record.owner_kind, "name": record.owner_name},
        "organization": {"id": record.organization_id, "external_id": record.organization_external_id},
        "permissions": held if record.permissions is None else common(record.permissions, held),
    }
