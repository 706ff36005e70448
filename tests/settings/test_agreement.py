"""Settings that contradict each other are found, and those that only look so are not."""

from pathlib import Path
from typing import Any

import pytest

from gateway.settings.agreement import disagreements
from gateway.settings.key_path import written
from gateway.settings.model import Settings

UPSTREAM = {"name": "api", "targets": ["http://api"]}
ROUTE = {"name": "all", "upstream": "api"}


def found(**tables: Any) -> dict[str, str]:  # noqa: ANN401 - raw tables, as TOML gives them
    """Return what does not agree, by path."""
    settings = Settings.model_validate({"upstreams": [UPSTREAM], "routes": [ROUTE], **tables})
    return {written(each.path): each.reason for each in disagreements(settings)}


def two_routes(one: dict[str, object], other: dict[str, object]) -> dict[str, str]:
    """Return what does not agree of two routes to one upstream."""
    return found(routes=[{**ROUTE, "name": "one", **one}, {**ROUTE, "name": "other", **other}])


def test_the_defaults_agree() -> None:
    """Nothing is wrong with what everybody has."""
    assert not found()


@pytest.mark.parametrize(
    ("proxy", "control", "clash"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("[::1]:80", "[::]:80", True),
        ("0.0.0.0:80", "[::1]:80", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_two_listeners_cannot_share_an_address(proxy: str, control: str, *, clash: bool) -> None:
    """An address of every interface takes those of each; any free port is never the same port."""
    assert ("control.listen" in found(server={"listen": proxy}, control={"listen": control})) == clash


def test_the_spool_has_room_for_what_every_worker_writes_to() -> None:
    """At least two files each, and one of the worker before it; where requests are not on record, there are none."""
    audit = {"spool_limit_mebibytes": 144}
    assert not found(server={"workers": 3}, audit=audit)
    reasons = found(server={"workers": 4}, audit=audit)
    assert reasons["audit.spool_limit_mebibytes"] == (
        "is 144, too little for 4 workers, each of which writes to one file of 16 and has the next one ready, "
        "beside one of the worker before it: at least 192"
    )
    assert not found(server={"workers": 4}, audit={**audit, "record": "changes"})


def test_an_unknown_key_is_not_believed_longer_than_a_known_one() -> None:
    """The values are named, also where one of them is a default."""
    reasons = found(cache={"positive_ttl_seconds": 2.5})
    assert "5, longer than cache.positive_ttl_seconds, 2.5" in reasons["cache.negative_ttl_seconds"]
    assert not found(cache={"positive_ttl_seconds": 0, "negative_ttl_seconds": 0})


def test_a_key_is_believed_at_least_until_the_next_look_for_changes() -> None:
    """Belief counts from the last proof that nothing has changed; without a time, each request asks the store."""
    cache = {"positive_ttl_seconds": 0.5, "negative_ttl_seconds": 0.5}
    reasons = found(cache={**cache, "poll_interval_milliseconds": 501})
    assert "501, longer than cache.positive_ttl_seconds, 0.5" in reasons["cache.poll_interval_milliseconds"]
    assert not found(cache={**cache, "poll_interval_milliseconds": 500})
    assert not found(cache={"positive_ttl_seconds": 0, "negative_ttl_seconds": 0, "poll_interval_milliseconds": 501})


def test_names_are_used_once() -> None:
    """Upstreams and routes each have their own names."""
    reasons = found(upstreams=[UPSTREAM, UPSTREAM], routes=[ROUTE, {**ROUTE, "path": "/a"}])
    assert reasons == {
        "upstreams[1].name": 'is "api", the name of upstreams[0] too',
        "routes[1].name": 'is "all", the name of routes[0] too',
    }


def test_a_route_names_an_upstream_that_exists() -> None:
    """The nearest name is offered, else all of them."""
    assert 'did you mean "api"?' in found(routes=[{**ROUTE, "upstream": "apy"}])["routes[0].upstream"]
    assert 'there are: "api"' in found(routes=[{**ROUTE, "upstream": "zzz"}])["routes[0].upstream"]


@pytest.mark.parametrize(
    ("one", "other", "rivals"),
    [
        ({}, {}, True),
        ({"path": "/a"}, {"path": "/b"}, False),
        ({"path": "/a"}, {"path": "/A"}, False),
        ({"path": "/a", "case_insensitive": True}, {"path": "/A", "case_insensitive": True}, True),
        ({"hosts": ["a.com"]}, {}, False),
        ({"hosts": ["a.com", "b.com"]}, {"hosts": ["B.com"]}, True),
        ({"hosts": ["*.a.com"]}, {"hosts": ["x.a.com"]}, False),
        ({"methods": ["GET"]}, {"methods": ["POST"]}, False),
        ({"methods": ["GET", "PUT"]}, {"methods": ["PUT"]}, True),
        ({"methods": ["GET"]}, {}, False),
    ],
)
def test_no_request_fits_two_routes_equally_well(
    one: dict[str, object], other: dict[str, object], *, rivals: bool
) -> None:
    """A more exact host, a longer path and a listed method decide; where nothing does, the two are rivals."""
    reasons = two_routes(one, other)
    assert bool(reasons) == rivals
    assert set(reasons) <= {"routes[1].path"}


def test_one_path_is_not_matched_both_in_its_case_and_in_any() -> None:
    """The routes of one way would hide those of the other, even for other methods."""
    reasons = two_routes({"path": "/a", "methods": ["GET"]}, {"path": "/A", "case_insensitive": True})
    assert "case_insensitive must be the same" in reasons["routes[1].path"]


@pytest.mark.parametrize(
    ("route", "key"),
    [
        ({"auth": "none", "permissions": ["a:b"]}, "routes[0].permissions"),
        ({"path": "/a;b"}, "routes[0].path"),
        ({"path": "/a%3Bb"}, "routes[0].path"),
        ({"path": "/a%2Fb"}, "routes[0].path"),
    ],
)
def test_a_route_can_be_fulfilled(route: dict[str, object], key: str) -> None:
    """Permissions need a key, and a path needs to be let in."""
    assert list(found(routes=[{**ROUTE, **route}])) == [key]


def test_a_path_with_an_allowed_oddity_is_fine() -> None:
    """The route that allows it may have it in its path."""
    assert not found(routes=[{**ROUTE, "path": "/a;b/c%2Fd%3Be", "allow_semicolon": True, "allow_encoded_slash": True}])


@pytest.mark.parametrize(
    ("cors", "key"),
    [
        ({"allow_origins": ["*"]}, "allow_credentials"),
        ({"allow_origins": ["https://app.test", "*"]}, "allow_credentials"),
        ({"allow_methods": ["*"]}, "allow_methods"),
        ({"allow_headers": ["*"]}, "allow_headers"),
        ({"expose_headers": ["X-A", "*"]}, "expose_headers"),
    ],
)
def test_pages_that_may_send_cookies_are_named_and_so_is_what_they_may_do(cors: dict[str, object], key: str) -> None:
    """Browsers take a * beside cookies for a name that nobody has; without cookies it is fine."""
    route: dict[str, object] = {**ROUTE, "cors": {"allow_origins": ["https://app.test"], **cors}}
    assert not found(routes=[route])
    route["cors"] = {"allow_origins": ["https://app.test"], **cors, "allow_credentials": True}
    assert list(found(routes=[route])) == [f"routes[0].cors.{key}"]


@pytest.mark.parametrize("path", ["/users;v=1/me", "/users%2Fme"])
def test_the_path_of_a_key_s_holder_can_be_asked_for(path: str) -> None:
    """No route lets oddities in there."""
    assert list(found(server={"me_path": path})) == ["server.me_path"]
    assert not found(server={"me_path": "/users/me"})


def test_certificate_settings_need_something_to_check(tmp_path: Path) -> None:
    """They need an https target, checking that is switched on, a key to a certificate; files are looked at later."""
    authorities = tmp_path / "ca.pem"
    assert list(found(upstreams=[{**UPSTREAM, "tls": {"verify": False}}])) == ["upstreams[0].tls"]
    secure = {"name": "api", "targets": ["https://api"]}
    assert not found(upstreams=[{**secure, "tls": {"ca_file": str(authorities)}}])
    for given, missing in (("certificate_file", "private_key_file"), ("private_key_file", "certificate_file")):
        alone = found(upstreams=[{**secure, "tls": {given: "a.pem"}}])
        assert "of no use alone" in alone[f"upstreams[0].tls.{missing}"]
    unchecked = {**secure, "tls": {"ca_file": str(authorities), "verify": False}}
    assert "no effect while verify is false" in found(upstreams=[unchecked])["upstreams[0].tls.ca_file"]


def test_health_checks_do_not_overlap() -> None:
    """A check is over before the next one; without checks their times do not matter."""
    slow: dict[str, object] = {**UPSTREAM, "health_timeout_seconds": 9}
    assert not found(upstreams=[slow])
    assert list(found(upstreams=[{**slow, "health_path": "/"}])) == ["upstreams[0].health_timeout_seconds"]


def test_several_upstreams_need_routes() -> None:
    """Without routes nobody knows which of them is meant."""
    assert "2 upstreams" in found(upstreams=[UPSTREAM, {**UPSTREAM, "name": "b"}], routes=[])["routes"]
