r"""The secret: how it is made, recognised and turned into what is stored.

    sk_  <43 base62 characters: 32 random bytes>  <6 base62 characters: CRC32 of everything before>

Invariant: only the SHA-256 of the whole secret is ever stored or looked up. 256 random bits need no slow hash, and a
look-up by digest leaks nothing by its timing, so secrets are never compared with each other (no `==`, no `hmac`).
Precedent for prefix and checksum: GitHub's token format of 2021. One double-click selects the whole secret.

Turned down: deriving the checksum with a key of the installation. Scanners must recognise a leaked key offline.
"""

import hashlib
import re
import secrets
import zlib
from enum import Enum
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_BYTES: Final = 32
RANDOM_CHARACTERS: Final = 43  # 62**43 > 2**256 > 62**42
CHECKSUM_CHARACTERS: Final = 6  # 62**6 > 2**32
BODY_CHARACTERS: Final = RANDOM_CHARACTERS + CHECKSUM_CHARACTERS
TAIL_CHARACTERS: Final = 6
_SHA256: Final = hashlib.sha256()
"""Copied for each digest: that takes half the time of a new one, for which OpenSSL looks its algorithm up again."""
MAX_SECRET_BYTES: Final = 512  # what is longer is refused unread; keys of other systems can be imported up to this


class Form(Enum):
    """What the outside of a presented secret says, before any look-up."""

    GENUINE = "genuine"  # our format, checksum right: worth a look-up, and worth saying "unknown here" about
    BROKEN = "broken"  # our format, checksum wrong: mistyped or invented, refused without a look-up
    FOREIGN = "foreign"  # anything else: may be an imported key of another system


def generate(prefix: str) -> str:
    """Make a new secret from 32 bytes of the system's randomness."""
    head = prefix + _base62(int.from_bytes(secrets.token_bytes(RANDOM_BYTES)), RANDOM_CHARACTERS)
    return head + _checksum(head.encode())


def digest(secret: bytes) -> bytes:
    """Return the 32 bytes a secret is stored and looked up by."""
    hasher = _SHA256.copy()
    hasher.update(secret)
    return hasher.digest()


def form(secret: bytes, prefix: bytes) -> Form:
    """Judge a secret by its outside alone. Costs about a microsecond."""
    if (
        len(secret) != len(prefix) + BODY_CHARACTERS
        or not secret.startswith(prefix)
        or not secret[len(prefix) :].isalnum()  # of bytes: ASCII alone, which is exactly base62
    ):
        return Form.FOREIGN
    genuine = secret[-CHECKSUM_CHARACTERS:] == _checksum(secret[:-CHECKSUM_CHARACTERS]).encode()
    return Form.GENUINE if genuine else Form.BROKEN


def tail(secret: str) -> str:
    """Return the last six characters, by which people recognise a key they no longer see."""
    return secret[-TAIL_CHARACTERS:]


def pattern(prefix: str) -> str:
    """Return the regular expression by which scanners find leaked secrets with this prefix."""
    return rf"\b{re.escape(prefix)}[0-9A-Za-z]{{{BODY_CHARACTERS}}}\b"


PATTERN: Final = pattern("sk_")


def own_form(prefix: str) -> re.Pattern[bytes]:
    """What finds a secret with this prefix wherever it stands, also within other letters."""
    return re.compile(re.escape(prefix.encode()) + rb"[0-9A-Za-z]{%d}" % BODY_CHARACTERS)


def _base62(number: int, width: int) -> str:
    """Write a number in base 62, padded with zeros to a fixed width."""
    characters = []
    for _ in range(width):
        number, remainder = divmod(number, 62)
        characters.append(ALPHABET[remainder])
    return "".join(reversed(characters))


def _checksum(head: bytes) -> str:
    return _base62(zlib.crc32(head), CHECKSUM_CHARACTERS)
