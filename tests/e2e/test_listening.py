"""Where new connections go while the gateway stops, and while a worker is away: nobody waits for nobody."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from gateway.supervisor.listeners import is_free
from tests.e2e.site import WORKER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.e2e.recording_upstream import RecordingUpstream
    from tests.e2e.site import Site
    from tests.e2e.wire import Wire

    Eventually = Callable[[Callable[[], object]], None]
    Serve = Callable[..., Site]
    Upstreams = Callable[..., RecordingUpstream]


def _stop(site: Site, number: signal.Signals) -> None:
    """Tell the gateway to stop, or take its supervisor away from it."""
    site.running.process.send_signal(number)
    if number == signal.SIGKILL:
        site.running.process.wait()
    else:
        site.running.logged("stopping")


def _refused(site: Site) -> bool:
    """Not so while one is accepted, or reset since it came between the last look at who waits and the close."""
    try:
        with suppress(ConnectionResetError):
            socket.create_connection(site.address).close()
    except ConnectionRefusedError:
        return True
    return False


@contextmanager
def _stopped(pids: Iterable[int]) -> Iterator[None]:
    """These processes do nothing inside the block."""
    stopped = list(pids)
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def _asking(site: Site, opened: ExitStack, count: int) -> list[Wire]:
    """Connections that have each sent a request: enough for some of them to come to every slot."""
    asking = [opened.enter_context(site.wire()) for _ in range(count)]
    for each in asking:
        each.send("GET / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
    return asking


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_new_connections_are_refused_while_the_last_answer_is_awaited(
    serve: Serve, upstreams: Upstreams, eventually: Eventually, number: signal.Signals, workers: int
) -> None:
    """So a load balancer goes elsewhere at once, and whoever starts the gateway again finds the port free."""
    upstream = upstreams()
    site = serve(upstream.url, SERVER__WORKERS=str(workers))
    with upstream.by_hand() as take, site.wire() as client:
        client.send("GET / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
        _, upper = take()
        _stop(site, number)
        eventually(lambda: _refused(site))
        assert is_free("{}:{}".format(*site.address))
        upper.send("HTTP/1.1 200 OK", "Content-Length: 4", body=b"last")
        assert client.read_answer().body == b"last"


@pytest.mark.parametrize("workers", [1, 2])
def test_all_that_wait_to_be_accepted_when_the_stop_comes_are_answered(
    serve: Serve, upstreams: Upstreams, workers: int
) -> None:
    site = serve(upstreams().url, SERVER__WORKERS=str(workers))
    with ExitStack() as opened:
        with _stopped(site.processes(WORKER)):
            waiting = _asking(site, opened, 24)
            _stop(site, signal.SIGTERM)
        assert [each.read_answer().status for each in waiting] == [200] * 24


def test_the_others_serve_a_slot_whose_worker_is_away(
    serve: Serve, upstreams: Upstreams, eventually: Eventually
) -> None:
    """Its successor cannot come here, since the supervisor is stopped."""
    site = serve(upstreams().url, SERVER__WORKERS="2")
    _, survivor = site.processes(WORKER)
    # Each crash doubles the wait before the next try: until there is time enough for what follows.
    while not _deaths(site) or _deaths(site)[-1] < 1:
        before = len(_deaths(site))
        eventually(lambda: len(site.processes(WORKER)) == 2)
        (crashing,) = {*site.processes(WORKER)} - {survivor}
        os.kill(crashing, signal.SIGKILL)
        eventually(lambda: len(_deaths(site)) > before)  # noqa: B023 - waited for in this round
    with ExitStack() as opened:
        with _stopped([site.running.process.pid]):
            assert site.processes(WORKER) == [survivor]
            assert [each.read_answer().status for each in _asking(site, opened, 24)] == [200] * 24
        eventually(lambda: len(site.processes(WORKER)) == 2)
        assert [each.read_answer().status for each in _asking(site, opened, 24)] == [200] * 24


def _deaths(site: Site) -> list[float]:
    """After each death, how long the supervisor waits before the next try."""
    return [each["restart_in_seconds"] for each in site.running.records() if each["message"] == "a child died"]


def test_the_others_serve_the_slot_of_a_worker_that_was_told_to_stop(serve: Serve, upstreams: Upstreams) -> None:
    """By a signal of its own: it gives its last answers, which may take long, and accepts nothing meanwhile."""
    upstream = upstreams()
    site = serve(upstream.url, SERVER__WORKERS="2")
    with ExitStack() as opened:
        take = opened.enter_context(upstream.by_hand())
        held = _asking(site, opened, 16)
        upper = [take()[1] for _ in held]
        told, _ = site.processes(WORKER)
        os.kill(told, signal.SIGTERM)
        for _ in range(24):
            assert site.ask("GET / HTTP/1.1").status == 401
        assert told in site.processes(WORKER)
        for each in upper:
            each.send("HTTP/1.1 200 OK", "Content-Length: 0")
        assert [each.read_answer().status for each in held] == [200] * 16
