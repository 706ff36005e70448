"""When, from where and with what each key, and each of its secrets, was used last.

Invariant: what is noted moves forward only, however often and in whatever order entries come; and it never touches the
key itself, so neither its version nor what a worker remembers of it changes. A request that was refused for its key is
no use of it; one that an upstream failed is: whoever looks for keys that nobody needs must not find that one. Uses
arrive late: a key or a secret that is gone by then is passed over.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import orjson
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.keys.request_entry import Outcome, RequestEntry
from gateway.store.json_rows import Kind, json_rows

_USES: Final = frozenset({Outcome.ANSWERED, Outcome.ABORTED, Outcome.OPEN})
_FAILED_FROM: Final = 500
"""Status of what is not the key's fault."""
_COLUMNS: Final[dict[str, Kind]] = {"id": "text", "at": "bigint", "address": "text", "user_agent": "text"}

# Inserted over the row that is there, which both kinds of store understand; UPDATE … FROM they would not.
_KEYS: Final = """
INSERT INTO key_uses (key_id, organization_id, used, idle_since, address, user_agent)
SELECT k.key_id, k.organization_id, true, CASE WHEN n.at > k.idle_since THEN n.at ELSE k.idle_since END,
       n.address, n.user_agent
  FROM ({rows}) AS n JOIN key_uses AS k ON k.key_id = n.id
 WHERE NOT k.used OR k.idle_since < n.at
 ORDER BY n.id
ON CONFLICT (key_id) DO UPDATE SET used = excluded.used, idle_since = excluded.idle_since, address = excluded.address,
                                   user_agent = excluded.user_agent
"""
_SECRETS: Final = """
INSERT INTO secret_uses (secret_id, used_at, address, user_agent)
SELECT n.id, n.at, n.address, n.user_agent
  FROM ({rows}) AS n
 WHERE EXISTS (SELECT 1 FROM key_secrets AS s WHERE s.id = n.id)
 ORDER BY n.id
ON CONFLICT (secret_id) DO UPDATE SET used_at = excluded.used_at, address = excluded.address,
                                      user_agent = excluded.user_agent
 WHERE secret_uses.used_at < excluded.used_at
"""


class LastUses(NamedTuple):
    """The newest uses in some entries, as texts for `note`; None where there are none."""

    keys: bytes | None
    secrets: bytes | None


def newest(entries: Iterable[RequestEntry]) -> LastUses:
    """Find the newest use of each key and each secret."""
    keys: dict[str, tuple[int, RequestEntry]] = {}
    secrets: dict[str, tuple[int, RequestEntry]] = {}
    for entry in entries:
        if not entry.key_id or not (entry.outcome in _USES or entry.status >= _FAILED_FROM):
            continue
        at = entry.at + entry.duration
        for uses, used in ((keys, entry.key_id), (secrets, entry.secret_id)):
            known = uses.get(used)
            if known is None or known[0] < at:
                uses[used] = (at, entry)
    secrets.pop("", None)
    return LastUses(_rows(keys), _rows(secrets))


async def note(connection: AsyncConnection, uses: LastUses) -> None:
    """Note the uses, in a write transaction of the caller's."""
    if uses.keys is not None:
        await connection.execute(_statement(connection, _KEYS), {"rows": uses.keys.decode()})
    if uses.secrets is not None:
        await connection.execute(_statement(connection, _SECRETS), {"rows": uses.secrets.decode()})


def _rows(uses: dict[str, tuple[int, RequestEntry]]) -> bytes | None:
    if not uses:
        return None
    return orjson.dumps([(used, at, entry.address, entry.user_agent or None) for used, (at, entry) in uses.items()])


def _statement(connection: AsyncConnection, template: str) -> TextClause:
    return text(template.format(rows=json_rows(connection, _COLUMNS)))
