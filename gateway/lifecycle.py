"""The child's end of the channel to the supervisor: start order in, reports out, drain once.

Every process below the supervisor gets one end of an AF_UNIX stream socket pair and speaks lines of JSON on it. The
channel is also the leash: its end of file means that the supervisor is gone, and a child drains and exits then, so no
child outlives its supervisor however that died (also by SIGKILL). PR_SET_PDEATHSIG was turned down: it is tied to the
thread that forked, is Linux only, and kills where the channel lets the child drain.

    supervisor → child   {"command": "start", "settings": {…}, "slot": 0, "listen_fds": [5, 6], "node": "…",
                          "restarted": false}
                         {"command": "drain"}
                         {"command": …}                  others go to `on_message`:
                         {"command": "slots", "empty": [1]}    worker: accept from the sockets of these slots as well
                         {"command": "look"}             worker: there is a change, do not wait for the next poll
                         {"command": "handover"}         worker: another has its slot; drain, but leave what waits there
                         {"command": "workers", …}       control process: how many are ready, who there is ("following":
                                                         name, pid, applied, epoch), and what became of reloads
                         {"command": "applied", "pid": …, "seq": …, "epoch": …}    … a worker follows up to there
                         {"command": "counts", "pid": …, "name": …, …}             … a worker's counts, as it sent them
                         {"command": "reloaded", "ok": …, "code": …, "problems": […], "changed": […], "warnings": […],
                          "number": …}                   … to the control process that asked, under its number
    child → supervisor   {"event": "store_ready"}        control process: the store is migrated, workers may open it
                         {"event": "ready", …}           the child does its work
                         {"event": "applied", "seq": …, "epoch": …}    worker: all changes up to this one count here
                         {"event": "counts", …}          worker, once a second: what it did, and how current it is
                         {"event": "changed"}            control process: a change was committed
                         {"event": "reload", "number": …}      control process: read the settings again
                         {"event": "draining"}           worker: it accepts nothing new, whoever told it to drain
                         {"event": "failed", "reason": "…"}    it cannot; one line for the user, the exit follows

Invariant: nothing here blocks once the event loop runs, and `on_drain` is called at most once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.settings.model import Settings

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


Message = dict[str, Any]  # JSON has no narrower type; who reads a message knows its fields

_RECEIVE_BYTES: Final = 65_536
_OUTGOING_LIMIT_BYTES: Final = 1_048_576  # a supervisor that reads nothing for this long is not going to
_EXIT_FORCED: Final = 1


@dataclass(frozen=True, slots=True)
class StartOrder:
    """What a child is to do.

    `listen_fds` are sockets that listen already, inherited: a worker's are those of all slots, by number, the control
    process's is its own. `node` names this run of the supervisor, the same for all of its children.
    """

    settings: Settings
    slot: int
    listen_fds: tuple[int, ...]
    node: str
    restarted: bool = False
    """The gateway ran already: a store that is missing now is lost for a while or for good, which is no reason not to
    come up, and no new one takes its place."""


class SupervisorChannel:
    """One child's connection to its supervisor. Used in this order: `wait_for_start`, `attach`, `report`."""

    __slots__ = ("_drained", "_incoming", "_loop", "_on_drain", "_on_message", "_outgoing", "_socket")

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)
        self._incoming = b""
        self._outgoing = b""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_drain: Callable[[], None] | None = None
        self._on_message: Callable[[Message], None] | None = None
        self._drained = False

    def wait_for_start(self) -> StartOrder:
        """Block until the start order is here. Exits the process quietly (status 0) when the supervisor goes first.

        Import what the process needs before this call: the supervisor starts all children at once and gives the
        order when the store is ready, so imports overlap with the migration.
        """
        while b"\n" not in self._incoming:
            if not self._receive():
                sys.exit(0)
        line, _, self._incoming = self._incoming.partition(b"\n")
        order = json.loads(line)
        if order["command"] == "drain":  # stopped before it was started
            sys.exit(0)
        return StartOrder(
            settings=Settings.model_validate(order["settings"]),
            slot=order["slot"],
            listen_fds=tuple(order["listen_fds"]),
            node=order["node"],
            restarted=order.get("restarted", False),
        )

    def attach(
        self,
        loop: asyncio.AbstractEventLoop,
        on_drain: Callable[[], None],
        on_message: Callable[[Message], None] | None = None,
    ) -> None:
        """Listen on `loop` from now on: "drain", end of file, SIGTERM and SIGINT all lead to one call of `on_drain`.

        SIGTERM or SIGINT after the drain has begun ends the process at once (status 1).
        """
        self._loop, self._on_drain, self._on_message = loop, on_drain, on_message
        self._socket.settimeout(0)
        loop.add_reader(self._socket.fileno(), self._readable)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        loop.call_soon(self._dispatch)  # orders that came right behind the start order
        self._send()  # reports that did not fit into the socket before the loop ran

    def report(self, event: str, **fields: object) -> None:
        """Tell the supervisor; never blocks and never raises: without a supervisor there is nobody to tell."""
        line = json.dumps({"event": event, **fields}, separators=(",", ":")).encode() + b"\n"
        if len(self._outgoing) + len(line) <= _OUTGOING_LIMIT_BYTES:
            self._outgoing += line
            self._send()

    def close(self) -> None:
        """Let go of the channel; the supervisor sees the end of file."""
        if self._loop is not None and self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
        self._socket.close()

    def _receive(self) -> bool:
        """Read what is there; False at the end of file."""
        try:
            received = self._socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        self._incoming += received
        return bool(received)

    def _readable(self) -> None:
        alive = self._receive()
        self._dispatch()
        if not alive:
            self.close()
            self._drain()

    def _dispatch(self) -> None:
        *lines, self._incoming = self._incoming.split(b"\n")
        for line in lines:
            self._handle(json.loads(line))

    def _handle(self, message: Message) -> None:
        if message["command"] == "drain":
            self._drain()
        elif self._on_message is not None:
            self._on_message(message)

    def _signalled(self) -> None:
        if self._drained:
            # A second signal means "now". No clean-up may stand in its way, so not sys.exit: that only raises.
            os._exit(_EXIT_FORCED)
        self._drain()

    def _drain(self) -> None:
        if not self._drained and self._on_drain is not None:
            self._drained = True
            self._on_drain()

    def _send(self) -> None:
        """Write what the socket takes; the rest goes when it is writable again."""
        fd = self._socket.fileno()
        if fd < 0:
            return
        with contextlib.suppress(BlockingIOError, InterruptedError):
            try:
                sent = self._socket.send(self._outgoing, socket.MSG_DONTWAIT) if self._outgoing else 0
            except (BrokenPipeError, ConnectionError):
                sent = len(self._outgoing)  # the reader's end of file does the rest
            self._outgoing = self._outgoing[sent:]
        if self._loop is not None:
            if self._outgoing:
                self._loop.add_writer(fd, self._send)
            else:
                self._loop.remove_writer(fd)
