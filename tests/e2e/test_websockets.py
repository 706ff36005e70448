"""WebSocket tunnels to a `websockets` server: messages, pings, close codes and half-closes pass as they are."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.e2e.recording_upstream import RecordingUpstream
    from tests.e2e.site import Site
    from tests.e2e.wire import Wire

MESSAGE: Final = random.Random(3).randbytes(5 << 20)  # noqa: S311 - reproducible, no secret
_UPGRADE: Final = (
    *("Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


class Echo:
    """An echo server of the `websockets` library; it keeps how its connections ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[int | None, str | None]] = []
        self.fields: list[dict[str, str]] = []
        self._server = serve(self._echo, "127.0.0.1", 0, max_size=None, select_subprotocol=_choose)
        self.url = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _echo(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.fields.append(dict(connection.request.headers.raw_items()))
        with suppress(ConnectionClosed):
            for message in connection:
                if message == "close with 4001":
                    connection.close(4001, "as you wish")
                else:
                    connection.send(message)
        self.ends.append((connection.close_code, connection.close_reason))

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()


def _choose(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return offered[0] if offered else None


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def site(serve_module: Callable[..., Site], echo: Echo, upstream_module: RecordingUpstream) -> Site:
    return serve_module(
        [{"name": "echo", "targets": [echo.url]}, {"name": "raw", "targets": [upstream_module.url]}],
        [{"name": "echo"}, {"name": "raw", "path": "/raw", "upstream": "raw"}],
    )


@contextmanager
def _connect(
    site: Site, *, compression: str | None = None, subprotocols: Sequence[Subprotocol] = ()
) -> Iterator[ClientConnection]:
    url = site.url.replace("http:", "ws:") + "/chat"
    fields = {"X-API-KEY": site.secret}
    with connect(
        url,
        additional_headers=fields,
        compression=compression,
        subprotocols=subprotocols or None,
        max_size=None,
        proxy=None,
    ) as connection:
        yield connection


def test_messages_of_5_mib_pass_both_ways(site: Site) -> None:
    """Packed and plain, binary and text, several on their way at once."""
    text = MESSAGE.hex()[: 5 << 20]
    for compression in ("deflate", None):
        with _connect(site, compression=compression) as client:
            for message in (MESSAGE, text, b"", "ü"):
                client.send(message)
                assert client.recv() == message
            sender = threading.Thread(target=_send_thrice, args=(client,))
            sender.start()
            assert all(client.recv() == MESSAGE for _ in range(3))
            sender.join()


def _send_thrice(client: ClientConnection) -> None:
    for _ in range(3):
        client.send(MESSAGE)


def test_pings_and_subprotocols_pass(site: Site, echo: Echo) -> None:
    with _connect(site, subprotocols=[Subprotocol("one"), Subprotocol("three")]) as client:
        assert client.subprotocol == "one"
        assert client.ping().wait()
    seen = {name.lower(): value for name, value in echo.fields[-1].items()}
    assert site.secret not in repr(seen)
    assert seen["x-consumer-id"] == site.made.member.id


def test_close_codes_pass_both_ways(site: Site, echo: Echo, eventually: Callable[..., None]) -> None:
    with _connect(site) as client:
        client.send("close with 4001")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as you wish")
    with _connect(site) as client:
        client.close(3005, "enough")
    eventually(lambda: (3005, "enough") in echo.ends)


def test_without_a_key_there_is_no_tunnel(site: Site) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(site.url.replace("http:", "ws:"), proxy=None):
        pass
    assert refused.value.response.status_code == 401
    assert b"missing_api_key" in refused.value.response.body


def _tunnel(site: Site, take: Callable[..., tuple[object, Wire]], client: Wire) -> Wire:
    client.send("GET /raw HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}", *_UPGRADE)
    _, upper = take()
    upper.send("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", body=b"first")
    head = client.expect_head()
    assert (head.status, head.one("Upgrade"), head.one("Connection")) == (101, "websocket", "Upgrade")
    assert head.one("X-Request-ID")
    assert client.read_exactly(5) == b"first"  # came with the 101
    return upper


@pytest.mark.parametrize("first", ["client", "upstream"])
def test_one_half_may_close_while_the_other_goes_on(site: Site, upstream_module: RecordingUpstream, first: str) -> None:
    with upstream_module.by_hand() as take, site.wire() as client:
        upper = _tunnel(site, take, client)
        silent, talking = (client, upper) if first == "client" else (upper, client)
        silent.socket.sendall(b"last words")
        silent.socket.shutdown(socket.SHUT_WR)
        assert talking.read_rest() == b"last words"
        for _ in range(3):
            talking.socket.sendall(MESSAGE[:100_000])
            assert silent.read_exactly(100_000) == MESSAGE[:100_000]
        talking.socket.shutdown(socket.SHUT_WR)
        assert silent.read_rest() == b""


def test_what_a_client_sends_before_the_101_waits_for_it(site: Site, upstream_module: RecordingUpstream) -> None:
    with upstream_module.by_hand() as take, site.wire() as client:
        client.send("GET /raw HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}", *_UPGRADE, body=b"eager")
        _, upper = take()
        upper.send("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade")
        assert client.expect_head().status == 101
        assert upper.read_exactly(5) == b"eager"


def test_an_upstream_that_does_not_switch_answers_as_usual(site: Site, upstream_module: RecordingUpstream) -> None:
    with upstream_module.by_hand() as take, site.wire() as client:
        client.send("GET /raw HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}", *_UPGRADE)
        head, upper = take()
        assert (head.one("Upgrade"), head.one("Sec-WebSocket-Version")) == ("websocket", "13")
        upper.send("HTTP/1.1 426 Upgrade Required", "Content-Length: 2", body=b"no")
        assert client.read_answer().status == 426
        assert client.ask("GET /raw HTTP/1.1").status == 401


@pytest.mark.parametrize("leaves", ["client", "upstream"])
def test_when_one_end_is_gone_so_is_the_other(site: Site, upstream_module: RecordingUpstream, leaves: str) -> None:
    with upstream_module.by_hand() as take, site.wire() as client:
        upper = _tunnel(site, take, client)
        left, other = (client, upper) if leaves == "client" else (upper, client)
        left.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset
        left.close()
        assert other.read_rest() == b""
