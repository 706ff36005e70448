"""A change by the command line counts at once, for requests and for what already runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.recording_upstream import RecordingUpstream
    from tests.e2e.site import Site
    from tests.e2e.wire import Head, Wire

    Eventually = Callable[[Callable[[], object]], None]
    Take = Callable[[], tuple[Head, Wire]]


@pytest.fixture(scope="module")
def site(serve_module: Callable[..., Site], upstream_module: RecordingUpstream) -> Site:
    """Its cache believes for a day: only a change that is noticed counts."""
    return serve_module(upstream_module.url, CACHE__POSITIVE_TTL_SECONDS="86400", CACHE__NEGATIVE_TTL_SECONDS="86400")


@pytest.fixture
def upstream(upstream_module: RecordingUpstream) -> RecordingUpstream:
    upstream_module.reset()
    return upstream_module


def test_a_disabled_key_stops_and_an_enabled_one_works_again(
    site: Site, upstream: RecordingUpstream, eventually: Eventually
) -> None:
    """Others go on meanwhile, on connections of their own and on the same one."""
    key, other = site.issue("one"), site.issue("other")
    with site.wire() as connection:

        def status(secret: str) -> int:
            return connection.ask("GET / HTTP/1.1", f"X-API-KEY: {secret}").status

        assert status(key.secret) == status(other.secret) == 200
        site.command.json("keys", "disable", key.id)
        eventually(lambda: status(key.secret) == 401)
        assert status(other.secret) == 200
        site.command.json("keys", "enable", key.id)
        eventually(lambda: status(key.secret) == 200)
    assert upstream.requests


def test_a_new_key_works_although_it_was_just_refused(site: Site, eventually: Eventually) -> None:
    """The gateway remembers unknown keys, and forgets them when keys change."""
    made = site.issue("to be deleted")
    assert site.get("/", made.secret).status == 200
    site.command.json("keys", "delete", made.id, "--yes")
    eventually(lambda: site.get("/", made.secret).json()["code"] == "invalid_api_key")
    assert site.get("/", site.issue("new").secret).status == 200


def _open_streams(site: Site, take: Take, secret: str) -> list[tuple[Wire, Wire]]:
    """An event stream, a WebSocket and an upload, each with its upstream's end."""
    credential = f"X-API-KEY: {secret}"
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")
    streams = []
    for lines in (("GET / HTTP/1.1",), ("GET / HTTP/1.1", *upgrade), ("POST / HTTP/1.1", "Content-Length: 1000")):
        client = site.wire()
        client.send(*lines, "Host: x", credential)
        _, upper = take()
        if upgrade[0] in lines:
            upper.send("HTTP/1.1 101 Switching Protocols", *upgrade[:2])
            client.expect_head()
        elif lines[0].startswith("GET"):
            upper.send("HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked")
            client.expect_head()
        streams.append((client, upper))
    return streams


def _goes_on(client: Wire, upper: Wire, *, chunked: bool) -> bool:
    if chunked:
        upper.send_chunk(b"event")
        return client.read_chunk() == b"event"
    upper.socket.sendall(b"event")
    client.socket.sendall(b"reply")
    return client.read_exactly(5) == b"event" and upper.read_exactly(5) == b"reply"


@pytest.mark.parametrize("change", ["revoke", "disable", "delete", "expire"])
def test_what_runs_on_a_dead_key_is_cut_and_the_rest_goes_on(
    site: Site, upstream: RecordingUpstream, change: str
) -> None:
    """At both ends: event streams, WebSockets, and uploads that have no answer yet."""
    wishes = {"expires": (datetime.now(UTC) + timedelta(seconds=2)).isoformat()} if change == "expire" else {}
    dying, living = site.issue("dying", **wishes), site.issue("living")
    opened: list[tuple[Wire, Wire]] = []
    with upstream.by_hand() as take:
        try:
            opened += (dead := _open_streams(site, take, dying.secret))
            opened += (alive := _open_streams(site, take, living.secret))
            if change != "expire":
                site.command.json("keys", change, dying.id, *(["--yes"] if change != "disable" else []))
            for client, upper in dead:
                assert not client.read_rest().endswith(b"0\r\n\r\n")  # no proper end, and no more to come
                assert upper.read_rest() == b""
            (events, events_upper), (socket, socket_upper), (upload, upload_upper) = alive
            assert _goes_on(events, events_upper, chunked=True)
            assert _goes_on(socket, socket_upper, chunked=False)
            upload.socket.sendall(b"x" * 1000)
            assert upload_upper.read_exactly(1000) == b"x" * 1000
        finally:
            for client, _ in opened:
                client.close()


def test_a_change_that_leaves_a_key_good_cuts_nothing(site: Site, upstream: RecordingUpstream) -> None:
    """Disabled and enabled in one breath, or a change of another key: a stream that may go on does."""
    key = site.issue("streaming")
    with upstream.by_hand() as take:
        streams = _open_streams(site, take, key.secret)
        try:
            other = site.issue("other")
            site.command.json("keys", "revoke", other.id, "--yes")
            (events, events_upper), (socket, socket_upper), _ = streams
            assert _goes_on(events, events_upper, chunked=True)
            assert _goes_on(socket, socket_upper, chunked=False)
        finally:
            for client, _ in streams:
                client.close()


def test_every_worker_hears_of_a_change(
    serve: Callable[..., Site], upstreams: Callable[..., RecordingUpstream], eventually: Eventually
) -> None:
    """Held connections reach each of them; all agree in the end, and none falls back."""
    site = serve(upstreams().url, SERVER__WORKERS="2", CACHE__POSITIVE_TTL_SECONDS="86400")
    key = site.issue()
    connections = [site.wire() for _ in range(12)]

    def statuses() -> set[int]:
        return {each.ask("GET / HTTP/1.1", f"X-API-KEY: {key.secret}").status for each in connections}

    try:
        assert statuses() == {200}
        site.command.json("keys", "revoke", key.id, "--yes")
        eventually(lambda: statuses() == {401})
        assert statuses() == {401}
    finally:
        for each in connections:
            each.close()
