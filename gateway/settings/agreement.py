"""Whether settings agree with each other: names that exist, requests that fit one route, values that do not contradict.

Invariant: every disagreement is found, not just the first, and each says which settings it depends on, so that none is
reported on top of a setting that is wrong by itself. Turned down: pydantic's model validators, which are skipped as
soon as one field is wrong, and then hide the second mistake behind the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from gateway.settings.addresses import parse_listen, parse_target
from gateway.settings.key_path import nearest
from gateway.settings.kinds import number
from gateway.settings.model import UpstreamTlsSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gateway.settings.key_path import KeyPath
    from gateway.settings.model import CorsSettings, RouteSettings, Settings, UpstreamSettings

SPOOL_MEBIBYTES_PER_WORKER = 48
_MATCHED = ("path", "hosts", "methods", "case_insensitive")
_WILDCARD_HOSTS = {"0.0.0.0": ".", "::": ":"}  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True, slots=True)
class Disagreement:
    """What is wrong at `path`; `also` are the other settings without which it would not be."""

    path: KeyPath
    reason: str
    also: tuple[KeyPath, ...] = ()


def disagreements(settings: Settings) -> Iterator[Disagreement]:
    """Yield everything that does not fit together, in the order of the model."""
    yield from _listeners(settings)
    yield from _me_path(settings)
    yield from _cache(settings)
    yield from _spool(settings)
    yield from _twins("upstreams", settings.upstreams)
    for index, upstream in enumerate(settings.upstreams):
        yield from _upstream(("upstreams", index), upstream)
    yield from _twins("routes", settings.routes)
    for index, route in enumerate(settings.routes):
        yield from _upstream_of_route(("routes", index), route, settings)
        yield from _route(("routes", index), route)
    yield from _rival_routes(settings.routes)
    yield from _no_route(settings)


def _listeners(settings: Settings) -> Iterator[Disagreement]:
    proxy, control = parse_listen(settings.server.listen), parse_listen(settings.control.listen)
    if proxy[1] and proxy[1] == control[1] and _same_host(proxy[0], control[0]):
        yield Disagreement(
            ("control", "listen"),
            f'is "{settings.control.listen}", which server.listen, "{settings.server.listen}", takes already: '
            "use another port",
            (("server", "listen"),),
        )


def _same_host(one: str, other: str) -> bool:
    """Tell whether two sockets on one port would meet, as "every IPv4 address" meets each of them."""
    return one == other or any(
        left == wildcard and mark in right
        for wildcard, mark in _WILDCARD_HOSTS.items()
        for left, right in ((one, other), (other, one))
    )


def _me_path(settings: Settings) -> Iterator[Disagreement]:
    path = settings.server.me_path or ""
    if ";" in path or "%2F" in path:
        yield Disagreement(("server", "me_path"), "has ; or %2F in it, which requests may have on some routes only")


def _cache(settings: Settings) -> Iterator[Disagreement]:
    known, unknown = settings.cache.positive_ttl_seconds, settings.cache.negative_ttl_seconds
    if unknown > known:
        yield Disagreement(
            ("cache", "negative_ttl_seconds"),
            f"is {number(unknown)}, longer than cache.positive_ttl_seconds, {number(known)}: "
            "a new key would take longer to be accepted than a revoked one to be refused",
            (("cache", "positive_ttl_seconds"),),
        )
    interval = settings.cache.poll_interval_milliseconds
    if 0 < known * 1000 < interval:
        yield Disagreement(
            ("cache", "poll_interval_milliseconds"),
            f"is {number(interval)}, longer than cache.positive_ttl_seconds, {number(known)}: "
            "between two looks for changes, nothing could be believed any more",
            (("cache", "positive_ttl_seconds"),),
        )


def _spool(settings: Settings) -> Iterator[Disagreement]:
    needed = settings.server.workers * SPOOL_MEBIBYTES_PER_WORKER
    if settings.audit.record == "all" and settings.audit.spool_limit_mebibytes < needed:
        yield Disagreement(
            ("audit", "spool_limit_mebibytes"),
            f"is {number(settings.audit.spool_limit_mebibytes)}, too little for {settings.server.workers} workers, "
            "each of which writes to one file of 16 and has the next one ready, beside one of the worker before it: "
            f"at least {number(needed)}",
            (("server", "workers"), ("audit", "record")),
        )


def _twins(table: str, rows: Iterable[UpstreamSettings | RouteSettings]) -> Iterator[Disagreement]:
    first: dict[str, int] = {}
    for index, row in enumerate(rows):
        earlier = first.setdefault(row.name, index)
        if earlier != index:
            yield Disagreement(
                (table, index, "name"),
                f'is "{row.name}", the name of {table}[{earlier}] too',
                ((table, earlier, "name"),),
            )


def _upstream(path: KeyPath, upstream: UpstreamSettings) -> Iterator[Disagreement]:
    tls, tls_path = upstream.tls, (*path, "tls")
    if not tls.verify and tls.ca_file:
        yield Disagreement(
            (*tls_path, "ca_file"),
            "has no effect while verify is false: leave one of them out",
            ((*tls_path, "verify"),),
        )
    for given, missing in (("certificate_file", "private_key_file"), ("private_key_file", "certificate_file")):
        if getattr(tls, given) and not getattr(tls, missing):
            yield Disagreement((*tls_path, missing), f"is missing: {given} is of no use alone", ((*tls_path, given),))
    if tls != UpstreamTlsSettings() and not any(parse_target(target).scheme == "https" for target in upstream.targets):
        yield Disagreement(tls_path, "has no effect, as no target begins with https://", ((*path, "targets"),))
    if upstream.health_path and upstream.health_timeout_seconds > upstream.health_interval_seconds:
        yield Disagreement(
            (*path, "health_timeout_seconds"),
            f"is {number(upstream.health_timeout_seconds)}, longer than health_interval_seconds, "
            f"{number(upstream.health_interval_seconds)}: checks would overlap",
            ((*path, "health_interval_seconds"), (*path, "health_path")),
        )


def _upstream_of_route(path: KeyPath, route: RouteSettings, settings: Settings) -> Iterator[Disagreement]:
    names = [upstream.name for upstream in settings.upstreams]
    if route.upstream in names:
        return
    meant = nearest(route.upstream, names)
    listed = ", ".join(f'"{name}"' for name in names) or "none"
    hint = f'did you mean "{meant}"?' if meant else f"there are: {listed}"
    yield Disagreement(
        (*path, "upstream"),
        f'names "{route.upstream}", which is no upstream; {hint}',
        tuple(("upstreams", index, "name") for index in range(len(names))) or (("upstreams",),),
    )


def _route(path: KeyPath, route: RouteSettings) -> Iterator[Disagreement]:
    if route.auth == "none" and route.permissions:
        yield Disagreement((*path, "permissions"), 'cannot be asked for where auth is "none"', ((*path, "auth"),))
    if (";" in route.path or "%3B" in route.path) and not route.allow_semicolon:
        yield Disagreement(
            (*path, "path"), "has a ; or %3B in it, so allow_semicolon must be true", ((*path, "allow_semicolon"),)
        )
    if "%2F" in route.path and not route.allow_encoded_slash:
        yield Disagreement(
            (*path, "path"), "has %2F in it, so allow_encoded_slash must be true", ((*path, "allow_encoded_slash"),)
        )
    if route.cors is not None and route.cors.allow_credentials:
        yield from _credentials((*path, "cors"), route.cors)


def _credentials(path: KeyPath, cors: CorsSettings) -> Iterator[Disagreement]:
    """Name each `*`, which browsers take for a name where cookies are allowed (Fetch Standard, section 3.2.5)."""
    if "*" in cors.allow_origins:
        yield Disagreement(
            (*path, "allow_credentials"),
            'cannot be true where allow_origins is "*": name the origins whose pages may send cookies',
            ((*path, "allow_origins"),),
        )
    for name in ("allow_methods", "allow_headers", "expose_headers"):
        if "*" in getattr(cors, name):
            yield Disagreement(
                (*path, name),
                'has "*", which stands for nothing where allow_credentials is true: name them one by one',
                ((*path, "allow_credentials"),),
            )


def _rival_routes(routes: tuple[RouteSettings, ...]) -> Iterator[Disagreement]:
    """Find routes that the same request fits equally well: which of them is taken would be an accident.

    A route that lists methods goes before one that takes all, so those two are no rivals. A path that is matched both
    ways, in any case and in its own, hides routes of one way behind those of the other, whatever their methods.
    """
    for (first, one), (second, other) in combinations(enumerate(routes), 2):
        hosts, methods = _shared(one.hosts, other.hosts), _shared(one.methods, other.methods)
        mixed = one.case_insensitive != other.case_insensitive
        any_case = one.case_insensitive or other.case_insensitive
        same = one.path.lower() == other.path.lower() if any_case else one.path == other.path
        if not same or hosts is None or (methods is None and not mixed):
            continue
        named = f'routes[{first}], "{one.name}"'
        where = f"{hosts or 'every host'}, {one.path}, {methods or 'every method'}"
        mixing = f"is that of {named}, so case_insensitive must be the same for both"
        yield Disagreement(
            ("routes", second, "path"),
            mixing if mixed else f"fits the same requests as that of {named}: {where}",
            tuple(("routes", index, name) for index in (second, first) for name in _MATCHED),
        )


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> str | None:
    """Return what both list, "" where both list nothing (which is everything), None where they share nothing."""
    if not one and not other:
        return ""
    return ", ".join(value for value in one if value in other) or None


def _no_route(settings: Settings) -> Iterator[Disagreement]:
    if settings.upstreams and not settings.routes:
        yield Disagreement(
            ("routes",),
            f"is missing: with {len(settings.upstreams)} upstreams, write in [[routes]] which requests go to which",
            (("upstreams",),),
        )
