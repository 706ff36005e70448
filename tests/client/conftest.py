"""Both clients under one roof: a test that uses `face` runs once with the one that waits and once with the other."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, TypeVar, cast

import pytest

from gateway.client import AsyncClient, Client
from tests.client.scripted_server import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

Result = TypeVar("Result")
KEY = "sk_" + "x" * 49


class Face:
    """`face(url, lambda client: client.keys.get(…))` returns the answer, with either client."""

    def __init__(self, *, awaits: bool) -> None:
        self._awaits = awaits

    def __call__(self, url: str, use: Callable[[Client], Result], **settings: object) -> Result:
        """Call; a list comes back whole. The test names the methods of `Client`: the other one has the same."""
        settings = {"api_key": KEY, "base_url": url, **settings}
        if self._awaits:
            return cast("Result", asyncio.run(_awaited(settings, cast("Callable[[AsyncClient], object]", use))))
        with Client(**settings) as client:  # type: ignore[arg-type]
            answer = use(client)
            return cast("Result", [*answer] if inspect.isgenerator(answer) else answer)


async def _awaited(settings: dict[str, object], use: Callable[[AsyncClient], object]) -> object:
    async with AsyncClient(**settings) as client:  # type: ignore[arg-type]
        answer = use(client)
        if inspect.isasyncgen(answer):
            return [item async for item in cast("AsyncIterator[object]", answer)]
        return await cast("Awaitable[object]", answer)


@pytest.fixture(params=["waits", "awaits"])
def face(request: pytest.FixtureRequest) -> Face:
    return Face(awaits=request.param == "awaits")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running
