"""What may be asked of keys: the bodies of the admin API's calls, and the draft that a new key is made from.

Invariant: a `Draft` is clean and within its organization's rules at one moment; it is made of a validated request, or
by the gateway itself (`first_draft`). Whether the caller may have such a key made is another question, and another
file's: `key_rules`.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from gateway.keys import secret as secrets
from gateway.keys.expiry import ExpiryRules
from gateway.keys.origin import MAX_ORIGIN_CHARACTERS
from gateway.services.requests import (
    Description,
    Expires,
    Expiry,
    Name,
    Origins,
    OwnerReference,
    Permission,
    PermissionSet,
    Request,
    Rule,
    matching,
)

MIN_ENTROPY_BITS: Final = 128
MAX_ENTROPY_BITS: Final = secrets.MAX_SECRET_BYTES * 8
MAX_PREFIX_CHARACTERS: Final = 32
Grace = Literal["0", "1h", "24h", "7d"]

_HEX: Final = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_BASE64: Final = re.compile(r"[0-9A-Za-z+/_\-]{43}=?", re.ASCII)
_DIGEST_RULE: Final = "must be a SHA-256 as 64 hexadecimal digits or in base64"


def digest_from_text(text: str) -> bytes:
    """Read a SHA-256 in hexadecimal or base64 (both alphabets, padded or not). ValueError carries a public sentence."""
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    if _BASE64.fullmatch(text) is None:
        raise ValueError(_DIGEST_RULE)
    plain = text.rstrip("=").replace("-", "+").replace("_", "/") + "="
    try:
        return base64.b64decode(plain, validate=True)
    except binascii.Error as error:  # pragma: no cover - 43 characters of the alphabet always decode
        raise ValueError(_DIGEST_RULE) from error


def _digest_text(text: str) -> str:
    digest_from_text(text)
    return text


Digest = Annotated[
    str,
    Rule(
        _digest_text,
        {"minLength": 43, "maxLength": 64, "pattern": r"^([0-9A-Fa-f]{64}|[0-9A-Za-z+/_\-]{43}=?)$"},
    ),
]
Tail = Annotated[
    str,
    Rule(
        matching(r"[!-~]{1,6}", "must be the last one to six characters of the secret, in visible ASCII"),
        {"minLength": 1, "maxLength": secrets.TAIL_CHARACTERS, "pattern": r"^[!-~]{1,6}$"},
    ),
]
Prefix = Annotated[
    str,
    Rule(
        matching(r"[!-~]{1,32}", f"must be 1 to {MAX_PREFIX_CHARACTERS} visible ASCII characters"),
        {"minLength": 1, "maxLength": MAX_PREFIX_CHARACTERS, "pattern": r"^[!-~]{1,32}$"},
    ),
]
Presented = Annotated[
    str,
    Rule(matching(r"[^\0]*", "must not hold a NUL"), {"minLength": 1, "maxLength": secrets.MAX_SECRET_BYTES}),
]


# Not `Origin`: what a page sent is judged as the proxy judges it, and one that no browser writes is no page's.
SentOrigin = Annotated[
    str, Rule(matching(r"[^\0]*", "must not hold a NUL"), {"minLength": 1, "maxLength": MAX_ORIGIN_CHARACTERS})
]


class CreateKey(Request):
    """A new key."""

    name: Name
    """What people call the key. Names need not be unique; a twin is warned about."""
    description: Description = ""
    """What it is for; may have several lines."""
    expires: Expires | None = None
    """A preset counted from now, a date (the key works through that day, UTC) or an RFC 3339 date-time with its zone.

    Left out: the organization's default."""
    permissions: PermissionSet | None = None
    """What the key may do, at most; its owner's permissions are needed as well. Null: whatever the owner may."""
    allowed_origins: Origins | None = None
    """Pages of which origins may use the key in a browser. Null: not bound to any."""
    owner: OwnerReference | None = None
    """Whose key it is: an id, a member's e-mail address or a service account's name. Left out: the caller's owner."""


class ImportKey(CreateKey):
    """A key of another system: known by the SHA-256 of its secret, which stays as it is."""

    sha256: Digest
    """The SHA-256 of the whole secret, in hexadecimal or base64."""
    entropy_bits: Annotated[int, Field(ge=MIN_ENTROPY_BITS, le=MAX_ENTROPY_BITS)]
    """How many random bits its secrets were made of, as the importer declares."""
    tail: Tail | None = None
    """The last characters of the secret, by which people recognise it."""
    prefix: Prefix | None = None
    """What its secrets begin with."""


class UpdateKey(Request):
    """Changes of a key; what is left out stays."""

    # Factories, because the schema would tell clients of a default; what was left out `model_fields_set` says.
    name: Name = Field(default_factory=str)
    """What people call the key."""
    description: Description = Field(default_factory=str)
    """What it is for."""
    permissions: PermissionSet | None = None
    """What the key may do, at most. Null: whatever its owner may."""
    expires: Expires = Field(default_factory=lambda: Expiry(None))
    """A preset counted from now, a date or a date-time. An expired key becomes active again."""
    allowed_origins: Origins | None = None
    """Pages of which origins may use the key in a browser. Null: not bound to any."""


class RevokeKey(Request):
    """The end of a key, for good."""

    reason: Description | None = None
    """Why, for whoever looks at the key later."""


class RotateKey(Request):
    """A new secret for the same key."""

    grace: Grace = "24h"
    """How long the old secret stays valid beside the new one, never past the key's own expiry. 0: it ends at once."""


class VerifyKey(Request):
    """A secret that was presented elsewhere."""

    key: Presented = Field(repr=False)
    """The whole secret. Spaces around it are forgiven."""
    permissions: Annotated[tuple[Permission, ...], Field(strict=False, max_length=100)] = ()
    """What it is to be used for; the answer is valid only if the key allows all of it."""
    origin: SentOrigin | None = None
    """The `Origin` that the secret came with, as the browser sent it.

    Left out or null: it came with none, which is not valid for a key with allowed origins."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A key that could be made: clean, and within its organization's rules."""

    name: str
    description: str
    permissions: tuple[str, ...] | None
    expires_at: datetime | None
    allowed_origins: tuple[str, ...] | None = None


def draft(request: CreateKey, rules: ExpiryRules, now: datetime) -> Draft:
    """Return what the request asks for, with the organization's default where it asks for no expiry."""
    return Draft(
        name=request.name,
        description=request.description,
        permissions=request.permissions,
        expires_at=rules.default_at(now) if request.expires is None else request.expires.at,
        allowed_origins=request.allowed_origins,
    )


def first_draft(name: str, rules: ExpiryRules, now: datetime) -> Draft:
    """Return the gateway's own choice for an owner's first key: inheriting, with the organization's default expiry."""
    return Draft(name=name, description="", permissions=None, expires_at=rules.default_at(now))
