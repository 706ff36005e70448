"""Addresses have one reading or are refused with a sentence that says how to write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.addresses import Target, parse_listen, parse_network, parse_target


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:8080", ("::1", 8080)),
        ("[0:0::1]:0", ("::1", 0)),
        ("LocalHost:65535", ("localhost", 65535)),
    ],
)
def test_listen_addresses_are_split_into_host_and_port(text: str, expected: tuple[str, int]) -> None:
    """Brackets belong to the notation, not to the host; port 0 asks for any free port."""
    assert parse_listen(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("8080", "host:port"),
        (":8080", "host:port"),
        ("127.0.0.1", "host:port"),
        ("0.0.0.0:", "port"),
        ("0.0.0.0:65536", "0 to 65535"),
        ("0.0.0.0:080", "0 to 65535"),
        ("0.0.0.0:+80", "0 to 65535"),
        ("0.0.0.0:٨٠", "0 to 65535"),
        ("::1:8080", "brackets"),
        ("[::1]8080", "only a port"),
        ("[::1", "host:port"),
        ("[fe80::1%eth0]:80", "not an IPv6 address"),
        ("1.2.3:80", "not a complete IPv4 address"),
        ("256.1.1.1:80", "not a complete IPv4 address"),
        ("a b:80", "neither a host name nor an address"),
        ("-a:80", "neither a host name nor an address"),
        ("münchen:80", "ASCII"),
        ("", "host:port"),
    ],
)
def test_other_listen_addresses_are_refused_with_the_reason(text: str, reason: str) -> None:
    """What two programs could read in two ways is not an address."""
    with pytest.raises(ValueError, match=reason):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:9000", Target("http", "127.0.0.1", 9000, "127.0.0.1:9000")),
        ("http://api", Target("http", "api", 80, "api")),
        ("https://API.example.com/", Target("https", "api.example.com", 443, "api.example.com")),
        ("https://api:80", Target("https", "api", 80, "api:80")),
        ("http://api:80", Target("http", "api", 80, "api")),
        ("HTTP://[2001:DB8::1]:81", Target("http", "2001:db8::1", 81, "[2001:db8::1]:81")),
        ("http://my_service:8000", Target("http", "my_service", 8000, "my_service:8000")),
    ],
)
def test_targets_are_read_with_the_host_field_they_get(text: str, expected: Target) -> None:
    """The authority has brackets where IPv6 needs them, and leaves a scheme's own port out."""
    assert parse_target(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("127.0.0.1:9000", "http:// or https://"),
        ("ftp://a", "http:// or https://"),
        ("http:/a", "http:// or https://"),
        ("http://", "no host"),
        ("http:///", "no host"),
        ("http://:80", "no host"),
        ("http://a/v1", "path and query"),
        ("http://a?b", "path and query"),
        ("http://a#b", "path and query"),
        ("http://a:0", "1 to 65535"),
        ("http://a:", "1 to 65535"),
        ("http://a\tb", "neither"),
        (" http://a", "http:// or https://"),
    ],
)
def test_other_targets_are_refused_with_the_reason(text: str, reason: str) -> None:
    """A target is a server, and nothing else can be said in its address."""
    with pytest.raises(ValueError, match=reason):
        parse_target(text)


def test_the_password_of_a_target_is_not_repeated() -> None:
    """A reason ends up in logs, so it never holds what may be a password."""
    with pytest.raises(ValueError, match="user name") as caught:
        parse_target("http://me:hunter2@api")
    assert "hunter2" not in str(caught.value)


@given(st.ip_addresses(), st.integers(1, 65535), st.sampled_from(["http", "https"]))
def test_every_address_and_port_is_accepted_and_kept(address: object, port: int, scheme: str) -> None:
    """A target's authority reads back to the same target, as a listen address reads back to its parts."""
    host = f"[{address}]" if ":" in str(address) else str(address)
    target = parse_target(f"{scheme}://{host}:{port}")
    assert (target.host, target.port) == (str(address), port)
    assert parse_target(f"{scheme}://{target.authority}") == target
    assert parse_listen(f"{host}:{port}") == (str(address), port)


@given(st.text())
def test_any_other_text_is_refused_and_nothing_else_happens(text: str) -> None:
    """The parsers answer or raise ValueError, whatever they are given."""
    for parse in (parse_listen, parse_target, parse_network):
        try:
            parse(text)
        except ValueError as error:
            assert str(error)  # noqa: PT017 - most texts raise, a few do not


def test_a_network_with_host_bits_is_refused_with_the_network_meant() -> None:
    """10.0.0.1/8 may mean the address or the network; whose word is trusted must be plain."""
    with pytest.raises(ValueError, match=r'write "10\.0\.0\.0/8"'):
        parse_network("10.0.0.1/8")
    assert str(parse_network("::1")) == "::1/128"
