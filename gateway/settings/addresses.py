"""Addresses as people write them in settings: where to listen, where an upstream is, which peers are trusted.

Invariant: what a parser here accepts has one reading only, and the result says it in parts, so that no other file
splits an address again. Turned down: `urllib.parse.urlsplit`, which accepts and silently repairs too much (user names,
tabs, a missing scheme) and knows no difference between "no port" and "port out of range" until it is asked.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal, cast

from gateway.settings.quoting import quoted

MAX_PORT = 65_535
DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")  # RFC 1123, plus "_": container networks name services with it
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
MAX_NAME_LENGTH = 253


@dataclass(frozen=True, slots=True)
class Target:
    """One server of an upstream. `host` has no brackets; `authority` is what `Host` says to it (RFC 9110 7.2)."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    authority: str


def parse_host(text: str) -> str:
    """Return a host name, IPv4 or bracketed IPv6 address in lower case; IPv6 keeps its brackets.

    Raises ValueError with a sentence for the operator.
    """
    host = text.lower()
    if host.startswith("["):
        return f"[{_ipv6(host)}]"
    if not host:
        reason = "has no host"
        raise ValueError(reason)
    if not host.isascii():
        reason = f"has the host {quoted(text)}, which must be written in its ASCII form (xn--…)"
        raise ValueError(reason)
    if re.fullmatch(r"[0-9.]+", host):  # "1.2.3" is an address to some resolvers and a name to others
        return _ipv4(host)
    labels = host.split(".")
    if len(host) > MAX_NAME_LENGTH or not all(_LABEL.fullmatch(label) for label in labels):
        reason = f"has the host {quoted(text)}, which is neither a host name nor an address"
        raise ValueError(reason)
    return host


def parse_listen(text: str) -> tuple[str, int]:
    """Split "host:port" into host (no brackets) and port; port 0 means any free one.

    Raises ValueError with a sentence for the operator.
    """
    host, colon, port = _cut_port(text)
    if not host or not colon:
        reason = f'must be written host:port, such as "0.0.0.0:8080" or "[::1]:8080", not {quoted(text)}'
        raise ValueError(reason)
    return parse_host(host).strip("[]"), _port(port, lowest=0)


def parse_target(text: str) -> Target:
    """Read "http://host[:port]" or "https://host[:port]"; a lone "/" may follow.

    Raises ValueError with a sentence for the operator. The text is not repeated where it may hold a password.
    """
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in DEFAULT_PORTS:
        reason = "must begin with http:// or https://"
        raise ValueError(reason)
    if "@" in rest:
        reason = "must not hold a user name or password"
        raise ValueError(reason)
    rest = rest.removesuffix("/")
    if re.search(r"[/?#]", rest):
        reason = "must be scheme://host:port alone: the path and query come with each request"
        raise ValueError(reason)
    host_text, colon, port_text = _cut_port(rest)
    host = parse_host(host_text)
    default = DEFAULT_PORTS[scheme]
    port = _port(port_text, lowest=1) if colon else default
    authority = host if port == default else f"{host}:{port}"
    return Target(cast("Literal['http', 'https']", scheme), host.strip("[]"), port, authority)


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Read a network such as "10.0.0.0/8", or one address. Raises ValueError with a sentence for the operator."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        widened = ipaddress.ip_network(text, strict=False)
    except ValueError:
        reason = f'must be a network such as "10.0.0.0/8" or an address, not {quoted(text)}'
        raise ValueError(reason) from None
    reason = f'{quoted(text)} is an address within a network: write "{widened}" for the network'
    raise ValueError(reason)


def _cut_port(text: str) -> tuple[str, str, str]:
    """Split at the colon before the port, which is not one of those within an IPv6 address."""
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        if rest and not rest.startswith(":"):
            reason = f"has {quoted(rest)} after the address, where only a port may follow"
            raise ValueError(reason)
        return host + bracket, rest[:1], rest[1:]
    if text.count(":") > 1:
        reason = f'{quoted(text)} has several colons: write an IPv6 address in brackets, such as "[::1]:8080"'
        raise ValueError(reason)
    return text.partition(":")


def _port(text: str, *, lowest: int) -> int:
    if not _PORT.fullmatch(text) or not lowest <= int(text) <= MAX_PORT:
        reason = f"has the port {quoted(text)}, which must be a number from {lowest} to {MAX_PORT}"
        raise ValueError(reason)
    return int(text)


def _ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        reason = f"has {quoted(text)}, which is not a complete IPv4 address"
        raise ValueError(reason) from None


def _ipv6(text: str) -> str:
    if not text.endswith("]") or "%" in text:  # a zone means nothing to any machine but this one
        reason = f"has {quoted(text)}, which is not an IPv6 address in brackets"
        raise ValueError(reason)
    try:
        return str(ipaddress.IPv6Address(text[1:-1]))
    except ValueError:
        reason = f"has {quoted(text)}, which is not an IPv6 address in brackets"
        raise ValueError(reason) from None
