"""What the gateway says in its own name once a request could be read: limits, outages, defects, pages, and who one is.

The store, the record of requests and the gateway itself fail here on a real listener, in all ways in which the bytes of
a request can arrive. Each case says whether the connection goes on, and the request behind it has to be answered: a
failure is of one request. Not here: `max_in_flight` and `max_connections`, which are in `test_many`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.wire.cases import (
    ANONYMOUS,
    DISABLED,
    EXPIRED,
    FOR_PAGES,
    HOST,
    INVALID,
    KEY_FIELD,
    KEYED,
    LESSER,
    METHOD,
    MISSING,
    NOBODY,
    OTHER_SECRET,
    PAGE,
    REVOKED,
    SECOND,
    Answered,
    Denied,
    Forwarded,
    path,
    unkeyed,
)
from tests.wire.cases_battery import try_case
from tests.wire.cases_failures import Cursed, Defect, failing, own_defects, record_without_room
from tests.wire.live import ok, store_away

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator
    from pathlib import Path

    from tests.proxy.wire_reader import Message
    from tests.wire.cases import Case
    from tests.wire.conftest import Tried
    from tests.wire.live import Live

SECTION: Final = "refusals"
STORE_AWAY: Final = (503, "key_store_unavailable")
RECORD_FULL: Final = (503, "audit_log_full")
FAILED: Final = (500, "internal_error")
OTHER_ORGANIZATION: Final = (403, "wrong_organization")
OTHER_PAGE: Final = (403, "origin_not_allowed")
SOON: Final = b"Retry-After: 1\r\n"
FROM_PAGE: Final = b"Origin: " + PAGE + b"\r\n"
ELSEWHERE: Final = b"Origin: https://evil.test\r\n"
ALLOWED: Final = b"Access-Control-Allow-Origin: " + PAGE + b"\r\nVary: Origin\r\n"
EXPOSED: Final = b"Access-Control-Expose-Headers: X-Request-ID, Retry-After, WWW-Authenticate\r\n"
READABLE: Final = ALLOWED + EXPOSED
"""What an answer says to PAGE, where it may read it."""
AT_ONCE_OR_LATER: Final = pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])


def key_field(secret: bytes) -> bytes:
    return b"X-API-KEY: " + secret + b"\r\n"


LESSER_KEY: Final = key_field(LESSER)
PAGE_KEY: Final = key_field(FOR_PAGES)


def with_body(lines: bytes, target: bytes = b"/", framing: bytes = b"Content-Length: 5") -> bytes:
    """A POST of "hello", or of one chunk with it."""
    body = b"hello" if framing.startswith(b"Content-Length") else b"5\r\nhello\r\n0\r\n\r\n"
    return b"POST " + target + b" HTTP/1.1\r\n" + HOST + lines + framing + b"\r\n\r\n" + body


# --- the store cannot be asked ----------------------------------------------------------------------------------------

STORE_ROUTES: list[dict[str, Any]] = [
    {},
    {"path": "/optional", "auth": "optional"},
    {"path": "/none", "auth": "none"},
    {"path": "/page", "cors": {"allow_origins": [PAGE.decode()]}},
]
ROUTES_AND_ME: Final[dict[str, Any]] = {"routes": STORE_ROUTES, "server": {"me_path": "/me"}}
OUTAGE: list[Case] = [
    Denied("a key", unkeyed(LESSER_KEY), STORE_AWAY, fields=SOON),
    Denied("a key, HEAD", unkeyed(LESSER_KEY).replace(b"GET", b"HEAD"), STORE_AWAY, fields=SOON),
    Denied("a key and close", unkeyed(LESSER_KEY + b"Connection: close\r\n"), STORE_AWAY, ends=True, fields=SOON),
    Denied("a key and a body", with_body(LESSER_KEY), STORE_AWAY, ends=None, fields=SOON),
    Denied(
        "a key and chunks",
        with_body(LESSER_KEY, framing=b"Transfer-Encoding: chunked"),
        STORE_AWAY,
        ends=True,
        fields=SOON,
    ),
    Denied("a key where it may be absent", unkeyed(LESSER_KEY, b"/optional"), STORE_AWAY, fields=SOON),
    Denied("a key that is unknown", unkeyed(key_field(OTHER_SECRET)), STORE_AWAY, fields=SOON),
    Denied("a key that is revoked", unkeyed(key_field(REVOKED)), STORE_AWAY, fields=SOON),
    Denied("a key of a page", unkeyed(LESSER_KEY + FROM_PAGE, b"/page"), STORE_AWAY, fields=SOON + READABLE),
    Denied("who a known key is", path(b"/me"), STORE_AWAY, fields=SOON),
    Denied("no key", unkeyed(), MISSING),
    Forwarded("a known key", path(b"/")),
    Forwarded("no key where it may be absent", unkeyed(target=b"/optional"), b"GET /optional", who=ANONYMOUS),
    Forwarded("a key where none is asked for", unkeyed(LESSER_KEY, b"/none"), b"GET /none", who=NOBODY),
]


@AT_ONCE_OR_LATER
@pytest.mark.parametrize("case", OUTAGE, ids=lambda case: case.name)
def test_a_store_that_cannot_be_asked_is_a_503_for_the_keys_that_need_it(
    case: Case, tried: Tried, *, later: bool
) -> None:
    tried(SECTION, try_case(case, prepare=failing(store_away, later=later), **ROUTES_AND_ME))


# --- defects ----------------------------------------------------------------------------------------------------------

FAILURE: Final = "The gateway failed on this request; its log says why."


@pytest.fixture
def defects() -> Iterator[list[logging.LogRecord]]:
    """The test's own ones, as the log has them; any other is still one of the gateway's."""
    with own_defects() as found:
        yield found


def failed(name: str, sends: bytes, *, ends: bool | None = False, fields: bytes = b"") -> Case:
    return Denied(name, sends, FAILED, ends=ends, fields=fields, detail=FAILURE)


@AT_ONCE_OR_LATER
@pytest.mark.parametrize(
    "case",
    [
        failed("a key", unkeyed(LESSER_KEY)),
        failed("a key, HEAD", unkeyed(LESSER_KEY).replace(b"GET", b"HEAD")),
        failed("a key in HTTP/1.0", unkeyed(LESSER_KEY).replace(b"1.1", b"1.0"), ends=True),
        failed("a key and a body", with_body(LESSER_KEY), ends=None),
        failed("a key of a page", unkeyed(LESSER_KEY + FROM_PAGE, b"/page"), fields=READABLE),
        failed("who a known key is", path(b"/me")),
    ],
    ids=lambda case: case.name,
)
def test_a_defect_behind_the_keys_is_a_500_that_says_nothing_of_it(
    case: Case, tried: Tried, defects: list[logging.LogRecord], *, later: bool
) -> None:
    prepare = failing(lambda: Defect("postgresql://inside"), later=later)
    count = try_case(case, prepare=prepare, **ROUTES_AND_ME)
    assert len(defects) == count, "each is in the log"
    tried(SECTION, count)


def test_a_defect_of_a_policy_is_a_500_and_the_connection_goes_on(
    tried: Tried, defects: list[logging.LogRecord]
) -> None:
    async def prepare(gate: Live) -> None:
        gate.keys.put(FOR_PAGES, allowed_origins=Cursed())

    count = try_case(failed("a policy", unkeyed(PAGE_KEY + FROM_PAGE)), prepare=prepare)
    assert len(defects) == count
    tried(SECTION, count)


# --- no room to put requests on record --------------------------------------------------------------------------------


SECOND_FULL: Final = Denied("the second one", SECOND, RECORD_FULL, fields=SOON)


def full(name: str, sends: bytes, *, ends: bool | None = False, fields: bytes = SOON) -> Case:
    return Denied(name, sends, RECORD_FULL, ends=ends, fields=fields, behind=SECOND_FULL)


@pytest.mark.parametrize(
    "case",
    [
        full("a key", path(b"/")),
        full("a key, HEAD", path(b"/").replace(b"GET", b"HEAD")),
        full("a key and a body", with_body(KEY_FIELD), ends=None),
        full("no key", unkeyed()),
        full("no key where none is asked for", unkeyed(target=b"/none")),
        full("a page", unkeyed(FROM_PAGE, b"/page"), fields=SOON + READABLE),
        full("who a key is", path(b"/me")),
    ],
    ids=lambda case: case.name,
)
def test_without_room_on_record_nothing_is_served_and_connections_go_on(
    case: Case, tried: Tried, tmp_path: Path
) -> None:
    with record_without_room(tmp_path / "spool") as prepare:
        count = try_case(case, prepare=prepare, **ROUTES_AND_ME)
    tried(SECTION, count)


# --- whose key it is, and what for ------------------------------------------------------------------------------------


def foreign(name: str, lines: bytes, target: bytes = b"/") -> Case:
    return Denied(name, unkeyed(KEY_FIELD + lines, target), OTHER_ORGANIZATION)


OWN = b"Customer-Id: org_1\r\n"
FOREIGN = b"Customer-Id: org_2\r\n"
TENANTS: list[Case] = [
    foreign("another one", FOREIGN),
    foreign("another one in another spelling", b"cUSTOMER_iD: org_2\r\n"),
    foreign("its own and another one", OWN + FOREIGN),
    foreign("another one and its own", FOREIGN + OWN),
    foreign("two in one field", b"Customer-Id: org_1, org_2\r\n"),
    foreign("an empty one", b"Customer-Id:\r\n"),
    foreign("its own in capitals", b"Customer-Id: ORG_1\r\n"),
    foreign("another one where a key may be absent", FOREIGN, b"/optional"),
    Denied("another one and a body", with_body(KEY_FIELD + FOREIGN), OTHER_ORGANIZATION, ends=None),
    Denied("another one and no key", unkeyed(FOREIGN), MISSING),
    foreign("another one where one is told", FOREIGN, b"/me"),
    Forwarded("none", path(b"/")),
    Forwarded("its own", unkeyed(KEY_FIELD + OWN), fields=OWN),
    Forwarded("its own twice", unkeyed(KEY_FIELD + OWN + OWN), fields=OWN + OWN),
    Forwarded("another one where none is asked for", unkeyed(FOREIGN, b"/none"), b"GET /none", FOREIGN, who=NOBODY),
]


@pytest.mark.parametrize("case", TENANTS, ids=lambda case: case.name)
def test_a_request_that_names_another_organization_than_its_key_goes_no_further(case: Case, tried: Tried) -> None:
    tried(SECTION, try_case(case, auth={"tenant_header": "customer-id"}, **ROUTES_AND_ME))


PAGES: list[Case] = [
    Denied("no page", unkeyed(PAGE_KEY), OTHER_PAGE),
    Denied("another page", unkeyed(PAGE_KEY + ELSEWHERE), OTHER_PAGE),
    Denied("a page without a name", unkeyed(PAGE_KEY + b"Origin: null\r\n"), OTHER_PAGE),
    Denied("its page and another one", unkeyed(PAGE_KEY + FROM_PAGE + ELSEWHERE), OTHER_PAGE),
    Denied("its page twice", unkeyed(PAGE_KEY + FROM_PAGE + FROM_PAGE), OTHER_PAGE),
    Denied("its page with a path", unkeyed(PAGE_KEY + b"Origin: " + PAGE + b"/\r\n"), OTHER_PAGE),
    Denied("its page in capitals", unkeyed(PAGE_KEY + b"Origin: HTTPS://app.test\r\n"), OTHER_PAGE),
    Denied("no page and a body", with_body(PAGE_KEY), OTHER_PAGE, ends=None),
    Denied("no page where one is told", unkeyed(PAGE_KEY, b"/me"), OTHER_PAGE),
    Forwarded("its page", unkeyed(PAGE_KEY + FROM_PAGE), fields=FROM_PAGE),
    Forwarded("a key for everybody from a page", unkeyed(KEY_FIELD + ELSEWHERE), fields=ELSEWHERE),
]


@pytest.mark.parametrize("case", PAGES, ids=lambda case: case.name)
def test_a_key_that_is_made_for_a_page_works_from_there_alone(case: Case, tried: Tried) -> None:
    tried(SECTION, try_case(case, **ROUTES_AND_ME))


UNKNOWN: Final = "The API key is well-formed but unknown here: rotated out, deleted, or of another gateway."


@pytest.mark.parametrize("field", [b"X-API-KEY: ", b"Authorization: Bearer "])
@pytest.mark.parametrize("secret", [EXPIRED, REVOKED, DISABLED, OTHER_SECRET])
def test_generic_errors_tell_no_bad_key_from_an_unknown_one(secret: bytes, field: bytes, tried: Tried) -> None:
    for target in (b"/", b"/optional", b"/me"):
        case = Denied(target.decode(), unkeyed(field + secret + b"\r\n", target), INVALID, detail=UNKNOWN)
        tried(SECTION, try_case(case, auth={"error_detail": "generic"}, **ROUTES_AND_ME))


# --- who one is -------------------------------------------------------------------------------------------------------

ME = (
    b'{"key":{"id":"key_1","name":"a key","expires_at":null},'
    b'"owner":{"id":"mem_1","kind":"member","name":"ann@example.com"},'
    b'"organization":{"id":"org_1","external_id":null},"permissions":["*:*"]}'
)
TOLD: list[Case] = [
    Answered("a key", path(b"/me"), 200, body=ME),
    Answered("a key as Bearer", path(b"/me").replace(b"X-API-KEY:", b"Authorization: Bearer"), 200, body=ME),
    Answered("a query", path(b"/me?a"), 200, body=ME),
    Answered("HEAD", path(b"/me").replace(b"GET", b"HEAD"), 200, body=b""),
    Answered("close", unkeyed(KEY_FIELD + b"Connection: close\r\n", b"/me"), 200, body=ME, ends=True),
    Answered("a body", with_body(KEY_FIELD, b"/me").replace(b"POST", b"GET"), 200, body=ME, ends=None),
    Denied("no key", unkeyed(target=b"/me"), MISSING),
    Denied("a disabled key", unkeyed(key_field(DISABLED), b"/me"), (401, "disabled_api_key")),
    Denied("POST", path(b"/me").replace(b"GET", b"POST"), METHOD),
    Denied("POST and a body", with_body(KEY_FIELD, b"/me"), METHOD, ends=None),
    Denied("POST without a key", unkeyed(target=b"/me").replace(b"GET", b"POST"), MISSING),
    Forwarded("what is below it", path(b"/me/a"), b"GET /me/a"),
    Forwarded("what begins like it", path(b"/mee"), b"GET /mee"),
]


@pytest.mark.parametrize("case", TOLD, ids=lambda case: case.name)
def test_who_a_key_is_is_told_by_the_gateway_and_no_upstream_hears_of_it(case: Case, tried: Tried) -> None:
    tried(SECTION, try_case(case, server={"me_path": "/me"}))


# --- pages of other origins -------------------------------------------------------------------------------------------

CORS_ROUTES: list[dict[str, Any]] = [
    {},
    {"path": "/page", "methods": ["GET", "PUT"], "cors": {"allow_origins": [PAGE.decode()]}},
    {"path": "/any", "auth": "none", "cors": {"allow_origins": ["*"], "max_age_seconds": 7}},
]


def asks(target: bytes = b"/page", method: bytes = b"PUT", lines: bytes = FROM_PAGE) -> bytes:
    """What a browser asks before a request."""
    asked = lines + b"Access-Control-Request-Method: " + method + b"\r\n"
    return unkeyed(asked, target).replace(b"GET", b"OPTIONS", 1)


GRANT = (
    b"Access-Control-Allow-Methods: PUT\r\nAccess-Control-Allow-Headers: X-API-KEY, Authorization, Content-Type\r\n"
    b"Access-Control-Max-Age: "
)
MAY = ALLOWED + GRANT + b"600\r\n"
ALSO = b"Access-Control-Request-Method: GET\r\n"
ANYBODY = b"Access-Control-Allow-Origin: *\r\n"
PREFLIGHTS: list[Case] = [
    Answered("without a key", asks(), 204, MAY),
    Answered("with a key", asks(lines=FROM_PAGE + KEY_FIELD), 204, MAY),
    Answered("with a bad key", asks(lines=FROM_PAGE + LESSER_KEY + b"Authorization: Bearer x\r\n"), 204, MAY),
    Answered(
        "for any page", asks(b"/any", b"DELETE", ELSEWHERE), 204, ANYBODY + GRANT.replace(b"PUT", b"DELETE") + b"7\r\n"
    ),
    Answered("of another page", asks(lines=ELSEWHERE), 204, b"Vary: Origin\r\n"),
    Answered("of two pages", asks(lines=FROM_PAGE + ELSEWHERE), 204, b"Vary: Origin\r\n"),
    Answered("for two methods", asks(b"/any", lines=FROM_PAGE + ALSO), 204, b"Vary: Origin\r\n"),
    Denied("for two methods where not all are served", asks(lines=FROM_PAGE + ALSO), METHOD),
    Answered("and close", asks(lines=FROM_PAGE + b"Connection: close\r\n"), 204, MAY, ends=True),
    Answered("and a body", asks(lines=FROM_PAGE + b"Content-Length: 5\r\n") + b"hello", 204, MAY, ends=None),
    Answered(
        "and chunks", asks(lines=FROM_PAGE + b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n", 204, MAY, ends=True
    ),
    Denied("for a method that is not served", asks(method=b"POST"), METHOD),
    Denied("where no page may", asks(b"/"), MISSING),
]


@pytest.mark.parametrize("case", PREFLIGHTS, ids=lambda case: case.name)
def test_a_preflight_is_answered_without_a_key_and_goes_no_further(case: Case, tried: Tried) -> None:
    tried(SECTION, try_case(case, routes=CORS_ROUTES))


def with_own_grant(request: Message) -> bytes:
    """An upstream that lets all pages read what it says, where pages are the route's business."""
    grant = b"\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\nContent-Length"
    return ok(request) if request.target == b"/2" else ok(request).replace(b"\r\nContent-Length", grant, 1)


ANYBODY_READS: Final = ANYBODY + EXPOSED
NOBODY_READS: Final = b"Vary: Origin\r\n"
READ: list[Case] = [
    Forwarded("an answer", unkeyed(KEY_FIELD + FROM_PAGE, b"/page"), b"GET /page", FROM_PAGE, who=KEYED, told=READABLE),
    Forwarded("an answer to HEAD", path(b"/any").replace(b"GET", b"HEAD"), b"HEAD /any", who=NOBODY, told=NOBODY_READS),
    Forwarded("an answer to all", unkeyed(ELSEWHERE, b"/any"), b"GET /any", ELSEWHERE, who=NOBODY, told=ANYBODY_READS),
    Forwarded(
        "an answer to another page",
        unkeyed(KEY_FIELD + ELSEWHERE, b"/page"),
        b"GET /page",
        ELSEWHERE,
        told=NOBODY_READS,
    ),
    Forwarded("an answer to no page", path(b"/page"), b"GET /page", told=NOBODY_READS),
    Forwarded(
        "OPTIONS that asks for nothing",
        unkeyed(FROM_PAGE, b"/any").replace(b"GET", b"OPTIONS"),
        b"OPTIONS /any",
        FROM_PAGE,
        who=NOBODY,
        told=ANYBODY_READS,
    ),
    Denied("a refusal", unkeyed(FROM_PAGE, b"/page"), MISSING, fields=READABLE),
    Denied("a refusal of a bad key", unkeyed(FROM_PAGE + PAGE_KEY[:-4] + b"\r\n", b"/page"), INVALID, fields=READABLE),
    Denied("a refusal of a method", with_body(FROM_PAGE, b"/page"), METHOD, ends=None, fields=READABLE),
    Denied("a refusal to another page", unkeyed(ELSEWHERE, b"/page"), MISSING, fields=b"Vary: Origin\r\n"),
    Denied("a refusal where no page may", unkeyed(FROM_PAGE), MISSING),
]


@pytest.mark.parametrize("case", READ, ids=lambda case: case.name)
def test_what_pages_may_read_of_an_answer_is_what_the_route_says(case: Case, tried: Tried) -> None:
    async def prepare(gate: Live) -> None:
        gate.upstream.answer = with_own_grant

    tried(SECTION, try_case(case, prepare=prepare, routes=CORS_ROUTES))
