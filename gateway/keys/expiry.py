"""When a key ends: presets, a date, or a moment, within what an organization allows.

Invariant: what comes out is None (never) or a moment in UTC, to the microsecond, that lies after `now`. Months and
years are those of the calendar: one year from 29 February ends on 28 February. A bare date means "works through that
day (UTC)", so the key expires at the following midnight: that is what people read in "expires 2030-01-31".

A date-time needs its zone. Guessing one was turned down: a key that lives an hour too long is a security fault.
"""

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

NEVER: Final = "never"
_FIXED: Final = {
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
_MONTHS: Final = {"6mo": 6, "1y": 12, "2y": 24, "4y": 48}
PRESETS: Final = (*_FIXED, *_MONTHS, NEVER)
_RULE: Final = (
    f"must be one of {', '.join(PRESETS)}, a date such as 2030-01-31, "
    "or an RFC 3339 date-time with its zone such as 2030-01-31T12:00:00Z"
)

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DATE_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class ExpiryRules:
    """An organization's presets: what a key gets that asks for nothing, and the longest life there is (None: any)."""

    default: str
    maximum: str | None

    def latest(self, now: datetime) -> datetime | None:
        """Return the last moment that a key may live to, None for no bound."""
        return None if self.maximum is None else parse(self.maximum, now)

    def default_at(self, now: datetime) -> datetime | None:
        """Return the end of a key that asks for nothing: the default, cut at the maximum."""
        chosen, latest = parse(self.default, now), self.latest(now)
        if latest is None:
            return chosen
        return latest if chosen is None else min(chosen, latest)

    def wished_at(self, text: str, now: datetime) -> datetime | None:
        """Return the moment asked for, None for never. ValueError says what is wrong and which range is allowed."""
        latest = self.latest(now)
        try:
            chosen = parse(text, now)
        except ValueError as error:
            raise ValueError(f"{error}; {self._range(now, latest)}") from error
        if latest is not None and (chosen is None or chosen > latest):
            raise ValueError(f"is beyond what this organization allows; {self._range(now, latest)}")
        return chosen

    def _range(self, now: datetime, latest: datetime | None) -> str:
        earliest = f"allowed is any moment after {_shown(now)}"
        return earliest if latest is None else f"{earliest}, at most {self.maximum} from now: {_shown(latest)}"


def parse(text: str, now: datetime) -> datetime | None:
    """Return the moment from which the key is expired, None for never. ValueError carries a public sentence.

    `now` is an aware date-time; presets count from it.
    """
    if text == NEVER:
        return None
    if text in _FIXED:
        return now.astimezone(UTC) + _FIXED[text]
    if text in _MONTHS:
        return add_months(now.astimezone(UTC), _MONTHS[text])
    moment = _parse_moment(text)
    if moment <= now:
        message = "must lie in the future"
        raise ValueError(message)
    return moment


def add_months(moment: datetime, months: int) -> datetime:
    """Return the same day and time so many calendar months later, or the last day of a month too short for it."""
    years, month = divmod(moment.month - 1 + months, 12)
    year, month = moment.year + years, month + 1
    day = min(moment.day, calendar.monthrange(year, month)[1])
    return moment.replace(year=year, month=month, day=day)


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _parse_moment(text: str) -> datetime:
    try:
        if _DATE.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(days=1)
        if found := _DATE_TIME.fullmatch(text):
            date, time, fraction, zone = found.groups()
            # RFC 3339 allows any number of digits in the fraction; ours are microseconds, the rest is cut off.
            microseconds = (fraction or ".0")[1:7].ljust(6, "0")
            zone = "+00:00" if zone in "Zz" else zone
            return datetime.fromisoformat(f"{date}T{time}.{microseconds}{zone}").astimezone(UTC)
    except (ValueError, OverflowError) as error:
        message = f"is not a date or time that exists: {text[:40]!r}"
        raise ValueError(message) from error
    raise ValueError(_RULE)
