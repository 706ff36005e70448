"""Where the admin API is and the key to call it with: from arguments, else from the environment.

Invariant: a key that gets past here can be sent as a header field as it is. Surrounding spaces and line ends, which
come with copying, are forgiven; anything else that cannot stand in a header is refused without being repeated, since
libraries below would put it into the text of their errors.
"""

import os
from typing import Final
from urllib.parse import urlsplit

from gateway.client.errors import InvalidArgument

API_KEY_VARIABLE: Final = "GATEWAY_API_KEY"
ADMIN_URL_VARIABLE: Final = "GATEWAY_ADMIN_URL"
DEFAULT_ADMIN_URL: Final = "http://127.0.0.1:8081"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def find_api_key(given: str | None) -> str:
    """Return the given key, else that of the environment. InvalidArgument where there is none that can be sent."""
    key = (os.environ.get(API_KEY_VARIABLE, "") if given is None else given).strip()
    if not key:
        raise InvalidArgument(f"no API key: give one, or set {API_KEY_VARIABLE}")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise InvalidArgument("the API key has characters that no key has")
    return key


def find_admin_url(given: str | None) -> str:
    """Return the address without a slash at its end. InvalidArgument where it is not an http(s) URL of a host alone."""
    url = (given or os.environ.get(ADMIN_URL_VARIABLE) or DEFAULT_ADMIN_URL).strip()
    source = "" if given else f"{ADMIN_URL_VARIABLE}: "
    rule = f"{source}{_repeatable(url)} is not the URL of an admin API, such as {DEFAULT_ADMIN_URL}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidArgument(rule) from None
    bare = not (parts.query or parts.fragment or parts.username or parts.password) and port != 0
    if parts.scheme not in {"http", "https"} or not host or not bare or not url.isprintable() or " " in url:
        raise InvalidArgument(rule)
    return url.rstrip("/")


def _repeatable(url: str) -> str:
    """Quote what is no more than an address; a password or a key may be in anything else."""
    bare = "://" in url and not set("@?#") & set(url)
    return repr(url[:200]) if bare else "what is given (not repeated: it may hold a secret)"


def is_loopback(url: str) -> bool:
    """Tell whether the URL is of this machine, to which no proxy of the environment leads."""
    return urlsplit(url).hostname in _LOOPBACK
