"""Starts, watches, replaces and drains the control process and the workers.

The order of a start: all children are spawned at once, so that their imports overlap; the control process gets its
start order right away and migrates the store; once it reports `store_ready` the workers get theirs; when everybody
has reported `ready`, so is the gateway. A child that dies before that makes the start fail, since nothing will mend
itself and somebody is looking at the terminal; one that dies later is started again, for as long as it takes.

Every worker inherits the sockets of all slots. While a slot has no child that serves it, the others are told to accept
from its socket, so that a crash loop strands no connection. The sockets are closed here before the order to drain goes
out, and by each worker as it gets it (`gateway.proxy.accepting`): the port is free while the last answers are given.

Invariant: a child is alive only inside its keeper (`_keep`), and `run` returns only when every keeper is over.

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
from gateway.supervisor.backoff import Backoff
from gateway.supervisor.child import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gateway.lifecycle import Message
    from gateway.settings.model import Settings
    from gateway.supervisor.listeners import Listeners

# -P: without it, -m puts the working directory first on the path, and a directory "gateway" there would be run.
WORKER_ARGV: Final = (sys.executable, "-P", "-m", "gateway.proxy.process")
CONTROL_ARGV: Final = (sys.executable, "-P", "-m", "gateway.control.process")

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


class Slot:
    """A place that one child after another fills: its name and sockets stay, the child changes."""

    __slots__ = (
        "applied",
        "argv",
        "backoff",
        "child",
        "failure",
        "listen_fds",
        "name",
        "number",
        "ordered",
        "ready_since",
        "serving",
    )

    def __init__(self, name: str, number: int, argv: Sequence[str], listen_fds: tuple[int, ...]) -> None:
        self.name = name
        self.number = number
        self.argv = argv
        self.listen_fds = listen_fds
        self.backoff = Backoff()
        self.empty()

    def empty(self) -> None:
        """Forget the child that was here."""
        self.child: Child | None = None
        self.ordered = False
        self.applied = -1
        """The change up to which a worker is current, by its own report."""
        self.ready_since: float | None = None
        self.serving = False
        """The child is ready, and does not drain by itself (somebody sent it a signal)."""
        self.failure = ""


class Supervisor:
    """One run of the gateway: `await Supervisor(…).run()` from start to the end of the drain."""

    def __init__(
        self,
        settings: Settings,
        listeners: Listeners,
        *,
        on_ready: Callable[[Message], None],
        worker_argv: Sequence[str] = WORKER_ARGV,
        control_argv: Sequence[str] = CONTROL_ARGV,
    ) -> None:
        """`on_ready` gets the control process's "ready" report, once, when all are ready for the first time.

        The argvs are commands that take the number of the channel's descriptor as their last argument.
        """
        self._listeners = listeners
        fds = tuple(opened.fileno() for opened in listeners.workers)
        self._workers = [Slot(f"worker-{slot}", slot, worker_argv, fds) for slot in range(len(fds))]
        self._control = Slot("control", 0, control_argv, (listeners.control.fileno(),))
        self._slots = [self._control, *self._workers]
        self._settings = settings.model_dump(mode="json")
        self._drain_seconds = settings.server.drain_timeout_seconds + _DRAIN_MARGIN_SECONDS
        self._node = secrets.token_hex(8)
        self._on_ready = on_ready
        self._state = State.STARTING
        self._store_ready = False
        self._control_report: Message = {}
        self._stopping = asyncio.Event()
        self._forced = False

    async def run(self) -> int:
        """Run until a signal ends it; returns the exit status. Raises GatewayError where the start fails."""
        for number in _stop_signals():
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
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
            results = await asyncio.gather(*keepers.values(), return_exceptions=True)
            stop.cancel()
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return _FORCED_EXIT_STATUS if self._forced else 0

    def stop(self) -> None:
        """Drain and return from `run`; called a second time, kill what is left."""
        if not self._stopping.is_set():
            _log.info("stopping: answering what has arrived", extra={"seconds_at_most": self._drain_seconds})
            self._stopping.set()
        elif not self._forced:
            _log.warning("stopping at once, requests in flight are cut")
            self._forced = True
            self._kill(self._slots)

    async def _keep(self, slot: Slot) -> None:
        """Have a child in this slot until the stop. Raises GatewayError where the first one never gets ready."""
        while not self._stopping.is_set():
            life, reason = await self._live(slot)
            if self._stopping.is_set():
                return
            if self._state is State.STARTING:
                raise GatewayError(reason, code="start_failed")
            delay = slot.backoff.after_life_of(life)
            _log.error("a child died", extra={"child": slot.name, "reason": reason, "restart_in_seconds": delay})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)

    async def _live(self, slot: Slot) -> tuple[float, str]:
        """One child's life: how many seconds it did its work, and why it ended, in its own words if it had any."""
        try:
            slot.child = await Child.start(slot.name, slot.argv, slot.listen_fds)
        except OSError as error:
            return 0.0, f"{slot.name} cannot be started: {error.strerror}"
        _log.debug("started a child", extra={"child": slot.name, "pid": slot.child.pid})
        self._order(slot)
        self._tell_workers()
        if self._stopping.is_set():  # the order to drain went out while there was nobody to get it
            slot.child.send({"command": "drain"})
        if self._forced or self._state is State.STOPPED:
            slot.child.kill()
        status = await slot.child.wait(functools.partial(self._on_event, slot))
        life = time.monotonic() - slot.ready_since if slot.ready_since is not None else 0.0
        reason = slot.failure or f"{slot.name} ended with {_ending(status)}"
        slot.empty()
        self._tell_all()
        return life, reason

    def _order(self, slot: Slot) -> None:
        """Send the start order, once per child, as soon as the store is ready for it."""
        if slot.child is None or slot.ordered or (slot is not self._control and not self._store_ready):
            return
        slot.ordered = True
        slot.child.send(
            {
                "command": "start",
                "settings": self._settings,
                "slot": slot.number,
                "listen_fds": slot.listen_fds,
                "node": self._node,
                "restarted": self._state is not State.STARTING,
            }
        )
        if slot is not self._control:
            self._tell_control()

    def _on_event(self, slot: Slot, message: Message) -> None:
        event = message["event"]
        if event == "store_ready":
            self._store_ready = True
            for worker in self._workers:
                self._order(worker)
        elif event == "ready":
            slot.ready_since = time.monotonic()
            slot.serving = True
            if slot is self._control:
                self._control_report = message
            self._tell_all()
            self._check_all_ready()
        elif event == "draining":
            slot.serving = False
            self._tell_all()
        elif event == "applied":
            self._pass_on_applied(slot, int(message["seq"]))
        elif event == "changed":
            self._pass_on_changed()
        elif event == "failed":
            slot.failure = str(message["reason"])

    def _pass_on_changed(self) -> None:
        for worker in self._workers:
            if worker.child is not None and worker.ordered:
                worker.child.send({"command": "look"})

    def _pass_on_applied(self, slot: Slot, seq: int) -> None:
        slot.applied = seq
        if slot.child is not None and self._control.child is not None and self._control.ready_since is not None:
            self._control.child.send({"command": "applied", "pid": slot.child.pid, "seq": seq})

    def _check_all_ready(self) -> None:
        if self._state is State.STARTING and all(slot.ready_since is not None for slot in self._slots):
            self._move(State.RUNNING)
            self._on_ready(self._control_report)

    def _tell_all(self) -> None:
        """What each child has to know of the others, said again whenever it changed."""
        self._tell_control()
        self._tell_workers()

    def _tell_workers(self) -> None:
        """Which slots nobody serves: the others stand in there. At the start all come at once, so nobody needs to."""
        if self._state is State.RUNNING:
            empty = [worker.number for worker in self._workers if not worker.serving]
            for worker in self._workers:
                if worker.child is not None:
                    worker.child.send({"command": "slots", "empty": empty})

    def _tell_control(self) -> None:
        """What `/readyz` is answered from, and on whom the answer to a change waits."""
        if self._control.child is not None and self._control.ready_since is not None:
            ready = sum(worker.serving for worker in self._workers)
            draining = self._stopping.is_set()
            following = [
                {"name": worker.name, "pid": worker.child.pid, "applied": worker.applied}
                for worker in self._workers
                if worker.child is not None and worker.ordered
            ]
            self._control.child.send(
                {
                    "command": "workers",
                    "ready": ready,
                    "of": len(self._workers),
                    "draining": draining,
                    "following": following,
                }
            )

    async def _drain(self, workers: Iterable[asyncio.Task[None]], control: asyncio.Task[None]) -> None:
        """Workers first: the control process answers health checks and takes their last records meanwhile.

        Listening ends here first, so that a worker is always the last to close a socket: it can answer who waits there.
        """
        self._move(State.DRAINING)
        self._listeners.close_workers()
        self._tell_control()
        await self._end(self._workers, workers, self._drain_seconds)
        await self._end([self._control], [control], _CONTROL_DRAIN_SECONDS)

    async def _end(self, slots: Iterable[Slot], keepers: Iterable[asyncio.Task[None]], seconds: float) -> None:
        for slot in slots:
            if slot.child is not None:
                slot.child.send({"command": "drain"})
        _, late = await asyncio.wait(tuple(keepers), timeout=seconds)
        if late:
            _log.warning("a child did not end in time and is killed", extra={"seconds": seconds})
            self._kill(slots)
            await asyncio.wait(late)

    def _kill(self, slots: Iterable[Slot]) -> None:
        for slot in slots:
            if slot.child is not None:
                slot.child.kill()

    def _move(self, state: State) -> None:
        if state.value <= self._state.value:
            raise RuntimeError(f"supervisor cannot go from {self._state} to {state}")
        self._state = state


def _stop_signals() -> list[signal.Signals]:
    """SIGHUP too (the terminal was closed), unless whoever started us ignores it, as nohup does."""
    hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, *hangup]


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return f"signal {signal.Signals(-status).name}"
