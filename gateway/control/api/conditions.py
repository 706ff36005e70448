"""The two header fields that make a change safe to repeat or to race: Idempotency-Key and If-Match.

Invariant: a field that is there and cannot be read is refused, never passed over; a change without its condition is
what the caller wanted to avoid. RFC 9110 sections 8.8.3 and 13.1.1 say what an entity tag is and how it compares: a
weak one (`W/"3"`) and one of another making never match, which is a 412 and no syntax error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gateway.errors import FieldError

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
IF_MATCH: Final = "If-Match"
IDEMPOTENCY_KEY_PATTERN: Final = r"^[!-~]{1,255}$"
IF_MATCH_PATTERN: Final = r'^(\*|(W/)?"[!#-~]{0,64}")$'
NEVER_MATCHES: Final = 0  # versions begin with 1

_IDEMPOTENCY_KEY: Final = re.compile(IDEMPOTENCY_KEY_PATTERN)
_IF_MATCH: Final = re.compile(IF_MATCH_PATTERN)
_VERSION: Final = re.compile(r'"([1-9][0-9]{0,17})"', re.ASCII)


def entity_tag(version: int) -> str:
    """Return the ETag of a thing in this version."""
    return f'"{version}"'


def idempotency_key(headers: CIMultiDictProxy[str], faults: list[FieldError]) -> str | None:
    """Return the key, None where there is none; a fault is added to `faults`."""
    values = headers.getall(IDEMPOTENCY_KEY, ())
    if not values:
        return None
    if len(values) > 1 or not _IDEMPOTENCY_KEY.fullmatch(values[0]):
        faults.append(FieldError(IDEMPOTENCY_KEY, "must be given once, as 1 to 255 visible ASCII characters"))
        return None
    return values[0]


def expected_version(headers: CIMultiDictProxy[str], faults: list[FieldError]) -> int | None:
    """Return the version that the thing must have, None where any will do; a fault is added to `faults`."""
    values = headers.getall(IF_MATCH, ())
    if not values:
        return None
    if len(values) > 1 or not _IF_MATCH.fullmatch(values[0]):
        faults.append(FieldError(IF_MATCH, 'must be one entity tag as ETag gave it, such as "3", or *'))
        return None
    if values[0] == "*":
        return None
    version = _VERSION.fullmatch(values[0])
    return int(version[1]) if version else NEVER_MATCHES
