"""The OpenAPI document as one page of HTML: headings to browse, a section per operation, a table per shape.

Invariant: every text of the document is escaped on its way in (`_Markup` is what has been), and nothing but the
document is shown. Plain functions that return markup were preferred to templates: the page is a walk through a tree,
and this is the only one here.
"""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Json = dict[str, Any]  # a JSON object, which has no narrower type

_REFERENCE: Final = "#/components/schemas/"
_BOUNDS: Final = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "from {}",
    "maximum": "to {}",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "default": "default {}",
    "pattern": "pattern {}",
}


class _Markup(str):
    """HTML that is safe to put on the page."""

    __slots__ = ()


def render(document: Json) -> str:
    """Return the page."""
    info, schemas = document["info"], document["components"]["schemas"]
    title = f"{info['title']} {info['version']}"
    sections = [_subject(tag, document) for tag in document["tags"]]
    shapes = _element("section", _element("h2", "Shapes", id="shapes"), *map(_shape, schemas.items()))
    main = _element("main", _element("h1", title), _prose(info["description"]), *sections, shapes)
    style = _Markup('<link rel="stylesheet" href="/docs.css">')
    viewport = _Markup('<meta name="viewport" content="width=device-width, initial-scale=1">')
    head = _element("head", _Markup('<meta charset="utf-8">'), viewport, _element("title", title), style)
    body = _element("body", _navigation(document), main)
    return "<!doctype html>\n" + _element("html", head, body, lang="en")


def _navigation(document: Json) -> _Markup:
    groups = []
    for tag in document["tags"]:
        links = [
            _element("li", _element("a", operation["summary"], href=f"#{operation['operationId']}"))
            for _, _, operation in _operations(document, tag["name"])
        ]
        groups += [_element("h2", tag["name"]), _element("ul", *links)]
    document_link = _element("p", _element("a", "openapi.json", href="/openapi.json"))
    shapes_link = _element("p", _element("a", "Shapes", href="#shapes"))
    return _element("nav", *groups, shapes_link, document_link)


def _subject(tag: Json, document: Json) -> _Markup:
    shared = document["components"]["responses"]
    parts = [_operation(*each, shared) for each in _operations(document, tag["name"])]
    return _element("section", _element("h2", tag["name"]), _prose(tag["description"]), *parts)


def _operations(document: Json, subject: str) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if subject in operation["tags"]:
                yield method.upper(), path, operation


def _operation(method: str, path: str, operation: Json, shared: Json) -> _Markup:
    heading = _element("h3", _element("code", method, class_=method.lower()), " ", _element("code", path))
    parts = [heading, _element("p", _element("strong", operation["summary"])), _prose(operation["description"])]
    if parameters := operation.get("parameters"):
        rows = [(each["name"], each["in"], _type(each["schema"]), each.get("description", "")) for each in parameters]
        parts += [_element("h4", "Parameters"), _table(("name", "in", "type", "meaning"), rows)]
    if body := operation.get("requestBody"):
        schema = body["content"]["application/json"]["schema"]
        parts += [_element("h4", "Body"), _element("p", _type(schema))]
    parts += [_element("h4", "Answers"), _answers(operation["responses"], shared)]
    parts += [_element("h4", "With curl"), _element("pre", _element("code", _curl(method, path, operation)))]
    return _element("article", *parts, id=operation["operationId"])


def _answers(responses: Json, shared: Json) -> _Markup:
    rows = []
    for status, each in responses.items():
        response = shared[each["$ref"].rpartition("/")[2]] if "$ref" in each else each
        (content,) = response["content"].values()
        rows.append((status, _type(content["schema"]), _prose(response["description"])))
    return _table(("status", "shape", "when"), rows)


def _curl(method: str, path: str, operation: Json) -> str:
    lines = [f'curl -X {method} "$GATEWAY_ADMIN_URL{path}"', '-H "X-API-KEY: $GATEWAY_API_KEY"']
    if operation.get("requestBody", {}).get("required"):
        lines += ["-H 'Content-Type: application/json'", "-d @body.json"]
    return " \\\n  ".join(lines)


def _shape(item: tuple[str, Json]) -> _Markup:
    name, schema = item
    parts = [_element("h3", _element("code", name)), _prose(schema.get("description", ""))]
    if properties := schema.get("properties"):
        required = schema.get("required", ())
        rows = [
            (field, _type(each), "yes" if field in required else "no", _prose(each.get("description", "")))
            for field, each in properties.items()
        ]
        parts.append(_table(("field", "type", "always there", "meaning"), rows))
    else:
        parts.append(_element("p", _type(schema)))
    return _element("article", *parts, id=name)


def _type(schema: Json) -> _Markup:
    """Say in a few words what a schema lets through."""
    if reference := schema.get("$ref"):
        name = reference.removeprefix(_REFERENCE)
        return _element("a", _element("code", name), href=f"#{name}")
    if choices := schema.get("anyOf"):
        return _join([_type(each) for each in choices], " or ")
    if "const" in schema:
        return _element("code", json.dumps(schema["const"]))
    if "enum" in schema:
        return _join([_element("code", json.dumps(each)) for each in schema["enum"]], " or ")
    kind = schema.get("format") or schema.get("type", "anything")
    parts = [_element("span", kind)]
    if isinstance(items := schema.get("items"), dict):
        parts += [_Markup(" of "), _type(items)]
    bounds = [words.format(schema[name]) for name, words in _BOUNDS.items() if name in schema]
    return _join(parts + ([_element("small", ", ".join(bounds))] if bounds else []), " ")


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> _Markup:
    head = _element("tr", *(_element("th", each, scope="col") for each in heads))
    body = [_element("tr", *(_element("td", each) for each in row)) for row in rows]
    return _element("div", _element("table", _element("thead", head), _element("tbody", *body)), class_="scrolls")


def _prose(text: str) -> _Markup:
    """Paragraphs, lists of one level, and `code`: as much of Markdown as the descriptions use."""
    if isinstance(text, _Markup):
        return text
    blocks = []
    for block in filter(None, text.strip().split("\n\n")):
        lines = block.split("\n")
        if all(line.startswith("- ") for line in lines):
            blocks.append(_element("ul", *(_element("li", _inline(line[2:])) for line in lines)))
        else:
            blocks.append(_element("p", _inline(block)))
    return _join(blocks, "")


def _inline(text: str) -> _Markup:
    return _Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text)))


def _element(name: str, *content: str, class_: str | None = None, **attributes: str) -> _Markup:
    """Write an element; what is no markup yet is escaped."""
    if class_ is not None:
        attributes["class"] = class_
    opening = "".join(f' {key}="{html.escape(value)}"' for key, value in attributes.items())
    return _Markup(f"<{name}{opening}>{_join(content, '')}</{name}>")


def _join(parts: Iterable[str], separator: str) -> _Markup:
    safe = (part if isinstance(part, _Markup) else html.escape(part) for part in parts)
    return _Markup(separator.join(safe))
