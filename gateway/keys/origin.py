"""Origins that a publishable key may be used from: `https://app.example.com`, exactly as browsers write them.

Invariant: a clean origin is compared letter by letter with the `Origin` header, so it is in the one spelling that
browsers send (RFC 6454 section 6.2): scheme and host in lower case, no default port, no path, names beyond ASCII as
their `xn--` form. Patterns such as `https://*.example.com` were turned down: one forgotten subdomain that anybody can
put pages on would give the key away.
"""

import re
from typing import Final

MAX_ORIGIN_CHARACTERS: Final = 300
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?"
_HOST: Final = rf"{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]{{2,45}}\]"
ORIGIN_PATTERN: Final = rf"^https?://({_HOST})(?::([0-9]{{1,5}}))?$"

_ORIGIN: Final = re.compile(ORIGIN_PATTERN, re.ASCII)
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_MAX_PORT: Final = 65535
_RULE: Final = "must be an origin such as https://app.example.com or https://app.example.com:8443, without a path"
_PLAIN: Final = "must begin with https://; http:// is for localhost alone"


def clean_origin(text: str) -> str:
    """Return the origin as browsers send it. ValueError carries a public sentence."""
    origin = text.strip()
    found = _ORIGIN.fullmatch(origin) if len(text) <= MAX_ORIGIN_CHARACTERS else None
    if found is None:
        raise ValueError(_RULE)
    scheme, host = origin.partition(":")[0], found[1].lower()
    port = int(found[2] or _DEFAULT_PORTS[scheme])
    if not 0 < port <= _MAX_PORT:
        raise ValueError(_RULE)
    if scheme == "http" and not _is_local(host):
        raise ValueError(_PLAIN)
    return f"{scheme}://{host}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")


def _is_local(host: str) -> bool:
    """Tell what browsers hold for trustworthy without TLS (W3C Secure Contexts section 3.1)."""
    return host in {"localhost", "127.0.0.1", "[::1]"} or host.endswith(".localhost")
