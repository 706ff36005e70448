"""The client that waits is the one that awaits without its awaits, and nobody edited it."""

from __future__ import annotations

import inspect

import pytest

from gateway.client import AsyncClient, Client
from gateway.client.generate import TARGET, generated

GROUPS = ("keys", "members", "service_accounts", "organizations", "events")


def test_the_committed_files_are_the_generated_ones() -> None:
    """Mend by `python -m gateway.client.generate`."""
    committed = {path.name: path.read_text() for path in TARGET.glob("*.py") if path.name != "__init__.py"}
    assert committed == generated()


@pytest.mark.parametrize("name", generated())
def test_nothing_of_asyncio_is_left(name: str) -> None:
    code = "\n".join((TARGET / name).read_text().split('"""')[2::2])
    for word in ("async", "await", "Async", "asyncio"):
        assert word not in code, word


def test_both_have_the_same_methods_with_the_same_parameters() -> None:
    one, other = Client("k"), AsyncClient("k")
    for group in (None, *GROUPS):
        here = one if group is None else getattr(one, group)
        there = other if group is None else getattr(other, group)
        names = {name for name in dir(here) if not name.startswith("_")}
        assert names - {"close"} == {name for name in dir(there) if not name.startswith("_")} - {"aclose"}
        for name in names - {"close", *GROUPS}:
            parameters = [inspect.signature(getattr(each, name)).parameters for each in (here, there)]
            assert [*parameters[0].values()] == [*parameters[1].values()], name
    one.close()
