"""Builds the data plane of one worker from its settings: key cache, policies, upstream pools, routes.

Names no backend: where keys come from is handed in. Tests build theirs here too, on a store and a clock of their own.
"""

import asyncio
from collections.abc import Callable

from gateway.cache.key_cache import KeyCache, KeySource
from gateway.keys.record import CredentialRecord
from gateway.keys.secret import own_form
from gateway.policies.identity import identity_fields
from gateway.policies.pipeline import Pipeline
from gateway.proxy.recording import Recording
from gateway.proxy.routes import Route, RouteTable, route
from gateway.proxy.teller import Teller
from gateway.proxy.tls import server_context
from gateway.proxy.tls_front import TlsFront
from gateway.proxy.upstream_pool import UpstreamPool
from gateway.proxy.worker import Worker
from gateway.recording.records import whom
from gateway.settings.model import CacheSettings, RouteSettings, Settings


def key_cache(
    settings: CacheSettings,
    source: KeySource,
    *,
    clock: Callable[[], float],
    wall_clock: Callable[[], float],
) -> KeyCache:
    """Make the worker's memory of keys."""
    return KeyCache(
        source,
        positive_ttl_seconds=settings.positive_ttl_seconds,
        negative_ttl_seconds=settings.negative_ttl_seconds,
        max_entries=settings.max_entries,
        max_absent_entries=settings.max_absent_entries,
        max_stale_seconds=settings.max_stale_seconds,
        identity=identity_fields,
        whom=_whom,
        clock=clock,
        wall_clock=wall_clock,
    )


def _whom(record: CredentialRecord) -> bytes:
    """What each request of a key has on record of it."""
    return whom(record.key_id, record.key_name, record.secret_id, record.organization_id, record.owner_id)


def assemble(
    settings: Settings,
    cache: KeyCache,
    source: KeySource,
    loop: asyncio.AbstractEventLoop,
    recording: Recording | None = None,
) -> Worker:
    """Make a worker with its policies, upstream pools and routes. `source` is what `cache` asks on a miss."""
    auth = settings.auth
    pipeline = Pipeline(
        cache,
        key_prefix=auth.key_prefix,
        realm=auth.realm,
        generic_errors=auth.error_detail == "generic",
        bare_authorization=auth.bare_authorization,
        tenant_header=auth.tenant_header,
    )
    pools = {each.name: UpstreamPool(each, loop.time) for each in settings.upstreams}
    routes = RouteTable(
        route(
            each,
            pipeline.for_route(each.auth, tuple(each.permissions)),
            pools[each.upstream],
            tenant_header=auth.tenant_header,
        )
        for each in settings.routes
    )
    worker = Worker(
        settings.server,
        routes,
        pools.values(),
        cache,
        loop,
        _me_route(settings, pipeline, pools, Teller(source, cache)),
        recording,
    )
    worker.own_form = own_form(auth.key_prefix)
    if settings.server.tls is not None:
        worker.tls = TlsFront(worker, server_context(settings.server.tls))
    return worker


def _me_route(settings: Settings, pipeline: Pipeline, pools: dict[str, UpstreamPool], teller: Teller) -> Route | None:
    if settings.server.me_path is None:
        return None
    first = settings.upstreams[0].name  # a route has an upstream; this one never asks it
    me = RouteSettings(name="me", path=settings.server.me_path, upstream=first)
    return route(me, pipeline.for_route("required", ()), pools[first], teller=teller)
