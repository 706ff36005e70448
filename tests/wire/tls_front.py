"""What tests of TLS with clients share: settings of a listener with it, and contexts of clients that believe it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.certificates import authority, issued

if TYPE_CHECKING:
    import ssl

    from gateway.proxy.tls_front import ClientTls
    from gateway.proxy.worker import Worker

BLOCK = bytes(range(256)) * 256
LARGE = BLOCK * 64  # 4 MiB


def tls(**changes: object) -> dict[str, Any]:
    """Settings of a server with TLS."""
    return {"tls": issued().table(), **changes}


def trusting(**changes: object) -> ssl.SSLContext:
    return authority().context(**changes)


def handshakes(worker: Worker) -> set[ClientTls]:
    """Those that are under way."""
    assert worker.tls is not None
    return worker.tls.handshakes


def nobody_left(worker: Worker) -> None:
    """Neither in a handshake nor behind one."""
    assert not handshakes(worker)
    assert not worker.connections
