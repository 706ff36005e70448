"""Writes the head of the response that goes to the client.

Invariant: the framing that the client gets is the gateway's own statement about the body that follows: a length where
the upstream gave one, chunks where its end is not known beforehand, the end of the connection for HTTP/1.0 alone.
"""

from typing import TYPE_CHECKING, Final

from gateway.proxy.cors import without_cors
from gateway.proxy.request_head import RequestHead
from gateway.proxy.response_head import CONTENT_LENGTH, DATE, LOCATION, TRANSFER_ENCODING, ResponseHead

if TYPE_CHECKING:
    from gateway.proxy.exchange import Exchange

_NO_CONTENT: Final = 204
_HOST_AHEAD: Final = frozenset({b"/", b"\\", b"\t"})
"""After a slash these begin a host: browsers take a backslash for a slash and overlook tabs (WHATWG URL, 4.4)."""


def client_head(
    response: ResponseHead, request: RequestHead, exchange: "Exchange", date_field: bytes, *, chunks: bool, close: bool
) -> list[bytes]:
    """The head as lines, to be joined with CRLF; the last two are empty, so that the body can be the last one.

    `chunks`: the body goes out chunked. `close`: the connection ends after it.
    """
    special = response.special
    lines = [response.status_line, *response.forwarded]
    cors = exchange.route.cors
    if cors is not None:
        lines = [*without_cors(lines), *cors.answer_fields(exchange.origin)]
    length = special[CONTENT_LENGTH]
    if response.status == _NO_CONTENT:
        pass  # neither may stand there, in answers to HEAD either (RFC 9110 section 8.6, RFC 9112 section 6.1)
    elif length is not None:
        lines.append(b"Content-Length: " + length)
    elif chunks or (special[TRANSFER_ENCODING] is not None and request.method == b"HEAD" and request.minor):
        lines.append(b"Transfer-Encoding: chunked")
    location = special[LOCATION]
    if location is not None:
        lines.append(b"Location: " + _location(location, exchange))
    date = special[DATE]
    lines.append(date_field if date is None else b"Date: " + date)
    if close:
        lines.append(b"Connection: close")
    elif not request.minor:
        lines.append(b"Connection: keep-alive")
    lines += (exchange.request_id_field, b"", b"")
    return lines


def interim_head(response: ResponseHead, exchange: "Exchange") -> bytes:
    """A 1xx response, such as 100 or 103."""
    return b"\r\n".join([response.status_line, *_own_cors(response.forwarded, exchange), b"", b""])


def _own_cors(forwarded: list[bytes], exchange: "Exchange") -> list[bytes]:
    """What an upstream says of CORS before its answer has no word of the route's to replace it, and goes no further."""
    return forwarded if exchange.route.cors is None else without_cors(forwarded)


def switching_head(response: ResponseHead, exchange: "Exchange") -> bytes:
    """The 101 that opens a WebSocket."""
    ours = (b"Connection: Upgrade", b"Upgrade: websocket", exchange.request_id_field, b"", b"")
    return b"\r\n".join([response.status_line, *_own_cors(response.forwarded, exchange), *ours])


def _location(value: bytes, exchange: "Exchange") -> bytes:
    """A Location that points at a target of the upstream is made to point at the gateway."""
    upstream, route = exchange.upstream, exchange.route
    if upstream is None or not route.rewrite_location:
        return value
    if value[:1] == b"/" and value[1:2] not in _HOST_AHEAD:
        return route.prefix + value
    lowered = value.lower()
    for origin in route.pool.origins:
        rest = value[len(origin) :]
        if lowered.startswith(origin) and rest[:1] in {b"", b"/", b"?", b"#"}:
            break
    else:
        return value
    if rest[1:2] in _HOST_AHEAD:
        return value  # without the origin before it, this path would name another host
    # A path alone is a valid Location (RFC 9110 section 10.2.2) and needs no knowledge of how the client came here.
    return route.prefix + (rest if rest[:1] == b"/" else b"/" + rest)
