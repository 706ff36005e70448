"""Sending: what is repeated and what never is, and that every failure comes out as one of ours, without the key."""

from __future__ import annotations

import socket
import traceback
from typing import TYPE_CHECKING

import httpx
import pytest

from gateway.client import (
    APIError,
    Client,
    ClientError,
    ConnectionFailed,
    InvalidRequestError,
    NotFoundError,
    ServiceUnavailableError,
)
from tests.client.conftest import KEY
from tests.client.documents import KEY_DOCUMENT, PROPAGATION
from tests.client.scripted_server import HANG_UP, Scripted

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.conftest import Face
    from tests.client.scripted_server import ScriptedServer

ID = KEY_DOCUMENT["id"]
GOOD = Scripted.json({**KEY_DOCUMENT, "secret": "s", "code": None, "warnings": [], "propagation": PROPAGATION})
BUSY = Scripted.problem(503, "key_store_busy", **{"Retry-After": "0"})

# What may be carried out twice without doing more than once.
REPEATABLE: dict[str, Callable[[Client], object]] = {
    "a read": lambda client: client.keys.get(ID),
    "a create": lambda client: client.keys.create("CI"),
    "an import": lambda client: client.keys.import_key("CI", sha256="0" * 64, entropy_bits=256),
}
CHANGES: dict[str, Callable[[Client], object]] = {
    "disable": lambda client: client.keys.disable(ID),
    "revoke": lambda client: client.keys.revoke(ID),
    "rotate": lambda client: client.keys.rotate(ID),
    "update": lambda client: client.keys.update(ID, name="x"),
    "delete": lambda client: client.keys.delete(ID),
}


@pytest.mark.parametrize("failure", [BUSY, Scripted.problem(429, "slow_down"), HANG_UP], ids=["503", "429", "hang-up"])
@pytest.mark.parametrize("call", REPEATABLE.values(), ids=REPEATABLE.keys())
def test_what_is_safe_is_repeated(
    face: Face, server: ScriptedServer, failure: Scripted, call: Callable[[Client], object]
) -> None:
    """With the same idempotency key, so that a create whose answer was lost makes no second key."""
    server.answers = [failure, failure, GOOD]
    face(server.url, call)
    first, *others = server.received
    assert len(others) == 2
    assert all(other.body == first.body for other in others)
    assert len({each.fields.get("Idempotency-Key") for each in server.received}) == 1


@pytest.mark.parametrize("call", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_never_sent_twice(face: Face, server: ScriptedServer, call: Callable[[Client], object]) -> None:
    server.answers = [HANG_UP]
    with pytest.raises(ConnectionFailed) as caught:
        face(server.url, call)
    assert caught.value.may_have_happened
    server.answers = [BUSY]
    with pytest.raises(ServiceUnavailableError):
        face(server.url, call)
    assert len(server.received) == 2


def test_it_gives_up_after_two_repetitions(face: Face, server: ScriptedServer) -> None:
    server.answers = [BUSY]
    with pytest.raises(ServiceUnavailableError) as caught:
        face(server.url, REPEATABLE["a read"])
    assert (caught.value.status, caught.value.code) == (503, "key_store_busy")
    assert len(server.received) == 3


def test_repetitions_can_be_turned_off(face: Face, server: ScriptedServer) -> None:
    server.answers = [BUSY]
    with pytest.raises(ServiceUnavailableError):
        face(server.url, REPEATABLE["a read"], retries=0)
    assert len(server.received) == 1


def test_nobody_waits_for_a_gateway_that_asks_for_a_long_time(face: Face, server: ScriptedServer) -> None:
    server.answers = [Scripted.problem(503, "key_store_unavailable", **{"Retry-After": "3600"})]
    with pytest.raises(ServiceUnavailableError):
        face(server.url, REPEATABLE["a read"])
    assert len(server.received) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 500, 502])
def test_a_refusal_is_final(face: Face, server: ScriptedServer, status: int) -> None:
    server.answers = [Scripted.problem(status, "no")]
    with pytest.raises(APIError) as caught:
        face(server.url, REPEATABLE["a create"])
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (status, "no", "r1")
    assert len(server.received) == 1


@pytest.mark.parametrize("call", [REPEATABLE["a read"], CHANGES["revoke"]])
def test_where_nobody_listens_nothing_can_have_happened(face: Face, call: Callable[[Client], object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(ConnectionFailed) as caught:
        face(f"http://127.0.0.1:{port}", call)
    assert not caught.value.may_have_happened
    assert f"127.0.0.1:{port}" in str(caught.value)


def test_an_answer_that_does_not_come_in_time_is_a_failed_connection(face: Face) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectionFailed) as caught:
            face(url, CHANGES["revoke"], timeout_seconds=0.05)
    assert caught.value.may_have_happened
    assert "in time" in str(caught.value)


def test_the_key_goes_to_no_other_host(face: Face, server: ScriptedServer) -> None:
    """A redirection is no answer of the admin API."""
    server.answers = [Scripted(302, b"", {"Location": f"{server.url}/elsewhere"})]
    with pytest.raises(APIError) as caught:
        face(server.url, REPEATABLE["a read"])
    assert caught.value.code == "unexpected_answer"
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Scripted(404, b"<html>no such page"), NotFoundError),
        (Scripted(400, b'{"error": "another API"}'), InvalidRequestError),
        (Scripted(200, b"<html>hello"), APIError),
        (Scripted(200, b'["a list"]'), APIError),
        (Scripted(200, b"[" * 100_000), APIError),
        (Scripted.json({"id": ID, "name": ["wrong"]}), APIError),
        (Scripted(502, b""), APIError),
    ],
)
def test_what_is_no_answer_of_the_admin_api_is_said_so(
    face: Face, server: ScriptedServer, answer: Scripted, kind: type[APIError]
) -> None:
    server.answers = [answer]
    with pytest.raises(kind) as caught:
        face(server.url, REPEATABLE["a read"])
    assert (caught.value.code, caught.value.status) == ("unexpected_answer", answer.status)


def test_a_body_cut_short_is_a_failed_connection(face: Face, server: ScriptedServer) -> None:
    server.answers = [Scripted(200, b'{"id"', {"Content-Length": "1000"})]
    with pytest.raises(ConnectionFailed):
        face(server.url, REPEATABLE["a read"])


@pytest.mark.parametrize("answer", [HANG_UP, Scripted.problem(401, "invalid_api_key"), Scripted(200, b"nonsense")])
def test_no_failure_shows_the_key_or_a_secret(face: Face, server: ScriptedServer, answer: Scripted) -> None:
    server.answers = [answer]
    secret = "sk_" + "y" * 49
    with pytest.raises(ClientError) as caught:
        face(server.url, lambda client: client.keys.verify(secret))
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert KEY not in told
    assert secret not in told


def test_every_call_carries_the_key_and_says_who_is_calling(face: Face, server: ScriptedServer) -> None:
    server.answers = [GOOD]
    face(server.url, REPEATABLE["a read"])
    fields = server.received[0].fields
    assert fields["X-API-KEY"] == KEY
    assert fields["User-Agent"].startswith("keygate-client/")
    assert "Authorization" not in fields


def test_an_http_client_of_one_s_own_is_used_and_left_open(server: ScriptedServer) -> None:
    server.answers = [GOOD]
    with httpx.Client(headers={"X-Mine": "1"}) as own:
        with Client(KEY, base_url=server.url, http=own) as client:
            client.keys.get(ID)
        assert not own.is_closed
    assert server.received[0].fields["X-Mine"] == "1"


def test_a_proxy_of_the_environment_never_sees_the_key_of_a_gateway_on_this_machine(
    face: Face, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.answers = [GOOD]
    face(server.url, REPEATABLE["a read"])
    assert server.received[0].target == f"/v1/keys/{ID}"
