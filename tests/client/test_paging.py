"""Lists: every item once, in order, and no page before it is needed."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from gateway.client import Client
from tests.client.conftest import KEY
from tests.client.documents import KEY_DOCUMENT
from tests.client.scripted_server import Scripted

if TYPE_CHECKING:
    from tests.client.conftest import Face
    from tests.client.scripted_server import ScriptedServer


def _page(*names: str, then: str | None) -> Scripted:
    return Scripted.json({"items": [{**KEY_DOCUMENT, "name": name} for name in names], "next_cursor": then})


def test_a_list_goes_through_all_pages(face: Face, server: ScriptedServer) -> None:
    """Also through one without items, as a filter may leave it."""
    server.answers = [_page("a", "b", then="é=&"), _page(then="2"), _page("c", then=None)]
    items = face(server.url, lambda client: client.keys.list(search="x y", limit=2))
    assert [item.name for item in items] == ["a", "b", "c"]
    assert [received.target.partition("?")[2] for received in server.received] == [
        "search=x+y&limit=2",
        "search=x+y&cursor=%C3%A9%3D%26&limit=2",
        "search=x+y&cursor=2&limit=2",
    ]


def test_a_page_is_asked_for_when_the_one_before_is_used_up(server: ScriptedServer) -> None:
    server.answers = [_page("a", "b", then="1"), _page("c", then=None)]
    with Client(KEY, base_url=server.url) as client:
        assert [key.name for key in islice(client.keys.list(), 2)] == ["a", "b"]
    assert len(server.received) == 1
