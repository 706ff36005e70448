"""The supervisor's promises, with stand-in children: order of start and drain, restarts, and no child left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import GatewayError
from gateway.supervisor.listeners import open_listeners
from gateway.supervisor.supervisor import Supervisor
from tests.supervisor.conftest import alive, quick_settings

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.lifecycle import Message
    from tests.supervisor.conftest import Start


async def test_every_worker_gets_its_own_slot_and_all_sockets(start: Start) -> None:
    async with start(workers=2) as run:
        await run.until_ready()
        seen: dict[int, dict[str, Any]] = {}
        while len(seen) < 2:
            facts = await run.ask_worker()
            seen[facts["slot"]] = facts
        assert [seen[slot]["listening"] for slot in (0, 1)] == [2, 2]
        assert seen[0]["node"] == seen[1]["node"] == (await run.ask_control())["node"]


async def test_ready_is_reported_once_with_what_the_control_process_said(start: Start) -> None:
    async with start() as run:
        await run.until_ready()
        assert run.reports == [{"event": "ready", "organizations": 0}]


async def test_workers_get_their_order_only_when_the_store_is_ready(start: Start) -> None:
    """A control process that refuses before `store_ready` leaves no worker that ever served."""
    async with start(control="control+refuse") as run:
        with pytest.raises(GatewayError, match="the stand-in refuses to start"):
            await run.until_ready()
        assert run.task.done()


async def test_a_child_that_dies_before_it_is_ready_makes_the_start_fail_and_ends_the_others(start: Start) -> None:
    async with start(worker="worker+crash") as run:
        with pytest.raises(GatewayError) as caught:
            await run.until_ready()
        assert (caught.value.code, caught.value.detail) == ("start_failed", "worker-0 ended with exit status 3")


async def test_a_killed_worker_is_replaced_on_the_same_socket(start: Start) -> None:
    async with start() as run:
        await run.until_ready()
        first = (await run.ask_worker())["pid"]
        os.kill(first, signal.SIGKILL)
        second = await run.ask_worker()  # the connection waits in the slot's backlog until the new one is there
        assert second["pid"] != first
        assert not alive(first)


async def test_a_worker_knows_whether_the_gateway_ran_before_it(start: Start) -> None:
    """At the first start a store that cannot be read is a mistake to be told; later on it is an outage."""
    async with start() as run:
        await run.until_ready()
        first = await run.ask_worker()
        os.kill(first["pid"], signal.SIGKILL)
        second = await run.ask_worker()
        assert (first["restarted"], second["restarted"]) == (False, True)


async def test_the_others_hear_that_a_slot_is_empty_and_that_it_is_served_again(start: Start) -> None:
    async with start(workers=2) as run:
        await run.until_ready()
        os.kill((await run.ask_slot(1))["pid"], signal.SIGKILL)
        heard: list[list[int]] = []
        while not heard or heard[-1]:
            heard = [message["empty"] for message in (await run.ask_slot(0))["told"]]
        assert heard[0] == [1]


async def test_a_worker_that_drains_by_itself_leaves_its_slot_to_the_others(start: Start) -> None:
    """Somebody sent it a signal: it may take long to end, and what arrives there must not wait for that."""
    async with start(workers=2, worker="worker+drain-alone") as run:
        await run.until_ready()
        await run.ask_slot(1)
        heard: list[Message] = []
        while not any(1 in message["empty"] for message in heard):
            heard = (await run.ask_slot(0))["told"]
        await run.told_control(ready=0, of=2, draining=False)


async def test_a_killed_control_process_is_replaced_while_the_workers_stay(start: Start) -> None:
    async with start() as run:
        await run.until_ready()
        worker, control = (await run.ask_worker())["pid"], (await run.ask_control())["pid"]
        os.kill(control, signal.SIGKILL)
        assert (await run.ask_control())["pid"] != control
        assert (await run.ask_worker())["pid"] == worker
        await run.told_control(ready=1, of=1, draining=False)


async def test_a_crash_loop_is_tried_again_until_it_succeeds(start: Start, tmp_path: Path) -> None:
    marker = tmp_path / "crashed"
    marker.touch()
    async with start(worker=f"worker+crash-once:{marker}") as run:
        await run.until_ready()
        first = (await run.ask_worker())["pid"]
        marker.unlink()  # the next one crashes before it is ready, the one after it does not
        os.kill(first, signal.SIGKILL)
        assert (await run.ask_worker())["pid"] != first
        assert marker.exists()


async def test_the_control_process_hears_how_many_workers_are_ready(start: Start) -> None:
    async with start(workers=2) as run:
        await run.until_ready()
        await run.told_control(ready=2, of=2, draining=False)


async def test_the_control_process_hears_how_far_which_worker_follows(start: Start) -> None:
    """From its start order to its end, since that long a worker may send requests."""
    async with start(workers=2) as run:
        pids = sorted([(await run.ask_slot(slot))["pid"] for slot in (0, 1)])
        told = (await run.ask_control())["told"]
        assert sorted(each["pid"] for each in told[-1]["following"]) == pids
        assert {each["applied"] for each in told[-1]["following"]} == {-1}


async def test_stop_drains_the_workers_first_and_the_control_process_after_them(start: Start) -> None:
    async with start(worker="worker+linger") as run:
        await run.until_ready()
        run.supervisor.stop()
        await run.told_control(ready=1, of=1, draining=True)
        while not (await run.ask_worker())["draining"]:  # it is told a little after the control process
            await asyncio.sleep(0.01)
        assert await run.task == 0


async def test_a_stop_leaves_the_listening_sockets_to_the_workers_and_health_checks_go_on(start: Start) -> None:
    async with start(workers=2, worker="worker+linger") as run:
        await run.until_ready()
        assert all(opened.fileno() >= 0 for opened in run.listeners.workers)
        run.supervisor.stop()
        await run.told_control(ready=2, of=2, draining=True)
        assert all(opened.fileno() < 0 for opened in run.listeners.workers)


async def test_a_signal_to_the_supervisor_drains_everything(start: Start) -> None:
    async with start() as run:
        await run.until_ready()
        pids = [(await run.ask_worker())["pid"], (await run.ask_control())["pid"]]
        os.kill(os.getpid(), signal.SIGTERM)
        assert await run.task == 0
        assert not any(alive(pid) for pid in pids)


async def test_a_second_signal_ends_everything_at_once(start: Start) -> None:
    async with start(worker="worker+stubborn", drain=3600) as run:
        await run.until_ready()
        pid = (await run.ask_worker())["pid"]
        os.kill(os.getpid(), signal.SIGINT)
        await run.told_control(ready=1, of=1, draining=True)
        os.kill(os.getpid(), signal.SIGINT)
        assert await run.task == 1
        assert not alive(pid)


async def test_a_worker_that_ignores_the_drain_is_killed_when_its_time_is_over(start: Start) -> None:
    async with start(worker="worker+stubborn", drain=0) as run:
        await run.until_ready()
        pid = (await run.ask_worker())["pid"]
        assert await run.stopped() == 0
        assert not alive(pid)


async def test_a_stop_while_everything_still_starts_ends_cleanly(start: Start) -> None:
    async with start(workers=2) as run:
        await asyncio.sleep(0)
        assert await run.stopped() == 0


async def test_a_command_that_does_not_exist_is_one_clear_error() -> None:
    settings = quick_settings()
    listeners = open_listeners(settings)
    argv = ("/nonexistent/python",)
    supervisor = Supervisor(
        settings, listeners, load=quick_settings, on_ready=lambda _: None, worker_argv=argv, control_argv=argv
    )
    with contextlib.closing(listeners), pytest.raises(GatewayError, match="control cannot be started: No such file"):
        await supervisor.run()
