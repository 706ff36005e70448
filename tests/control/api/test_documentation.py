"""`/openapi.json` and `/docs`: read without a key, made from one document, and loading nothing from elsewhere."""

from __future__ import annotations

import html.parser
from typing import TYPE_CHECKING, Final

from gateway.control.api import openapi, page
from gateway.control.api.operations import OPERATIONS

if TYPE_CHECKING:
    from tests.control.api.conftest import Api

_EMPTY: Final = {"meta", "link"}  # elements without an end


class Reader(html.parser.HTMLParser):
    """Notes what a browser would find: elements, ids, links, and whether all that begins ends."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value or "")
            if name in {"href", "src"}:
                self.links.append(value or "")
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_document_is_served_without_a_key(api: Api) -> None:
    answer = await api.call("GET", "/openapi.json", by=None)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.content == openapi.text()


async def test_the_page_shows_every_operation_and_every_shape(api: Api) -> None:
    answer = await api.call("GET", "/docs", by=None)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    read = Reader(answer.content.decode())
    assert read.open == []
    assert {operation.name for operation in OPERATIONS} <= set(read.ids)
    assert set(openapi.document()["components"]["schemas"]) <= set(read.ids)
    assert len(read.ids) == len(set(read.ids))


async def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing(api: Api) -> None:
    answer = await api.call("GET", "/docs", by=None)
    read = Reader(answer.content.decode())
    assert not read.elements & {"script", "style", "img", "iframe", "form"}
    assert not [name for name in read.attributes if name.startswith("on") or name == "style"]
    assert {link for link in read.links if not link.startswith("#")} == {"/docs.css", "/openapi.json"}
    assert {link[1:] for link in read.links if link.startswith("#")} <= set(read.ids)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self';")
    assert "frame-ancestors 'none'" in policy
    style = await api.call("GET", "/docs.css", by=None)
    assert style.headers["Content-Type"] == "text/css; charset=utf-8"
    assert b"url(" not in style.content
    assert b"@import" not in style.content


def test_nothing_in_the_document_can_become_markup() -> None:
    evil = '<script>alert("1")</script>'
    document = openapi.document()
    tag = {"name": evil, "description": f"`{evil}`"}
    operation = {
        "operationId": f'"{evil}',
        "tags": [evil],
        "summary": evil,
        "description": f"- {evil}",
        "parameters": [{"name": evil, "in": evil, "schema": {"pattern": evil, "type": evil}, "description": evil}],
        "responses": {evil: {"description": evil, "content": {evil: {"schema": {"$ref": evil}}}}},
    }
    schemas = {evil: {"description": evil, "properties": {evil: {"enum": [evil], "description": evil}}}}
    made = {
        "info": {"title": evil, "version": evil, "description": evil},
        "tags": [tag],
        "paths": {evil: {"get": operation}},
        "components": {**document["components"], "schemas": schemas},
    }
    read = Reader(page.render(made))
    assert "script" not in read.elements
    assert read.text.count(evil) > 15
