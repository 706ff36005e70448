"""Starts the demo API as a process and ends it with the block."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def demo_upstream() -> Iterator[str]:
    """The URL of a running demo API; it listens before the block begins, so that no request comes too early."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        fd = listening.fileno()
        # A process group of its own: Ctrl-C is for the demo, which ends this one last.
        process = subprocess.Popen(  # noqa: S603 - the interpreter that runs this, with a module of this package
            [sys.executable, "-P", "-m", "gateway.demo.upstream", str(fd)],
            stdin=subprocess.PIPE,
            pass_fds=(fd,),
            process_group=0,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait()
