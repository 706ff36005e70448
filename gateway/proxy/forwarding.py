"""What the upstream is told about the client: X-Forwarded-For/-Proto/-Host, Forwarded (RFC 7239), Via.

Invariant: what a client says of itself is overwritten; only a peer in `trusted_proxies` is believed and appended to.
"""

from typing import Final

from gateway.proxy.request_head import FORWARDED, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, VIA, RequestHead

_PSEUDONYM: Final = b"1.1 keygate"


def forwarding_fields(head: RequestHead, peer: bytes, *, trusted: bool, tls: bool, via: bool) -> bytes:
    """The fields as lines, joined with CRLF. `peer` is the client's address without brackets."""
    special = head.special
    scheme = b"https" if tls else b"http"
    chain = special[FORWARDED_FOR] if trusted else None
    lines = [
        b"X-Forwarded-For: %b" % (peer if chain is None else chain + b", " + peer),
        b"X-Forwarded-Proto: %b" % ((special[FORWARDED_PROTO] if trusted else None) or scheme),
    ]
    host = (special[FORWARDED_HOST] if trusted else None) or head.host
    if host:
        lines.append(b"X-Forwarded-Host: %b" % host)
    element = b"for=%b%b;proto=%b" % (_node(peer), b';host="%b"' % head.host if head.host else b"", scheme)
    said = special[FORWARDED] if trusted else None
    lines.append(b"Forwarded: %b" % (element if said is None else said + b", " + element))
    received = special[VIA]
    if via:
        lines.append(b"Via: %b" % (_PSEUDONYM if received is None else received + b", " + _PSEUDONYM))
    elif received is not None:
        lines.append(b"Via: %b" % received)
    return b"\r\n".join(lines)


def _node(peer: bytes) -> bytes:
    """An address as RFC 7239 section 6 wants it: IPv6 in brackets and quotes."""
    return b'"[%b]"' % peer if b":" in peer else peer
