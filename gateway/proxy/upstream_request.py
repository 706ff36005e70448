"""Writes the head of the request that goes upstream.

Invariant: everything in it was parsed and judged before, and is written anew: request line, Host, the client's
end-to-end fields, then what only the gateway may say (framing, identity, forwarding). The credential is not in it
unless the route says so.
"""

from typing import TYPE_CHECKING

from gateway.policies.identity import ANONYMOUS_FIELDS
from gateway.proxy.request_head import CHUNKED, CONTENT_LENGTH, OVERRIDE, RequestHead

if TYPE_CHECKING:
    from gateway.proxy.exchange import Exchange
    from gateway.proxy.routes import Route


def upstream_head(exchange: "Exchange", host_field: bytes) -> bytes:
    """The head as bytes, with its last empty line. `host_field` names the target."""
    head, route, entry = exchange.head, exchange.route, exchange.entry
    path = head.path if route.forwards_path_as_matched else _path(head, route)
    if route.preserve_host and head.host:
        host_field = b"Host: " + head.host
    lines = [b"%b %b%b HTTP/1.1" % (head.method, path, head.query), host_field, *head.forwarded]
    if head.odd or exchange.passes_authorization or route.forward_credential:
        _add_rare(lines, head, exchange)
    if head.body_length:
        lines.append(
            b"Transfer-Encoding: chunked" if head.body_length == CHUNKED else b"Content-Length: %d" % head.body_length
        )
    elif head.special[CONTENT_LENGTH] is not None:
        lines.append(b"Content-Length: 0")
    if entry is not None:
        lines += (entry.owner_fields, entry.key_field)
    elif route.optional:
        lines.append(ANONYMOUS_FIELDS)
    lines += (exchange.client.origin.forwarding_fields(head), exchange.request_id_field, b"", b"")
    return b"\r\n".join(lines)


def _path(head: RequestHead, route: "Route") -> bytes:
    """The path that the upstream gets where it is not the one that was matched."""
    if route.prefix:
        rest = head.path[len(route.prefix) :]
        return rest if rest[:1] == b"/" else b"/" + rest
    return head.raw_path


def _add_rare(lines: list[bytes], head: RequestHead, exchange: "Exchange") -> None:
    """What only some requests or routes have."""
    route = exchange.route
    if head.api_key is not None and route.forward_credential:
        lines.append(b"X-API-KEY: " + head.api_key)
    if head.authorization is not None and (exchange.passes_authorization or route.forward_credential):
        lines.append(b"Authorization: " + head.authorization)
    override = head.special[OVERRIDE]
    if override is not None and route.allow_method_override:
        lines.append(override)
    if head.expects_continue:
        lines.append(b"Expect: 100-continue")
    if head.wants_websocket:
        lines += (b"Connection: Upgrade", b"Upgrade: websocket")
