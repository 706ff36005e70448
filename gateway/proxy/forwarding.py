"""What the upstream is told about the client: X-Forwarded-For/-Proto/-Host, Forwarded (RFC 7239), Via.

Invariant: what a client says of itself is overwritten; only a peer in `trusted_proxies` is believed and appended to.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from gateway.proxy.request_head import FORWARDED, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, VIA, RequestHead

_PSEUDONYM: Final = b"1.1 keygate"
_ADDRESS: Final = re.compile(rb"\A(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?\Z")
"""An address in brackets, or one of IPv4, with or without a port: what stands around the address goes."""


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


def believed_address(chain: bytes, peer: bytes, trusted: Sequence[IPv4Network | IPv6Network]) -> bytes:
    """The client as the proxies in front saw it: read from the right, the first address that is none of theirs.

    `chain` is the X-Forwarded-For that they sent. What is no address ends the search: nobody can vouch for what is left
    of it.
    """
    believed = peer
    for element in reversed(chain.split(b",")):
        text = _ADDRESS.sub(rb"\1\2", element.strip(b" \t")).decode("ascii", "replace")
        try:
            address = ip_address(text)
        except ValueError:
            break
        believed = text.encode()
        if not any(address in network for network in trusted):
            break
    return believed


def _node(peer: bytes) -> bytes:
    """An address as RFC 7239 section 6 wants it: IPv6 in brackets and quotes."""
    return b'"[%b]"' % peer if b":" in peer else peer
