"""A key that is made for certain web pages works from these alone: with exactly one Origin field, on its list."""

from __future__ import annotations

import pytest

from gateway.cache.key_cache import Entry
from gateway.policies.challenges import Challenges
from gateway.policies.identity import identity_fields
from gateway.policies.origins import Origins
from tests.policies.subject import Subject
from tests.proxy.harness import KEY_FIELD, OK, OTHER_SECRET, SECRET, Gate, error_of, get, record

CHALLENGES = Challenges("gateway", generic=False)
PAGE = "https://app.test"
OTHER_PAGE = "http://localhost:3000"
GOOD = b"Origin: https://app.test"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n"


def judge(*lines: bytes, allowed: tuple[str, ...] | None = (PAGE, OTHER_PAGE)) -> bool:
    """Whether a request with these fields goes on; the refusal is always the same."""
    subject = Subject(forwarded=[b"Accept: */*", *lines])
    found = record(allowed_origins=allowed)
    subject.entry = Entry(found, identity_fields(found), 0.0, 0.0, 60.0)
    refusal = Origins(CHALLENGES).check(subject)
    assert refusal is None or refusal is CHALLENGES.wrong_origin
    return refusal is None


@pytest.mark.parametrize(
    ("lines", "good"),
    [
        ([GOOD], True),
        ([b"origin: http://localhost:3000"], True),
        ([], False),
        ([b"Origin: "], False),
        ([b"Origin: null"], False),
        ([b"Origin: https://evil.test"], False),
        ([b"Origin: http://app.test"], False),
        ([b"Origin: https://app.test:443"], False),
        ([b"Origin: https://app.test/"], False),
        ([b"Origin: https://App.test"], False),
        ([b"Origin: https://app.test.evil.test"], False),
        ([b"Origin: https://app.test, https://app.test"], False),
        ([b"Origin: https://app.test http://localhost:3000"], False),
        ([b"Origin: \xff\xfe"], False),
        ([GOOD, GOOD], False),
        ([GOOD, b"ORIGIN: https://evil.test"], False),
        ([b"Referer: https://app.test/page"], False),
        ([b"X-Origin: https://app.test"], False),
    ],
)
def test_one_origin_that_is_on_the_list(lines: list[bytes], *, good: bool) -> None:
    assert judge(*lines) is good


def test_an_empty_list_lets_nothing_through() -> None:
    assert not judge(GOOD, allowed=())
    assert not judge(allowed=())


def test_other_keys_work_from_anywhere() -> None:
    assert judge(allowed=None)
    assert judge(b"Origin: https://evil.test", b"Origin: null", allowed=None)


def test_a_request_without_a_key_comes_from_anywhere() -> None:
    assert Origins(CHALLENGES).check(Subject()) is None


# --- through the gateway ----------------------------------------------------------------------------------------------


def published(route: dict[str, object] | None = None) -> Gate:
    """A gate that knows a key for pages."""
    gate = Gate(routes=[route or {}])
    gate.store.put(SECRET, allowed_origins=(PAGE, OTHER_PAGE))
    return gate


@pytest.mark.parametrize(
    "origin",
    [
        b"",
        b"Origin: https://evil.test\r\n",
        b"Origin: https://app.test\r\nOrigin: https://evil.test\r\n",
        b"Origin: https://app.test\r\norigin: https://app.test\r\n",
        b"Origin: https://app.test\r\nConnection: Origin\r\n",
    ],
)
@pytest.mark.parametrize("kind", [b"", WEBSOCKET])
def test_another_page_is_a_403_and_goes_no_further(origin: bytes, kind: bytes) -> None:
    for auth in ("required", "optional"):
        gate = published({"auth": auth})
        client = gate.ask(get(fields=KEY_FIELD + origin + kind))
        assert error_of(client.answer) == (403, "origin_not_allowed")
        assert client.answer.all("www-authenticate") == [
            'Bearer realm="gateway", error="insufficient_scope"',
            'ApiKey realm="gateway"',
        ]
        assert b"app.test" not in client.received
        assert not gate.upstreams


@pytest.mark.parametrize("kind", [b"", WEBSOCKET])
def test_its_own_page_gets_through(kind: bytes) -> None:
    gate = published()
    gate.ask(get(fields=KEY_FIELD + GOOD + b"\r\n" + kind))
    assert gate.upstream.request.all("origin") == [PAGE]


def test_a_key_that_is_no_good_is_told_that_first() -> None:
    client = published().ask(get(fields=b"X-API-KEY: " + OTHER_SECRET + b"\r\n"))
    assert error_of(client.answer) == (401, "invalid_api_key")


def test_a_tunnel_ends_when_its_page_is_taken_off_the_list() -> None:
    gate = published()
    client = gate.ask(get(fields=KEY_FIELD + GOOD + b"\r\n" + WEBSOCKET))
    gate.upstream.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: b\r\n\r\n"
    )
    assert client.answer.status == 101
    gate.store.put(SECRET, allowed_origins=(PAGE,))
    gate.change()
    assert not client.gone
    gate.store.put(SECRET, allowed_origins=(OTHER_PAGE,))
    gate.change()
    assert client.aborted


def test_a_list_that_changes_while_a_request_waits_counts() -> None:
    gate = published()
    gate.dials_hang = True
    client = gate.ask(get(fields=KEY_FIELD + GOOD + b"\r\n"))
    gate.store.put(SECRET, allowed_origins=(OTHER_PAGE,))
    gate.change()
    gate.connect()
    assert error_of(client.answer) == (403, "origin_not_allowed")
    assert not gate.upstream.received


def test_the_next_request_of_a_connection_is_judged_by_itself() -> None:
    gate = published()
    client = gate.ask(get(fields=KEY_FIELD + GOOD + b"\r\n") + get())
    gate.upstream.send(OK)
    assert [each.status for each in client.answers] == [200, 403]
