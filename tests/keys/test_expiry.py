"""Expiry: presets by the calendar, dates that last their day, moments with a zone, and nothing else."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.keys import expiry

NOW = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
moments = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("1h", "2026-01-31T13:00:00.123456+00:00"),
        ("1d", "2026-02-01T12:00:00.123456+00:00"),
        ("7d", "2026-02-07T12:00:00.123456+00:00"),
        ("30d", "2026-03-02T12:00:00.123456+00:00"),
        ("6mo", "2026-07-31T12:00:00.123456+00:00"),
        ("1y", "2027-01-31T12:00:00.123456+00:00"),
        ("2y", "2028-01-31T12:00:00.123456+00:00"),
        ("4y", "2030-01-31T12:00:00.123456+00:00"),
        ("never", "None"),
    ],
)
def test_presets_count_from_now(preset: str, expected: str) -> None:
    found = expiry.parse(preset, NOW)
    assert (found.isoformat() if found else "None") == expected


def test_the_presets_are_those_of_the_contract() -> None:
    assert expiry.PRESETS == ("1h", "1d", "7d", "30d", "6mo", "1y", "2y", "4y", "never")


def test_a_month_too_short_ends_on_its_last_day() -> None:
    assert expiry.parse("1y", datetime(2028, 2, 29, tzinfo=UTC)) == datetime(2029, 2, 28, tzinfo=UTC)
    assert expiry.parse("6mo", datetime(2026, 8, 31, tzinfo=UTC)) == datetime(2027, 2, 28, tzinfo=UTC)


@given(moments, st.sampled_from([6, 12, 24, 48]))
def test_months_keep_day_and_time_wherever_the_calendar_allows(moment: datetime, months: int) -> None:
    later = expiry.add_months(moment, months)
    assert (later.year * 12 + later.month) - (moment.year * 12 + moment.month) == months
    assert later.time() == moment.time()
    assert later.day == min(moment.day, calendar.monthrange(later.year, later.month)[1])


def test_a_date_lasts_through_its_day_in_utc() -> None:
    assert expiry.parse("2030-01-31", NOW) == datetime(2030, 2, 1, tzinfo=UTC)
    assert expiry.parse("2026-01-31", NOW) == datetime(2026, 2, 1, tzinfo=UTC)


@given(moments.filter(lambda moment: moment > NOW), st.integers(-23 * 60, 23 * 60))
def test_every_rfc_3339_moment_is_read_exactly(moment: datetime, offset_minutes: int) -> None:
    written = moment.astimezone(timezone(timedelta(minutes=offset_minutes))).isoformat()
    read = expiry.parse(written, NOW)
    assert read == moment
    assert read.tzinfo is UTC


def test_the_spellings_that_rfc_3339_allows() -> None:
    expected = datetime(2030, 1, 31, 12, 0, 0, 500000, tzinfo=UTC)
    for text in ("2030-01-31T12:00:00.5Z", "2030-01-31t12:00:00.5z", "2030-01-31 12:00:00.500000000+00:00"):
        assert expiry.parse(text, NOW) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "1m", "1Y", "5y", "soon", "2030-01-31T12:00:00", "2030-01-31T12:00Z", "20300131", "2030-W05-4",
        "2030-02-30", "2030-01-31T24:00:00Z", "2030-01-31T12:00:60Z", "2030-01-31T12:00:00+24:00", "9999-12-31",
        "2030-01-31\n", "٢٠٣٠-01-31", "2026-01-30", "2026-01-31T12:00:00Z", "0000-01-01",
    ],
)  # fmt: skip
def test_everything_else_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|is not a date") as caught:
        expiry.parse(text, NOW)
    assert len(str(caught.value)) < 250


@given(st.text(max_size=40))
def test_no_text_makes_anything_but_a_future_moment_or_a_value_error(text: str) -> None:
    try:
        found = expiry.parse(text, NOW)
    except ValueError:
        return
    assert found is None or found > NOW


RULES = expiry.ExpiryRules("1y", "30d")


def test_a_default_is_cut_at_the_maximum() -> None:
    assert expiry.ExpiryRules("1y", None).default_at(NOW) == expiry.parse("1y", NOW)
    assert expiry.ExpiryRules("never", None).default_at(NOW) is None
    assert RULES.default_at(NOW) == expiry.ExpiryRules("never", "30d").default_at(NOW) == expiry.parse("30d", NOW)
    assert expiry.ExpiryRules("1d", "30d").default_at(NOW) == expiry.parse("1d", NOW)


def test_a_wish_is_granted_up_to_the_maximum_itself() -> None:
    latest = RULES.latest(NOW)
    assert latest is not None
    for text in ("30d", latest.isoformat(), "2026-03-01T12:00:00Z"):
        assert RULES.wished_at(text, NOW) == expiry.parse(text, NOW)
    assert expiry.ExpiryRules("1y", None).wished_at("never", NOW) is None


@pytest.mark.parametrize(
    "text", ["never", "6mo", "2026-03-03", "2026-01-30", "2026-02-05T12:00:00", "soon", "2026-02-30", "9999-12-31"]
)
def test_a_refused_wish_is_told_the_allowed_range(text: str) -> None:
    with pytest.raises(ValueError, match="after 2026-01-31T12:00:00Z, at most 30d from now: 2026-03-02T12:00:00Z"):
        RULES.wished_at(text, NOW)
    with pytest.raises(ValueError, match=r"allowed is any moment after 2026-01-31T12:00:00Z$"):
        expiry.ExpiryRules("1y", None).wished_at("soon", NOW)
