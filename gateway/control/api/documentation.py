"""`/openapi.json` and `/docs`: what the API is, for programs and for people. Both are read without a key.

Invariant: the page loads nothing from elsewhere and runs no script; its security policy forbids both, so that a text of
ours that forgot an escape would still do nothing. What it shows is made from the document that stands beside it. A
well-known viewer was turned down: a megabyte of somebody's script on the port that administers all keys.
"""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

_POLICY: Final = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def routes() -> list[web.RouteDef]:
    """To be added to the control application."""
    return [web.get("/openapi.json", _openapi), web.get("/docs", _page), web.get("/docs.css", _style)]


async def _openapi(_: web.Request) -> web.Response:
    return web.Response(body=await _made(_document), content_type="application/json")


async def _page(_: web.Request) -> web.Response:
    headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    return web.Response(body=await _made(_rendered), content_type="text/html", charset="utf-8", headers=headers)


async def _style(_: web.Request) -> web.Response:
    return web.Response(body=await _made(_stylesheet), content_type="text/css", charset="utf-8")


async def _made(make: Callable[[], bytes]) -> bytes:
    """Make it in a thread: the first time takes a tenth of a second, which nobody else should wait for."""
    return await asyncio.to_thread(make)


@cache
def _document() -> bytes:
    from gateway.control.api import openapi  # noqa: PLC0415 - most control processes are never asked for it

    return openapi.text()


@cache
def _rendered() -> bytes:
    from gateway.control.api import openapi, page  # noqa: PLC0415 - as above

    return page.render(openapi.document()).encode()


@cache
def _stylesheet() -> bytes:
    return (Path(__file__).parent / "page.css").read_bytes()
