"""Finds the route of a request: by host, then by the longest path prefix on whole segments, then by method.

Invariants: pure. The most specific host that has any matching path is final, and so is its longest matching path: a
method that the routes there do not serve is a 405, never a fall-through to a shorter path, which may ask for less.
The cost of a match is bounded by the depth of the configured paths, not by what a client sends.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.policies.contract import Policy
from gateway.policies.refusal import Refusal
from gateway.proxy.cors import Cors
from gateway.proxy.target import ENCODED_SLASH, SEMICOLON
from gateway.proxy.teller import Teller
from gateway.proxy.upstream_pool import UpstreamPool
from gateway.recording.records import where
from gateway.settings.model import RouteSettings

NO_ROUTE: Final = Refusal(404, "no_route", "No route of this gateway matches the host and path of the request.")


@dataclass(slots=True, frozen=True, eq=False)
class Route:
    """One route, made ready for the hot path."""

    settings: RouteSettings
    methods: frozenset[bytes]
    """Empty: every method."""
    policies: tuple[Policy, ...]
    pool: UpstreamPool
    optional: bool
    permissions: tuple[str, ...]
    refused_traits: int
    prefix: bytes
    """What the upstream does not get of the path, and a Location gets back."""
    forwards_path_as_matched: bool
    preserve_host: bool
    rewrite_location: bool
    forward_credential: bool
    allow_method_override: bool
    cors: Cors | None
    teller: Teller | None
    """Answers in the upstream's place."""
    head_timeout: float
    body_timeout: float
    max_body: float
    where: bytes
    """Its name and that of its upstream, for the record."""


def route(
    settings: RouteSettings,
    policies: tuple[Policy, ...],
    pool: UpstreamPool,
    *,
    tenant_header: str | None = None,
    teller: Teller | None = None,
) -> Route:
    """Make a route of its settings."""
    refused = 0 if settings.allow_encoded_slash else ENCODED_SLASH
    refused |= 0 if settings.allow_semicolon else SEMICOLON
    prefix = settings.path.rstrip("/").encode() if settings.strip_prefix else b""
    return Route(
        settings=settings,
        methods=frozenset(method.encode() for method in settings.methods),
        policies=policies,
        pool=pool,
        optional=settings.auth == "optional",
        permissions=tuple(settings.permissions),
        refused_traits=refused,
        prefix=prefix,
        forwards_path_as_matched=settings.normalize_path and not prefix,
        preserve_host=settings.preserve_host,
        rewrite_location=settings.rewrite_location,
        forward_credential=settings.forward_credential,
        allow_method_override=settings.allow_method_override,
        cors=Cors(settings.cors, tenant_header) if settings.cors is not None else None,
        teller=teller,
        head_timeout=settings.head_timeout_seconds or pool.settings.head_timeout_seconds,
        body_timeout=settings.body_timeout_seconds or pool.settings.body_timeout_seconds,
        max_body=float("inf") if settings.max_body_bytes is None else settings.max_body_bytes,
        where=where(settings.name, settings.upstream if teller is None else ""),
    )


@dataclass(slots=True)
class _Paths:
    """The routes of one host, by path without its last slash."""

    exact_case: dict[bytes, list[Route]] = field(default_factory=dict)
    any_case: dict[bytes, list[Route]] = field(default_factory=dict)
    depth: int = 0

    def add(self, route: Route) -> None:
        path = route.settings.path.rstrip("/").encode()
        table, path = (self.any_case, path.lower()) if route.settings.case_insensitive else (self.exact_case, path)
        table.setdefault(path, []).append(route)
        self.depth = max(self.depth, path.count(b"/"))

    def find(self, path: bytes) -> list[Route] | None:
        """The routes of the longest matching prefix."""
        if self.depth == 0 or path == b"*":  # OPTIONS * is about the whole server: the route of its root
            return self.exact_case.get(b"") or self.any_case.get(b"")
        # One segment more than the deepest prefix, so that joining all but the last gives every possible prefix.
        segments = path.split(b"/", self.depth + 1)
        for length in range(min(len(segments), self.depth + 1), 0, -1):
            prefix = b"/".join(segments[:length])
            found = self.exact_case.get(prefix) or (self.any_case and self.any_case.get(prefix.lower()))
            if found:
                return found
        return None


class RouteTable:
    """All routes of a gateway."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_host: dict[bytes, _Paths] = {}
        self._by_suffix: dict[bytes, _Paths] = {}
        self._any_host = _Paths()
        self.any_cors = False
        """Whether a preflight may have to be answered."""
        for each in routes:
            self.any_cors = self.any_cors or each.cors is not None
            for paths in self._tables(each.settings.hosts):
                paths.add(each)

    def _tables(self, hosts: Sequence[str]) -> list[_Paths]:
        if not hosts:
            return [self._any_host]
        return [
            self._by_suffix.setdefault(host[1:].encode(), _Paths())
            if host.startswith("*.")
            else self._by_host.setdefault(host.encode(), _Paths())
            for host in hosts
        ]

    def match(self, host: bytes, method: bytes, path: bytes) -> Route | Refusal:
        """The route of a request; `host` is lower-case and may have a port."""
        found = self._find(host, path)
        if found is None:
            return NO_ROUTE
        fallback = None
        for each in found:
            if not each.methods:
                fallback = each
            elif method in each.methods:
                return each
        return fallback or _method_not_allowed(found)

    def with_cors(self, host: bytes, path: bytes) -> Route | None:
        """A route there that pages of other origins may use, whatever the method: they may read its refusals too."""
        for each in self._find(host, path) or []:
            if each.cors is not None:
                return each
        return None

    def _find(self, host: bytes, path: bytes) -> list[Route] | None:
        if self._by_host or self._by_suffix:
            name = host.partition(b":")[0] if host[:1] != b"[" else host.partition(b"]")[0] + b"]"
            return self._find_by_host(name, path)
        return self._any_host.find(path)

    def _find_by_host(self, host: bytes, path: bytes) -> list[Route] | None:
        """Exact host, then wildcards from the longest suffix on, then the routes for any host."""
        host = host.removesuffix(b".")  # to a resolver, the root's dot makes no other host
        paths = self._by_host.get(host)
        found = paths.find(path) if paths is not None else None
        rest = host
        while found is None and self._by_suffix and (dot := rest.find(b".", 1)) >= 0:
            rest = rest[dot:]
            paths = self._by_suffix.get(rest)
            found = paths.find(path) if paths is not None else None
        return found if found is not None else self._any_host.find(path)


def _method_not_allowed(routes: list[Route]) -> Refusal:
    allowed = ", ".join(sorted({method.decode() for each in routes for method in each.methods}))
    detail = f"This path is served for {allowed} alone."
    return Refusal(405, "method_not_allowed", detail, (("Allow", allowed),))
