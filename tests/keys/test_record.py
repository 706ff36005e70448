"""Status: derived, and the first that fits of revoked, expired, disabled, active."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.keys.record import CredentialRecord, Status, expires_soon, status

moment = st.floats(0, 4e9, allow_nan=False)
maybe = st.none() | moment


@given(maybe, maybe, maybe, moment)
def test_the_status_is_the_first_that_fits(
    revoked_at: float | None, expires_at: float | None, disabled_at: float | None, now: float
) -> None:
    fitting = [
        (Status.REVOKED, revoked_at is not None),
        (Status.EXPIRED, expires_at is not None and expires_at <= now),
        (Status.DISABLED, disabled_at is not None),
        (Status.ACTIVE, True),
    ]
    expected = next(name for name, fits in fitting if fits)
    assert status(revoked_at=revoked_at, expires_at=expires_at, disabled_at=disabled_at, now=now) is expected


@given(maybe, maybe, maybe, moment)
def test_only_active_keys_in_their_last_14_days_expire_soon(
    revoked_at: float | None, expires_at: float | None, disabled_at: float | None, now: float
) -> None:
    current = status(revoked_at=revoked_at, expires_at=expires_at, disabled_at=disabled_at, now=now)
    last_days = expires_at is not None and expires_at - now <= 14 * 24 * 3600
    soon = expires_soon(revoked_at=revoked_at, expires_at=expires_at, disabled_at=disabled_at, now=now)
    assert soon is (current is Status.ACTIVE and last_days)


@given(maybe, maybe, moment, moment)
def test_time_alone_never_revives_a_key(
    expires_at: float | None, disabled_at: float | None, now: float, later: float
) -> None:
    now, later = sorted((now, later))
    before = status(revoked_at=None, expires_at=expires_at, disabled_at=disabled_at, now=now)
    after = status(revoked_at=None, expires_at=expires_at, disabled_at=disabled_at, now=later)
    assert after is before or after is Status.EXPIRED


def test_the_moment_of_expiry_is_expired_already() -> None:
    assert status(revoked_at=None, expires_at=10.0, disabled_at=None, now=10.0) is Status.EXPIRED
    assert status(revoked_at=None, expires_at=10.0, disabled_at=None, now=9.999999) is Status.ACTIVE


def test_a_records_repr_does_not_show_its_digest() -> None:
    record = CredentialRecord(
        b"digest-bytes", "sec_1", None, "key_1", "CI", 1, None, None, None, None, "org_1", None, "member", "mem_1",
        "ada@example.com", None, (),
    )  # fmt: skip
    assert "digest" not in repr(record)
