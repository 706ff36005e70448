"""How a record is written in the shared key table: `1812 […]`: the form's number, the `as_of`, JSON without names.

Invariant: what cannot be read is `Unreadable`, never "no such key": a newer gateway may write another form, and the one
that cannot read it asks the store. The JSON is a row as the store has it, so that `record_rows` alone says what one
means. The digest is not part of it, as it is the name that it is found by. Turned down: pickle, which runs what it
reads, and JSON objects, whose names would be a third of the table.
"""

from typing import Final

import orjson

from gateway.keys.record import CredentialRecord
from gateway.store.record_rows import record_from_row

_FORM: Final = b"1"
_GONE: Final = b"-"
_MICROSECONDS: Final = 1e6


_LONGEST_HEAD: Final = 16
_LAST_MOMENT: Final = 10**16
_NONE: Final[type] = type(None)
_TEXT: Final[frozenset[type]] = frozenset({str})
_TEXT_OR_NONE: Final[frozenset[type]] = frozenset({str, _NONE})
_NUMBER: Final[frozenset[type]] = frozenset({int})
_NUMBER_OR_NONE: Final[frozenset[type]] = frozenset({int, _NONE})
_ROW: Final[tuple[frozenset[type], ...]] = (
    _TEXT, _NUMBER_OR_NONE,
    _TEXT, _TEXT, _NUMBER, _NUMBER_OR_NONE, _NUMBER_OR_NONE, _NUMBER_OR_NONE, _TEXT_OR_NONE,
    _TEXT, _TEXT_OR_NONE, _TEXT, _TEXT, _TEXT, _TEXT_OR_NONE, _TEXT,
    _NUMBER_OR_NONE, _NUMBER_OR_NONE, _TEXT_OR_NONE,
)  # fmt: skip
"""The types of the fields, as `record_rows.SELECT_RECORD` lists them. A bool is no int here."""
_OWNER_KIND: Final = 11


class Unreadable(Exception):
    """A value of another form, or of none."""


def encode(record: CredentialRecord | None, as_of: int) -> bytes:
    """Write a record, or None as a tombstone, as it was when the log's head was `as_of`."""
    return b"%b%d %b" % (_FORM, as_of, _GONE if record is None else orjson.dumps(_row(record)))


def decode(digest: bytes, value: bytes) -> CredentialRecord | None:
    """Read a record, None from a tombstone. Raises Unreadable."""
    form, (head, space, body) = value[:1], value.partition(b" ")
    if form != _FORM or not space:
        raise Unreadable("of another form")
    if not head.isdigit() or not 2 <= len(head) <= _LONGEST_HEAD:  # noqa: PLR2004 - the form and one digit
        raise Unreadable("no number of a change")
    if body == _GONE:
        return None
    try:
        row = orjson.loads(body)
        if not _is_row(row):
            raise Unreadable("not the fields of a record")
        return record_from_row(digest, row)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Unreadable(type(error).__name__) from None


def _is_row(row: object) -> bool:
    if type(row) is not list or len(row) != len(_ROW):
        return False
    for value, types in zip(row, _ROW, strict=True):
        if type(value) not in types or (type(value) is int and abs(value) > _LAST_MOMENT):
            return False
    return row[_OWNER_KIND] in ("member", "service_account")


def _row(record: CredentialRecord) -> list[object]:
    return [
        record.secret_id,
        _moment(record.secret_valid_until),
        record.key_id,
        record.key_name,
        record.version,
        _moment(record.expires_at),
        _moment(record.disabled_at),
        _moment(record.revoked_at),
        _words(record.permissions),
        record.organization_id,
        record.organization_external_id,
        record.owner_kind,
        record.owner_id,
        record.owner_name,
        record.owner_external_id,
        _words(record.owner_permissions),
        None,  # whoever was removed has revoked the record already
        None,
        _words(record.allowed_origins),
    ]


def _moment(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * _MICROSECONDS)


def _words(words: tuple[str, ...] | None) -> str | None:
    return None if words is None else " ".join(words)
