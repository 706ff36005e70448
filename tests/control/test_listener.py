"""The control listener: whatever arrives is answered in one shape, bounded in bytes and time, and logged without it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from typing import TYPE_CHECKING, NamedTuple

import pytest
from aiohttp import web
from sqlalchemy.exc import IntegrityError

from gateway.control import listener
from gateway.errors import Conflict, FieldError, GatewayError, Invalid, NotAllowed, StoreUnavailable, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SECRET = "sk_verysecret"

ERRORS: dict[str, Callable[[], Exception]] = {
    "conflict": lambda: Conflict("It is so already.", code="so_already"),
    "invalid": lambda: Invalid([FieldError("a", "must be"), FieldError("b.c", "must not be")]),
    "no-key": lambda: Unauthenticated("A key, please.", code="missing_api_key"),
    "origin": lambda: NotAllowed("Another page, please.", code="origin_not_allowed"),
    "power": lambda: NotAllowed("Ask an admin.", code="admin_required"),
    "bad-key": lambda: Unauthenticated("Another key, please."),
    "store": lambda: StoreUnavailable("The store /var/x.db is gone.", internal="errno 5"),
    "unexpected": lambda: GatewayError("Something in /etc is wrong."),
    "gone": lambda: ConnectionResetError("the client has left"),
    "crash": lambda: IntegrityError("INSERT", {"digest": SECRET}, ValueError(SECRET)),
}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        parsed: dict[str, object] = json.loads(self.body)
        return parsed


async def fail(request: web.Request) -> web.Response:
    error = ERRORS[request.match_info["how"]]()
    raise error


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def slow(_: web.Request) -> web.Response:
    await asyncio.sleep(0.1)
    return web.Response(text="done")


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """Serve on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port: int = opened.getsockname()[1]
        routes = [web.get("/fail/{how}", fail), web.post("/echo", echo), web.get("/slow", slow)]
        async with listener.serve(opened.detach(), routes, realm='a "realm"'):
            yield port


async def exchange(port: int, sent: bytes) -> Answer:
    """Send bytes and read the answer until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return Answer(int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body)


def request(method: str, path: str, *fields: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: a", "Connection: close", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (request("GET", "/nothing"), 404, "unknown_path"),
        (request("DELETE", "/echo"), 405, "method_not_allowed"),
        (request("GET", "/fail/conflict"), 409, "so_already"),
        (request("GET", "/fail/invalid"), 400, "invalid"),
        (request("GET", "/fail/no-key"), 401, "missing_api_key"),
        (request("GET", "/fail/store"), 503, "key_store_unavailable"),
        (request("GET", "/fail/unexpected"), 500, "internal_error"),
        (request("GET", "/fail/crash"), 500, "internal_error"),
        (request("POST", "/echo", body=b"x" * (listener.MAX_BODY_BYTES + 1)), 413, "body_too_large"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-API-KEY: " + SECRET.encode() + b"\x00\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 10_000 + b"\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 400, "malformed_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed_request"),
    ],
)
async def test_whatever_goes_wrong_is_a_problem_with_a_request_id_and_no_secret_anywhere(
    sent: bytes, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving() as port:
        answer = await exchange(port, sent)
    problem = answer.json()
    assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"] == f"urn:keygate:problem:{code}"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Request-ID"] == problem["request_id"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Server"] == "keygate"
    everything = answer.body.decode() + str(answer.headers) + repr([vars(record) for record in caplog.records])
    assert SECRET not in everything
    assert "/var/x.db" not in answer.body.decode()
    assert "/etc" not in answer.body.decode()


async def test_a_client_that_leaves_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving() as port:
        await exchange(port, request("GET", "/fail/gone"))
    levels = [record.levelno for record in caplog.records if record.getMessage() == "cannot serve"]
    assert levels == [logging.DEBUG]


async def test_a_failure_of_ours_is_logged_with_the_request_id_and_where_it_happened(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as port:
        crashed = await exchange(port, request("GET", "/fail/crash"))
        away = await exchange(port, request("GET", "/fail/store"))
    records = [vars(record) for record in caplog.records if record.name.startswith("gateway")]
    assert [record["request_id"] for record in records] == [crashed.json()["request_id"], away.json()["request_id"]]
    assert records[0]["exception"] == "IntegrityError"
    assert "test_listener.py" in records[0]["at"]
    assert records[1]["reason"] == "errno 5"


async def test_every_bad_field_is_in_the_answer() -> None:
    async with serving() as port:
        answer = await exchange(port, request("GET", "/fail/invalid"))
    assert answer.json()["errors"] == [{"field": "a", "rule": "must be"}, {"field": "b.c", "rule": "must not be"}]


async def test_a_401_has_its_challenges_and_says_whether_a_key_was_sent() -> None:
    async with serving() as port:
        without = await exchange(port, request("GET", "/fail/no-key"))
        other = await exchange(port, request("GET", "/fail/bad-key"))
    assert without.headers["WWW-Authenticate"] == 'ApiKey realm="a \\"realm\\""'  # the last of the two
    assert 'error="invalid_token"' not in str(without)
    assert other.json()["code"] == "invalid_api_key"


async def test_a_403_that_another_key_would_not_get_is_a_challenge() -> None:
    async with serving() as port:
        assert "WWW-Authenticate" in (await exchange(port, request("GET", "/fail/origin"))).headers
        assert "WWW-Authenticate" not in (await exchange(port, request("GET", "/fail/power"))).headers


async def test_a_503_says_when_to_come_back_and_a_405_what_there_is() -> None:
    async with serving() as port:
        assert (await exchange(port, request("GET", "/fail/store"))).headers["Retry-After"] == "1"
        assert (await exchange(port, request("PUT", "/echo"))).headers["Allow"] == "POST"


async def test_what_aiohttp_answers_by_itself_has_a_request_id_and_is_not_stored_either() -> None:
    async with serving() as port:
        answer = await exchange(port, request("POST", "/echo", "Expect: magic", body=b"x"))
    assert answer.status == 417
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Request-ID"]


async def test_request_ids_are_all_different() -> None:
    async with serving() as port:
        seen = {(await exchange(port, request("GET", "/"))).headers["X-Request-ID"] for _ in range(20)}
    assert len(seen) == 20


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "])
async def test_a_connection_that_does_not_get_to_a_whole_head_is_closed(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_IDLE_SECONDS", 0.05)
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        assert await reader.read() == b""  # ends by itself
        writer.close()


@pytest.mark.parametrize("size", [50_000, 10_000_000])
async def test_a_client_that_does_not_take_its_answer_is_cut_off(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the answer is small enough for a transport to take it whole and call nothing late."""
    monkeypatch.setattr(listener, "_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(listener, "_IDLE_SECONDS", 0.1)  # after which the connection is closed, once all is written
    lost = asyncio.Event()
    ended = listener.Connection.connection_lost

    def told(connection: listener.Connection, error: BaseException | None) -> None:
        ended(connection, error)
        lost.set()

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * size)

    monkeypatch.setattr(listener.Connection, "connection_lost", told)
    with socket.socket() as opened, socket.socket() as client:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.bind(("127.0.0.1", 0))
        opened.listen()
        address = opened.getsockname()
        async with listener.serve(opened.detach(), [web.get("/large", large)]):
            client.settimeout(0)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, address)
            await loop.sock_sendall(client, request("GET", "/large"))
            await asyncio.wait_for(lost.wait(), 10)


async def test_an_answer_that_is_taken_in_time_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_ANSWER_SECONDS", 10.0)
    body = b"x" * listener.MAX_BODY_BYTES
    async with serving() as port:
        assert (await exchange(port, request("POST", "/echo", body=body))).body == body


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_MAX_CONNECTIONS", 2)
    async with serving() as port, contextlib.AsyncExitStack() as opened:
        for _ in range(2):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            opened.callback(writer.close)
        reader, refused = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        refused.close()
        writer.close()
        await writer.wait_closed()
        for _ in range(50):  # until the other side has noticed
            with contextlib.suppress(ConnectionError, IndexError):
                assert (await exchange(port, request("GET", "/"))).status == 404
                return
            await asyncio.sleep(0.1)
        pytest.fail("a place that is free again is not given away")


async def test_a_compressed_body_is_not_unpacked() -> None:
    async with serving() as port:
        answer = await exchange(port, request("POST", "/echo", "Content-Encoding: gzip", body=b"\x1f\x8bnot really"))
    assert answer.body == b"\x1f\x8bnot really"


async def test_what_is_in_flight_is_answered_before_the_end() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("GET", "/slow"))
        await _read_so_far(port)
    assert (await reader.read()).endswith(b"done")
    writer.close()


async def _read_so_far(port: int) -> None:
    """After the answer on a later connection, what was sent before on another has been read."""
    assert (await exchange(port, request("GET", "/"))).status == 404
