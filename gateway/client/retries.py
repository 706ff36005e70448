"""Whether a call that failed is sent again, and after which pause. Pure: the transport sleeps.

Invariant: nothing is ever done twice. A call is repeated when it certainly was not carried out (no connection was
made), or when doing it twice is the same as once: reads, and creates with an idempotency key. At most twice, so that a
gateway in trouble is not buried by its clients; pauses are drawn at random, so that these do not return all at once.
"""

import random
from http import HTTPStatus
from typing import Final

DEFAULT_RETRIES: Final = 2
LONGEST_PAUSE_SECONDS: Final = 10.0
_FIRST_PAUSE_SECONDS: Final = 0.25
_WORTH_A_REPEAT: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def pause_after_answer(status: int, retry_after: str | None, attempt: int, *, repeatable: bool) -> float | None:
    """Return the seconds to wait before another attempt, None for no other. `attempt` counts from 0."""
    if status not in _WORTH_A_REPEAT or not repeatable:
        return None
    named = _seconds(retry_after)
    if named is None:
        return _drawn(attempt)
    return None if named > LONGEST_PAUSE_SECONDS else named + _drawn(attempt) * (named > 0)


def pause_after_failure(attempt: int, *, sent: bool, repeatable: bool) -> float | None:
    """The same, where no answer came. `sent`: the gateway may have got the request."""
    return None if sent and not repeatable else _drawn(attempt)


def _seconds(retry_after: str | None) -> float | None:
    """Read `Retry-After: 3`; a date, which the admin API never sends, counts as nothing said."""
    text = (retry_after or "").strip()
    return float(text) if text.isascii() and text.isdigit() else None


def _drawn(attempt: int) -> float:
    longest = min(_FIRST_PAUSE_SECONDS * 2**attempt, LONGEST_PAUSE_SECONDS)
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load, keeps no secret
