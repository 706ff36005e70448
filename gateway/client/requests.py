"""How arguments become what is sent: bodies, paths and query parameters.

Invariant: nothing is judged here that the gateway judges. Two sets of rules would soon disagree, and the gateway names
every fault at once. Refused is only what would change the question: an id that leads to another path.
"""

import re
from collections.abc import Iterable
from datetime import date, datetime
from enum import Enum
from typing import Final, TypeAlias
from uuid import uuid4

from gateway.client.errors import InvalidArgument

Json: TypeAlias = str | int | bool | list[str] | dict[str, "Json"] | None
Moment: TypeAlias = str | datetime
"""An RFC 3339 text, or a datetime with its zone."""

Expiry: TypeAlias = str | date
"""A preset ("7d", "never"), an RFC 3339 text, a date (works through that day, UTC), or a datetime with its zone."""

Value: TypeAlias = Json | date | Iterable[str]
"""What an argument may be."""

_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,40}")  # ours are shorter, secrets longer: those have no place in a URL


class Unchanged(Enum):
    """The type of `UNCHANGED`, whose only member it is."""

    UNCHANGED = "UNCHANGED"


UNCHANGED: Final = Unchanged.UNCHANGED
"""For updates, where None is a value: `permissions=None` means inherit."""


def body(**fields: Value | Unchanged) -> dict[str, Json]:
    """Return the object of an update: what is UNCHANGED is left out, None stays."""
    return {name: _json(value) for name, value in fields.items() if not isinstance(value, Unchanged)}


def new_body(**fields: Value) -> dict[str, Json]:
    """Return the object of a request in which None means that the gateway's default counts."""
    return {name: _json(value) for name, value in fields.items() if value is not None}


def _json(value: Value) -> Json:
    match value:
        case None | str() | bool() | int() | dict():
            return value
        case date():
            return moment(value)
        case _:
            return list(value)


def path(*segments: str) -> str:
    """Return `/v1/…`. InvalidArgument where an id could lead elsewhere, as `../members` would."""
    for segment in segments:
        if not _ID.fullmatch(segment):
            raise InvalidArgument("that is not an id")  # nor is it repeated: it may be a secret
    return "/v1/" + "/".join(segments)


def moment(value: Expiry) -> str:
    """Return a moment as the gateway reads it; a datetime without a zone goes as it is, and is refused there."""
    return value.isoformat() if isinstance(value, date) else value


def first_key(name: str | None, expires: Expiry | None) -> Json:
    """Return what asks for a key for a new member; True where it is to be as usual."""
    return new_body(name=name, expires=expires) or True


def if_match_fields(version: int | None) -> dict[str, str]:
    """Return the header field by which a change is refused that is not based on this version."""
    return {} if version is None else {"If-Match": f'"{version}"'}


def idempotency_fields(idempotency_key: str | None) -> dict[str, str]:
    """Return the header field by which the gateway knows a repetition: a key of the caller's, or one made here."""
    key = str(uuid4()) if idempotency_key is None else idempotency_key
    if not (key.isascii() and key.isprintable()):
        raise InvalidArgument("an idempotency key is of printable ASCII characters")
    return {"Idempotency-Key": key}
