"""Finds the key in a request to the admin API: X-API-KEY, or Authorization with the Bearer scheme, as at the proxy.

Invariant: at most one key is presented. Two different ones are refused, since whoever looks at the request elsewhere
could pick the other. Surrounding spaces are forgiven. Nothing here is logged or repeated in an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import FieldError, Invalid, Unauthenticated

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

_BEARER = "bearer "


def presented_key(headers: CIMultiDictProxy[str]) -> str | None:
    """Return the key, or None where there is none. Raises Invalid for two, Unauthenticated for one that is no text."""
    found = {value.strip() for value in headers.getall("X-API-KEY", ())}
    for value in headers.getall("Authorization", ()):
        if value[: len(_BEARER)].lower() == _BEARER:
            found.add(value[len(_BEARER) :].strip())
    found.discard("")
    if len(found) > 1:
        rule = "X-API-KEY and Authorization carry two different keys; send one of them"
        raise Invalid([FieldError("X-API-KEY", rule)], detail=f"{rule}.", code="conflicting_credentials")
    if not found:
        return None
    return _text(found.pop())


def _text(value: str) -> str:
    """Refuse what is no UTF-8, which aiohttp hands over as lone surrogates: no key has ever been such a thing."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unauthenticated("The API key is not one that this gateway could have issued.") from None
    return value
