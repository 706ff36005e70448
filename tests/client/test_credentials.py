"""Where the key and the address come from, and that a key is never repeated in a complaint."""

from __future__ import annotations

import pytest

from gateway.client import AsyncClient, Client
from gateway.client.credentials import find_admin_url, find_api_key, is_loopback

GOOD = "sk_" + "a" * 49


@pytest.fixture(autouse=True)
def _without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_API_KEY", raising=False)
    monkeypatch.delenv("GATEWAY_ADMIN_URL", raising=False)


def test_an_argument_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_API_KEY", "of-the-environment")
    monkeypatch.setenv("GATEWAY_ADMIN_URL", "http://environment:1")
    assert find_api_key(None) == "of-the-environment"
    assert find_api_key(GOOD) == GOOD
    assert find_admin_url(None) == "http://environment:1"
    assert find_admin_url("http://argument:1") == "http://argument:1"


def test_the_address_is_that_of_a_gateway_on_this_machine_unless_said_otherwise() -> None:
    assert find_admin_url(None) == "http://127.0.0.1:8081"


@pytest.mark.parametrize("given", [f" {GOOD}\n", f"\t{GOOD}\r\n"])
def test_what_comes_along_with_copying_is_forgiven(given: str) -> None:
    assert find_api_key(given) == GOOD


@pytest.mark.parametrize("given", ["", "  \n", None])
def test_without_a_key_there_is_no_client(given: str | None) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match="GATEWAY_API_KEY"):
            kind(given)


@pytest.mark.parametrize("middle", ["\n", "\r\nX-Other: 1", " ", "\x00", "é", "\u202e", "\x7f"])
def test_what_cannot_stand_in_a_header_is_refused_and_not_repeated(middle: str) -> None:
    with pytest.raises(ValueError, match="characters that no key has") as caught:
        Client(GOOD + middle + GOOD)
    assert GOOD not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("http://h:1/", "http://h:1"),
        (" https://h ", "https://h"),
        ("https://h/behind/a/path/", "https://h/behind/a/path"),
        ("http://[::1]:8081", "http://[::1]:8081"),
    ],
)
def test_addresses_that_are_some(given: str, found: str) -> None:
    assert find_admin_url(given) == found


@pytest.mark.parametrize(
    "given",
    [
        "h:1",
        "ftp://h",
        "http://",
        "http://h:0",
        "http://h:99999",
        "http://h/?q",
        "http://h/#f",
        "http://u:p@h",
        "http://[::1",
        "x",
    ],
)
def test_addresses_that_are_none(given: str) -> None:
    with pytest.raises(ValueError, match="is not the URL of an admin API"):
        Client(GOOD, base_url=given)


@pytest.mark.parametrize("given", ["http://u:{}@h", "http://h:x/?k={}", "u:{}@h", "{}", "http://h:x/#{}"])
def test_what_may_hold_a_secret_is_not_repeated(given: str) -> None:
    with pytest.raises(ValueError, match="is not the URL of an admin API") as raised:
        Client(GOOD, base_url=given.format("p4ssw0rd"))
    assert "p4ssw0rd" not in str(raised.value)


def test_this_machine_is_known_by_its_names() -> None:
    assert [
        is_loopback(url) for url in ("http://127.0.0.1:1", "http://localhost", "http://[::1]:1", "http://10.0.0.1")
    ] == [
        True,
        True,
        True,
        False,
    ]
