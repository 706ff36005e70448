"""One child process and this end of its channel.

A child is an exec of the interpreter, not a fork: a fork would share the supervisor's memory, its event loop and
whatever locks were held, and could not be replaced by a newer version of the code later. It gets its end of a socket
pair and the listening sockets by inheritance, and its orders as lines of JSON (see `gateway.lifecycle`). It is put in
a process group of its own, so that Ctrl-C in a terminal reaches the supervisor alone, which then drains in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.lifecycle import Message

_log: Final = logging.getLogger(__name__)
_LINE_LIMIT_BYTES: Final = 1_048_576
_LAST_BREATH_SECONDS: Final = 5.0


class Child:
    """A running child. Made by `start`; over when `wait` returns its exit status (negative: the signal's number)."""

    __slots__ = ("_end_ordered", "_process", "_reader", "_writer", "name")

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.name = name
        self._process = process
        self._reader = reader
        self._writer = writer
        self._end_ordered = False

    @classmethod
    async def start(cls, name: str, argv: Sequence[str], listen_fds: Sequence[int]) -> Child:
        """Exec `argv` plus the number of its channel's descriptor; `listen_fds` keep their numbers in the child."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            with theirs:
                fd = theirs.fileno()
                process = await asyncio.create_subprocess_exec(
                    *argv,
                    str(fd),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(fd, *listen_fds),
                    process_group=0,
                )
            reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_LIMIT_BYTES)
            undo.pop_all()
        return cls(name, process, reader, writer)

    @property
    def pid(self) -> int:
        """The process id, for logs."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Give an order; a child that is gone takes none, and `wait` tells of that."""
        self._end_ordered = self._end_ordered or message["command"] == "drain"
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def kill(self) -> None:
        """End it at once."""
        self._end_ordered = True
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)

    async def wait(self, on_event: Callable[[Message], None]) -> int:
        """Hand every report to `on_event`, in order, and return the exit status once the process is over.

        The end of the channel counts as the end of the child: one that closed it can be told nothing any more. One that
        was ordered to end may leave unread what it was told since, and the kernel resets its channel then.
        """
        try:
            while line := await self._reader.readline():
                on_event(json.loads(line))
        except (ConnectionError, ValueError) as error:
            if not (self._end_ordered and isinstance(error, ConnectionError)):
                _log.warning("broken channel to a child", extra={"child": self.name, "reason": str(error)})
        exited = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait((exited,), timeout=_LAST_BREATH_SECONDS)
            if not exited.done():
                self.kill()
            return await exited
        finally:
            exited.cancel()
            self._writer.close()
