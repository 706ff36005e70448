"""Clients that leave, gateways that stop, processes that are killed: nobody else notices."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.e2e.recording_upstream import RecordingUpstream, response
from tests.e2e.site import CONTROL, WORKER

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.site import Site
    from tests.e2e.wire import Message, Wire

    Eventually = Callable[[Callable[[], object]], None]

_RESET = b"\1\0\0\0\0\0\0\0"


@pytest.fixture(scope="module")
def site(serve_module: Callable[..., Site], upstream_module: RecordingUpstream) -> Site:
    return serve_module(upstream_module.url)


@pytest.fixture
def upstream(upstream_module: RecordingUpstream) -> RecordingUpstream:
    upstream_module.reset()
    return upstream_module


def _leave(client: Wire, how: str) -> None:
    if how == "reset":
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        client._reader.close()
        client.socket.close()
    else:
        client.close()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("moment", ["before the answer", "within the answer", "within the upload"])
def test_a_client_that_goes_away_ends_its_upstream_exchange(
    site: Site, upstream: RecordingUpstream, how: str, moment: str
) -> None:
    with upstream.by_hand() as take, site.wire() as client:
        if moment == "within the upload":
            client.send("POST / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}", "Content-Length: 100", body=b"x")
        else:
            client.send("GET / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
        _, upper = take()
        if moment == "within the answer":
            upper.send("HTTP/1.1 200 OK", "Content-Length: 10", body=b"01234")
            client.expect_head()
            assert client.read_exactly(5) == b"01234"
        _leave(client, how)
        assert upper.read_rest() in {b"", b"x"}


@pytest.mark.timeout(45)
def test_a_client_that_goes_away_is_noticed_although_nobody_reads_from_it(
    site: Site, upstream: RecordingUpstream
) -> None:
    """The upstream takes no more of the upload, so the gateway reads no more either; a reset reaches it all the same.

    The upstream looks for the end without reading: what it reads would let the gateway read on.
    """
    with upstream.by_hand() as take, site.wire() as client:
        client.send("POST / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}", f"Content-Length: {1 << 30}")
        _, upper = take()
        client.socket.settimeout(1)
        with suppress(TimeoutError):
            while True:
                client.socket.send(bytes(1 << 16))
        _leave(client, "reset")
        ended = select.poll()
        ended.register(upper.socket, select.POLLRDHUP)
        assert ended.poll()


class _Load(threading.Thread):
    """A client that asks again and again on one connection, until it is told that the connection ends."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self._site = site
        self.answers: list[int] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with self._site.wire() as client:
                while True:
                    answer = client.ask("GET / HTTP/1.1", f"X-API-KEY: {self._site.secret}")
                    assert answer.body == b"whole"
                    self.answers.append(answer.status)
                    if answer.one("Connection") == "close":
                        assert client.read_rest() == b""
                        return
        except BaseException as error:  # noqa: BLE001 - the test tells
            self.error = error


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_under_load_fails_no_request(
    serve: Callable[..., Site], upstreams: Callable[..., RecordingUpstream], eventually: Eventually, workers: int
) -> None:
    """Each connection is told with its last answer that it ends; the gateway then ends with status 0."""
    site = serve(upstreams(lambda _: response(b"whole")).url, SERVER__WORKERS=str(workers))
    clients = [_Load(site) for _ in range(8)]
    for client in clients:
        client.start()
    eventually(lambda: all(len(client.answers) > 10 for client in clients))
    site.running.process.send_signal(signal.SIGTERM)
    for client in clients:
        client.join()
    assert [client.error for client in clients] == [None] * 8
    assert {status for client in clients for status in client.answers} == {200}
    assert site.running.process.wait() == 0


def test_what_has_begun_when_the_stop_comes_is_finished(
    serve: Callable[..., Site], upstreams: Callable[..., RecordingUpstream]
) -> None:
    """A request half sent, an upload, a download; an idle connection is closed."""
    upstream = upstreams()
    site = serve(upstream.url)
    key = f"X-API-KEY: {site.secret}"
    with (
        upstream.by_hand() as take,
        site.wire() as half,
        site.wire() as uploading,
        site.wire() as downloading,
        site.wire() as idle,
    ):
        assert idle.ask("GET / HTTP/1.1").status == 401
        downloading.send("GET /down HTTP/1.1", "Host: x", key)
        _, sending = take()
        sending.send("HTTP/1.1 200 OK", "Content-Length: 10", body=b"01234")
        downloading.expect_head()
        uploading.send("POST /up HTTP/1.1", "Host: x", key, "Content-Length: 10", body=b"01234")
        _, receiving = take()
        half.socket.sendall(b"GET /half HT")
        assert site.ask("GET / HTTP/1.1").status == 401  # so the bytes before have been read
        site.running.process.send_signal(signal.SIGTERM)
        assert idle.read_rest() == b""  # the drain has begun
        half.send("TP/1.1", "Host: x", key)
        _, third = take()
        third.send("HTTP/1.1 200 OK", "Content-Length: 4", body=b"half")
        answer = half.read_answer()
        assert (answer.body, answer.one("Connection")) == (b"half", "close")
        sending.socket.sendall(b"56789")
        assert downloading.read_exactly(10) == b"0123456789"
        uploading.socket.sendall(b"56789")
        assert receiving.read_exactly(10) == b"0123456789"
        receiving.send("HTTP/1.1 200 OK", "Content-Length: 2", body=b"up")
        assert uploading.read_answer().body == b"up"
    assert site.running.process.wait() == 0


def test_a_request_that_waits_to_be_accepted_when_the_stop_comes_is_answered(
    serve: Callable[..., Site], upstreams: Callable[..., RecordingUpstream]
) -> None:
    """Its first byte has arrived: in the listening socket's queue, while the worker was busy elsewhere."""
    site = serve(upstreams().url)
    (worker,) = site.processes(WORKER)
    os.kill(worker, signal.SIGSTOP)
    try:
        with site.wire() as client:
            client.send("GET / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
            site.running.process.send_signal(signal.SIGTERM)
            site.running.logged("stopping")
            os.kill(worker, signal.SIGCONT)
            assert client.read_answer().status == 200
    finally:
        os.kill(worker, signal.SIGCONT)
    assert site.running.process.wait() == 0


def test_the_drain_ends_with_its_timeout_whatever_goes_on(
    serve: Callable[..., Site], upstreams: Callable[..., RecordingUpstream]
) -> None:
    """A stream without end, cut visibly."""
    upstream = upstreams()
    site = serve(upstream.url, SERVER__DRAIN_TIMEOUT_SECONDS="0.5")
    with upstream.by_hand() as take, site.wire() as client:
        client.send("GET / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
        _, upper = take()
        upper.send("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")
        client.expect_head()
        site.running.process.send_signal(signal.SIGTERM)
        assert client.read_rest() == b""
        assert upper.read_rest() == b""
        assert site.running.process.wait() == 0


def test_a_killed_worker_takes_its_own_connections_alone_and_is_replaced(
    serve: Callable[..., Site], upstreams: Callable[..., RecordingUpstream], eventually: Eventually
) -> None:
    """Connections at the other worker go on; every new one is answered, whoever has to wait for the successor."""
    site = serve(upstreams().url, SERVER__WORKERS="2")
    held = [site.wire() for _ in range(16)]
    try:
        key = f"X-API-KEY: {site.secret}"
        assert {each.ask("GET / HTTP/1.1", key).status for each in held} == {200}
        killed, other = site.processes(WORKER)
        os.kill(killed, signal.SIGKILL)
        new = [site.wire() for _ in range(16)]
        held += new
        for each in new:
            each.send("GET / HTTP/1.1", "Host: x", key)
        assert {each.read_answer().status for each in new} == {200}
        survivors = [each for each in held[:16] if _still_serves(each, key)]
        assert survivors
        eventually(lambda: len({*site.processes(WORKER)} - {killed}) == 2)
        assert other in site.processes(WORKER)
        assert all(_still_serves(each, key) for each in survivors)
    finally:
        for each in held:
            each.close()


def _still_serves(client: Wire, key: str) -> bool:
    try:
        client.send("GET / HTTP/1.1", "Host: x", key)
        head = client.read_head()
    except (ConnectionError, AssertionError):
        return False
    return head is not None and head.status == 200 and bool(client.read_body(head))


def test_a_killed_control_process_interrupts_nobody_and_is_replaced(
    serve: Callable[..., Site], upstreams: Callable[..., RecordingUpstream], eventually: Eventually
) -> None:
    """Requests go on all the while, on old and new connections, and so do changes of keys."""
    site = serve(upstreams().url)
    key = site.issue()
    with site.wire() as held:
        (control,) = site.processes(CONTROL)
        os.kill(control, signal.SIGKILL)
        answers: list[Message] = []
        while control in site.processes(CONTROL) or not site.processes(CONTROL):
            answers += (held.ask("GET / HTTP/1.1", f"X-API-KEY: {key.secret}"), site.get("/", key.secret))
        site.command.json("keys", "revoke", key.id, "--yes")
        eventually(lambda: site.get("/", key.secret).status == 401)
        assert {answer.status for answer in answers} == {200}
