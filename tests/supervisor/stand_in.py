"""A child for the supervisor's tests: speaks the channel's language, and misbehaves as its first argument says.

Run as `python stand_in.py BEHAVIOUR FD`. Words of BEHAVIOUR, joined by "+":
control          reports store_ready, then ready, and answers each connection with what it was last told of the workers
worker           reports ready and answers each connection with one JSON line about itself
refuse           reports "failed" with a reason and exits with status 1
crash            exits with status 3 before it is ready
crash-once:FILE  the same, but only while FILE does not exist, which it then makes
stubborn         ignores the drain
linger           once told to drain, goes on until one more connection has been answered
refuse-if:FILE   as refuse, while FILE exists
hang-if:FILE     never gets ready, while FILE exists
asks             a control process that asks for a reload at each connection after the first, and answers when it knows
reports          a worker that says at each connection how far it follows, and what it counts
drain-alone      says after its first answer that it drains, as a worker does that was sent a signal, and goes on
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from pathlib import Path

from gateway.lifecycle import Message, StartOrder, SupervisorChannel


async def serve(order: StartOrder, channel: SupervisorChannel, words: dict[str, str]) -> None:  # noqa: C901  one per word
    """Report, answer connections until the drain."""
    drained, answered = asyncio.Event(), asyncio.Event()
    told: list[Message] = []
    channel.attach(asyncio.get_running_loop(), drained.set, told.append)

    asked = iter(range(1_000))
    asking: set[int] = set()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "asks" in words and (number := next(asked)):
            channel.report("reload", number=number)
            asking.add(number)
            while not any(message["command"] == "reloaded" for message in told):
                await asyncio.sleep(0.01)
        if "reports" in words:
            channel.report("applied", seq=7, epoch="e1")
            channel.report("counts", hits=3)
        facts = {
            "pid": os.getpid(),
            "slot": order.slot,
            "node": order.node,
            "listening": len(order.listen_fds),
            "restarted": order.restarted,
            "told": told,
            "draining": drained.is_set(),
            "idle": order.settings.server.client_idle_timeout_seconds,
        }
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(facts).encode() + b"\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            asking.clear()
            if drained.is_set():
                answered.set()
            elif words.pop("drain-alone", None) is not None:
                channel.report("draining")

    if "hang-if" in words and os.access(words["hang-if"], os.F_OK):
        await asyncio.Event().wait()
    listening = socket.socket(fileno=order.listen_fds[order.slot])
    async with await asyncio.start_server(answer, sock=listening):
        channel.report("ready", organizations=0)
        await drained.wait()
        if "stubborn" in words:
            await asyncio.Event().wait()
        if "linger" in words:
            await answered.wait()
        while asking:
            await asyncio.sleep(0.01)


def main() -> None:
    """Behave."""
    words = {word: rest for word, _, rest in (part.partition(":") for part in sys.argv[1].split("+"))}
    channel = SupervisorChannel(int(sys.argv[2]))
    order = channel.wait_for_start()
    if "refuse" in words or ("refuse-if" in words and Path(words["refuse-if"]).exists()):
        channel.report("failed", reason="the stand-in refuses to start")
        sys.exit(1)
    if "crash-once" in words and not Path(words["crash-once"]).exists():
        Path(words["crash-once"]).touch()
        sys.exit(3)
    if "crash" in words:
        sys.exit(3)
    if "control" in words:
        channel.report("store_ready")
    asyncio.run(serve(order, channel, words))


main()
