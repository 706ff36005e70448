"""Addresses of PostgreSQL and Redis: read in one way by everybody, refused without repeating a password."""

from __future__ import annotations

from urllib.parse import urlparse

import pytest

from gateway.settings import forms
from gateway.settings.quoting import redact
from gateway.settings.server_urls import postgres_url, redis_namespace, redis_url

ACCEPTED = [
    "postgresql://db/gateway",
    "postgres://gateway:hunter2@db:5432/gateway",
    "postgresql://gateway:hunter2@[::1]:5432,b.internal:5433/gateway?sslmode=verify-full&sslrootcert=/etc/ca.pem",
    "postgresql://gateway:hunter2@a,b/gateway?target_session_attrs=primary",
    "postgresql:///gateway?host=/run/postgresql&password=hunter2;hunter2",
    "postgresql://gateway@%2Frun%2Fpostgresql/gateway",
    "postgresql://gateway:hunter2%40%2F%25@db/gateway",
    "redis://cache",
    "redis://:hunter2@cache:6379/0",
    "rediss://me:hunter2@[2001:db8::1]:6380/15",
    "unix:///run/redis.sock?db=1",
    "unix://:hunter2@/run/redis.sock",
    "redis+sentinel://a:26379,b:26379/mymaster",
    "rediss+sentinel://me:hunter2@a,b:26379/mymaster/2?sentinel_password=hunter2",
    "redis+cluster://:hunter2@a:7000,b:7001",
    "rediss+cluster://a:7000/0",
]


@pytest.mark.parametrize("url", ACCEPTED)
def test_an_address_is_accepted_as_it_is_and_never_shown_with_its_password(url: str) -> None:
    form = forms.store_url if url.startswith("postgres") else redis_url
    assert form(url) == url
    assert "hunter2" not in redact(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql+asyncpg://me:hunter2@db/a", "without the name of a driver"),
        ("postgresql:db/hunter2", "must be written like"),
        ("postgresql://me:hunter2@/a", "must name a server"),
        ("postgresql://me:hunter2@db", "must name a database"),
        ("postgresql://me:hunter2@db/", "must name a database"),
        ("postgresql://me:hunter2@db/a/b", "must name a database"),
        ("postgresql://me:hunter2@db:0/a", "port"),
        ("postgresql://me:hunter2@db:65536/a", "port"),
        ("postgresql://me:hunter2@db:x/a", "host that is neither"),
        ("postgresql://me:hunter2@::1/a", "host that is neither"),
        ("postgresql://me:hunter2@db,/a", "host that is neither"),
        ("postgresql://me:hun@ter2@db/a", "percent-encoded"),
        ("postgresql://me:hunter2/@db/a", "percent-encoded"),
        ("postgresql://me:hunter2#@db/a", "percent-encoded"),
        ("postgresql://me:hunter2[@db/a", "percent-encoded"),
        ("postgresql://me:hunter2%@db/a", "write %25"),
        ("postgresql://me:hun ter2@db/a", "no spaces"),
        ("postgresql://me:hunter2\x1b@db/a", "no spaces or control characters"),
        ("postgresql://me:hunter2\udcff@db/a", "no spaces or control characters"),
        ("postgresql://db/a?sslmode=hunter2", "sslmode that is none of: disable"),
        ("postgresql://db/a?connect_timeout=hunter2", "option that is not known here"),
        ("postgresql://db/a?passw%6Frd=hunter2", "name=value"),
        ("postgresql://db/a?password=x&password=hunter2", "twice"),
        ("postgresql://db/a?hunter2", "name=value"),
        ("redis:hunter2", "must be written like"),
        ("http://:hunter2@a", "must be written like"),
        ("redis://:hunter2@", "must name a server"),
        ("redis://:hunter2@a,b", "must name one server"),
        ("redis://:hunter2@a/x", "the number of a database"),
        ("redis://:hunter2@a:99999", "port"),
        ("unix://:hunter2@run/redis.sock", "whole path"),
        ("redis+sentinel://:hunter2@a", "must name the service"),
        ("redis+cluster://:hunter2@a/1", "must name no database"),
        ("redis+tls://:hunter2@a", "must be written like"),
    ],
)
def test_a_bad_address_is_refused_with_what_to_write_and_without_its_password(url: str, reason: str) -> None:
    form = forms.store_url if url.startswith("postgres") else redis_url
    with pytest.raises(ValueError, match=reason) as caught:
        form(url)
    assert "hunter2" not in str(caught.value)
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize("url", [url for url in ACCEPTED if url.startswith("postgres")])
def test_the_driver_finds_the_parts_where_we_do(url: str) -> None:
    """As asyncpg does it: the authority ends at the first @, the user at the first colon."""
    assert postgres_url(url) == url
    parsed = urlparse(url)
    assert parsed.netloc.count("@") <= 1
    assert parsed.path.strip("/") == "gateway"


def test_a_namespace_says_nothing_to_a_cluster() -> None:
    """Braces in a name decide which node keeps it."""
    assert redis_namespace("eu:keygate-2") == "eu:keygate-2"
    for wrong in ("", "{a}", "a b", "-a", "a" * 65):
        with pytest.raises(ValueError, match="letters, digits"):
            redis_namespace(wrong)
