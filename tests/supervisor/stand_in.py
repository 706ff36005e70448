"""A child for the supervisor's tests: speaks the channel's language, and misbehaves as its first argument says.

Run as `python stand_in.py BEHAVIOUR FD`. Words of BEHAVIOUR, joined by "+":
control          reports store_ready, then ready, and answers each connection with what it was last told of the workers
worker           reports ready and answers each connection with one JSON line about itself
refuse           reports "failed" with a reason and exits with status 1
crash            exits with status 3 before it is ready
crash-once:FILE  the same, but only while FILE does not exist, which it then makes
stubborn         ignores the drain
linger           once told to drain, goes on until one more connection has been answered
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


async def serve(order: StartOrder, channel: SupervisorChannel, words: dict[str, str]) -> None:
    """Report, answer connections until the drain."""
    drained, answered = asyncio.Event(), asyncio.Event()
    told: list[Message] = []
    channel.attach(asyncio.get_running_loop(), drained.set, told.append)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        facts = {
            "pid": os.getpid(),
            "slot": order.slot,
            "node": order.node,
            "listening": len(order.listen_fds),
            "restarted": order.restarted,
            "told": told,
            "draining": drained.is_set(),
        }
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(facts).encode() + b"\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            if drained.is_set():
                answered.set()
            elif words.pop("drain-alone", None) is not None:
                channel.report("draining")

    listening = socket.socket(fileno=order.listen_fds[order.slot])
    async with await asyncio.start_server(answer, sock=listening):
        channel.report("ready", organizations=0)
        await drained.wait()
        if "stubborn" in words:
            await asyncio.Event().wait()
        if "linger" in words:
            await answered.wait()


def main() -> None:
    """Behave."""
    words = {word: rest for word, _, rest in (part.partition(":") for part in sys.argv[1].split("+"))}
    channel = SupervisorChannel(int(sys.argv[2]))
    order = channel.wait_for_start()
    if "refuse" in words:
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
