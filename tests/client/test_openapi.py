"""The client is the document's: a method for each operation, which sends what that takes and reads what it answers."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

import pytest

from gateway.client import APIError, shapes
from tests.client.scripted_server import Scripted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.client import Client
    from tests.client.conftest import Face
    from tests.client.scripted_server import ScriptedServer

    Schema = dict[str, Any]

DOCUMENT: Final = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
OPERATIONS: Final = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}

_PAGE: Final = {"cursor": "c", "limit": 2}
_KEY: Final[dict[str, Any]] = {
    "description": "d",
    "expires": "7d",
    "permissions": ["a:b"],
    "owner": "o",
    "allowed_origins": ["https://a.example"],
}
_ACCOUNT: Final[dict[str, Any]] = {"description": "d", "permissions": ["a:b"], "external_id": "e"}
_EVENTS: Final[dict[str, Any]] = {
    "kind": "request",
    "actor": "a",
    "action": "b",
    "key": "k",
    "target": "t",
    "status": "4xx",
    "code": "c",
    "request_id": "r",
    "since": "2030-01-01T00:00:00Z",
    "until": "2030-01-01T00:00:00Z",
}
_ORGANIZATION: Final[dict[str, Any]] = {"external_id": "e", "default_expiry": "7d", "max_expiry": "30d"}

# Operation → the call with everything that it can take, and the shape that its answer is read as.
CALLS: Final[dict[str, tuple[Callable[[Client], object], type[shapes.Shape]]]] = {
    "me": (lambda client: client.me(), shapes.Me),
    "gateway_status": (lambda client: client.status(), shapes.Status),
    "reload_gateway": (lambda client: client.reload(), shapes.Reloaded),
    "list_permissions": (lambda client: client.permissions(), shapes.PermissionList),
    "create_key": (lambda client: client.keys.create("n", **_KEY), shapes.ChangedIssuedKey),
    "list_keys": (
        lambda client: client.keys.page(
            status="active", owner="o", search="s", unused_days=3, sort="name", cursor="c", limit=2
        ),
        shapes.Page[shapes.Key],
    ),
    "show_key": (lambda client: client.keys.get("i"), shapes.Key),
    "update_key": (
        lambda client: client.keys.update(
            "i", name="n", description="d", expires="7d", permissions=None, allowed_origins=None, if_match=3
        ),
        shapes.ChangedKey,
    ),
    "delete_key": (lambda client: client.keys.delete("i"), shapes.ChangedKey),
    "disable_key": (lambda client: client.keys.disable("i"), shapes.ChangedKey),
    "enable_key": (lambda client: client.keys.enable("i"), shapes.ChangedKey),
    "revoke_key": (lambda client: client.keys.revoke("i", reason="r"), shapes.ChangedKey),
    "rotate_key": (lambda client: client.keys.rotate("i", grace="1h"), shapes.ChangedIssuedKey),
    "finish_rotation": (lambda client: client.keys.finish_rotation("i"), shapes.ChangedKey),
    "import_key": (
        lambda client: client.keys.import_key("n", sha256="0", entropy_bits=128, tail="t", prefix="p", **_KEY),
        shapes.ChangedImportedKey,
    ),
    "verify_key": (
        lambda client: client.keys.verify("s", permissions=["a:b"], origin="https://a.example"),
        shapes.Verification,
    ),
    "create_member": (
        lambda client: client.members.add("e", role="admin", permissions=[], external_id="e", with_key=True),
        shapes.AddedMember,
    ),
    "list_members": (
        lambda client: client.members.page(search="s", cursor="c", limit=2),
        shapes.Page[shapes.Member],
    ),
    "show_member": (lambda client: client.members.get("i"), shapes.Member),
    "update_member": (
        lambda client: client.members.update(
            "i", email="e", role="admin", permissions=[], external_id=None, if_match=3
        ),
        shapes.ChangedMember,
    ),
    "remove_member": (lambda client: client.members.remove("i", keys="move", move_to="m"), shapes.RemovedMember),
    "create_service_account": (
        lambda client: client.service_accounts.create("n", **_ACCOUNT),
        shapes.ChangedServiceAccount,
    ),
    "list_service_accounts": (
        lambda client: client.service_accounts.page(search="s", cursor="c", limit=2),
        shapes.Page[shapes.ServiceAccount],
    ),
    "show_service_account": (lambda client: client.service_accounts.get("i"), shapes.ServiceAccount),
    "update_service_account": (
        lambda client: client.service_accounts.update("i", name="n", if_match=3, **_ACCOUNT),
        shapes.ChangedServiceAccount,
    ),
    "remove_service_account": (
        lambda client: client.service_accounts.remove("i", keys="move", move_to="m"),
        shapes.RemovedServiceAccount,
    ),
    "create_organization": (
        lambda client: client.organizations.create("n", admin="a", **_ORGANIZATION),
        shapes.FoundedOrganization,
    ),
    "list_organizations": (
        lambda client: client.organizations.page(search="s", cursor="c", limit=2),
        shapes.Page[shapes.Organization],
    ),
    "show_organization": (lambda client: client.organizations.get("i"), shapes.Organization),
    "update_organization": (
        lambda client: client.organizations.update(
            "i",
            name="n",
            keys_create_requires_admin=True,
            keys_revoke_requires_admin=True,
            if_match=3,
            **_ORGANIZATION,
        ),
        shapes.ChangedOrganization,
    ),
    "delete_organization": (lambda client: client.organizations.delete("i"), shapes.ChangedOrganization),
    "list_events": (
        lambda client: client.events.page(cursor="c", limit=2, **_EVENTS),
        shapes.Page[shapes.Event],
    ),
    "count_requests": (
        lambda client: client.events.counts(key="k", since="2030-01-01T00:00:00Z", until="2030-01-01T00:00:00Z"),
        shapes.HourCounts,
    ),
    "verify_audit": (lambda client: client.events.verify(), shapes.AuditVerification),
}


def test_each_operation_has_a_method() -> None:
    assert CALLS.keys() == OPERATIONS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_a_method_sends_what_its_operation_takes(face: Face, server: ScriptedServer, name: str) -> None:
    method, path, operation = OPERATIONS[name]
    server.answers = [Scripted(200, b"{}")]
    with suppress(APIError):  # an empty object is no answer, and here none is needed
        face(server.url, CALLS[name][0])
    (received,) = server.received
    target = urlsplit(received.target)
    assert (received.method, target.path) == (method, path.replace("{id}", "i"))
    parameters = {(each["in"], each["name"]) for each in operation.get("parameters", [])}
    assert {("query", key) for key, _ in parse_qsl(target.query)} == {each for each in parameters if each[0] == "query"}
    for kind, field in parameters:
        assert kind != "header" or field in received.fields
    body = operation.get("requestBody")
    taken = _resolved(body["content"]["application/json"]["schema"], DOCUMENT).get("properties", {}) if body else {}
    assert set(json.loads(received.body or b"{}")) == set(taken)


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_is_read_field_for_field(name: str) -> None:
    responses = OPERATIONS[name][2]["responses"]
    told = [
        _form(response["content"]["application/json"]["schema"], DOCUMENT)
        for status, response in responses.items()
        if status.startswith("2")
    ]
    shape = CALLS[name][1]
    assert told
    for each in told:
        assert each == _form(
            shape.model_json_schema(mode="serialization"), shape.model_json_schema(mode="serialization")
        )


def _resolved(schema: Schema, root: Schema) -> Schema:
    """Follow references."""
    while "$ref" in schema:
        found: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def _form(schema: Schema, root: Schema) -> object:
    """What of a schema a reader has to know: kinds and names; not which words a text may be."""
    schema = _resolved(schema, root)
    if "anyOf" in schema:
        return frozenset(_flat(_form(each, root) for each in schema["anyOf"]))
    match schema.get("type", "string" if "enum" in schema or "const" in schema else "anything"):
        case "object" if "properties" in schema:
            return "object", frozenset((name, _form(each, root)) for name, each in schema["properties"].items())
        case "array":
            return "array", _form(schema["items"], root)
        case "string":
            return schema["format"] if schema.get("format") == "date-time" else "string"
        case kind:
            return kind


def _flat(forms: Iterator[object]) -> Iterator[object]:
    for form in forms:
        if isinstance(form, frozenset):
            yield from form
        else:
            yield form
