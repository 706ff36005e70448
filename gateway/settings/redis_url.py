"""What the address of Redis says, in parts: one server, the sentinels that know it, or a cluster's nodes.

Invariant: what `server_urls.redis_url` accepts is read here in the same way, or refused with a reason that repeats no
part of the text, as any part may be a password. Pure. Turned down: the address parser of a driver, which ignores the
options that it does not know; a misspelt `ca_file` would then mean the system's certificates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, NoReturn
from urllib.parse import unquote

from gateway.settings.server_urls import redis_url

RedisKind = Literal["server", "unix", "sentinel", "cluster"]

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_KINDS: Final[dict[str, RedisKind]] = {
    "redis": "server",
    "rediss": "server",
    "unix": "unix",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
_TLS_OPTIONS: Final = ("ca_file", "cert_file", "key_file")
_SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")
_UNIX_OPTIONS: Final = ("db",)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is, and as whom to speak with it. `servers` are of the kind: Redis itself, sentinels, or nodes."""

    kind: RedisKind
    servers: tuple[tuple[str, int], ...] = ()
    socket: str = ""
    service: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def __str__(self) -> str:
        """Name it for people, without user and password."""
        names = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.servers)
        match self.kind:
            case "unix":
                return self.socket
            case "sentinel":
                return f'service "{self.service}" of the sentinels {names}'
            case "cluster":
                return f"the cluster of {names}"
            case _:
                return names


def parse_redis_url(text: str) -> RedisAddress:
    """Read an address. Raises ValueError with the rest of a sentence that begins with the setting's name."""
    redis_url(text)
    scheme, _, rest = text.partition("://")
    kind, tls = _KINDS[scheme], scheme.startswith("rediss")
    rest, _, query = rest.partition("?")
    rest, slash, path = rest.partition("/")
    credentials, _, hosts = rest.rpartition("@")
    username, _, password = credentials.partition(":")
    options = _options(query, kind, tls=tls)
    service, database = "", options.get("db", "0")
    if kind == "sentinel":
        service, _, database = path.partition("/")
    elif kind != "unix":
        database = path
    if database and not database.isdecimal():
        _refuse("must have a number as its database")
    default_port = _SENTINEL_PORT if kind == "sentinel" else _PORT
    return RedisAddress(
        kind=kind,
        servers=tuple(_server(each, default_port) for each in hosts.split(",")) if kind != "unix" else (),
        socket=unquote(slash + path) if kind == "unix" else "",
        service=unquote(service),
        database=int(database or 0),
        username=unquote(username) or None,
        password=unquote(password) or None,
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=options.get("sentinel_password"),
        tls=tls,
        ca_file=options.get("ca_file"),
        cert_file=options.get("cert_file"),
        key_file=options.get("key_file"),
    )


def accepted_redis_url(text: str) -> str:
    """Accept an address that can be read in parts: the form that the setting takes."""
    parse_redis_url(text)
    return text


def _options(query: str, kind: RedisKind, *, tls: bool) -> dict[str, str]:
    known = [
        *(_TLS_OPTIONS if tls else ()),
        *(_SENTINEL_OPTIONS if kind == "sentinel" else ()),
        *(_UNIX_OPTIONS if kind == "unix" else ()),
    ]
    options: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        if name not in known:
            there_are = f"; there are: {', '.join(known)}" if known else ", as there are none for such an address"
            _refuse(f"has an option that is not known here{there_are}")
        options[name] = unquote(value)
    if "key_file" in options and "cert_file" not in options:
        _refuse("has a key_file without a cert_file")
    return options


def _server(text: str, default_port: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    return host.strip("[]"), int(port or default_port)


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)
