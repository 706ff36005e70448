"""Pages of other origins: preflights are the gateway's to answer, and what it lets pages read is its word alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gateway.proxy.cors import Cors
from gateway.settings.model import CorsSettings
from tests.proxy.harness import KEY_FIELD, OK, OTHER_SECRET, SECRET, Client, Gate, error_of, get, post, splits

if TYPE_CHECKING:
    from tests.proxy.wire_reader import Message

PAGE = "https://app.test"
ORIGIN = b"Origin: https://app.test\r\n"
OTHER_ORIGIN = b"Origin: https://evil.test\r\n"
CORS: dict[str, Any] = {"allow_origins": [PAGE, "http://localhost:3000"]}
ROUTE: dict[str, Any] = {"cors": CORS}
OURS = [
    *("access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers"),
    *("access-control-allow-methods", "access-control-allow-headers", "access-control-max-age", "vary"),
]


def preflight(method: bytes = b"GET", path: bytes = b"/", fields: bytes = ORIGIN) -> bytes:
    """What a browser asks before a request with a key."""
    asked = b"Access-Control-Request-Method: " + method + b"\r\nAccess-Control-Request-Headers: x-api-key\r\n"
    return b"OPTIONS " + path + b" HTTP/1.1\r\nHost: api.test\r\n" + fields + asked + b"\r\n"


def said(answer: Message) -> dict[str, str | None]:
    """What an answer says about CORS; each field stands once at most."""
    return {name: answer.one(name) for name in OURS if answer.all(name)}


GRANTED = {"access-control-allow-origin": PAGE, "vary": "Origin"}
READABLE = {**GRANTED, "access-control-expose-headers": "X-Request-ID, Retry-After, WWW-Authenticate"}
PERMITTED = {
    **GRANTED,
    "access-control-allow-methods": "GET",
    "access-control-allow-headers": "X-API-KEY, Authorization, Content-Type",
    "access-control-max-age": "600",
}


# --- preflights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["required", "optional", "none"])
def test_a_preflight_is_answered_without_a_key_and_never_forwarded(auth: str) -> None:
    request = preflight()
    gate = Gate(routes=[{**ROUTE, "auth": auth}])
    for split in [0, *splits(request)]:
        client = gate.ask(request, split=split)
        assert client.answer.status == 204
        assert said(client.answer) == PERMITTED
        assert client.answer.body == b""
        assert not client.answer.all("content-length")
        assert not client.answer.all("content-type")
        assert client.answer.one("x-request-id")
        assert client.open, "the request itself comes on the same connection"
    assert not gate.upstreams
    assert gate.store.reads == 0
    gate.check_counts()


def test_a_preflight_and_the_request_behind_it_in_one_read() -> None:
    gate = Gate(routes=[ROUTE])
    client = gate.client()
    client.methods += [b"OPTIONS", b"GET"]
    client.send(preflight() + get(fields=KEY_FIELD + ORIGIN))
    gate.upstream.send(OK)
    assert [each.status for each in client.answers] == [204, 200]


def test_a_preflight_with_a_key_is_no_other() -> None:
    gate = Gate(routes=[ROUTE])
    for key in (KEY_FIELD, b"X-API-KEY: " + OTHER_SECRET + b"\r\n"):
        assert said(gate.ask(preflight(fields=ORIGIN + key)).answer) == PERMITTED
    assert not gate.upstreams


@pytest.mark.parametrize("body", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_preflight_with_a_body_is_answered_all_the_same(body: bytes) -> None:
    gate = Gate(routes=[ROUTE])
    client = gate.ask(preflight(fields=ORIGIN + body))
    assert client.answer.status == 204
    assert client.answer.one("connection") == "close"
    client.send(get(b"/smuggled"))
    assert len(client.answers) == 1
    assert not gate.upstreams


@pytest.mark.parametrize(
    "origin",
    [
        OTHER_ORIGIN,
        b"Origin: null\r\n",
        b"Origin: \r\n",
        b"Origin: https://app.test/\r\n",
        b"Origin: https://APP.test\r\n",
        b"Origin: https://app.test.evil.test\r\n",
        ORIGIN + OTHER_ORIGIN,
        ORIGIN + b"origin: https://app.test\r\n",
    ],
)
def test_a_preflight_of_another_page_is_granted_nothing(origin: bytes) -> None:
    gate = Gate(routes=[ROUTE])
    client = gate.ask(preflight(fields=origin))
    assert client.answer.status == 204
    assert said(client.answer) == {"vary": "Origin"}
    assert not gate.upstreams


def test_the_methods_of_the_route_need_not_have_options_in_them() -> None:
    gate = Gate(routes=[{**ROUTE, "methods": ["GET", "DELETE"]}])
    for method in (b"GET", b"DELETE"):
        answer = gate.ask(preflight(method)).answer
        assert said(answer) == {**PERMITTED, "access-control-allow-methods": method.decode()}
    assert not gate.upstreams


@pytest.mark.parametrize("method", [b"POST", b"HEAD", b"get", b"GET, POST"])
def test_a_method_that_no_route_there_serves_is_granted_nothing(method: bytes) -> None:
    gate = Gate(routes=[{**ROUTE, "methods": ["GET"]}])
    client = gate.ask(preflight(method))
    assert error_of(client.answer) == (405, "method_not_allowed")
    assert said(client.answer) == {}


def double(method: bytes) -> bytes:
    return preflight(fields=ORIGIN + b"Access-Control-Request-Method: " + method + b"\r\n")


@pytest.mark.parametrize("asks", [preflight(b"DELETE"), preflight(b"GET, POST"), double(b"GET"), double(b"DELETE")])
@pytest.mark.parametrize("auth", ["required", "none"])
@pytest.mark.parametrize("apart", [False, True])
def test_a_preflight_is_not_left_to_a_route_that_serves_options(auth: str, asks: bytes, *, apart: bool) -> None:
    """Nor is one that asks about no method that there is, or about two."""
    if apart:
        routes = [{**ROUTE, "methods": ["GET"]}, {"methods": ["OPTIONS"], "auth": auth}]
    else:
        routes = [{**ROUTE, "methods": ["GET", "OPTIONS"], "auth": auth}]
    gate = Gate(routes=routes)
    client = gate.ask(asks)
    assert error_of(client.answer) == (405, "method_not_allowed")
    assert said(client.answer) == {}
    assert not gate.upstreams


TWICE = double(b"GET")
UNCLEAR = [TWICE, TWICE.replace(b"-", b"_", 2), preflight(b"GET, POST"), preflight(b""), preflight(b"GE T")]


@pytest.mark.parametrize("asks", UNCLEAR)
def test_a_preflight_that_does_not_ask_about_one_method_is_granted_nothing(asks: bytes) -> None:
    gate = Gate(routes=[ROUTE])
    answer = gate.ask(asks).answer
    assert answer.status == 204
    assert said(answer) == {"vary": "Origin"}
    assert not gate.upstreams


def test_each_of_the_routes_of_a_path_answers_for_its_own_methods() -> None:
    """Pages may read, and other programs may write."""
    gate = Gate(
        routes=[
            {"path": "/a", "methods": ["GET"], **ROUTE},
            {"path": "/a", "methods": ["HEAD"], "cors": {"allow_origins": ["*"]}},
            {"path": "/a", "methods": ["PUT"]},
        ]
    )
    assert said(gate.ask(preflight(b"GET", b"/a")).answer) == PERMITTED
    assert gate.ask(preflight(b"HEAD", b"/a")).answer.one("access-control-allow-origin") == "*"
    for method in (b"PUT", b"OPTIONS", b"DELETE"):
        answer = gate.ask(preflight(method, b"/a")).answer
        assert error_of(answer) == (405, "method_not_allowed")
        assert said(answer) == {}
    assert not gate.upstreams


def test_a_route_of_every_method_grants_the_one_that_is_asked_for() -> None:
    gate = Gate(routes=[ROUTE])
    for method in ("PATCH", "OPTIONS", "PURGE"):
        assert said(gate.ask(preflight(method.encode())).answer) == {
            **PERMITTED,
            "access-control-allow-methods": method,
        }


def test_the_settings_say_what_pages_may_send_and_for_how_long_that_is_remembered() -> None:
    cors = {
        **CORS,
        "allow_methods": ["GET", "PUT"],
        "allow_headers": ["X-Trace", "Content-Type"],
        "max_age_seconds": 5,
    }
    gate = Gate(routes=[{"cors": cors}], auth={"tenant_header": "customer-id"})
    for method in (b"PUT", b"DELETE"):  # the browser sees itself that DELETE is not among them
        assert said(gate.ask(preflight(method)).answer) == {
            **GRANTED,
            "access-control-allow-methods": "GET, PUT",
            "access-control-allow-headers": "X-API-KEY, Authorization, Content-Type, customer-id, X-Trace",
            "access-control-max-age": "5",
        }


@pytest.mark.parametrize(
    "request_",
    [
        preflight(fields=b""),
        b"OPTIONS / HTTP/1.1\r\nHost: api.test\r\n" + ORIGIN + b"\r\n",
        preflight(fields=ORIGIN + b"Connection: Origin\r\n"),
        preflight(fields=ORIGIN + b"Connection: Access-Control-Request-Method\r\n"),
        preflight().replace(b"OPTIONS", b"GET"),
    ],
)
def test_what_is_no_preflight_is_a_request_like_others(request_: bytes) -> None:
    """It needs a key, and goes on with one."""
    gate = Gate(routes=[ROUTE])
    assert error_of(gate.ask(request_).answer) == (401, "missing_api_key")
    assert not gate.upstreams
    gate.ask(request_.replace(b"Host:", KEY_FIELD + b"Host:"))
    assert gate.upstream.request.method == request_.partition(b" ")[0]


def test_a_preflight_in_underscores_is_not_forwarded_either() -> None:
    """A server that cannot tell `_` from `-` would answer it."""
    gate = Gate(routes=[{**ROUTE, "auth": "none"}])
    request = preflight().replace(b"Access-Control-Request-Method", b"Access_Control_Request_method")
    assert said(gate.ask(request).answer) == PERMITTED
    assert not gate.upstreams


def test_routes_without_cors_leave_preflights_to_their_upstream() -> None:
    """Also where another route has it; a key is needed where one is needed."""
    for others in ([], [{"path": "/cors", **ROUTE}]):
        gate = Gate(routes=[{}, {"path": "/open", "auth": "none"}, *others])
        assert error_of(gate.ask(preflight()).answer) == (401, "missing_api_key")
        gate.ask(preflight(path=b"/open"))
        answer = b"HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: *\r\n\r\n"
        gate.upstream.send(answer)
        assert said(gate.clients[-1].answer) == {"access-control-allow-origin": "*"}


def test_hosts_have_their_own() -> None:
    gate = Gate(routes=[{"hosts": ["other.test"]}, {"hosts": ["api.test"], **ROUTE}])
    assert gate.ask(preflight()).answer.status == 204
    assert gate.ask(preflight().replace(b"api.test", b"other.test")).answer.status == 401


def test_while_the_worker_stops_preflights_are_answered_too() -> None:
    gate = Gate(routes=[ROUTE])
    client = gate.client()
    client.methods.append(b"OPTIONS")
    client.send(preflight()[:1])
    gate.drain()
    client.send(preflight()[1:])
    assert (client.answer.status, client.answer.one("connection")) == (204, "close")


# --- answers of the upstream ------------------------------------------------------------------------------------------


def answered(response: bytes, fields: bytes = ORIGIN, **cors: Any) -> Message:  # noqa: ANN401  settings
    """What a page gets for an upstream's response."""
    gate = Gate(routes=[{"cors": {**CORS, **cors}}])
    client = gate.ask(get(fields=KEY_FIELD + fields))
    gate.upstream.send(response)
    return client.answer


def test_an_answer_may_be_read_by_the_pages_that_are_named() -> None:
    for origin in (PAGE, "http://localhost:3000"):
        answer = answered(OK, f"Origin: {origin}\r\n".encode())
        assert said(answer) == {**READABLE, "access-control-allow-origin": origin}
        assert answer.body == b"ok"


@pytest.mark.parametrize("fields", [b"", OTHER_ORIGIN, ORIGIN + ORIGIN, ORIGIN + b"Connection: origin\r\n"])
def test_an_answer_to_anybody_else_says_that_it_depends_on_the_origin(fields: bytes) -> None:
    """A cache between must not give it to a page, nor the page's to others."""
    assert said(answered(OK, fields)) == {"vary": "Origin"}


def test_the_upstreams_word_about_cors_is_replaced() -> None:
    """It cannot know who may call the gateway; in any case, and whatever else it says."""
    theirs = (
        b"Access-Control-Allow-Origin: https://evil.test",
        b"access-control-allow-origin: *",
        b"ACCESS-CONTROL-ALLOW-CREDENTIALS: true",
        b"Access-Control-Expose-Headers: X-Secret",
        b"access-Control-Allow-Methods: PUT",
        b"Access-Control-Allow-Private-Network: true",
        b"Access-Control-Anything-New: 1",
    )
    kept = (b"Access-Controlled: by me", b"X-Access-Control-Allow-Origin: me", b"Vary: Accept-Encoding")
    fields = b"\r\n".join([*theirs, *kept, b""])
    response = b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 2\r\n\r\nok"
    for origin, expected in ((ORIGIN, {**READABLE}), (OTHER_ORIGIN, {"vary": "Origin"})):
        answer = answered(response, origin)
        assert answer.all("vary") == ["Accept-Encoding", "Origin"]
        answer.fields.remove((b"Vary", b"Accept-Encoding"))
        assert said(answer) == expected
        assert answer.one("access-controlled") == "by me"
        assert answer.one("x-access-control-allow-origin") == "me"
        assert not answer.all("access-control-allow-private-network")
        assert not answer.all("access-control-anything-new")


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
)
def test_whatever_the_answer_is(response: bytes) -> None:
    assert said(answered(response)) == READABLE


def test_without_cors_the_upstreams_word_stands() -> None:
    gate = Gate(routes=[{}, {"path": "/cors", **ROUTE}])
    client = gate.ask(get(fields=KEY_FIELD + ORIGIN))
    gate.upstream.send(OK.replace(b"\r\n\r\n", b"\r\nAccess-Control-Allow-Origin: *\r\n\r\n"))
    assert said(client.answer) == {"access-control-allow-origin": "*"}


# --- every origin, cookies, and more to read --------------------------------------------------------------------------


def test_every_origin_is_a_star() -> None:
    answer = answered(OK, allow_origins=["*"])
    assert answer.one("access-control-allow-origin") == "*"
    assert not answer.all("access-control-allow-credentials")
    answer = Gate(routes=[{"cors": {"allow_origins": ["*"]}}]).ask(preflight(fields=b"Origin: null\r\n")).answer
    assert answer.one("access-control-allow-origin") == "*"
    assert answer.one("access-control-allow-headers") == "X-API-KEY, Authorization, Content-Type"


def test_cookies_go_with_an_origin_that_is_named() -> None:
    granted = {**READABLE, "access-control-allow-credentials": "true"}
    assert said(answered(OK, allow_credentials=True)) == granted
    assert said(answered(OK, OTHER_ORIGIN, allow_credentials=True)) == {"vary": "Origin"}
    gate = Gate(routes=[{"cors": {**CORS, "allow_credentials": True}}])
    assert gate.ask(preflight()).answer.one("access-control-allow-credentials") == "true"


def test_cookies_never_go_with_a_star() -> None:
    """The settings refuse the two together; were they to come here, no answer would have both."""
    cors = Cors(CorsSettings(allow_origins=("*",), allow_credentials=True), None)
    origin = cors.origin([b"Origin: https://app.test"])
    for lines in (cors.answer_fields(origin), cors.preflight_fields(origin, b"GET")):
        assert b"Access-Control-Allow-Origin: https://app.test" in lines
        assert b"Vary: Origin" in lines
        assert b"Access-Control-Allow-Origin: *" not in lines


def test_pages_may_read_more_where_the_settings_say_so() -> None:
    exposed = answered(OK, expose_headers=["Link", "Retry-After"]).one("access-control-expose-headers")
    assert exposed == "X-Request-ID, Retry-After, WWW-Authenticate, Link"


# --- answers of the gateway -------------------------------------------------------------------------------------------


def refused(gate: Gate, fields: bytes = KEY_FIELD, path: bytes = b"/") -> Client:
    """The answer to a page's request."""
    return gate.ask(get(path, fields + ORIGIN))


def test_a_page_can_read_why_it_was_refused() -> None:
    gate = Gate(routes=[{**ROUTE, "permissions": ["orders:read"]}])
    gate.store.put(SECRET, owner_permissions=("other:read",))
    cases: list[tuple[Client, tuple[int, str]]] = [
        (refused(gate, b""), (401, "missing_api_key")),
        (refused(gate, b"X-API-KEY: " + OTHER_SECRET + b"\r\n"), (401, "invalid_api_key")),
        (refused(gate), (403, "insufficient_permissions")),
        (refused(gate, path=b"/a;b"), (400, "ambiguous_target")),
    ]
    for client, expected in cases:
        assert error_of(client.answer) == expected
        assert said(client.answer) == READABLE
    assert not gate.upstreams


def test_or_that_it_may_not_use_this_key() -> None:
    gate = Gate(routes=[{"cors": {"allow_origins": ["*"]}}])
    gate.store.put(SECRET, allowed_origins=("https://other.test",))
    client = refused(gate)
    assert error_of(client.answer) == (403, "origin_not_allowed")
    assert client.answer.one("access-control-allow-origin") == "*"


def test_or_that_the_store_cannot_be_asked() -> None:
    gate = Gate(routes=[ROUTE])
    gate.store.down = True
    client = refused(gate)
    assert error_of(client.answer) == (503, "key_store_unavailable")
    assert client.answer.one("retry-after")
    assert said(client.answer) == READABLE


def test_or_that_the_upstream_failed() -> None:
    gate = Gate(routes=[ROUTE], upstream={"head_timeout_seconds": 5})
    client = refused(gate)
    gate.upstreams[-1].reset()
    assert error_of(client.answer) == (502, "upstream_unreachable")
    assert said(client.answer) == READABLE
    client = refused(gate)
    gate.upstreams[-1].send(b"nonsense\r\n\r\n")
    assert error_of(client.answer) == (502, "upstream_invalid_response")
    assert said(client.answer) == READABLE
    client = refused(gate)
    gate.advance(6)
    assert error_of(client.answer) == (504, "upstream_timeout")
    assert said(client.answer) == READABLE


def test_or_that_its_body_is_too_large() -> None:
    gate = Gate(routes=[{**ROUTE, "max_body_bytes": 4}])
    client = gate.ask(post(b"12345", fields=KEY_FIELD + ORIGIN))
    assert error_of(client.answer) == (413, "body_too_large")
    assert said(client.answer) == READABLE
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" + KEY_FIELD + ORIGIN + b"\r\n"
    client = gate.ask(chunked)
    client.send(b"5\r\n12345\r\n")
    assert error_of(client.answer) == (413, "body_too_large")
    assert said(client.answer) == READABLE


def test_or_that_it_has_no_such_method() -> None:
    gate = Gate(routes=[{**ROUTE, "methods": ["GET"]}])
    client = gate.ask(b"DELETE / HTTP/1.1\r\nHost: a\r\n" + KEY_FIELD + ORIGIN + b"\r\n")
    assert error_of(client.answer) == (405, "method_not_allowed")
    assert said(client.answer) == READABLE
    client = gate.ask(b"DELETE / HTTP/1.1\r\nHost: a\r\n" + KEY_FIELD + OTHER_ORIGIN + b"\r\n")
    assert said(client.answer) == {"vary": "Origin"}


@pytest.mark.parametrize("fields", [b"", OTHER_ORIGIN])
def test_a_refusal_to_anybody_else_grants_nothing_and_says_that_it_depends_on_the_origin(fields: bytes) -> None:
    """Else a cache between gives it to the page, which cannot read it: 404 and 405 may be kept (RFC 9110, 15.1)."""
    gate = Gate(routes=[{**ROUTE, "methods": ["GET"]}])
    client = gate.ask(get(fields=fields))
    assert client.answer.status == 401
    assert said(client.answer) == {"vary": "Origin"}
    client = gate.ask(get(fields=KEY_FIELD + fields).replace(b"GET", b"PUT"))
    assert client.answer.status == 405
    assert said(client.answer) == {"vary": "Origin"}


def test_where_no_route_is_there_is_no_word_about_pages() -> None:
    gate = Gate(routes=[{"path": "/a", **ROUTE}])
    for request in (get(b"/b", KEY_FIELD + ORIGIN), preflight(path=b"/b")):
        client = gate.ask(request)
        assert error_of(client.answer) == (404, "no_route")
        assert said(client.answer) == {}
    assert not gate.upstreams


def test_one_request_of_a_connection_says_nothing_about_the_next() -> None:
    gate = Gate(routes=[ROUTE])
    client = gate.client()
    client.send(get(fields=ORIGIN) + get(fields=b"") + get(fields=ORIGIN))
    first, second, third = client.answers
    assert said(first) == said(third) == READABLE
    assert said(second) == {"vary": "Origin"}


def test_an_interim_response_says_nothing_of_the_upstreams_about_cors() -> None:
    gate = Gate(routes=[ROUTE])
    client = gate.ask(get(fields=KEY_FIELD + ORIGIN))
    gate.upstream.send(b"HTTP/1.1 103 Early Hints\r\nAccess-Control-Allow-Origin: *\r\nLink: </a>\r\n\r\n" + OK)
    early, final = client.answers
    assert early.fields == [(b"Link", b"</a>")]
    assert said(final) == READABLE
