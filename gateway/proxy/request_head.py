"""Reads the head of a client's request (RFC 9112): bytes in, a judged `RequestHead` out, or `MalformedRequest`.

Invariants: pure, no I/O. What this returns is one request to every reader: each line ends in CRLF, each name is a
token, framing is one plain Content-Length or one `chunked`, Host is one host. `forwarded` holds only fields that may
travel on, each written anew as `name: value`. Turned down: httptools (llhttp) and aiohttp's reader, see
`docs/decisions.md`.
"""

import re
from typing import Final

from gateway.policies.refusal import Refusal
from gateway.proxy.dropped_fields import DROPPED_NAMES, OVERRIDE_NAMES
from gateway.proxy.grammar import FieldLines, RepeatedField, Special, decimal, is_host, is_token, list_tokens
from gateway.proxy.target import PLAIN_PATH, Target, read_target

_PLAIN_REQUEST_LINE: Final = re.compile(rb"([A-Z]+) (" + PLAIN_PATH + rb")(\?[!\"$-~]*)? HTTP/1\.([01])")
"""What nearly every request line looks like; anything else takes the thorough way, which names what is wrong."""
_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_UNSUPPORTED_METHODS: Final = frozenset({b"CONNECT", b"TRACE"})
_STANDARD_METHODS: Final = frozenset(
    {b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE"}
)


# What to do with a field; 0 is every other field, which travels on. Plain numbers: an Enum member hashes in Python, and
# these are dictionary keys a dozen times per request.
DROPPED: Final = 1
HOST: Final = 2
CONTENT_LENGTH: Final = 3
TRANSFER_ENCODING: Final = 4
CONNECTION: Final = 5
UPGRADE: Final = 6
EXPECT: Final = 7
API_KEY: Final = 8
AUTHORIZATION: Final = 9
REQUEST_ID: Final = 10
FORWARDED_FOR: Final = 11
FORWARDED_PROTO: Final = 12
FORWARDED_HOST: Final = 13
FORWARDED: Final = 14
VIA: Final = 15
OVERRIDE: Final = 16
"""Several fields of different names, so each is kept as its whole line."""
USER_AGENT: Final = 17
"""Travels on; kept as its whole line, for the record."""
_STEERING: Final = [TRANSFER_ENCODING, CONTENT_LENGTH, CONNECTION, EXPECT, OVERRIDE]
"""Kinds that few requests have, and that change how a request is read or sent."""

_ONCE: Final = {
    HOST: "Host",
    CONTENT_LENGTH: "Content-Length",
    TRANSFER_ENCODING: "Transfer-Encoding",
    API_KEY: "X-API-KEY",
    AUTHORIZATION: "Authorization",
}
"""A second one of these is an attack or a bug, never a list."""

_LINES: Final = FieldLines(
    {
        **dict.fromkeys(DROPPED_NAMES, DROPPED),
        **dict.fromkeys(OVERRIDE_NAMES, OVERRIDE),
        b"host": HOST,
        b"content-length": CONTENT_LENGTH,
        b"transfer-encoding": TRANSFER_ENCODING,
        b"connection": CONNECTION,
        b"upgrade": UPGRADE,
        b"expect": EXPECT,
        b"x-api-key": API_KEY,
        b"authorization": AUTHORIZATION,
        b"x-request-id": REQUEST_ID,
        b"x-forwarded-for": FORWARDED_FOR,
        b"x-forwarded-proto": FORWARDED_PROTO,
        b"x-forwarded-host": FORWARDED_HOST,
        b"forwarded": FORWARDED,
        b"via": VIA,
        b"user-agent": USER_AGENT,
    },
    _ONCE,
    dropped=DROPPED,
    whole=OVERRIDE,
    noted=USER_AGENT,
    unremembered=frozenset({API_KEY, AUTHORIZATION}),
)
CHUNKED: Final = -1
"""`RequestHead.body_length` of a body whose length its chunks tell."""


class MalformedRequest(Exception):
    """The bytes are no request that can be understood in exactly one way; the connection is of no more use."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


SHORTEST_SECRET_BYTES: Final = 8
"""What is shorter and was not found good is no key, and hiding it would hide anything."""


class RequestHead:
    """One judged request head. Byte strings are as received, but for `path`, `host` and `forwarded`."""

    __slots__ = (
        "api_key",
        "authorization",
        "body_length",
        "expects_continue",
        "forwarded",
        "host",
        "keep_alive",
        "method",
        "minor",
        "odd",
        "path",
        "query",
        "raw_path",
        "special",
        "traits",
        "wants_websocket",
    )

    api_key: bytes | None
    authorization: bytes | None
    body_length: int
    """Bytes, or CHUNKED."""
    expects_continue: bool
    forwarded: list[bytes]
    """`name: value` each, in the order of the request."""
    host: bytes
    """Lower-case `host[:port]`; empty only for HTTP/1.0."""
    keep_alive: bool
    method: bytes
    minor: int
    """x of HTTP/1.x."""
    odd: bool
    """Whether `upstream_request` has to look for fields that few requests have."""
    path: bytes
    query: bytes
    raw_path: bytes
    special: Special
    """The values of the fields that the gateway judges, by their number above."""
    traits: int
    """What in the path only some routes accept, see `target`."""
    wants_websocket: bool

    def __repr__(self) -> str:
        """Tell it from others in a log, with nothing that the client wrote: a key may stand in path, host or method."""
        method = self.method.decode() if self.method in _STANDARD_METHODS else "another method"
        return f"<RequestHead {method} path={len(self.path)} host={len(self.host)} body={self.body_length}>"


_METHOD_NOT_SERVED: Final = Refusal(
    405,
    "method_not_allowed",
    "CONNECT and TRACE are not served by this gateway.",
    (("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),),
)


def malformed(detail: str, status: int = 400, code: str = "malformed_request") -> MalformedRequest:
    """Build the error for a request that breaks a rule."""
    return MalformedRequest(Refusal(status, code, detail))


def read_request_head(section: bytes, field_limit: int) -> RequestHead:
    """Read one head without its last empty line; raises MalformedRequest.

    `section` is everything before CRLF CRLF. `field_limit` bounds the number of fields (431).
    """
    # A CR or LF that is no part of a CRLF stays in its line, where nothing that judges lines accepts it.
    lines = section.split(b"\r\n")
    head = RequestHead()
    authority = _read_request_line(head, lines[0])
    if len(lines) > field_limit + 1:
        raise malformed(f"The request has more than {field_limit} fields.", 431, "too_many_fields")
    try:
        head.forwarded, head.special = _LINES.read(lines)
    except RepeatedField as error:
        raise malformed(f"The request has more than one {error} field.") from None
    except ValueError:
        raise malformed(_NO_FIELD_LINE) from None
    _read_special(head, head.special, authority)
    return head


_NO_FIELD_LINE: Final = (
    "A field line is no `name: value`: the name is empty or no token, or a CR, LF or control byte is in it."
)


_REQUEST_LINES: Final[dict[bytes, tuple[bytes, bytes, int]]] = {}
"""Plain request lines without a query that were judged: method, path and x of HTTP/1.x; bounded like field lines."""
_REQUEST_LINES_LIMIT: Final = 4096
_REQUEST_LINE_MEMO_BYTES: Final = 160


def _read_request_line(head: RequestHead, line: bytes) -> bytes | None:
    """Fill in method, path and version; returns the authority of an absolute-form target."""
    known = _REQUEST_LINES.get(line)
    if known is not None:
        method, path, minor = known
        head.method, head.path, head.raw_path, head.query, head.minor = method, path, path, b"", minor
        head.traits = 0
        return None
    match = _PLAIN_REQUEST_LINE.fullmatch(line)
    if match is not None:
        method, path, query, version = match.groups(b"")
        if path.find(b"//") < 0 and path.find(b"/.") < 0 and method not in _UNSUPPORTED_METHODS:
            head.method, head.path, head.raw_path, head.query = method, path, path, query
            head.minor = 1 if version == b"1" else 0
            head.traits = 0
            if not query:
                _remember(line, head)
            return None
    target = _read_odd_request_line(head, line)
    head.path, head.raw_path, head.query, head.traits = target.path, target.raw_path, target.query, target.traits
    return target.authority


def _remember(line: bytes, head: RequestHead) -> None:
    if len(_REQUEST_LINES) >= _REQUEST_LINES_LIMIT:
        _REQUEST_LINES.clear()
    if len(line) <= _REQUEST_LINE_MEMO_BYTES:
        _REQUEST_LINES[line] = head.method, head.path, head.minor


def begins_no_request(data: bytes) -> bool:
    """Whether bytes that have no CRLF yet can be no request line any more, so that nobody need wait for its end.

    That is a client that speaks TLS or ends lines in LF alone: it would wait for an answer until its time is over.
    """
    if data.find(b"\r\n") >= 0:
        return False
    return _has_bare_ending(data[:-1] if data[-1:] == b"\r" else data) or not is_token(data[:1].replace(b"\r", b"A"))


def _has_bare_ending(line: bytes) -> bool:
    return line.find(b"\n") >= 0 or line.find(b"\r") >= 0


def _read_odd_request_line(head: RequestHead, line: bytes) -> Target:
    if _has_bare_ending(line):
        raise malformed("The request line has a CR or LF that is no part of a CRLF.")
    parts = line.split(b" ")
    if len(parts) != 3 or not is_token(parts[0]):  # noqa: PLR2004  METHOD SP target SP version
        raise malformed("The request line is not `METHOD SP target SP HTTP/1.1`.")
    method, target, version = parts
    if version not in {b"HTTP/1.1", b"HTTP/1.0"}:
        if _VERSION.fullmatch(version):
            raise malformed("Only HTTP/1.1 and HTTP/1.0 are spoken here.", 505, "unsupported_http_version")
        raise malformed("The request line does not end in an HTTP version.")
    if method in _UNSUPPORTED_METHODS:
        raise MalformedRequest(_METHOD_NOT_SERVED)
    if method not in _STANDARD_METHODS and method.upper() in _STANDARD_METHODS:
        # A route that serves DELETE takes it for another method, and a server that ignores case does not.
        raise malformed(f"Methods are written in upper case: {method.upper().decode()}.")
    head.method = method
    head.minor = 1 if version == b"HTTP/1.1" else 0
    try:
        return read_target(target, method)
    except ValueError as error:
        raise malformed(f"The request target is ambiguous or malformed: {error}.", code="ambiguous_target") from None


def _read_special(head: RequestHead, special: Special, authority: bytes | None) -> None:
    """Judge the fields that steer the request; most have a Host and a credential and no other."""
    head.api_key = special[API_KEY]
    head.authorization = special[AUTHORIZATION]
    received = special[HOST]
    host = _HOSTS.get(received) if received is not None and authority is None else None
    head.host = host if host is not None else _judge_host(head, received, authority)
    head.body_length = 0
    head.keep_alive = head.minor == 1
    head.expects_continue = False
    head.wants_websocket = False
    head.odd = False
    for kind in _STEERING:
        if special[kind] is not None:
            _read_steering(head, special)
            break


_HOSTS: Final[dict[bytes, bytes]] = {}
"""Hosts seen and judged, in lower case; bounded, since clients choose them."""
_HOSTS_LIMIT: Final = 1024


def _judge_host(head: RequestHead, received: bytes | None, authority: bytes | None) -> bytes:
    """The one host of a request (RFC 9112 section 3.2)."""
    if received is None:
        if head.minor:
            raise malformed("An HTTP/1.1 request needs a Host field.")
        return authority or b""
    if not is_host(received):
        raise malformed("The Host field is no `host[:port]`.")
    host = received.lower()
    if authority is not None and authority != host:
        raise malformed("The Host field and the authority of the target differ.")
    if len(_HOSTS) < _HOSTS_LIMIT:
        _HOSTS[received] = host
    return host


def _read_steering(head: RequestHead, special: Special) -> None:
    """Framing, connection, upgrade, expectation: in this order, since each leans on the one before."""
    head.body_length = _read_framing(special, head.minor)
    connection = special[CONNECTION]
    if connection is not None:
        _read_connection(head, special, connection)
    expectation = special[EXPECT]
    if expectation is not None:
        _read_expect(head, expectation)
    head.odd = head.expects_continue or head.wants_websocket or special[OVERRIDE] is not None


def presented(head: RequestHead) -> list[bytes]:
    """All in X-API-KEY and Authorization that may be a secret."""
    words = [] if head.authorization is None else head.authorization.replace(b",", b" ").split()
    found = [text.strip(b'"') for word in words for text in (word, word.partition(b"=")[2])]
    return found if head.api_key is None else [*found, head.api_key]


def _names_other_codings(value: bytes) -> bool:
    """Whether a server that knows more codings could read this body (RFC 9112 section 6.1): then it is a 501."""
    names = [each.strip(b" \t").lower() for each in value.split(b",")]
    if len(names) > 1 and names[-1] == b"chunked":
        names.pop()
    return all(is_token(each) and each != b"chunked" for each in names)


def _read_framing(special: Special, minor: int) -> int:
    """The length of the body, RFC 9112 section 6.3, in its strictest reading."""
    coding = special[TRANSFER_ENCODING]
    length = special[CONTENT_LENGTH]
    if coding is not None:
        if length is not None:
            raise malformed("The request has both Content-Length and Transfer-Encoding.")
        if not minor:
            raise malformed("Transfer-Encoding does not exist in HTTP/1.0.")
        if coding.lower() != b"chunked":
            if _names_other_codings(coding):
                raise malformed("Only the transfer coding `chunked` is accepted.", 501, "transfer_coding_not_supported")
            raise malformed("Transfer-Encoding is not exactly `chunked`.")
        return CHUNKED
    if length is None:
        return 0
    parsed = decimal(length)
    if parsed < 0:
        raise malformed("Content-Length is no plain decimal number.")
    return parsed


def _read_connection(head: RequestHead, special: Special, value: bytes) -> None:
    """Obey Connection (RFC 9110 section 7.6.1): persistence, nominated fields, and a WebSocket's upgrade.

    Only fields that travel on can be nominated away; naming framing, credential or identity fields changes nothing,
    since those were taken out of `forwarded` before.
    """
    options = list_tokens(value)
    head.keep_alive = b"close" not in options and (head.minor == 1 or b"keep-alive" in options)
    nominated = {option for option in options if option not in {b"close", b"keep-alive", b"upgrade"}}
    if nominated:
        head.forwarded = _without(head.forwarded, nominated)
        if b"via" in nominated:
            special[VIA] = None
        override = special[OVERRIDE]
        if override is not None:
            special[OVERRIDE] = b"\r\n".join(_without(override.split(b"\r\n"), nominated)) or None
    head.wants_websocket = (
        b"upgrade" in options
        and (special[UPGRADE] or b"").lower() == b"websocket"
        and head.method == b"GET"
        and head.minor == 1
        and head.body_length == 0
    )


def _without(lines: list[bytes], nominated: set[bytes]) -> list[bytes]:
    return [line for line in lines if line.partition(b":")[0].lower() not in nominated]


def _read_expect(head: RequestHead, value: bytes) -> None:
    """Expect (RFC 9110 section 10.1.1) is ignored in HTTP/1.0 and where no body follows."""
    if value.lower() != b"100-continue":
        raise malformed("Only `Expect: 100-continue` can be met.", 417, "expectation_failed")
    head.expects_continue = head.minor == 1 and head.body_length != 0
