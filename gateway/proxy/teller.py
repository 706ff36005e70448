"""Tells the holder of a key who the gateway takes them for (`server.me_path`): a first call that needs no API behind.

Invariant: what is told comes from the store at this moment, not from the worker's memory, and never holds a secret.
Whether it may be told is for the policies alone, which would otherwise have a twin here; so the worker's memory is made
to be of this moment too, and they judge once more.
"""

import inspect
from datetime import UTC, datetime

import orjson

from gateway.cache.key_cache import KeyCache, KeySource
from gateway.keys.permissions import common
from gateway.keys.record import CredentialRecord
from gateway.keys.secret import digest


class Teller:
    """Answers at one path, for every host."""

    def __init__(self, source: KeySource, cache: KeyCache) -> None:
        """`source` is what `cache` asks on a miss."""
        self._source = source
        self._cache = cache

    async def tell(self, secret: bytes) -> bytes | None:
        """The key's holder as JSON; None when the key is gone by now. Raises StoreUnavailable.

        To be shown only when the policies let the request pass after this.
        """
        key_digest = digest(secret)
        found = self._source.read(key_digest)
        record = await found if inspect.isawaitable(found) else found
        remembered = self._cache.look_up(key_digest)
        if inspect.isawaitable(remembered):
            await remembered
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
