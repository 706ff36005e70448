"""The written forms of the addresses of other servers: a PostgreSQL store, and Redis in each way that it is run.

Invariant: no reason repeats any part of the text but what was written here, as any part may be a password that was not
percent-encoded; and whatever is accepted here is read in one way alone, by `redact` too, so that no accepted address
has a password where it is not looked for. Pure: no name is looked up. Turned down: handing the text to the drivers'
own parsers, which workers would have to import for that, take much from the environment, and repeat what they refuse.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

from gateway.settings.addresses import MAX_PORT

POSTGRES_FORM: Final = 'must be written like "postgresql://user:password@host:5432/database"'
REDIS_FORM: Final = (
    'must be written like "redis://:password@host:6379/0", rediss:// for TLS, unix:///PATH,'
    " redis+sentinel://host:26379,host/SERVICE or redis+cluster://host:6379,host"
)
_UNPRINTED: Final = re.compile(r"[\x00-\x20\x7f-\xa0\ud800-\udfff]")
_URL: Final = re.compile(
    r"(?P<scheme>[a-z+]+)://(?:(?P<user>[^:/?#@\[\]]*)(?::(?P<password>[^:/?#@\[\]]*))?@)?"
    r"(?P<hosts>[^/?#@]*)(?P<path>/[^?#@]*)?(?:\?(?P<query>[^?#@]*))?"
)
_HOST: Final = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]|%2[Ff][A-Za-z0-9_.%-]+)(?::(?P<port>[0-9]{1,5}))?")
_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_TLS_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# What asyncpg reads itself, and two settings of the server. It hands any other on to the server, which then refuses
# each connection.
_POSTGRES_OPTIONS: Final = frozenset({
    *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "host", "port", "user", "password", "passfile"),
    *("target_session_attrs", "krbsrvname", "gsslib", "application_name", "search_path"),
})  # fmt: skip


def postgres_url(text: str) -> str:
    """Accept the address of a PostgreSQL database, as libpq and asyncpg read it."""
    if not re.match(r"postgres(ql)?://", text):
        _refuse(f"{POSTGRES_FORM}, without the name of a driver")
    parts = _parts(text, POSTGRES_FORM)
    options = _options(parts["query"])
    unknown = [name for name in options if name not in _POSTGRES_OPTIONS]
    if unknown:
        _refuse(f"has an option that is not known here; there are: {', '.join(sorted(_POSTGRES_OPTIONS))}")
    if parts["hosts"] or not options.get("host"):
        _check_hosts(parts["hosts"])
    if not re.fullmatch(r"/[^/]+", parts["path"]):
        _refuse(f"must name a database behind the host: it {POSTGRES_FORM}")
    if options.get("sslmode", "prefer") not in _TLS_MODES:
        _refuse(f"has an sslmode that is none of: {', '.join(_TLS_MODES)}")
    return text


def redis_url(text: str) -> str:
    """Accept the address of one Redis server, of the sentinels that know it, or of a cluster's nodes."""
    parts = _parts(text, REDIS_FORM)
    _options(parts["query"])
    match parts["scheme"]:
        case "redis" | "rediss":
            _check_hosts(parts["hosts"], most=1)
            if not re.fullmatch(r"(/[0-9]*)?", parts["path"]):
                _refuse("must have nothing but the number of a database behind the host, such as /0")
        case "unix":
            if parts["hosts"] or len(parts["path"]) < 2:  # noqa: PLR2004 - a slash, and something
                _refuse("must name a socket by its whole path, as in unix:///run/redis.sock")
        case "redis+sentinel" | "rediss+sentinel":
            _check_hosts(parts["hosts"])
            if not re.fullmatch(r"/[^/]+(/[0-9]*)?", parts["path"]):
                _refuse("must name the service that the sentinels watch, as in redis+sentinel://host:26379/mymaster")
        case "redis+cluster" | "rediss+cluster":
            _check_hosts(parts["hosts"])
            if parts["path"] not in {"", "/", "/0"}:
                _refuse("must name no database: a cluster has one alone")
        case _:
            _refuse(REDIS_FORM)
    return text


def redis_namespace(text: str) -> str:
    """Accept what all names in Redis begin with; braces would decide where a cluster keeps them."""
    if not _NAMESPACE.fullmatch(text):
        _refuse("must be 1 to 64 letters, digits and . _ : - beginning with a letter or digit")
    return text


def _parts(text: str, form: str) -> dict[str, str]:
    if _UNPRINTED.search(text):
        _refuse(f"must have no spaces or control characters in it: it {form}")
    found = _URL.fullmatch(text)
    if found is None:
        _refuse(f"{form}; any of : / ? # @ [ ] in a password must be percent-encoded")
    if _PERCENT.search(text):
        _refuse("has a % that two hexadecimal digits do not follow: write %25 for a % in a password")
    return {name: value or "" for name, value in found.groupdict().items()}


def _options(query: str) -> dict[str, str]:
    """Return the options; a name is plain, so that one that holds a password cannot be spelt otherwise."""
    options: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, equals, value = pair.partition("=")
        if not re.fullmatch(r"[a-z_]+", name) or not equals or not value:
            _refuse("must have its options written ?name=value&name=value")
        if name in options:
            _refuse(f"has the option {name} twice" if name in _POSTGRES_OPTIONS else "has an option twice")
        options[name] = value
    return options


def _check_hosts(hosts: str, most: int = 16) -> None:
    names = hosts.split(",")
    if not hosts:
        _refuse("must name a server")
    if len(names) > most:
        _refuse("must name one server" if most == 1 else f"must name at most {most} servers")
    for name in names:
        found = _HOST.fullmatch(name)
        if found is None:
            _refuse("has a host that is neither a name nor an address; IPv6 addresses stand in brackets")
        if found["port"] and not 0 < int(found["port"]) <= MAX_PORT:
            _refuse(f"has a port that is not from 1 to {MAX_PORT}")


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)
