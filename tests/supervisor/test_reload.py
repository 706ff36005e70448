"""A reload: bad settings change nothing, no slot is ever empty, and what works is not given up for what does not."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import ConfigProblem, ConfigurationError
from gateway.settings.model import CacheSettings, ServerSettings, Settings
from tests.certificates import issued
from tests.supervisor.conftest import alive, quick_settings

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.lifecycle import Message
    from tests.supervisor.conftest import Run, Start

DONE = {"command": "reloaded", "ok": True, "code": "", "problems": [], "warnings": []}


def patient(**server: float) -> Settings:
    """Settings that differ in what a reload can change."""
    settings = quick_settings()
    given: dict[str, Any] = {**settings.server.model_dump(), "client_idle_timeout_seconds": 9, **server}
    return Settings(server=ServerSettings(**given), control=settings.control)


def refused(code: str, *problems: str) -> Message:
    return {"command": "reloaded", "ok": False, "code": code, "problems": list(problems), "changed": [], "warnings": []}


async def followed_by(run: Run) -> list[int]:
    """The processes of which the control process knows."""
    told = [each for each in (await run.ask_control())["told"] if each["command"] == "workers"]
    return sorted(each["pid"] for each in told[-1]["following"])


async def test_all_children_are_replaced_by_new_ones_with_the_new_settings(start: Start) -> None:
    async with start(workers=2) as run:
        await run.until_ready()
        before = {slot: await run.ask_slot(slot) for slot in (0, 1)}
        control = (await run.ask_control())["pid"]
        run.next_settings = patient(workers=2)
        assert await run.reloaded() == {**DONE, "changed": ["server.client_idle_timeout_seconds"]}
        for slot in (0, 1):
            while (after := await run.ask_slot(slot))["pid"] == before[slot]["pid"]:
                await asyncio.sleep(0.01)
            assert (before[slot]["idle"], after["idle"]) == (75, 9)
            assert not after["restarted"], "it has to work, or the old one stays"
        while (await run.ask_control())["pid"] == control:
            await asyncio.sleep(0.01)
        while any(alive(pid) for pid in (control, *(each["pid"] for each in before.values()))):
            await asyncio.sleep(0.01)
        assert len(run.reports) == 1  # ready is a thing of the start


async def test_a_reload_without_any_difference_replaces_all_the_same(start: Start) -> None:
    """What a setting names, a file with a secret say, may be another."""
    async with start() as run:
        await run.until_ready()
        before = (await run.ask_worker())["pid"]
        assert await run.reloaded() == {**DONE, "changed": []}
        while (await run.ask_worker())["pid"] == before:
            await asyncio.sleep(0.01)


async def test_whoever_asks_is_warned_of_a_certificate_that_ends_soon(start: Start) -> None:
    async with start() as run:
        await run.until_ready()
        pair = issued(days=5)
        run.next_settings = patient(tls=pair.table())  # type: ignore[arg-type]  # the others are numbers
        answer = await run.reloaded()
        (warning,) = answer["warnings"]
        assert answer["ok"]
        assert warning.startswith(f'server.tls.certificate_file names "{pair.certificate}", which expires on ')


async def test_the_old_worker_is_told_of_the_handover_before_it_drains_and_both_are_followed_until_its_end(
    start: Start,
) -> None:
    async with start(worker="worker+linger") as run:
        await run.until_ready()
        old = (await run.ask_worker())["pid"]
        await run.reloaded()
        seen: dict[int, dict[str, Any]] = {}
        while len(seen) < 2 or len(await followed_by(run)) > 1:
            facts = await run.ask_worker()
            if facts["pid"] == old and not seen:
                assert old in await followed_by(run)
            seen.setdefault(facts["pid"], facts)
        assert [each["command"] for each in seen[old]["told"]][-1] == "handover"
        assert await followed_by(run) == [pid for pid in seen if pid != old]


async def test_no_slot_looks_empty_to_anybody_during_a_reload(start: Start) -> None:
    async with start(workers=2) as run:
        await run.until_ready()
        control = (await run.ask_control())["pid"]
        await run.reloaded()
        while (facts := await run.ask_control())["pid"] == control:
            assert all(each["ready"] == 2 for each in facts["told"] if each["command"] == "workers")
        for slot in (0, 1):
            told = (await run.ask_slot(slot))["told"]
            assert all(not each["empty"] for each in told if each["command"] == "slots")


async def test_bad_settings_change_nothing_and_every_problem_is_told(start: Start) -> None:
    async with start() as run:
        await run.until_ready()
        pid = (await run.ask_worker())["pid"]
        run.next_settings = ConfigurationError(
            [ConfigProblem("a.toml:3", "x.y", "is bad"), ConfigProblem("b", "c", "d")]
        )
        assert await run.reloaded() == refused("bad_configuration", "a.toml:3: x.y: is bad", "b: c: d")
        assert (await run.ask_worker())["pid"] == pid
        await run.told_control(reloads=0, reloads_failed=1)


async def test_what_needs_a_restart_is_refused_by_name_and_changes_nothing(start: Start) -> None:
    async with start() as run:
        await run.until_ready()
        pid = (await run.ask_worker())["pid"]
        run.next_settings = patient(workers=3, backlog=7)
        sentence = (
            "server.workers, server.backlog cannot be changed while the gateway runs: "
            "restart it, or set back what was changed."
        )
        assert await run.reloaded() == refused("restart_required", sentence)
        assert (await run.ask_worker())["pid"] == pid


async def test_a_worker_that_does_not_get_ready_ends_the_reload_and_the_old_one_stays(
    start: Start, tmp_path: Path
) -> None:
    flag = tmp_path / "refuse"
    async with start(workers=2, worker=f"worker+refuse-if:{flag}") as run:
        await run.until_ready()
        before = {slot: (await run.ask_slot(slot))["pid"] for slot in (0, 1)}
        flag.touch()
        nothing = "Nothing was replaced; everything goes on with the settings from before."
        assert await run.reloaded() == refused("reload_failed", "The stand-in refuses to start.", nothing)
        assert {slot: (await run.ask_slot(slot))["pid"] for slot in (0, 1)} == before
        flag.unlink()
        assert (await run.reloaded())["ok"]  # and the next one may succeed


async def test_a_reload_that_stops_half_way_says_who_has_which_settings(start: Start, tmp_path: Path) -> None:
    flag = tmp_path / "refuse"
    async with start(control=f"control+refuse-if:{flag}") as run:
        await run.until_ready()
        worker, control = (await run.ask_worker())["pid"], (await run.ask_control())["pid"]
        flag.touch()
        run.next_settings = patient()
        halves = "With the new settings: worker-0; with those from before: control."
        assert await run.reloaded() == refused("reload_failed", "The stand-in refuses to start.", halves)
        while (facts := await run.ask_worker())["pid"] == worker:
            await asyncio.sleep(0.01)
        assert facts["idle"] == 9
        assert (await run.ask_control())["pid"] == control
        os.kill(facts["pid"], signal.SIGKILL)
        assert (await run.ask_worker())["idle"] == 9  # the next one in that slot has them, too


async def test_a_worker_that_hangs_before_it_is_ready_is_ended_when_its_time_is_over(
    start: Start, tmp_path: Path
) -> None:
    flag = tmp_path / "hang"
    async with start(worker=f"worker+hang-if:{flag}", ready_seconds=1) as run:
        await run.until_ready()
        flag.touch()
        problems = (await run.reloaded())["problems"]
        assert problems[0] == "The new worker-0 was not ready within 1 seconds."
        assert len(await followed_by(run)) == 1


async def test_one_reload_at_a_time_and_none_during_the_drain(start: Start) -> None:
    async with start(worker="worker+linger") as run:
        await run.until_ready()
        first = asyncio.create_task(run.reloaded())
        await asyncio.sleep(0)
        assert await run.reloaded() == refused("reload_in_progress", "Another reload is under way.")
        assert (await first)["ok"]
        while not (await run.ask_worker())["draining"]:
            await asyncio.sleep(0.01)
        run.supervisor.stop()
        assert await run.reloaded() == refused("reload_in_progress", "The gateway is stopping.")


async def test_signals_during_a_reload_are_one_more_reload_after_it(start: Start) -> None:
    """The one under way has read the settings already, and those that the signals are about came later."""
    async with start() as run:
        await run.until_ready()
        first = asyncio.create_task(run.reloaded())
        while len(await followed_by(run)) < 2:
            await asyncio.sleep(0.01)
        run.next_settings = patient()
        for _ in range(3):
            run.supervisor.on_hangup()
        assert await first == {**DONE, "changed": []}
        while (await run.ask_worker())["idle"] != 9:
            await asyncio.sleep(0.01)
        await run.told_control(reloads=2, reloads_failed=0)
        assert (await run.reloaded())["ok"]  # no third one is under way
        await run.told_control(reloads=3, reloads_failed=0)


async def test_a_signal_during_a_reload_that_fails_is_not_lost(start: Start, tmp_path: Path) -> None:
    flag = tmp_path / "refuse"
    async with start(worker=f"worker+refuse-if:{flag}") as run:
        await run.until_ready()
        flag.touch()
        first = asyncio.create_task(run.reloaded())
        await asyncio.sleep(0)
        run.supervisor.on_hangup()
        assert not (await first)["ok"]
        flag.unlink()
        await run.told_control(reloads=1, reloads_failed=1)


async def test_a_signal_during_the_start_is_a_reload_after_it(start: Start) -> None:
    async with start() as run:
        await asyncio.sleep(0)
        run.next_settings = patient()
        run.supervisor.on_hangup()
        await run.until_ready()
        await run.told_control(reloads=1, reloads_failed=0)
        assert (await run.ask_worker())["idle"] == 9


async def test_a_signal_during_a_reload_is_forgotten_at_a_stop(start: Start, tmp_path: Path) -> None:
    flag = tmp_path / "hang"
    async with start(worker=f"worker+hang-if:{flag}") as run:
        await run.until_ready()
        flag.touch()
        reload = asyncio.create_task(run.reloaded())
        while len(await followed_by(run)) < 2:
            await asyncio.sleep(0.01)
        run.supervisor.on_hangup()
        assert await run.stopped() == 0
        assert not (await reload)["ok"]


async def test_a_stop_during_a_reload_ends_everything(start: Start, tmp_path: Path) -> None:
    flag = tmp_path / "hang"
    async with start(worker=f"worker+hang-if:{flag}") as run:
        await run.until_ready()
        flag.touch()
        reload = asyncio.create_task(run.reloaded())
        while len(await followed_by(run)) < 2:
            await asyncio.sleep(0.01)
        assert await run.stopped() == 0
        assert not (await reload)["ok"]


async def test_an_old_worker_that_does_not_end_in_its_time_is_killed(start: Start) -> None:
    async with start(worker="worker+stubborn", drain=0) as run:
        await run.until_ready()
        pid = (await run.ask_worker())["pid"]
        await run.reloaded()
        while alive(pid):
            await asyncio.sleep(0.01)
        run.supervisor.stop()
        run.supervisor.stop()
        assert await run.task == 1


async def test_a_worker_that_dies_after_it_took_over_is_replaced_while_the_old_one_still_drains(start: Start) -> None:
    async with start(worker="worker+stubborn", drain=3600) as run:
        await run.until_ready()
        first = await followed_by(run)
        await run.reloaded()
        (second,) = {*await followed_by(run)} - {*first}
        os.kill(second, signal.SIGKILL)
        while len(third := {*await followed_by(run)} - {second}) < 2:
            await asyncio.sleep(0.01)
        assert {*first} < third


async def test_the_control_process_that_asks_is_answered_before_it_is_replaced(start: Start) -> None:
    async with start(control="control+asks") as run:
        await run.until_ready()
        asking = (await run.ask_control())["pid"]
        run.next_settings = patient()
        facts = await run.ask_control()
        assert facts["pid"] == asking
        (answer,) = (each for each in facts["told"] if each["command"] == "reloaded")
        assert answer == {**DONE, "changed": ["server.client_idle_timeout_seconds"], "number": 1}


async def test_what_workers_say_of_themselves_reaches_the_control_process(start: Start) -> None:
    async with start(worker="worker+reports") as run:
        await run.until_ready()
        pid = (await run.ask_worker())["pid"]
        wanted = [
            {"command": "applied", "seq": 7, "epoch": "e1", "pid": pid},
            {"command": "counts", "hits": 3, "name": "worker-0", "pid": pid},
        ]
        told: list[Message] = []
        while any(each not in told for each in wanted):
            await run.ask_worker()
            told = (await run.ask_control())["told"]


async def test_a_new_control_process_hears_how_far_each_worker_has_come(start: Start) -> None:
    async with start(worker="worker+reports") as run:
        await run.until_ready()
        await run.ask_worker()
        control = (await run.ask_control())["pid"]
        os.kill(control, signal.SIGKILL)
        while (facts := await run.ask_control())["pid"] == control or not facts["told"]:
            await asyncio.sleep(0.01)
        (worker,) = facts["told"][-1]["following"]
        assert (worker["applied"], worker["epoch"]) == (7, "e1")


@pytest.mark.parametrize("section", ["cache", "server"])
async def test_the_control_process_hears_how_many_reloads_there_were_and_since_when_the_settings_hold(
    start: Start, section: str
) -> None:
    async with start() as run:
        await run.until_ready()
        quick = quick_settings()
        changed = patient() if section == "server" else quick.model_copy(update={"cache": CacheSettings(max_entries=5)})
        run.next_settings = changed
        await run.told_control(reloads=0, reloads_failed=0)
        await run.reloaded()
        await run.told_control(reloads=1, reloads_failed=0)
        told = (await run.ask_control())["told"]
        assert told[-1]["settings_loaded_at"].endswith("+00:00")
