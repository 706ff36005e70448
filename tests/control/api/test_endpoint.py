"""What holds for every operation alike: who may call, what may be sent, and what an answer always has."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING

import pytest

from gateway.control.api import endpoint
from gateway.control.api.operation import PREFIX
from gateway.control.api.operations import OPERATIONS
from gateway.control.api.propagation import SilentWorker
from gateway.keys.identifiers import new_id

if TYPE_CHECKING:
    from gateway.control.api.operation import Operation
    from tests.control.api.conftest import Api

WITH_ID = [each for each in OPERATIONS if "{id}" in each.path]
WITH_BODY = [each for each in OPERATIONS if each.takes_body]

# Whose things a stranger could address, by the first segment of the path.
OF_ACME = {
    "keys": "admin's key",
    "members": "admin",
    "service-accounts": "service account",
    "organizations": "organization",
}


def path(operation: Operation, thing: str = "") -> str:
    return PREFIX + operation.path.replace("{id}", thing or new_id("key"))


def named(operation: Operation) -> str:
    return operation.name


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
async def test_without_a_key_every_operation_is_401(api: Api, operation: Operation) -> None:
    answer = await api.call(operation.method, path(operation), {}, by=None)
    assert (answer.status, answer.code) == (401, "missing_api_key")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer realm=")


@pytest.mark.parametrize("operation", WITH_ID, ids=named)
async def test_what_another_organization_owns_does_not_exist(api: Api, operation: Operation) -> None:
    """Also to an admin who may do everything at home, in the same words as what there never was."""
    own = operation.path.split("/")[1]
    answer = await api.call(operation.method, path(operation, api.ids[OF_ACME[own]]), {}, by="stranger")
    nothing = await api.call(operation.method, path(operation, "key_nothing"), {}, by="stranger")
    assert (answer.status, nothing.status) == (404, 404)
    assert answer.code == nothing.code
    assert answer.json["detail"] == nothing.json["detail"].replace("key_nothing", api.ids[OF_ACME[own]])


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
async def test_an_unknown_query_parameter_is_named(api: Api, operation: Operation) -> None:
    answer = await api.call(operation.method, path(operation) + "?nonsense=1&nonsense=2", {})
    assert (answer.status, answer.code) == (400, "invalid")
    assert [error["field"] for error in answer.json["errors"]] == ["nonsense"]


@pytest.mark.parametrize("operation", WITH_BODY, ids=named)
async def test_a_body_is_a_json_object_or_refused(api: Api, operation: Operation) -> None:
    """Whatever else is wrong with the call; it is not even looked for the thing."""
    json = [("Content-Type", "application/json")]
    for data, status, code in [
        (b'{"a": 1, "a": 1}', 400, "malformed_json"),
        (b'{"a": NaN}', 400, "malformed_json"),
        (b"[]", 400, "malformed_json"),
        (b"{", 400, "malformed_json"),
        (b" " * ((1 << 20) + 1), 413, "body_too_large"),
    ]:
        answer = await api.call(operation.method, path(operation), data=data, headers=json)
        assert (answer.status, answer.code) == (status, code), data[:20]


@pytest.mark.parametrize("operation", WITH_BODY, ids=named)
async def test_another_media_type_is_415(api: Api, operation: Operation) -> None:
    json = ("Content-Type", "application/json")
    for headers in (
        [],
        [("Content-Type", "text/plain")],
        [("Content-Type", "application/x-www-form-urlencoded")],
        [("Content-Type", "application/json; charset=utf-16")],
        [json, ("Content-Encoding", "gzip")],
    ):
        answer = await api.call(operation.method, path(operation), data=b"{}", headers=headers)
        assert (answer.status, answer.code) == (415, "unsupported_media_type"), headers


@pytest.mark.parametrize("operation", [each for each in WITH_BODY if each.body is None], ids=named)
async def test_a_field_for_an_operation_that_takes_none_is_refused(api: Api, operation: Operation) -> None:
    answer = await api.call(operation.method, path(operation, api.ids["robot's key"]), {"reason": "x"})
    assert (answer.status, answer.code) == (400, "invalid")
    assert answer.json["errors"] == [{"field": "reason", "rule": "is not a field of this request"}]


async def test_every_answer_has_a_request_id_and_is_not_stored(api: Api) -> None:
    answers = [await api.call("GET", "/v1/me"), await api.call("GET", "/v1/nothing"), await api.call("GET", "/docs")]
    for answer in answers:
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Request-ID"]
    assert answers[1].json["request_id"] == answers[1].headers["X-Request-ID"]


async def test_the_trail_names_the_request_id_and_the_address_of_the_call(api: Api) -> None:
    answer = await api.call("POST", api.of("robot's key", "disable"))
    (event,) = (await api.done("GET", "/v1/audit?action=key.disable"))["items"]
    assert event["request_id"] == answer.headers["X-Request-ID"]
    assert event["address"] == "127.0.0.1"
    assert event["actor"] == {"id": api.ids["admin's key"], "text": "API Key: Admin key"}


async def test_a_change_waits_for_the_workers_and_says_how_far_it_has_come(api: Api) -> None:
    answer = await api.call("POST", api.of("robot's key", "disable"))
    assert answer.status == 200
    (seq,) = api.propagation.waited
    assert answer.json["propagation"] == {"seq": seq, "applied": 2, "of": 2, "milliseconds": 1, "silent": []}


async def test_what_was_so_already_waits_for_what_was_changed_before(api: Api) -> None:
    await api.call("POST", api.of("robot's key", "disable"))
    again = await api.call("POST", api.of("robot's key", "disable"))
    assert again.status == 200
    assert again.json["propagation"]["seq"] is None
    assert api.propagation.waited[1:] == [None]


async def test_a_change_that_a_worker_has_not_acknowledged_is_202_and_names_it(api: Api) -> None:
    api.propagation.silent = (SilentWorker(name="n1/0", until=api.clock.now),)
    answer = await api.call("POST", api.of("robot's key", "revoke"))
    assert answer.status == 202
    assert answer.json["status"] == "revoked"
    assert answer.json["propagation"]["silent"] == [{"name": "n1/0", "until": "2026-03-01T12:00:00.250000Z"}]


async def test_a_defect_in_telling_the_workers_does_not_cost_the_secret(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: int | None) -> None:
        raise KeyError

    monkeypatch.setattr(api.propagation, "wait", broken)
    answer = await api.call("POST", "/v1/keys", {"name": "New"})
    assert answer.status == 201
    assert answer.json["secret"]
    assert (answer.json["propagation"]["applied"], answer.json["propagation"]["of"]) == (0, 0)


async def test_reading_waits_for_nobody(api: Api) -> None:
    await api.done("GET", "/v1/keys")
    await api.done("POST", "/v1/keys/verify", {"key": "sk_x"})
    assert api.propagation.waited == []


async def test_a_change_is_one_line_of_the_log_without_secrets_and_reading_is_none(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = await api.call("POST", "/v1/keys", {"name": "New"})
    await api.call("GET", "/v1/keys")
    await api.call("POST", "/v1/keys", {"name": ""})
    lines = [vars(record) for record in caplog.records if record.name.startswith("gateway.control")]
    (line,) = lines
    assert line["msg"] == "changed"
    assert (line["operation"], line["id"], line["key"]) == ("create_key", made.json["id"], api.ids["admin's key"])
    assert line["request_id"] == made.headers["X-Request-ID"]
    assert made.json["secret"] not in str(lines)
    assert api.keys["admin"] not in str(lines)


async def test_a_get_answers_head_without_a_body(api: Api) -> None:
    answer = await api.call("HEAD", "/v1/me")
    assert (answer.status, answer.content) == (200, b"")


async def test_the_words_of_a_collection_are_no_ids(api: Api) -> None:
    answer = await api.call("GET", "/v1/keys/import")
    assert (answer.status, answer.code, answer.headers["Allow"]) == (405, "method_not_allowed", "POST")


@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "TRACE"])
async def test_a_method_that_a_path_does_not_have_is_405(api: Api, method: str) -> None:
    answer = await api.call(method, api.of("admin's key"))
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "DELETE,GET,HEAD,PATCH"


@pytest.mark.parametrize("framing", [("Content-Length", "10"), ("Transfer-Encoding", "chunked")])
async def test_a_body_that_never_comes_is_408(
    api: Api, framing: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "BODY_TIMEOUT_SECONDS", 0.05)
    answer = await _raw(api, "POST", "/v1/keys", [("Content-Type", "application/json"), framing])
    assert b" 408 " in answer
    assert b"request_timeout" in answer


async def test_a_body_is_not_asked_for_before_the_key_is_known(api: Api) -> None:
    headers = [("Content-Type", "application/json"), ("Content-Length", "10"), ("Expect", "100-continue")]
    refused = await _raw(api, "POST", "/v1/keys", headers, key="sk_unknown")
    assert refused.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nConnection: close\r\n" in refused  # the body may come all the same
    accepted = await _raw(api, "POST", "/v1/keys", headers, then=b'{"name":1}')
    assert accepted.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 ")


@pytest.mark.parametrize("target", [b"/v1/keys/\xff", b"/v1/keys?search=\xff", b"/v1/keys/\xc3\xa9"])
async def test_a_target_that_is_no_ascii_is_refused(api: Api, target: bytes) -> None:
    assert b"malformed_request" in await _raw(api, "GET", target.decode("latin-1"), [])


async def test_header_bytes_that_are_no_text_are_an_unknown_key(api: Api) -> None:
    assert b"invalid_api_key" in await _raw(api, "GET", "/v1/me", [], key="sk_\xff")


async def _raw(
    api: Api,
    method: str,
    target: str,
    headers: list[tuple[str, str]],
    *,
    key: str | None = None,
    then: bytes = b"",
) -> bytes:
    """Send a head as it is, wait for the beginning of an answer, send the rest, and read what is answered.

    Not to the end of the connection, which stays open for a while where the server waits for a body.
    """
    host, _, port = api.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    fields = [("Host", host), ("X-API-KEY", key or api.keys["admin"]), ("Connection", "close"), *headers]
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    writer.write("\r\n".join(lines).encode("latin-1"))
    first = await reader.read(25) if then else b""
    writer.write(then)
    answer = first + await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: (\d+)\r\n", answer)
    assert length is not None
    answer += await reader.readexactly(int(length[1]))
    writer.close()
    await writer.wait_closed()
    return answer
