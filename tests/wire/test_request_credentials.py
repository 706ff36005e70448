"""Who asks: keys and other credentials, alone and together, and what of them goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.proxy.harness import OTHER_SECRET, SECRET
from tests.wire.cases import (
    ANONYMOUS,
    CONFLICT,
    DISABLED,
    EXPIRED,
    INVALID,
    KEYED,
    LESSER,
    MALFORMED,
    MISSING,
    NOBODY,
    REVOKED,
    Denied,
    Forwarded,
    Refused,
    unkeyed,
)
from tests.wire.cases_battery import try_case

if TYPE_CHECKING:
    from tests.wire.cases import Case
    from tests.wire.conftest import Tried

ROUTES: list[dict[str, Any]] = [
    {},
    {"path": "/optional", "auth": "optional"},
    {"path": "/none", "auth": "none"},
    {"path": "/shown", "forward_credential": True},
    {"path": "/needs", "permissions": ["orders:read"]},
    {"path": "/needs/optional", "permissions": ["orders:read"], "auth": "optional"},
]
KEY = b"X-API-KEY: " + SECRET + b"\r\n"
BEARER = b"Authorization: Bearer " + SECRET + b"\r\n"
OTHER = b"Authorization: Bearer " + OTHER_SECRET + b"\r\n"
BASIC = b"Authorization: Basic dTpw\r\n"
TOKEN = b"Authorization: Bearer eyJhbGciOiJub25lIn0.e30.\r\n"
BAD_FORM = SECRET[:-1] + b"x"
FORBIDDEN = (403, "insufficient_permissions")

REFUSED: list[Case] = [
    Refused("two X-API-KEYs", unkeyed(KEY + KEY), MALFORMED),
    Refused("two X-API-KEYs in different case", unkeyed(KEY + b"x-api-key: a\r\n"), MALFORMED),
    Refused("two X-API-KEYs, the second empty", unkeyed(KEY + b"X-API-KEY:\r\n"), MALFORMED),
    Refused("two X-API-KEYs where none is asked for", unkeyed(KEY + KEY, b"/none"), MALFORMED),
    Refused("two Authorizations", unkeyed(BEARER + BASIC), MALFORMED),
    Refused("two equal Authorizations", unkeyed(BEARER + BEARER), MALFORMED),
    Refused("two Authorizations beside a key", unkeyed(KEY + BASIC + TOKEN), MALFORMED),
    Refused("two different keys", unkeyed(KEY + OTHER), CONFLICT),
    Refused("two different keys, the second good", unkeyed(b"X-API-KEY: " + OTHER_SECRET + b"\r\n" + BEARER), CONFLICT),
    Refused(
        "another key of another scheme", unkeyed(KEY + b"Authorization: Token " + OTHER_SECRET + b"\r\n"), CONFLICT
    ),
    Refused("two different keys where one may be absent", unkeyed(KEY + OTHER, b"/optional"), CONFLICT),
]
DENIED: list[Case] = [
    Denied("no key", unkeyed(), MISSING),
    Denied("no key, HEAD", unkeyed().replace(b"GET", b"HEAD"), MISSING),
    Denied("no key and a body", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", MISSING, ends=None),
    Denied(
        "no key and chunks",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        MISSING,
        ends=True,
    ),
    Denied("no key and close", unkeyed(b"Connection: close\r\n"), MISSING, ends=True),
    Denied("no key, HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", MISSING, ends=True),
    Denied("an empty key", unkeyed(b"X-API-KEY:\r\n"), MISSING),
    Denied("a key whose name is only like it", unkeyed(b"X_API_KEY: " + SECRET + b"\r\n"), MISSING),
    Denied(
        "an authorization whose name is only like it", unkeyed(b"Author_ization: Bearer " + SECRET + b"\r\n"), MISSING
    ),
    Denied("a key in the query", unkeyed(target=b"/?x-api-key=" + SECRET), MISSING),
    Denied("a key in a cookie", unkeyed(b"Cookie: x-api-key=" + SECRET + b"\r\n"), MISSING),
    Denied("a key in Proxy-Authorization", unkeyed(b"Proxy-Authorization: Bearer " + SECRET + b"\r\n"), MISSING),
    Denied("a key of another scheme", unkeyed(b"Authorization: Token " + SECRET + b"\r\n"), MISSING),
    Denied("a key without a scheme", unkeyed(b"Authorization: " + SECRET + b"\r\n"), MISSING),
    Denied("Bearer without a key", unkeyed(b"Authorization: Bearer\r\n"), MISSING),
    Denied("Basic", unkeyed(BASIC), MISSING),
    Denied("an unknown key", unkeyed(b"X-API-KEY: " + OTHER_SECRET + b"\r\n"), INVALID),
    Denied("an unknown key as Bearer", unkeyed(OTHER), INVALID),
    Denied("a token of somebody else", unkeyed(TOKEN), INVALID),
    Denied("a malformed key", unkeyed(b"X-API-KEY: " + BAD_FORM + b"\r\n"), INVALID),
    Denied("two keys in one field", unkeyed(b"X-API-KEY: " + SECRET + b", " + SECRET + b"\r\n"), INVALID),
    Denied("a key in quotes", unkeyed(b'X-API-KEY: "' + SECRET + b'"\r\n'), INVALID),
    Denied("a key of 8,000 bytes", unkeyed(b"X-API-KEY: " + b"k" * 8000 + b"\r\n"), INVALID),
    Denied("a key above 7F", unkeyed(b"X-API-KEY: \xff\xfe\r\n"), INVALID),
    Denied("an expired key", unkeyed(b"X-API-KEY: " + EXPIRED + b"\r\n"), (401, "expired_api_key")),
    Denied("a revoked key", unkeyed(b"Authorization: Bearer " + REVOKED + b"\r\n"), (401, "revoked_api_key")),
    Denied("a disabled key", unkeyed(b"X-API-KEY: " + DISABLED + b"\r\n"), (401, "disabled_api_key")),
    Denied("a key without the permission", unkeyed(b"X-API-KEY: " + LESSER + b"\r\n", b"/needs"), FORBIDDEN),
    Denied("a bad key where it may be absent", unkeyed(OTHER, b"/optional"), INVALID),
    Denied(
        "an expired key where it may be absent",
        unkeyed(b"X-API-KEY: " + EXPIRED + b"\r\n", b"/optional"),
        (401, "expired_api_key"),
    ),
    Denied("no key where it may be absent, and a permission", unkeyed(target=b"/needs/optional"), MISSING),
    Denied(
        "no key and an expectation",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        MISSING,
        ends=True,
    ),
]
PASSED: list[Case] = [
    Forwarded("X-API-KEY", unkeyed(KEY)),
    Forwarded("X-API-KEY in another case", unkeyed(KEY.replace(b"X-API-KEY", b"x-Api-Key"))),
    Forwarded("Bearer", unkeyed(BEARER)),
    Forwarded("bearer with blanks", unkeyed(b"AUTHORIZATION:\t bEARER  \t" + SECRET + b" \t\r\n")),
    Forwarded("the same key twice", unkeyed(KEY + BEARER)),
    Forwarded("an imported key", unkeyed(b"X-API-KEY: " + LESSER + b"\r\n")),
    Forwarded("a nominated key counts", unkeyed(b"Connection: X-API-KEY\r\n" + KEY)),
    Forwarded("a nominated Authorization counts", unkeyed(b"Connection: authorization\r\n" + BEARER)),
    Forwarded("a key and Basic", unkeyed(KEY + BASIC), fields=BASIC),
    Forwarded("a key and somebody else's token", unkeyed(TOKEN + KEY), fields=TOKEN),
    Forwarded(
        "a key and a nominated Authorization", unkeyed(KEY + b"Connection: Authorization\r\n" + BASIC), fields=BASIC
    ),
    Forwarded("a key and an imported one as Bearer", unkeyed(KEY + b"Authorization: Bearer " + LESSER + b"\r\n")),
    Forwarded("a key and a revoked one as Bearer", unkeyed(KEY + b"Authorization: Bearer " + REVOKED + b"\r\n")),
    Forwarded("a key and its like", unkeyed(KEY + b"X_API_KEY: " + SECRET + b"\r\n")),
    Forwarded("a key with the permission", unkeyed(KEY, b"/needs"), b"GET /needs"),
    Forwarded("a key where it may be absent", unkeyed(KEY, b"/optional"), b"GET /optional"),
    Forwarded("no key where it may be absent", unkeyed(target=b"/optional"), b"GET /optional", who=ANONYMOUS),
    Forwarded("Basic where a key may be absent", unkeyed(BASIC, b"/optional"), b"GET /optional", BASIC, who=ANONYMOUS),
    Forwarded("no key where none is asked for", unkeyed(target=b"/none"), b"GET /none", who=NOBODY),
    Forwarded("a key where none is asked for", unkeyed(KEY, b"/none"), b"GET /none", who=NOBODY),
    Forwarded("Bearer where none is asked for", unkeyed(BEARER, b"/none"), b"GET /none", who=NOBODY),
    Forwarded("an unknown key where none is asked for", unkeyed(OTHER, b"/none"), b"GET /none", who=NOBODY),
    Forwarded(
        "an imported one where none is asked for",
        unkeyed(b"Authorization: Bearer " + LESSER + b"\r\n", b"/none"),
        b"GET /none",
        who=NOBODY,
    ),
    Forwarded(
        "an imported one of another scheme",
        unkeyed(b"Authorization: Key " + LESSER + b"\r\n", b"/none"),
        b"GET /none",
        who=NOBODY,
    ),
    Forwarded(
        "a key without a scheme, none asked for",
        unkeyed(b"Authorization: " + SECRET + b"\r\n", b"/none"),
        b"GET /none",
        who=NOBODY,
    ),
    Forwarded("Basic where none is asked for", unkeyed(BASIC, b"/none"), b"GET /none", BASIC, who=NOBODY),
    Forwarded("a key that the route shows", unkeyed(KEY, b"/shown"), b"GET /shown", KEY, who=KEYED),
    Forwarded("a Bearer key that the route shows", unkeyed(BEARER, b"/shown"), b"GET /shown", BEARER, who=KEYED),
]
CASES: list[Case] = [*REFUSED, *DENIED, *PASSED]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_credentials(case: Case, tried: Tried) -> None:
    tried("credentials", try_case(case, routes=ROUTES))
