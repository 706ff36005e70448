"""Listening sockets: one per worker on one address, opened before anything else, with one clear line when it fails."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from gateway.errors import GatewayError
from gateway.settings.model import ControlSettings, ServerSettings, Settings
from gateway.supervisor.listeners import is_free, open_listeners

if TYPE_CHECKING:
    from collections.abc import Iterator


def _settings(proxy: str, control: str = "127.0.0.1:0", workers: int = 1) -> Settings:
    return Settings(
        server=ServerSettings(listen=proxy, workers=workers, backlog=16), control=ControlSettings(listen=control)
    )


@pytest.fixture
def taken() -> Iterator[str]:
    """An address where another process's socket listens; with SO_REUSEPORT, like a second gateway's would."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield f"127.0.0.1:{other.getsockname()[1]}"


def test_every_worker_slot_has_its_own_socket_on_the_same_address() -> None:
    listeners = open_listeners(_settings("127.0.0.1:0", workers=3))
    try:
        assert len({opened.fileno() for opened in listeners.workers}) == 3
        assert len({opened.getsockname() for opened in listeners.workers}) == 1
        assert listeners.proxy_address != listeners.control_address
    finally:
        listeners.close()


@pytest.mark.parametrize("setting", ["server.listen", "control.listen"])
def test_a_port_in_use_is_said_in_one_line_that_names_the_setting(taken: str, setting: str) -> None:
    proxy, control = (taken, "127.0.0.1:0") if setting == "server.listen" else ("127.0.0.1:0", taken)
    with pytest.raises(GatewayError) as caught:
        open_listeners(_settings(proxy, control, workers=2))
    assert caught.value.code == "cannot_listen"
    ways = {"server.listen": "--listen, GATEWAY__SERVER__LISTEN", "control.listen": "GATEWAY__CONTROL__LISTEN"}
    assert caught.value.detail == (
        f"{setting} = {taken}: the port is in use by another process; stop that one, or choose another port. "
        f"Another one is set with {ways[setting]} or {setting} in the configuration file."
    )


def test_an_address_of_another_machine_is_explained() -> None:
    with pytest.raises(GatewayError, match=r"server\.listen = 192\.0\.2\.1:0: no network interface of this machine"):
        open_listeners(_settings("192.0.2.1:0"))


def test_a_name_that_does_not_resolve_is_explained() -> None:
    with pytest.raises(GatewayError, match="the host name cannot be resolved"):
        open_listeners(_settings("no-such-host.invalid:0"))


def test_a_port_is_free_until_somebody_listens_there(taken: str) -> None:
    assert not is_free(taken)
    assert is_free("127.0.0.1:0")


def test_localhost_means_the_ipv4_address_most_clients_try() -> None:
    listeners = open_listeners(_settings("localhost:0"))
    try:
        assert listeners.proxy_address.startswith("127.0.0.1:")
    finally:
        listeners.close()
