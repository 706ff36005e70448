"""Filling a store with keys in seconds: the benchmark's known ones, and as many more as a measurement wants.

Invariant: rows are shaped by the gateway's own schema. Each INSERT names the columns of `gateway.store.schema`, so a
column added there and not here fails at once instead of measuring a store that no gateway would write. Every key has
its change in `key_changes`, as it would after a life of creations.

Turned down: creating keys through the services. A million transactions, each synced to disk, take an hour.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sqlalchemy import Table

from benchmarks.known_keys import FAR_AHEAD, PREFIX, KnownKey
from gateway.keys.secret import tail
from gateway.store import schema
from gateway.store.location import sqlite_path
from gateway.store.migrate import migrate

FILLER_OWNERS = 10_000

Row = Mapping[str, object]

_FILLER_KEY = "printf('key_00%024d', n)"
_ALIKE: Mapping[str, str] = {}


Mixture = Mapping[str, str]
"""Columns of the filler that shall differ from key to key: an SQL expression of the row's number `n` for each."""


def seed(
    url: str, known: Sequence[KnownKey], filler: int = 0, *, keys: Mixture = _ALIKE, uses: Mixture = _ALIKE
) -> Path:
    """Make the store at `url` and put the known keys and `filler` others into it. Return the database file.

    `keys` and `uses`: what varies in the rows of the filler in these tables.
    """
    migrate(url)
    path = sqlite_path(url)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # Durability is for stores that matter; this one is thrown away, and must be made quickly.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -400000")
        connection.execute("BEGIN IMMEDIATE")
        indexes = _drop_indexes(connection) if filler else []
        for table, rows in rows_of(known):
            _insert(connection, table, rows)
        if filler:
            organization = known[0].record.organization_id
            _insert_owners_of_filler(connection, organization, min(filler, FILLER_OWNERS))
            _insert_filler(connection, organization, filler, keys, uses)
            change = {"subject_kind": "key", "version": 1}
            varying = {"seq": f"n + {len(known) + 1}", "subject_id": _FILLER_KEY}
            _generate(connection, schema.key_changes, change, varying, filler)
        for statement in indexes:
            connection.execute(statement)
        connection.execute("COMMIT")
        connection.execute("ANALYZE")
        connection.execute("PRAGMA journal_mode = WAL")
    return path


def rows_of(known: Sequence[KnownKey]) -> list[tuple[Table, Iterable[Row]]]:
    """Return what is in each table: those that others refer to first."""
    return [
        (schema.organizations, map(_organization, _organizations(known))),
        (schema.owners, map(_owner, known)),
        (schema.service_accounts, ({"owner_id": each.record.owner_id, "description": ""} for each in known)),
        (schema.keys, map(_key, known)),
        (schema.key_uses, (_uses_row(each.record.key_id, each.record.organization_id) for each in known)),
        (schema.key_secrets, map(_secret, known)),
        (schema.key_changes, _changes(each.record.key_id for each in known)),
    ]


def _drop_indexes(connection: sqlite3.Connection) -> list[str]:
    """Drop the indexes, and return how to make them again: building each at the end is many times faster."""
    found = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    ).fetchall()
    for name, _ in found:
        connection.execute(f'DROP INDEX "{name}"')
    return [statement for _, statement in found]


def _insert(connection: sqlite3.Connection, table: Table, rows: Iterable[Row]) -> None:
    names = [column.name for column in table.columns if column.computed is None]
    places = ", ".join(f":{name}" for name in names)
    columns = ", ".join(f'"{name}"' for name in names)
    statement = f'INSERT INTO "{table.name}" ({columns}) VALUES ({places})'  # noqa: S608 — names come from the schema
    connection.executemany(statement, rows)


def _insert_owners_of_filler(connection: sqlite3.Connection, organization: str, count: int) -> None:
    name, owner = "printf('filler-%d', n)", _filler_owner(count)
    row = _owner_row("", organization, "", None, "*:*")
    _generate(connection, schema.owners, row, {"id": owner, "name": name, "name_search": name}, count)
    _generate(connection, schema.service_accounts, {"description": ""}, {"owner_id": owner}, count)


def _insert_filler(connection: sqlite3.Connection, organization: str, count: int, keys: Mixture, uses: Mixture) -> None:
    """Insert keys that nobody will present: any 32 random bytes are as good a digest as that of a secret.

    SQLite makes the rows itself, from one row of each table and expressions of the row's number `n`: a minute less.
    """
    name = "printf('filler %d', n)"
    varying = {
        "id": _FILLER_KEY,
        "owner_id": _filler_owner(min(count, FILLER_OWNERS)),
        "name": name,
        "name_search": name,
        **keys,
    }
    _generate(connection, schema.keys, _key_row("", organization, "", "", None, FAR_AHEAD), varying, count)
    _generate(connection, schema.key_uses, _uses_row("", organization), {"key_id": _FILLER_KEY, **uses}, count)
    varying = {
        "digest": "randomblob(32)",
        "id": "printf('sec_00%024d', n)",
        "key_id": _FILLER_KEY,
        "tail": "hex(randomblob(3))",
    }
    _generate(connection, schema.key_secrets, _secret_row(b"", "", "", ""), varying, count)


def _filler_owner(count: int) -> str:
    return f"printf('sva_00%024d', n % {count})"


def _generate(
    connection: sqlite3.Connection, table: Table, row: Row, expressions: Mapping[str, str], count: int
) -> None:
    """Insert `count` rows made of `row` and, for what varies, SQL expressions of `n`, ordered by the first column."""
    names = [column.name for column in table.columns if column.computed is None]
    columns = ", ".join(f'"{name}"' for name in names)
    values = ", ".join(expressions.get(name, f":{name}") for name in names)
    statement = f"""
        WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < {count})
        INSERT INTO "{table.name}" ({columns}) SELECT {values} FROM number ORDER BY 1"""  # noqa: S608 - all of it ours
    connection.execute(statement, {name: value for name, value in row.items() if name not in expressions})


def _organizations(known: Iterable[KnownKey]) -> list[str]:
    return sorted({each.record.organization_id for each in known})


def _organization(identifier: str) -> Row:
    return {
        "id": identifier,
        "external_id": None,
        "name": f"benchmark {identifier}",
        "version": 1,
        "default_expiry": "1y",
        "max_expiry": None,
        "keys_create_requires_admin": 0,
        "keys_revoke_requires_admin": 0,
        "created_at": _now(),
        "removed_at": None,
        "operator": 0,
        "name_search": f"benchmark {identifier}",
    }


def _owner(key: KnownKey) -> Row:
    record = key.record
    permissions = " ".join(record.owner_permissions)
    return _owner_row(record.owner_id, record.organization_id, record.owner_name, record.owner_external_id, permissions)


def _owner_row(identifier: str, organization: str, name: str, external_id: str | None, permissions: str) -> Row:
    return {
        "id": identifier,
        "organization_id": organization,
        "kind": "service_account",
        "name": name,
        "external_id": external_id,
        "permissions": permissions,
        "version": 1,
        "created_at": _now(),
        "removed_at": None,
        "name_search": name,
    }


def _key(key: KnownKey) -> Row:
    record = key.record
    permissions = None if record.permissions is None else " ".join(record.permissions)
    row = _key_row(
        record.key_id, record.organization_id, record.owner_id, record.key_name, permissions, record.expires_at
    )
    return {**row, "disabled_at": _moment(record.disabled_at), "revoked_at": _moment(record.revoked_at)}


def _key_row(
    identifier: str, organization: str, owner: str, name: str, permissions: str | None, expires_at: float | None
) -> Row:
    absent = dict.fromkeys(column.name for column in schema.keys.columns if column.nullable)
    return {
        **absent,
        "id": identifier,
        "organization_id": organization,
        "owner_id": owner,
        "name": name,
        "name_search": name,
        "description": "",
        "permissions": permissions,
        "version": 1,
        "created_at": _now(),
        "created_by_text": "System",
        "expires_at": _moment(expires_at),
        "imported": 0,
    }


def _uses_row(key: str, organization: str) -> Row:
    return {
        "key_id": key,
        "organization_id": organization,
        "used": 0,
        "idle_since": _now(),
        "address": None,
        "user_agent": None,
    }


def _secret(key: KnownKey) -> Row:
    record = key.record
    return _secret_row(record.digest, record.secret_id, record.key_id, tail(key.secret))


def _secret_row(digest: bytes, identifier: str, key: str, last_six: str) -> Row:
    return {
        "digest": digest,
        "id": identifier,
        "key_id": key,
        "slot": 0,
        "prefix": PREFIX,
        "tail": last_six,
        "created_at": _now(),
        "valid_until": None,
    }


def _changes(ids: Iterable[str]) -> Iterator[Row]:
    for seq, key in enumerate(ids, start=1):
        yield {"seq": seq, "subject_kind": "key", "subject_id": key, "version": 1}


def _moment(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1_000_000)


def _now() -> int:
    return time.time_ns() // 1_000
