"""The child's end of the supervisor channel: order in, reports out, one drain, and never a wait."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gateway.lifecycle import SupervisorChannel
from gateway.settings.model import ServerSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


class Supervisor:
    """The other end, spoken to in bytes."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        self.channel = SupervisorChannel(theirs.detach())

    def send(self, **message: object) -> None:
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def start_order(self, settings: Settings | None = None) -> dict[str, Any]:
        chosen = (settings or Settings()).model_dump(mode="json")
        return {"command": "start", "settings": chosen, "slot": 1, "listen_fds": [7, 5], "node": "n1"}

    def received(self) -> list[dict[str, Any]]:
        self.socket.settimeout(0)
        read = b""
        with contextlib.suppress(BlockingIOError):
            while part := self.socket.recv(65_536):
                read += part
        return [json.loads(line) for line in read.splitlines()]


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    made = Supervisor()
    yield made
    made.socket.close()
    made.channel.close()


def test_the_start_order_arrives_whole_with_settings_as_they_were(supervisor: Supervisor) -> None:
    settings = Settings(server=ServerSettings(workers=3, trusted_proxies=("10.0.0.0/8",)))
    supervisor.send(**supervisor.start_order(settings))
    order = supervisor.channel.wait_for_start()
    assert order.settings == settings
    assert (order.slot, order.listen_fds, order.node) == (1, (7, 5), "n1")


@pytest.mark.parametrize("ending", ["end of file", "drain"])
def test_a_child_that_is_not_needed_any_more_exits_quietly_before_it_started(
    supervisor: Supervisor, ending: str
) -> None:
    if ending == "drain":
        supervisor.send(command="drain")
    else:
        supervisor.socket.close()
    with pytest.raises(SystemExit) as caught:
        supervisor.channel.wait_for_start()
    assert caught.value.code == 0


@pytest.mark.parametrize("ending", ["drain", "end of file", "SIGTERM", "SIGINT"])
async def test_each_way_to_be_stopped_leads_to_the_drain(supervisor: Supervisor, ending: str) -> None:
    drained = asyncio.Event()
    supervisor.channel.attach(asyncio.get_running_loop(), drained.set)
    match ending:
        case "drain":
            supervisor.send(command="drain")
        case "end of file":
            supervisor.socket.close()
        case name:
            os.kill(os.getpid(), signal.Signals[name])
    await drained.wait()


async def test_the_drain_is_announced_once_however_often_it_is_asked_for(supervisor: Supervisor) -> None:
    calls: list[None] = []
    others: list[dict[str, Any]] = []
    supervisor.channel.attach(asyncio.get_running_loop(), lambda: calls.append(None), others.append)
    supervisor.send(command="drain")
    supervisor.send(command="drain")
    supervisor.send(command="last")
    while not others:
        await asyncio.sleep(0)
    assert calls == [None]


async def test_orders_right_behind_the_start_order_are_not_lost(supervisor: Supervisor) -> None:
    """A stop during the start: both lines are there before the event loop runs."""
    supervisor.send(**supervisor.start_order())
    supervisor.send(command="drain")
    supervisor.channel.wait_for_start()
    drained = asyncio.Event()
    supervisor.channel.attach(asyncio.get_running_loop(), drained.set)
    await drained.wait()


async def test_messages_cut_anywhere_are_put_together(supervisor: Supervisor) -> None:
    messages: list[dict[str, Any]] = []
    supervisor.channel.attach(asyncio.get_running_loop(), lambda: None, messages.append)
    for byte in b'{"command":"workers","ready":1}\n{"command":"workers","ready":2}\n':
        supervisor.socket.sendall(bytes((byte,)))
        await asyncio.sleep(0)
    while len(messages) < 2:
        await asyncio.sleep(0)
    assert [message["ready"] for message in messages] == [1, 2]


def test_reports_before_the_loop_runs_arrive_in_order(supervisor: Supervisor) -> None:
    supervisor.channel.report("store_ready")
    supervisor.channel.report("ready", first_start=True)
    assert supervisor.received() == [{"event": "store_ready"}, {"event": "ready", "first_start": True}]


async def test_a_report_never_waits_for_a_supervisor_that_does_not_read(supervisor: Supervisor) -> None:
    """What does not fit into the socket follows once there is room."""
    supervisor.channel.attach(asyncio.get_running_loop(), lambda: None)
    text = "x" * 100_000
    for number in range(8):
        supervisor.channel.report("note", number=number, text=text)
    numbers: list[int] = []
    reader, writer = await asyncio.open_connection(sock=supervisor.socket, limit=1 << 20)
    while len(numbers) < 8:
        numbers.append(json.loads(await reader.readline())["number"])
    writer.close()
    assert numbers == list(range(8))


async def test_a_report_to_a_supervisor_that_is_gone_is_no_error(supervisor: Supervisor) -> None:
    supervisor.socket.close()
    supervisor.channel.report("ready")
    supervisor.channel.close()
    supervisor.channel.report("ready")


def test_a_second_signal_ends_a_child_that_will_not_finish_its_drain() -> None:
    program = (
        "import asyncio, sys; from gateway.lifecycle import SupervisorChannel\n"
        "async def main():\n"
        "    channel = SupervisorChannel(int(sys.argv[1]))\n"
        "    channel.attach(asyncio.get_running_loop(), lambda: channel.report('draining'))\n"
        "    channel.report('ready')\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    ours, theirs = socket.socketpair()
    with ours, ours.makefile("rb") as lines:
        with theirs:
            fd = theirs.fileno()
            child = subprocess.Popen([sys.executable, "-c", program, str(fd)], pass_fds=(fd,))
        with child:
            assert json.loads(lines.readline()) == {"event": "ready"}
            child.send_signal(signal.SIGTERM)
            assert json.loads(lines.readline()) == {"event": "draining"}
            child.send_signal(signal.SIGTERM)
            assert child.wait() == 1
