"""The gateway's own answers: problem details (RFC 9457) as bytes.

Invariant: one shape for every refusal and failure, whoever says no; it never holds what a client sent.
"""

from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import orjson

from gateway.policies.refusal import Refusal

BAD_GATEWAY: Final = Refusal(
    502, "upstream_unreachable", "The API behind the gateway could not be reached, or closed the connection."
)
INVALID_RESPONSE: Final = Refusal(
    502,
    "upstream_invalid_response",
    "The API behind the gateway sent something that is no HTTP response, or one that breaks its rules.",
)
UPSTREAM_TIMEOUT: Final = Refusal(504, "upstream_timeout", "The API behind the gateway did not answer in time.")
TOO_MANY_REQUESTS: Final = Refusal(
    503, "gateway_overloaded", "The gateway has reached its limit of requests in flight.", (("Retry-After", "1"),)
)
TOO_MANY_CONNECTIONS: Final = Refusal(
    503, "gateway_overloaded", "The gateway has reached its limit of connections.", (("Retry-After", "1"),)
)
AUDIT_LOG_FULL: Final = Refusal(
    503,
    "audit_log_full",
    "The gateway has no room left to put requests on record, and serves none without.",
    (("Retry-After", "1"),),
)
INTERNAL_ERROR: Final = Refusal(500, "internal_error", "The gateway failed on this request; its log says why.")
CLIENT_TIMEOUT: Final = Refusal(408, "request_timeout", "The request did not arrive in time.")
BODY_TIMEOUT: Final = Refusal(
    408, "request_timeout", "The body of the request came more slowly than this gateway waits for, or stopped."
)
URI_TOO_LONG: Final = Refusal(414, "uri_too_long", "The request line is longer than this gateway accepts.")
HEAD_TOO_LARGE: Final = Refusal(
    431, "header_section_too_large", "The header section is larger than this gateway accepts."
)
NO_REQUEST: Final = Refusal(
    400, "malformed_request", "What was sent does not begin with a request line that ends in CRLF; is it TLS?"
)
EMPTY_LINES: Final = Refusal(400, "malformed_request", "Empty lines stand where a request should.")
AMBIGUOUS_TARGET: Final = Refusal(
    400,
    "ambiguous_target",
    "The path has an encoded slash or a semicolon (;, %3B), which servers read differently; this route refuses it.",
)
BODY_TOO_LARGE: Final = Refusal(413, "body_too_large", "The body is larger than this route accepts.")
ONLY_READ: Final = Refusal(
    405, "method_not_allowed", "This path is served for GET, HEAD alone.", (("Allow", "GET, HEAD"),)
)
MALFORMED_BODY: Final = Refusal(400, "malformed_body", "The chunked framing of the body is broken.")


@dataclass(frozen=True, slots=True)
class OwnAnswer:
    """An answer of the gateway's own, but for what differs from connection to connection."""

    head: bytes
    """Status line and fields, without the last line ending."""
    body: bytes | None
    """None: this status has no body, and no length of one."""

    @property
    def status(self) -> int:
        """The number behind the version in the first line."""
        return int(self.head[9:12])


def problem(refusal: Refusal, request_id_field: bytes) -> OwnAnswer:
    """A refusal or failure as problem details."""
    head, body_start, body_end = _parts(refusal)
    return OwnAnswer(head, body_start + request_id_field.removeprefix(b"X-Request-ID: ") + body_end)


def content(body: bytes) -> OwnAnswer:
    """What was asked for, as JSON."""
    return OwnAnswer(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store", body)


def no_content(fields: list[bytes]) -> OwnAnswer:
    """Nothing but these fields."""
    return OwnAnswer(b"\r\n".join([b"HTTP/1.1 204 No Content", *fields]), None)


def to_bytes(answer: OwnAnswer, fields: list[bytes], *, head_only: bool) -> bytes:
    """The whole response, with further fields. `head_only`: to HEAD, whose answer has no body (RFC 9110, 9.3.2)."""
    lines = [answer.head, *fields]
    if answer.body is not None:
        lines.append(b"Content-Length: %d" % len(answer.body))
    lines += (b"", b"" if head_only or answer.body is None else answer.body)
    return b"\r\n".join(lines)


@lru_cache(maxsize=1024)
def _parts(refusal: Refusal) -> tuple[bytes, bytes, bytes]:
    """Head and body but for what differs from request to request; a flood of bad keys is answered at little cost."""
    title = HTTPStatus(refusal.status).phrase
    head = [
        f"HTTP/1.1 {refusal.status} {title}",
        "Content-Type: application/problem+json",
        "Cache-Control: no-store",
        *(f"{name}: {value}" for name, value in refusal.fields),
    ]
    problem = {
        "type": f"urn:keygate:problem:{refusal.code}",
        "title": title,
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
        "request_id": "",
    }
    # The id goes between the last quotes; `client_connection` lets no character into it that JSON would escape.
    body = orjson.dumps(problem)
    return "\r\n".join(head).encode(), body[:-2], body[-2:]
