"""Asks each target regularly whether it is well, where a health path is configured.

Invariant: a target counts as healthy until two checks in a row fail, and again after one that succeeds; requests go to
the healthy ones while there are any. Apart from the proxied bytes, so aiohttp's client serves.
"""

import asyncio
import logging
from typing import Final

import aiohttp

from gateway.proxy.upstream_pool import Target, UpstreamPool
from gateway.settings.addresses import parse_target

_LOG = logging.getLogger(__name__)
_FAILURES_TO_UNHEALTHY: Final = 2
_FIRST_ERROR_STATUS: Final = 400


async def check_health(pool: UpstreamPool) -> None:
    """Check all targets of a pool until cancelled; returns at once without a health path."""
    if pool.settings.health_path is None:
        return
    timeout = aiohttp.ClientTimeout(total=pool.settings.health_timeout_seconds)
    async with (
        aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
        asyncio.TaskGroup() as group,
    ):
        for target, text in zip(pool.targets, pool.settings.targets, strict=True):
            url = f"{parse_target(text).scheme}://{target.authority}{pool.settings.health_path}"
            group.create_task(_check_target(session, pool, target, url))


async def _check_target(session: aiohttp.ClientSession, pool: UpstreamPool, target: Target, url: str) -> None:
    failures = 0
    while True:
        problem = await _probe(session, url, target)
        failures = failures + 1 if problem else 0
        healthy = failures < _FAILURES_TO_UNHEALTHY
        if healthy != target.healthy:
            target.healthy = healthy
            _LOG.warning(
                "target %s of upstream %s is %s", target.authority, pool.settings.name, problem or "healthy again"
            )
        await asyncio.sleep(pool.settings.health_interval_seconds)


async def _probe(session: aiohttp.ClientSession, url: str, target: Target) -> str:
    """Why the target is not well; empty when it is."""
    try:
        async with session.get(
            url,
            allow_redirects=False,
            ssl=target.tls if target.tls is not None else True,
            server_hostname=target.server_name if target.tls is not None else None,
        ) as answer:
            return f"unhealthy: {url} answered {answer.status}" if answer.status >= _FIRST_ERROR_STATUS else ""
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return f"unhealthy: {url} gave {str(error) or type(error).__name__}"
