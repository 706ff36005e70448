"""Addresses of Redis, in parts, and the reasons for which they are refused."""

from __future__ import annotations

import pytest

from gateway.settings.redis_url import RedisAddress, accepted_redis_url, parse_redis_url


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("redis://host", RedisAddress("server", (("host", 6379),))),
        ("redis://host:6380/2", RedisAddress("server", (("host", 6380),), database=2)),
        ("redis://[::1]/0", RedisAddress("server", (("::1", 6379),))),
        ("redis://:p%40ss@h:1", RedisAddress("server", (("h", 1),), password="p@ss")),
        ("redis://u:p@h:1", RedisAddress("server", (("h", 1),), username="u", password="p")),
        (
            "rediss://h?ca_file=/etc/ca.pem&cert_file=/c&key_file=/k",
            RedisAddress("server", (("h", 6379),), tls=True, ca_file="/etc/ca.pem", cert_file="/c", key_file="/k"),
        ),
        ("unix:///run/redis.sock?db=1", RedisAddress("unix", socket="/run/redis.sock", database=1)),
        (
            "redis+sentinel://u:p@a:1,b/main/3?sentinel_password=s",
            RedisAddress(
                "sentinel",
                (("a", 1), ("b", 26379)),
                service="main",
                database=3,
                username="u",
                password="p",
                sentinel_password="s",
            ),
        ),
        ("redis+cluster://a:1,b", RedisAddress("cluster", (("a", 1), ("b", 6379)))),
        ("rediss+cluster://a", RedisAddress("cluster", (("a", 6379),), tls=True)),
    ],
)
def test_an_address_says_in_parts_where_redis_is(text: str, address: RedisAddress) -> None:
    assert parse_redis_url(text) == address
    assert accepted_redis_url(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "redis://:secret@h?ca_file=/x",  # without TLS it would mean nothing
        "rediss://:secret@h?key_file=/k",
        "rediss://:secret@h?verify=none",
        "redis://:secret@h?sentinel_password=x",
        "unix:///run/secret?db=x",
        "redis+cluster://:secret@h/1",
        "redis+sentinel://:secret@h",
        "http://:secret@h",
    ],
)
def test_what_would_not_be_heeded_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_redis_url(text)
    assert "secret" not in str(refused.value).replace("sentinel_", "")


def test_neither_the_name_nor_the_diagnostics_of_an_address_hold_a_password() -> None:
    address = parse_redis_url("redis+sentinel://user:very-secret@a:1/main?sentinel_password=very-secret")
    assert "very-secret" not in f"{address} {address!r}"
    assert "user" not in str(address)
