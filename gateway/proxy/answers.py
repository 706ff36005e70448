"""The gateway's own answers: problem details (RFC 9457) as bytes.

Invariant: one shape for every refusal and failure, whoever says no; it never holds what a client sent.
"""

from functools import lru_cache
from http import HTTPStatus
from typing import Final

import orjson

from gateway.policies.refusal import Refusal

BAD_GATEWAY: Final = Refusal(
    502, "upstream_unreachable", "The API behind the gateway could not be reached, or closed the connection."
)
INVALID_RESPONSE: Final = Refusal(
    502, "upstream_invalid_response", "The API behind the gateway sent something that is no HTTP response."
)
UPSTREAM_TIMEOUT: Final = Refusal(504, "upstream_timeout", "The API behind the gateway did not answer in time.")
OVERLOADED: Final = Refusal(
    503, "gateway_overloaded", "The gateway has reached its limit of requests or connections.", (("Retry-After", "1"),)
)
INTERNAL_ERROR: Final = Refusal(500, "internal_error", "The gateway failed on this request; its log says why.")
CLIENT_TIMEOUT: Final = Refusal(408, "request_timeout", "The request did not arrive in time.")
URI_TOO_LONG: Final = Refusal(414, "uri_too_long", "The request line is longer than this gateway accepts.")
HEAD_TOO_LARGE: Final = Refusal(
    431, "header_section_too_large", "The header section is larger than this gateway accepts."
)
EMPTY_LINES: Final = Refusal(400, "malformed_request", "Empty lines stand where a request should.")
AMBIGUOUS_TARGET: Final = Refusal(
    400,
    "ambiguous_target",
    "The path has an encoded slash or a semicolon, which servers read differently; this route refuses it.",
)
BODY_TOO_LARGE: Final = Refusal(413, "body_too_large", "The body is larger than this route accepts.")
MALFORMED_BODY: Final = Refusal(400, "malformed_body", "The chunked framing of the body is broken.")


def answer(refusal: Refusal, request_id_field: bytes, connection: bytes, *, head_only: bool, date: bytes) -> bytes:
    """The whole response. `connection`: the value of that field, or empty.

    `head_only` leaves the body out, as an answer to HEAD must (RFC 9110 section 9.3.2).
    """
    head, body_start, body_end = _parts(refusal)
    body = body_start + request_id_field.removeprefix(b"X-Request-ID: ") + body_end
    lines = [head, b"Content-Length: %d" % len(body), request_id_field, date]
    if connection:
        lines.append(b"Connection: " + connection)
    lines += (b"", b"" if head_only else body)
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
