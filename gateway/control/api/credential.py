"""Finds the key in a request to the admin API: X-API-KEY, or Authorization, by the rule of the proxy.

Invariant: at most one key is presented. Two different ones are refused, since whoever looks at the request elsewhere
could pick the other. Surrounding spaces are forgiven. Nothing here is logged or repeated in an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import FieldError, Invalid, Unauthenticated
from gateway.keys.refused import MALFORMED
from gateway.policies.credentials import token_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from multidict import CIMultiDictProxy


def presented_key(headers: CIMultiDictProxy[str], *, bare_authorization: bool) -> str | None:
    """Return the key, or None where there is none. Raises Invalid for two, Unauthenticated for one that is no text."""
    found = {value.strip() for value in _bytes(headers, "X-API-KEY")}
    found |= {token_in(value.strip(), bare=bare_authorization) or b"" for value in _bytes(headers, "Authorization")}
    found.discard(b"")
    if len(found) > 1:
        rule = "X-API-KEY and Authorization carry two different keys; send one of them"
        raise Invalid([FieldError("X-API-KEY", rule)], detail=f"{rule}.", code="conflicting_credentials")
    if not found:
        return None
    try:
        return found.pop().decode()
    except UnicodeDecodeError:  # no key has ever been such a thing
        raise Unauthenticated(MALFORMED) from None


def _bytes(headers: CIMultiDictProxy[str], name: str) -> Iterator[bytes]:
    """The fields as they were sent: aiohttp hands over what is no UTF-8 as lone surrogates."""
    return (value.encode(errors="surrogateescape") for value in headers.getall(name, ()))
