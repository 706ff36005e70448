"""A worker that stops answers what it has begun, takes nothing new, and leaves nothing behind."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import KEY_FIELD, OK, Gate, get, post

if TYPE_CHECKING:
    import asyncio


def test_a_drain_answers_what_is_here_and_closes() -> None:
    gate = Gate()
    client = gate.ask(get())
    gate.drain()
    gate.upstream.send(OK)
    assert client.answer.status == 200
    assert client.answer.one("connection") == "close"
    assert client.ended
    client.end()
    gate.check_nothing_is_left()


def test_a_drain_answers_a_request_of_which_only_a_byte_had_come() -> None:
    gate = Gate()
    client = gate.client()
    client.send(get()[:1])
    gate.drain()
    gate.advance(5)
    client.send(get()[1:])
    gate.upstream.send(OK)
    assert client.answer.status == 200
    assert client.answer.one("connection") == "close"


def test_a_drain_answers_a_request_whose_first_byte_comes_in_time() -> None:
    gate = Gate()
    client = gate.client()
    gate.drain()
    gate.advance(0.5)
    client.send(get()[:10])
    gate.advance(3)
    client.send(get()[10:])
    gate.upstream.send(OK)
    assert client.answer.status == 200


@pytest.mark.parametrize(("hands_over", "seconds"), [(False, 1), (True, 15)])
def test_idle_connections_have_time_for_one_more_request(*, hands_over: bool, seconds: float) -> None:
    """One second where somebody waits for the end; half of the drain's time where another has taken over."""
    gate = Gate()
    gate.worker.hands_over = hands_over
    fresh, used, asking = gate.client(), gate.ask(get()), gate.client()
    gate.upstream.send(OK)
    gate.drain()
    gate.advance(seconds - 0.5)
    assert fresh.open
    assert used.open
    asking.send(get())
    gate.upstreams[-1].send(OK)
    assert asking.answer.one("connection") == "close"
    gate.advance(1)
    assert fresh.gone
    assert used.gone
    assert fresh.received == b""
    gate.advance(6)  # the one that asked has not closed its side
    gate.check_nothing_is_left()


def test_a_request_that_has_arrived_unread_when_its_time_is_over_is_answered() -> None:
    """A stalled event loop looks at its clock before it looks at its sockets."""
    gate = Gate()
    client = gate.client()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client.transport.socket.fileno = ours.fileno  # type: ignore[method-assign]  # with a kernel behind it
        gate.drain()
        theirs.send(b"G")
        gate.advance(1.5)
        assert client.open
        client.send(get())
        gate.upstream.send(OK)
    assert client.answer.status == 200
    assert client.answer.one("connection") == "close"


def test_a_response_whose_head_was_out_before_the_drain_goes_on_and_then_closes() -> None:
    gate = Gate()
    client = gate.ask(get())
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    gate.drain()
    gate.advance(20)
    gate.upstream.send(b"world")
    assert client.answer.body == b"helloworld"
    gate.advance(3)
    assert client.ended


def test_the_gateways_own_answers_close_too() -> None:
    gate = Gate()
    gate.store.waits = True
    client = gate.ask(get())
    gate.drain()
    gate.store.records.clear()
    gate.answer_lookups()
    assert client.answer.status == 401
    assert client.answer.one("connection") == "close"
    assert client.ended


def test_an_upload_under_way_is_finished() -> None:
    gate = Gate()
    client = gate.ask(post(b"0123456789")[:-5])
    gate.drain()
    gate.advance(10)
    client.send(b"56789")
    gate.upstream.send(OK)
    assert gate.upstream.request.body == b"0123456789"
    assert client.answer.status == 200


def shut_down(gate: Gate, timeout_seconds: float) -> asyncio.Task[None]:
    """Begin the end of a worker, as aiohttp's runner does."""
    with gate.loop.inside():
        gate.worker.pre_shutdown()
        task = gate.loop.create_task(gate.worker.shutdown(timeout_seconds))
    gate.settle()
    return task


def wait(gate: Gate, seconds: float) -> None:
    """Let time pass in small steps, as a worker's own clockwork does."""
    gate.advance(seconds)


def test_a_shutdown_ends_as_soon_as_everybody_is_gone() -> None:
    gate = Gate()
    client = gate.ask(get())
    task = shut_down(gate, 30)
    wait(gate, 2)
    assert not task.done()
    gate.upstream.send(OK)
    client.end()
    wait(gate, 1)
    assert task.done()
    gate.check_nothing_is_left()


def test_a_shutdown_ends_the_rest_when_its_time_is_over() -> None:
    gate = Gate()
    client = gate.ask(get(fields=KEY_FIELD))
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    task = shut_down(gate, 5)
    wait(gate, 6)
    assert task.done()
    assert client.aborted
    assert gate.upstream.gone
    gate.check_nothing_is_left()


def test_a_shutdown_closes_idle_upstream_connections() -> None:
    gate = Gate()
    gate.ask(get()).end()
    client = gate.ask(get())
    gate.upstreams[-1].send(OK)
    client.end()
    task = shut_down(gate, 5)
    wait(gate, 1)
    assert task.done()
    assert all(each.gone for each in gate.upstreams)
    assert not gate.target.connections


def test_a_slow_reader_that_catches_up_during_a_drain_is_waited_for_no_longer_than_others() -> None:
    gate = Gate()
    client = gate.client()
    client.methods.append(b"GET")
    client.stop_reading()
    client.send(get())
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))
    gate.drain()
    gate.advance(1)
    client.read_on()
    assert client.answer.status == 200
    gate.advance(2.5)
    assert client.gone
