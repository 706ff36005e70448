"""What the shared key table has to hold, read from the store: records by digest, of a change or of everything.

Invariants: what is read here means exactly what `SqliteReader.read` means, as its own function makes records of rows; a
digest that was retired is a tombstone (None). Whoever reads passes the connection of one read transaction, in which the
head of the log is read as well (`look`), so that records and head are of one moment.

Everything is read in pages by indexed columns. A cursor of the server was turned down: each driver has its own, and the
one of SQLite holds on to a thread between two rows.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Select, Text, bindparam, select, text, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.keys.change import Change
from gateway.keys.projection import LogLook
from gateway.keys.record import CredentialRecord
from gateway.store.log_rows import LOG_COLUMNS, LOG_TABLES, look_of
from gateway.store.record_rows import record_from_row
from gateway.store.schema import key_secrets, keys, organizations, owners, retired_digests

Entry = tuple[bytes, CredentialRecord | None]

PAGE: Final = 500

_LOOK: Final = text("SELECT " + LOG_COLUMNS + LOG_TABLES.format(seq=":seq", rows=":most")).bindparams(
    bindparam("seq", type_=BigInteger), bindparam("most", type_=BigInteger)
)


def _moment(column: ColumnElement[Any]) -> ColumnElement[int]:
    """As it is stored: microseconds. A date-time would be made and taken apart again for every key."""
    return type_coerce(column, BigInteger)


def _words(column: ColumnElement[Any]) -> ColumnElement[str]:
    return type_coerce(column, Text)


_RECORDS: Final[Select[Any]] = (
    select(
        key_secrets.c.digest,
        key_secrets.c.id,
        _moment(key_secrets.c.valid_until),
        keys.c.id,
        keys.c.name,
        keys.c.version,
        _moment(keys.c.expires_at),
        _moment(keys.c.disabled_at),
        _moment(keys.c.revoked_at),
        _words(keys.c.permissions),
        organizations.c.id,
        organizations.c.external_id,
        owners.c.kind,
        owners.c.id,
        owners.c.name,
        owners.c.external_id,
        _words(owners.c.permissions),
        _moment(owners.c.removed_at),
        _moment(organizations.c.removed_at),
        _words(keys.c.allowed_origins),
    )
    .select_from(key_secrets)
    .join(keys, keys.c.id == key_secrets.c.key_id)
    .join(owners, owners.c.id == keys.c.owner_id)
    .join(organizations, organizations.c.id == keys.c.organization_id)
)


async def look(connection: AsyncConnection, seq: int, limit: int) -> LogLook:
    """The log behind `seq`, and the change there. One statement, as every change waits for several of these."""
    rows = await connection.execute(_LOOK, {"seq": seq, "most": limit + 1})
    return look_of(seq, limit, rows.all())


async def of_keys(connection: AsyncConnection, ids: Sequence[str]) -> list[Entry]:
    """All digests that ever led to these keys: records of those that do, tombstones of the others."""
    retired = select(retired_digests.c.digest).where(retired_digests.c.key_id.in_(ids))
    gone: list[Entry] = [(digest, None) for digest in (await connection.execute(retired)).scalars()]
    return gone + await _records(connection, _RECORDS.where(keys.c.id.in_(ids)))


def of_owner(connection: AsyncConnection, owner_id: str) -> AsyncIterator[list[Entry]]:
    """The records of an owner's keys, in pages. A digest is retired by a change of its key, which is told by itself."""
    return _of_many(connection, keys.c.owner_id == owner_id)


def of_organization(connection: AsyncConnection, organization_id: str) -> AsyncIterator[list[Entry]]:
    """The records of an organization's keys, in pages."""
    return _of_many(connection, keys.c.organization_id == organization_id)


async def of_everything(connection: AsyncConnection) -> AsyncIterator[list[Entry]]:
    """All records, in pages. Without tombstones: in a table that is made anew, no digest has been there before."""
    last = b""
    while page := await _records(
        connection, _RECORDS.where(key_secrets.c.digest > last).order_by(key_secrets.c.digest).limit(PAGE)
    ):
        yield page
        last = page[-1][0]


async def of_changes(connection: AsyncConnection, changes: Iterable[Change]) -> AsyncIterator[list[Entry]]:
    """All that any of the changes may have altered, in pages; a subject that changed twice is read once."""
    subjects = dict.fromkeys((change.subject_kind, change.subject_id) for change in changes)
    of_key = [subject_id for kind, subject_id in subjects if kind == "key"]
    for start in range(0, len(of_key), PAGE):
        yield await of_keys(connection, of_key[start : start + PAGE])
    for kind, subject_id in subjects:
        if kind != "key":
            pages = of_owner if kind == "owner" else of_organization
            async for page in pages(connection, subject_id):
                yield page


async def _of_many(connection: AsyncConnection, which: ColumnElement[bool]) -> AsyncIterator[list[Entry]]:
    last = ""
    # The ids first: a page of secrets could end between the two of one key.
    while ids := await _ids(connection, select(keys.c.id).where(which, keys.c.id > last)):
        yield await _records(connection, _RECORDS.where(keys.c.id.in_(ids)))
        last = ids[-1]


async def _ids(connection: AsyncConnection, query: Select[Any]) -> list[str]:  # Any: as in `_records`
    return [row[0] for row in await connection.execute(query.order_by(keys.c.id).limit(PAGE))]


async def _records(connection: AsyncConnection, query: Select[Any]) -> list[Entry]:  # Any: columns of several types
    return [(row[0], record_from_row(row[0], row[1:])) for row in await connection.execute(query)]
