"""A peer may ask for new keys (RFC 8446, section 4.6.3); without end, and reading nothing, it may not."""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import socket
from typing import TYPE_CHECKING, Final

import pytest

from tests.wire.live import live, run
from tests.wire.tls_front import tls

if TYPE_CHECKING:
    from tests.wire.conftest import Tried

_ROUNDS: Final = 50
_EACH: Final = 2000


def _openssl() -> ctypes.CDLL:
    name = ctypes.util.find_library("ssl")
    if name is None:
        pytest.skip("there is no libssl to be called: Python has one of its own inside")
    library = ctypes.CDLL(name)
    for function in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(library, function).restype = ctypes.c_void_p
    return library


class _Flood:
    """A client that asks for new keys again and again and reads nothing. It blocks, and belongs in a thread."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._library = library = _openssl()
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(address)
        context = ctypes.c_void_p(library.SSL_CTX_new(ctypes.c_void_p(library.TLS_client_method())))
        self._connection = ctypes.c_void_p(library.SSL_new(context))
        library.SSL_set_fd(self._connection, self.socket.fileno())

    def connect(self) -> None:
        assert self._library.SSL_connect(self._connection) == 1

    def ask(self, times: int) -> bool:
        """Whether the gateway went along with it."""
        return all(
            self._library.SSL_key_update(self._connection, 1) == 1
            and self._library.SSL_do_handshake(self._connection) == 1
            for _ in range(times)
        )


def test_a_client_that_asks_for_new_keys_without_end_and_reads_nothing_is_cut_off(tried: Tried) -> None:
    async def case() -> None:
        async with live(server=tls()) as gate:
            flood = _Flood(gate.address)
            with flood.socket:
                await asyncio.to_thread(flood.connect)
                await gate.until(lambda: bool(gate.worker.connections))
                for each in gate.worker.connections:  # else the kernel takes some megabytes
                    each.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                for _ in range(_ROUNDS):
                    if not await asyncio.to_thread(flood.ask, _EACH):
                        break
                else:
                    pytest.fail(f"{_ROUNDS * _EACH} requests for new keys were answered into memory")
            tried("tls: in front", 1)

    run(case())
