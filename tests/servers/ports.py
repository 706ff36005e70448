"""A port for a server that cannot be asked to choose one by itself."""

from __future__ import annotations

import socket


def free_port() -> int:
    """One that nobody has now; whoever starts a server there tries another when somebody was faster."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
