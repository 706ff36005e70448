"""A supervisor at work over stand-ins for its children."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import ConfigurationError
from gateway.settings.model import ControlSettings, ServerSettings, Settings
from gateway.supervisor.listeners import Listeners, open_listeners
from gateway.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from gateway.lifecycle import Message

STAND_IN = Path(__file__).with_name("stand_in.py")


class Run:
    """A supervisor at work over stand-ins."""

    def __init__(
        self, settings: Settings, listeners: Listeners, *, worker: str, control: str, ready_seconds: float
    ) -> None:
        self.listeners = listeners
        self.proxy_address, self.control_address = listeners.proxy_address, listeners.control_address
        self.next_settings: Settings | ConfigurationError = settings
        """What a reload will find."""
        self.ready = asyncio.Event()
        self.reports: list[Message] = []
        self.supervisor = Supervisor(
            settings,
            listeners,
            load=self._load,
            on_ready=self._on_ready,
            worker_argv=(sys.executable, str(STAND_IN), worker),
            control_argv=(sys.executable, str(STAND_IN), control),
            ready_seconds=ready_seconds,
        )
        self.task = asyncio.create_task(self.supervisor.run())

    def _load(self) -> Settings:
        if isinstance(self.next_settings, ConfigurationError):
            raise self.next_settings
        return self.next_settings

    async def reloaded(self) -> Message:
        """Reload, and return the answer."""
        answers: asyncio.Queue[Message] = asyncio.Queue()
        self.supervisor.reload(answers.put_nowait)
        return await answers.get()

    def _on_ready(self, report: Message) -> None:
        self.reports.append(report)
        self.ready.set()

    async def until_ready(self) -> None:
        """Raise what made the start fail, if it fails."""
        waiting = asyncio.create_task(self.ready.wait())
        await asyncio.wait((waiting, self.task), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.task.done():
            self.task.result()

    async def ask_worker(self) -> dict[str, Any]:
        return await _ask(self.proxy_address)

    async def ask_control(self) -> dict[str, Any]:
        return await _ask(self.control_address)

    async def told_control(self, **wanted: object) -> None:
        """Wait until the last thing that the control process heard of the workers is this."""
        while True:
            told = (await self.ask_control())["told"]
            if told and wanted.items() <= told[-1].items() and told[-1]["command"] == "workers":
                return
            await asyncio.sleep(0.01)

    async def ask_slot(self, slot: int) -> dict[str, Any]:
        """What the worker in this slot says; which one is asked is the kernel's choice."""
        while True:
            facts = await self.ask_worker()
            if facts["slot"] == slot:
                return facts

    async def stopped(self) -> int:
        self.supervisor.stop()
        return await self.task


Start = Callable[..., AbstractAsyncContextManager[Run]]


async def _ask(address: str) -> dict[str, Any]:
    host, port = address.split(":")
    while True:
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            with contextlib.suppress(ConnectionError):
                if line := await reader.readline():
                    facts: dict[str, Any] = json.loads(line)
                    return facts
        finally:
            writer.close()


def quick_settings(*, workers: int = 1, drain: float = 30) -> Settings:
    return Settings(
        server=ServerSettings(listen="127.0.0.1:0", workers=workers, drain_timeout_seconds=drain),
        control=ControlSettings(listen="127.0.0.1:0"),
    )


@pytest.fixture
def start() -> Start:
    """Start a supervisor; whatever the test does, nothing of it is left afterwards."""

    @contextlib.asynccontextmanager
    async def started(
        *,
        workers: int = 1,
        worker: str = "worker",
        control: str = "control",
        drain: float = 30,
        ready_seconds: float = 30,
    ) -> AsyncIterator[Run]:
        settings = quick_settings(workers=workers, drain=drain)
        listeners = open_listeners(settings)
        run = Run(settings, listeners, worker=worker, control=control, ready_seconds=ready_seconds)
        try:
            yield run
        finally:
            run.supervisor.stop()
            run.supervisor.stop()
            await asyncio.gather(run.task, return_exceptions=True)
            listeners.close()

    return started


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
