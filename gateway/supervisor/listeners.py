"""Opens the listening sockets, before any child exists.

One SO_REUSEPORT socket per worker slot, so that the kernel spreads connections over the workers, and one for the
control process. They belong to the supervisor until it stops: connections that arrive while a child is being replaced
are accepted by another worker, or wait in the backlog, instead of being refused. Workers that bind for themselves were
turned down: a port in use would show only after everything had been started, once per worker.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.errors import GatewayError
from gateway.settings.addresses import parse_listen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.settings.model import Settings

_REASONS: Final = {
    errno.EADDRINUSE: "the port is in use by another process; stop that one, or choose another port",
    errno.EACCES: "this user may not listen there; choose a port from 1024 up",
    errno.EADDRNOTAVAIL: "no network interface of this machine has that address",
}
_WAYS: Final = {"server.listen": "--listen, GATEWAY__SERVER__LISTEN", "control.listen": "GATEWAY__CONTROL__LISTEN"}


@dataclass(frozen=True, slots=True)
class Listeners:
    """The sockets of one run. `workers[slot]` is the slot's own; all have the same address."""

    workers: tuple[socket.socket, ...]
    control: socket.socket

    @property
    def proxy_address(self) -> str:
        """Where clients connect: `host:port`, with the port really used where 0 was asked for."""
        return _text(self.workers[0])

    @property
    def control_address(self) -> str:
        """Where the control process answers: `host:port`."""
        return _text(self.control)

    def close_workers(self) -> None:
        """Leave the workers' sockets to the workers; a socket listens until the last process has closed it."""
        for opened in self.workers:
            opened.close()

    def close(self) -> None:
        """Stop listening; connections nobody accepted are reset. Doing it twice is harmless."""
        self.close_workers()
        self.control.close()


def open_listeners(settings: Settings) -> Listeners:
    """Bind and listen on `server.listen`, once per worker, and on `control.listen`.

    Raises GatewayError (`cannot_listen`), naming the setting and the reason, with nothing left open.
    """
    server = settings.server
    with contextlib.ExitStack() as opened_so_far:
        slots: list[socket.socket] = []
        address = server.listen
        for _ in range(server.workers):
            opened = _listen("server.listen", address, server.backlog, shared=bool(slots))
            slots.append(opened_so_far.enter_context(opened))
            address = _text(slots[0])  # where any free port was asked for, all slots get the same one
        control = _listen("control.listen", settings.control.listen, server.backlog, shared=False)
        opened_so_far.pop_all()
    return Listeners(workers=tuple(slots), control=control)


def is_free(address: str) -> bool:
    """Whether nobody listens on `address` (`host:port`) now; a question, not a reservation."""
    try:
        family, target = _resolve(address)
        _probe(family, target)
    except OSError:
        return False
    return True


def _listen(setting: str, address: str, backlog: int, *, shared: bool) -> socket.socket:
    """A listening socket. `shared`: this run listens there already, so there is nothing to probe."""
    with _explained(setting, address):
        family, target = _resolve(address)
        if not shared:
            _probe(family, target)
        opened = socket.socket(family, socket.SOCK_STREAM)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(target[0] != "::"))
            opened.bind(target)
            opened.listen(backlog)
            opened.settimeout(0)
        except OSError:
            opened.close()
            raise
        return opened


def _probe(family: socket.AddressFamily, target: tuple[str, int]) -> None:
    """Bind without SO_REUSEPORT, which fails where anybody listens.

    With SO_REUSEPORT alone a second gateway of the same user would bind happily and take half of the connections.
    """
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(target)


def _resolve(address: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    host, port = parse_listen(address)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A name with both kinds of address ("localhost") means the IPv4 one: that is what most clients try.
    family, _, _, _, target = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, (str(target[0]), int(target[1]))


@contextlib.contextmanager
def _explained(setting: str, address: str) -> Iterator[None]:
    try:
        yield
    except socket.gaierror as error:
        reason = f"the host name cannot be resolved ({error.strerror})"
        raise _cannot_listen(setting, address, reason) from error
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise _cannot_listen(setting, address, reason) from error


def _cannot_listen(setting: str, address: str, reason: str) -> GatewayError:
    cure = f"Another one is set with {_WAYS[setting]} or {setting} in the configuration file."
    return GatewayError(f"{setting} = {address}: {reason}. {cure}", code="cannot_listen")


def _text(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    return f"[{host}]:{port}" if opened.family == socket.AF_INET6 else f"{host}:{port}"
