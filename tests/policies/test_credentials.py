"""Which key a request presents: one, in X-API-KEY or as a bearer, and never two different ones of ours."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policies.credentials import Credentials, StrippedCredentials
from tests.policies.subject import Subject
from tests.proxy.harness import OTHER_SECRET, SECRET
from tests.proxy.profiles import scaled

BROKEN = SECRET[:-1] + b"x"
FOREIGN = b"legacy-key-1"
BEARER = b"Bearer "
Row = tuple[bytes | None, bytes | None, bytes | None, bool]

TABLE: dict[str, Row] = {
    "nothing": (None, None, None, False),
    "X-API-KEY": (SECRET, None, SECRET, False),
    "X-API-KEY, foreign": (FOREIGN, None, FOREIGN, False),
    "X-API-KEY, empty": (b"", None, None, False),
    "bearer": (None, BEARER + SECRET, SECRET, False),
    "bearer in lower case": (None, b"bearer " + SECRET, SECRET, False),
    "bearer in upper case": (None, b"BEARER " + SECRET, SECRET, False),
    "bearer after more spaces": (None, b"Bearer   " + SECRET, SECRET, False),
    "bearer, foreign": (None, BEARER + FOREIGN, FOREIGN, False),
    "X-API-KEY empty and bearer": (b"", BEARER + SECRET, SECRET, False),
    "the same in both": (SECRET, BEARER + SECRET, SECRET, False),
    "the same foreign one in both": (FOREIGN, BEARER + FOREIGN, FOREIGN, False),
    "basic": (None, b"Basic YTpi", None, True),
    "X-API-KEY and basic": (SECRET, b"Basic YTpi", SECRET, True),
    "X-API-KEY and a foreign bearer": (SECRET, BEARER + FOREIGN, SECRET, True),
    "X-API-KEY and a signature": (SECRET, b"AWS4-HMAC-SHA256 Credential=a, Signature=b", SECRET, True),
}


def check(api_key: bytes | None, authorization: bytes | None, *, bare: bool = False) -> tuple[Subject, int | None]:
    """Judge; returns what was found, and the status of a refusal."""
    subject = Subject(api_key, authorization)
    refusal = Credentials("sk_", bare_authorization=bare).check(subject)
    return subject, refusal.status if refusal else None


@pytest.mark.parametrize("name", TABLE)
def test_what_is_presented(name: str) -> None:
    api_key, authorization, secret, passes = TABLE[name]
    subject, status = check(api_key, authorization)
    assert (subject.secret, subject.passes_authorization, status) == (secret, passes, None)


@pytest.mark.parametrize("token", [OTHER_SECRET, BROKEN])
@pytest.mark.parametrize("api_key", [SECRET, FOREIGN, BROKEN[:-1] + b"y"])
def test_two_different_keys_of_ours_are_refused(api_key: bytes, token: bytes) -> None:
    _, status = check(api_key, BEARER + token)
    assert status == 400


def test_a_bare_key_counts_only_where_it_may() -> None:
    assert check(None, SECRET)[0].secret is None
    assert check(None, SECRET, bare=True)[0].secret == SECRET
    assert check(None, FOREIGN, bare=True)[0].secret == FOREIGN
    assert check(None, b"Basic YTpi", bare=True)[0].secret is None
    assert check(SECRET, SECRET, bare=True)[1] is None
    assert check(SECRET, OTHER_SECRET, bare=True)[1] == 400


@pytest.mark.parametrize(
    "value",
    [BEARER + SECRET, SECRET, b"Token " + SECRET, b"Bearer\t" + SECRET, b"Bearer  " + SECRET, b"ApiKey " + BROKEN],
)
def test_what_holds_a_key_of_ours_never_passes(value: bytes) -> None:
    assert not check(None, value)[0].passes_authorization
    assert not check(SECRET, value)[0].passes_authorization
    subject = Subject(None, value)
    StrippedCredentials(Credentials("sk_", bare_authorization=False)).check(subject)
    assert not subject.passes_authorization


@pytest.mark.parametrize("value", [b"Basic YTpi", BEARER + FOREIGN, b"", b"Bearer"])
def test_on_a_route_without_auth_what_is_none_of_ours_passes(value: bytes) -> None:
    subject = Subject(SECRET, value)
    StrippedCredentials(Credentials("sk_", bare_authorization=False)).check(subject)
    assert subject.passes_authorization
    assert subject.secret is None


@settings(max_examples=scaled(200), deadline=None)
@given(
    scheme=st.sampled_from([b"Bearer ", b"bearer\t", b"", b"Token ", b"Basic ", b"  Bearer  "]),
    noise=st.binary(max_size=6),
    token=st.sampled_from([SECRET, OTHER_SECRET, BROKEN, FOREIGN, b""]),
    api_key=st.sampled_from([None, SECRET, FOREIGN, b""]),
    bare=st.booleans(),
)
def test_nothing_passes_that_is_presented_or_ours(
    scheme: bytes, noise: bytes, token: bytes, api_key: bytes | None, *, bare: bool
) -> None:
    value = scheme + noise + token
    subject, status = check(api_key, value, bare=bare)
    ours = {SECRET, OTHER_SECRET, BROKEN}
    if status is None and subject.passes_authorization:
        assert not ours & set(value.split())
        assert subject.secret in {None, api_key}
