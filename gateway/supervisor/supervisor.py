"""Starts, watches, replaces and drains the control process and the workers.

The order of a start: all children are spawned at once, so that their imports overlap; the control process gets its
start order right away and migrates the store; once it reports `store_ready` the workers get theirs; when everybody
has reported `ready`, so is the gateway. A child that dies before that makes the start fail, since nothing will mend
itself and somebody is looking at the terminal; one that dies later is started again, for as long as it takes.

Every worker inherits the sockets of all slots. While a slot has no child that serves it, the others are told to accept
from its socket, so that a crash loop strands no connection. The sockets are closed here before the order to drain goes
out, and by each worker as it gets it (`gateway.proxy.accepting`): the port is free while the last answers are given.

A reload (`gateway.supervisor.reloading`) replaces one child after the other: the new one is ready before the old one
drains, so a slot is never empty, and what waits in its queue stays there for the new one.

Invariant: a child is alive only while its slot knows its life, and `run` returns only when every life is over.

Plain asyncio without aiohttp, SQLAlchemy or threads of its own, so that what everything else hangs on stays small.
A general process manager (systemd, supervisord) was turned down: the sockets have to be shared between workers, and
the order of start and drain is ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import logging
import secrets
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

from gateway.errors import GatewayError
from gateway.supervisor.child import Child
from gateway.supervisor.hangup import Hangup, meaning_of_hangup
from gateway.supervisor.reloading import Reloading
from gateway.supervisor.slot import Life, Slot
from gateway.supervisor.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gateway.lifecycle import Message
    from gateway.settings.model import Settings
    from gateway.supervisor.listeners import Listeners
    from gateway.supervisor.slot import Ended

# -P: without it, -m puts the working directory first on the path, and a directory "gateway" there would be run.
WORKER_ARGV: Final = (sys.executable, "-P", "-m", "gateway.proxy.process")
CONTROL_ARGV: Final = (sys.executable, "-P", "-m", "gateway.control.process")

READY_SECONDS: Final = 30.0
"""How long a reload waits for a new child."""
_DRAIN_MARGIN_SECONDS: Final = 2.0  # beyond the workers' own drain timeout, for their last steps
_CONTROL_DRAIN_SECONDS: Final = 5.0
_FORCED_EXIT_STATUS: Final = 1

_log: Final = logging.getLogger(__name__)


class State(enum.Enum):
    """Where the supervisor is in its life; it only ever moves down this list."""

    STARTING = 0
    RUNNING = 1
    DRAINING = 2
    STOPPED = 3


class Supervisor:
    """One run of the gateway: `await Supervisor(…).run()` from start to the end of the drain."""

    def __init__(
        self,
        settings: Settings,
        listeners: Listeners,
        *,
        load: Callable[[], Settings],
        on_ready: Callable[[Message], None],
        worker_argv: Sequence[str] = WORKER_ARGV,
        control_argv: Sequence[str] = CONTROL_ARGV,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        """`on_ready` gets the control process's "ready" report, once, when all are ready for the first time.

        `load` reads the settings again, for a reload, and raises ConfigurationError. The argvs are commands that take
        the number of the channel's descriptor as their last argument.
        """
        self._listeners = listeners
        fds = tuple(opened.fileno() for opened in listeners.workers)
        dumped = settings.model_dump(mode="json")
        self._workers = [Slot(f"worker-{slot}", slot, worker_argv, fds, dumped) for slot in range(len(fds))]
        self._control = Slot("control", 0, control_argv, (listeners.control.fileno(),), dumped)
        self._slots = [self._control, *self._workers]
        # The control process last, which answers whoever asked when all others are done.
        self._reloading = Reloading(settings, load, [*self._workers, self._control], self._replace)
        self._ready_seconds = ready_seconds
        self._node = secrets.token_hex(8)
        self._on_ready = on_ready
        self._state = State.STARTING
        self._store_ready = False
        self._control_report: Message = {}
        self._stopping = asyncio.Event()
        self._forced = False
        self._reload_again = False
        self._telling = Telling(
            self._control,
            self._workers,
            is_running=lambda: self._state is State.RUNNING,
            facts=lambda: {"draining": self._stopping.is_set(), **self._reloading.facts()},
        )

    async def run(self) -> int:
        """Run until a signal ends it; returns the exit status. Raises GatewayError where the start fails."""
        self._attend_signals()
        keepers = {slot.name: asyncio.create_task(self._keep(slot)) for slot in self._slots}
        stop = asyncio.create_task(self._stopping.wait())
        try:
            # A keeper is over before the stop only when it raised: the start failed.
            await asyncio.wait((stop, *keepers.values()), return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                await self._drain([keepers[slot.name] for slot in self._workers], keepers[self._control.name])
        finally:
            self._move(State.STOPPED)
            self._stopping.set()
            self._kill(self._slots)
            lives = [life.task for slot in self._slots for life in slot.lives()]
            results = await asyncio.gather(*keepers.values(), *lives, return_exceptions=True)
            await self._reloading.over()
            stop.cancel()
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return _FORCED_EXIT_STATUS if self._forced else 0

    def stop(self) -> None:
        """Drain and return from `run`; called a second time, kill what is left."""
        if not self._stopping.is_set():
            seconds = max(self._patience(slot, slot.settings) for slot in self._workers)
            message = "stopping: answering what has arrived; a second signal stops at once"
            _log.info(message, extra={"seconds_at_most": seconds})
            self._stopping.set()
        elif not self._forced:
            _log.warning("stopping at once, requests in flight are cut")
            self._forced = True
            self._kill(self._slots)

    def reload(self, answer: Callable[[Message], None] | None = None) -> None:
        """Read the settings again and replace all children, unless something stands in the way.

        `answer` is told how it went, before a control process that asked is itself replaced.
        """
        refusal = "" if self._state is State.RUNNING and not self._stopping.is_set() else _not_running(self._state)
        self._reloading.begin(refusal, answer, told=self._on_reload_over)

    def on_hangup(self) -> None:
        """Reload, and where that cannot be yet, as soon as it can: there is nobody who could be told to ask again.

        A reload under way may have read the settings before the change that this signal is about. However many signals
        come until then, one more reload is enough for all.
        """
        if not self._stopping.is_set() and (self._state is State.STARTING or self._reloading.under_way):
            self._reload_again = True
            _log.info("SIGHUP: the settings are read again when what is under way is done")
        else:
            self.reload()

    def _on_reload_over(self) -> None:
        self._telling.control_of_workers()
        self._reload_if_still_wanted()

    def _reload_if_still_wanted(self) -> None:
        if self._reload_again and not self._stopping.is_set():
            self._reload_again = False
            self.reload()

    def _attend_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        meaning = meaning_of_hangup()
        if meaning is not Hangup.IGNORED:
            loop.add_signal_handler(signal.SIGHUP, self.stop if meaning is Hangup.STOP else self.on_hangup)

    # --- lives --------------------------------------------------------------------------------------------------------

    async def _keep(self, slot: Slot) -> None:
        """Have a tenant in this slot until the stop. Raises GatewayError where the first one never gets ready."""
        while not self._stopping.is_set():
            async with slot.changing:
                if slot.tenant is None and not self._stopping.is_set():
                    slot.tenant = self._begin(slot, slot.settings)
                life = slot.tenant
            ended = await life.left if life is not None else None
            if ended is None or self._stopping.is_set():
                continue
            if self._state is State.STARTING:
                raise GatewayError(ended[1], code="start_failed")
            delay = slot.backoff.after_life_of(ended[0])
            _log.error("a child died", extra={"child": slot.name, "reason": ended[1], "restart_in_seconds": delay})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)

    async def _replace(self, slot: Slot, settings: Message, before_handover: Callable[[], None]) -> str:
        """Put a new child beside the one in this slot, and in its place once it is ready.

        Returns why that cannot be, and then everything in the slot is as it was; "" where it is done.
        """
        async with slot.changing:
            if self._stopping.is_set():
                return _not_running(State.DRAINING)
            newcomer = slot.newcomer = self._begin(slot, settings)
            try:
                if reason := await self._until_ready(slot, newcomer):
                    return reason
            finally:
                slot.newcomer = None
            before_handover()
            predecessor, slot.tenant, slot.settings = slot.tenant, newcomer, settings
            if predecessor is not None:
                slot.retired.append(predecessor)
                predecessor.hand_over()
                late = asyncio.get_running_loop().call_later(predecessor.drain_seconds, self._end_late, predecessor)
                predecessor.task.add_done_callback(lambda _: late.cancel())
            self._telling.of_all()
            return ""

    async def _until_ready(self, slot: Slot, newcomer: Life) -> str:
        """Wait for a newcomer; one that does not get ready is gone when this returns why."""
        stopped = asyncio.create_task(self._stopping.wait())
        settled = asyncio.create_task(newcomer.settled.wait())
        await asyncio.wait((stopped, settled), timeout=self._ready_seconds, return_when=asyncio.FIRST_COMPLETED)
        late = not settled.done() and not stopped.done()
        for each in (stopped, settled):
            each.cancel()
        if newcomer.serving:
            return ""
        newcomer.kill()
        _, reason = await newcomer.task
        if self._stopping.is_set():
            return _not_running(State.DRAINING)
        return f"the new {slot.name} was not ready within {self._ready_seconds:g} seconds" if late else reason

    def _end_late(self, life: Life) -> None:
        _log.warning("a child did not end in time and is killed", extra={"seconds": life.drain_seconds})
        life.kill()

    def _begin(self, slot: Slot, settings: Message) -> Life:
        life = Life(settings, self._patience(slot, settings))
        life.begin(asyncio.create_task(self._live(slot, life)))
        return life

    async def _live(self, slot: Slot, life: Life) -> Ended:
        """One child from start to end; returns for how long it did its work, and why it ended."""
        try:
            child = life.child = await Child.start(slot.name, slot.argv, slot.listen_fds)
        except OSError as error:
            slot.forget(life)
            return 0.0, f"{slot.name} cannot be started: {error.strerror}"
        _log.debug("started a child", extra={"child": slot.name, "pid": child.pid})
        self._order(slot, life)
        self._telling.workers_of_empty_slots()
        if self._stopping.is_set():  # the order to drain went out while there was nobody to get it
            child.send({"command": "drain"})
        if self._forced or self._state is State.STOPPED:
            child.kill()
        status = await child.wait(functools.partial(self._on_event, slot, life))
        seconds = time.monotonic() - life.ready_since if life.ready_since is not None else 0.0
        slot.forget(life)
        self._telling.of_all()
        return seconds, life.failure or f"{slot.name} ended with {_ending(status)}"

    def _patience(self, slot: Slot, settings: Message) -> float:
        """How long a child with these settings may take to end."""
        if slot is self._control:
            return _CONTROL_DRAIN_SECONDS
        return float(settings["server"]["drain_timeout_seconds"]) + _DRAIN_MARGIN_SECONDS

    def _order(self, slot: Slot, life: Life) -> None:
        """Send the start order, once per child, as soon as the store is ready for it."""
        if life.child is None or life.ordered or (slot is not self._control and not self._store_ready):
            return
        life.ordered = True
        # A worker that is to replace one that works has to work itself: it fails without a store.
        replaces = slot is not self._control and life is slot.newcomer
        life.child.send(
            {
                "command": "start",
                "settings": life.settings,
                "slot": slot.number,
                "listen_fds": slot.listen_fds,
                "node": self._node,
                "restarted": self._state is not State.STARTING and not replaces,
            }
        )
        if slot is not self._control:
            self._telling.control_of_workers()

    # --- what children say --------------------------------------------------------------------------------------------

    def _on_event(self, slot: Slot, life: Life, message: Message) -> None:
        match message["event"]:
            case "store_ready":
                self._store_ready = True
                for worker in self._workers:
                    for each in worker.lives():
                        self._order(worker, each)
            case "ready":
                life.ready_since = time.monotonic()
                life.serving = True
                life.settled.set()
                if slot is self._control:
                    self._control_report = message
                self._telling.of_all()
                self._check_all_ready()
            case "draining":
                life.serving = False
                self._telling.of_all()
            case "failed":
                life.failure = str(message["reason"])
            case _:
                self._on_word_for_others(slot, life, message)

    def _on_word_for_others(self, slot: Slot, life: Life, message: Message) -> None:
        match message["event"]:
            case "applied":
                life.applied, life.epoch = int(message["seq"]), message.get("epoch")
                self._telling.control_of_word(life, {"command": "applied", "seq": life.applied, "epoch": life.epoch})
            case "counts":
                self._telling.control_of_word(life, {**message, "command": "counts", "name": slot.name})
            case "changed":
                self._telling.workers_of_change()
            case "reload":
                self.reload(lambda outcome: life.send({**outcome, "number": message.get("number")}))

    def _check_all_ready(self) -> None:
        if self._state is State.STARTING and all(slot.serving for slot in self._slots):
            self._move(State.RUNNING)
            self._on_ready(self._control_report)
            self._reload_if_still_wanted()

    # --- the end ------------------------------------------------------------------------------------------------------

    async def _drain(self, workers: Iterable[asyncio.Task[None]], control: asyncio.Task[None]) -> None:
        """Workers first: the control process answers health checks and takes their last records meanwhile.

        Listening ends here first, so that a worker is always the last to close a socket: it can answer who waits there.
        """
        self._move(State.DRAINING)
        self._listeners.close_workers()
        self._telling.control_of_workers()
        await self._end(self._workers, workers)
        await self._end([self._control], [control])

    async def _end(self, slots: Sequence[Slot], keepers: Iterable[asyncio.Task[None]]) -> None:
        lives = [life for slot in slots for life in slot.lives()]
        for life in lives:
            life.send({"command": "drain"})
        over: list[asyncio.Future[object]] = [*keepers, *(life.task for life in lives)]  # type: ignore[list-item]
        seconds = max((life.drain_seconds for life in lives), default=0.0)
        _, late = await asyncio.wait(over, timeout=seconds)
        if late:
            _log.warning("a child did not end in time and is killed", extra={"seconds": seconds})
            self._kill(slots)
            await asyncio.wait(late)

    def _kill(self, slots: Iterable[Slot]) -> None:
        for slot in slots:
            for life in slot.lives():
                life.kill()

    def _move(self, state: State) -> None:
        if state.value <= self._state.value:
            raise RuntimeError(f"supervisor cannot go from {self._state} to {state}")
        self._state = state


def _not_running(state: State) -> str:
    return "the gateway is still starting" if state is State.STARTING else "the gateway is stopping"


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return f"signal {signal.Signals(-status).name}"
