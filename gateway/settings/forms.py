"""The written forms that settings may take: host patterns, paths, methods, permissions, prefixes, store addresses.

Each function takes the text of one value and returns it in the form that the rest of the gateway compares by, or raises
ValueError with the rest of a sentence that begins with the setting's name. Pure: no file, name or socket is looked at.
Turned down: regular expressions as pydantic patterns, which can only answer "does not match".
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from gateway.settings.addresses import parse_host, parse_listen, parse_network, parse_target
from gateway.settings.quoting import MAX_SUGGESTED_CHARACTERS, quoted
from gateway.settings.server_urls import postgres_url

Item = TypeVar("Item", bound=Hashable)

SQLITE_SCHEME = "sqlite:///"
_PATH_LIMIT_BYTES = 4095  # PATH_MAX of Linux, without the byte that ends it
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2, token
_ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?|[a-z][a-z0-9+.-]*://[a-z0-9._-]+")
_OWN_FIELDS = frozenset({"host", "connection", "content-length", "transfer-encoding", "x-api-key", "authorization"})
# What `proxy.dropped_fields` takes out of each request, which lies above this layer, and names that look like it.
_KEPT_FIELD = re.compile(
    r"x-(?:anonymous|auth-request|authenticated|consumer|credential|forwarded|goog-authenticated|original|remote"
    r"|ssl-client|webauth)-.*"
    r"|x-(?:client-ip|cluster-client-ip|forwarded|host|http-host-override|http-method|http-method-override"
    r"|method-override|ms-client-principal(?:-.*)?|organization-id|originating-ip|override-url|real-ip|request-id"
    r"|rewrite-url|scheme|url-scheme)"
    r"|(?:cf-access-authenticated|proxy|remote|ssl-client|tailscale-user)-.*"
    r"|cf-connecting-ip|client-cert(?:-chain)?|expect|forwarded|front-end-https|http2-settings|keep-alive|proxy|te"
    r"|trailer|true-client-ip|upgrade|via"
)
_UNANSWERED_METHODS = ("CONNECT", "TRACE")
_PERMISSION_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"  # as `keys` has it, which lies above this layer
_PERMISSION = re.compile(rf"{_PERMISSION_PART}:{_PERMISSION_PART}")
_KEY_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}_")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PERCENT_CODE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")  # RFC 3986 2.3
_PATTERN = re.compile(r"[^/]*[*{}<>][^/]*")  # a segment that would be a pattern elsewhere
_PATH_PUNCTUATION = "!$&'()*+,;=:@-._~/%"  # RFC 3986 3.3, pchar and "/"


def listen(text: str) -> str:
    """Accept an address to listen on."""
    parse_listen(text)
    return text


def target(text: str) -> str:
    """Accept the address of one server of an upstream, without its closing slash."""
    parse_target(text)
    return text.removesuffix("/")


def network(text: str) -> str:
    """Accept a network or an address, in its canonical spelling."""
    return str(parse_network(text))


def name(text: str) -> str:
    """Accept the name of an upstream or route: it appears in logs, metrics and addresses as it is."""
    if not _NAME.fullmatch(text):
        _refuse(f"must be 1 to 64 letters, digits and . _ - beginning with a letter or digit, not {quoted(text)}")
    return text


def origin(text: str) -> str:
    """Accept an origin as browsers write it in an Origin field (RFC 6454 section 6.2), or "*"."""
    if text != "*" and not _ORIGIN.fullmatch(text):
        _refuse(f"must be * or an origin in lower case, such as https://app.example.com, not {quoted(text)}")
    if (text.startswith("http://") and text.endswith(":80")) or (text.startswith("https://") and text.endswith(":443")):
        _refuse(f"must leave out the default port, as browsers do: write {quoted(text.rpartition(':')[0])}")
    return text


def field_name(text: str) -> str:
    """Accept the name of an HTTP field that is not the gateway's own business."""
    if not _METHOD.fullmatch(text) or text.lower().replace("_", "-") in _OWN_FIELDS:
        _refuse(f"must name an HTTP field that the gateway leaves alone, such as X-Tenant, not {quoted(text)}")
    return text


def tenant_header(text: str) -> str:
    """Accept the name of a field that clients send and upstreams get: another one could not be compared."""
    if _KEPT_FIELD.fullmatch(field_name(text).lower().replace("_", "-")):
        _refuse(f"must not be {text}: what clients say in it, or in its like, is overwritten or dropped")
    return text


def host_pattern(text: str) -> str:
    """Accept "example.com" or "*.example.com" and lower its case; a port is never part of it."""
    if text == "*":
        _refuse("must not be *: leave the list empty for every host")
    wildcard, rest = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    if "*" in rest:
        _refuse(f"may have a * only as the whole first label, such as *.example.com, not {quoted(text)}")
    if re.search(r":[0-9]*$", rest) and not re.fullmatch(r"\[.*\]", rest):
        _refuse(f"must name a host without a port, not {quoted(text)}")
    host = parse_host(rest)
    if wildcard and not re.search(r"[a-z]", host.rpartition(".")[2]):
        _refuse(f"may have a * only in front of a name, not {quoted(text)}")
    return wildcard + host


def route_path(text: str) -> str:
    """Accept a path that is already as the proxy writes paths, so that comparing bytes is comparing paths."""
    if not text.startswith("/"):
        _refuse(f"must begin with /, not {quoted(text)}")
    if "?" in text or "#" in text:
        _refuse("must be a path alone: routes do not look at queries")
    if not text.isascii() or re.search(r"[\x00-\x20\x7f]", text):
        encoded = quote(text, safe=_PATH_PUNCTUATION, errors="surrogatepass")
        _refuse(f"must be percent-encoded: write {_suggested(encoded)}")
    if "//" in text:
        _refuse(f"must not repeat slashes: write {_suggested(re.sub('/+', '/', text))}")
    if text != "/" and text.endswith("/"):
        _refuse(f"must not end in a slash, as it covers all below it: write {_suggested(text.rstrip('/'))}")
    _refuse_pattern(text)
    bad = re.search(r"[^A-Za-z0-9!$&\'()*+,;=:@\-._~/%]", text)
    if bad:
        _refuse(f"must not have {quoted(bad.group())} in it: percent-encode it")
    _check_percent_codes(text)
    if any(segment in {".", ".."} for segment in text.split("/")):
        _refuse("must not have . or .. as a segment")
    return text


def health_path(text: str) -> str:
    """Accept what is asked for by a health check: a path and, where the upstream needs one, a query."""
    if not re.fullmatch(r"/[!$-;=?-\[\]-_a-z~]*", text):
        _refuse(f'must be a path such as "/health", not {quoted(text)}')
    return text


def method(text: str) -> str:
    """Accept a request method. Their case matters (RFC 9110 9.1), so it is never changed silently."""
    if not _METHOD.fullmatch(text):
        _refuse(f"must be a method such as GET, not {quoted(text)}")
    if text != text.upper():
        _refuse(f"must be in capitals, as methods are sent so: write {_suggested(text.upper())}")
    if text in _UNANSWERED_METHODS:
        _refuse(f"must not be {text}, which the gateway always refuses")
    return text


def permission(text: str) -> str:
    """Accept a permission that a route asks for: one, not a pattern, as a key either holds it or not."""
    if not _PERMISSION.fullmatch(text):
        _refuse(f'must be written resource:action, such as "orders:read", without *, not {quoted(text)}')
    return text


def key_prefix(text: str) -> str:
    """Accept what new keys begin with."""
    if not _KEY_PREFIX.fullmatch(text):
        _refuse(
            f'must be 2 to 32 letters, digits and _ that begin with a letter and end in _, such as "sk_live_", '
            f"not {quoted(text)}",
        )
    return text


def realm(text: str) -> str:
    """Accept text that stands between the quotes of a challenge without being escaped (RFC 9110 11.5)."""
    if not re.fullmatch(r"[ !#-\[\]-~]{1,64}", text):
        _refuse('must be 1 to 64 printable ASCII characters other than " and \\')
    return text


def store_url(text: str) -> str:
    """Accept the address of the store. The text is never repeated in a reason, as it may hold a password."""
    if re.match(r"postgres(ql)?(\+[a-z0-9]+)?:", text):
        return postgres_url(text)
    if not text.startswith(SQLITE_SCHEME):
        _refuse(
            'must be written sqlite:///FILE, such as "sqlite:///data/gateway.db", '
            "or postgresql://user:password@host:5432/database"
        )
    file = text.removeprefix(SQLITE_SCHEME)
    if not file or file.endswith("/") or file.startswith(":memory:"):
        _refuse("must name a file: the gateway's processes share it")
    if re.search(r"[?#]", file):
        _refuse("must be a plain file name, without options or #")
    return SQLITE_SCHEME + file_name(file)


def store_path(url: str) -> Path:
    """Return the file that an accepted SQLite address names, relative ones to the working directory."""
    if not url.startswith(SQLITE_SCHEME):
        _refuse("names no file")
    return Path(url.removeprefix(SQLITE_SCHEME))


def file_name(text: str) -> str:
    """Accept the name of a file that can be written down: in a log, and in UTF-8, as settings travel."""
    if re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", text):
        _refuse("must be a file name in UTF-8, without control characters")
    return text


def new_file_name(text: str) -> str:
    """Accept the name of a file or directory that is going to be made, so that nothing else says it is too long."""
    if len(file_name(text).encode()) > _PATH_LIMIT_BYTES:
        _refuse(f"must be a file name of at most {_PATH_LIMIT_BYTES} bytes")
    return text


def server_name(text: str) -> str:
    """Accept a name to be found in a certificate."""
    return parse_host(text)


def distinct(values: Sequence[Item]) -> Sequence[Item]:
    """Refuse a list that says the same twice: one of them was meant to be something else."""
    for position, value in enumerate(values):
        if value in values[:position]:
            _refuse(f"has {quoted(str(value))} twice")
    return values


def distinct_targets(values: Sequence[str]) -> Sequence[str]:
    """Refuse two spellings of one server, which would get twice its share."""
    seen: dict[object, str] = {}
    for value in values:
        twin = seen.setdefault(parse_target(value), value)
        if twin is not value:
            _refuse(f"has the same server twice: {quoted(twin)} and {quoted(value)}")
    return values


def _refuse_pattern(text: str) -> None:
    """Refuse what is a pattern elsewhere: here it would fit its own letters alone, and leave the rest unguarded."""
    found = _PATTERN.search(text)
    if found is None:
        return
    reason = f"must not have {quoted(found.group())} in it: paths have no patterns, and each covers all below it"
    meant = _without_pattern(text[: found.start()], found.group()) if found.end() == len(text) else ""
    _refuse(f"{reason}: write {_suggested(meant)}" if meant else reason)


def _without_pattern(above: str, segment: str) -> str:
    """Return the path that covers what is meant: "/admin" for "/admin/*" and "/admin*", "/users" for "/users/{id}"."""
    plain = segment.rstrip("*.")
    if not plain or re.fullmatch(r"\{.*\}|<.*>", segment):
        return above.rstrip("/") or "/"
    return "" if _PATTERN.search(plain) else above + plain


def _check_percent_codes(text: str) -> None:
    if text.count("%") != len(_PERCENT_CODE.findall(text)):
        _refuse("has a % that two hexadecimal digits do not follow")
    for found in _PERCENT_CODE.finditer(text):
        code = found.group()
        byte = int(found.group(1), 16)
        if byte in _UNRESERVED:
            _refuse(f"must not encode plain characters: write {chr(byte)} for {code}")
        if byte < 0x20 or byte in b"\x7f\\":  # noqa: PLR2004 - the last control character
            _refuse(f"must not have {code} in it: no such request is ever forwarded")
        if code != code.upper():
            _refuse(f"must have its percent codes in capitals: write {code.upper()} for {code}")


def _suggested(text: str) -> str:
    return quoted(text, longest=MAX_SUGGESTED_CHARACTERS)


def _refuse(reason: str) -> None:
    raise ValueError(reason)
