"""Whether a call is sent again, and when: never what may have been done, never at once by everybody, never for long."""

from __future__ import annotations

import pytest

from gateway.client.retries import LONGEST_PAUSE_SECONDS, pause_after_answer, pause_after_failure


@pytest.mark.parametrize("status", [200, 400, 401, 404, 409, 412, 500, 502, 504])
def test_only_what_asks_for_patience_gets_it(status: int) -> None:
    assert pause_after_answer(status, None, 0, repeatable=True) is None


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("retry_after", [None, "0", "2", "Wed, 01 Jan 2031 00:00:00 GMT", "-1", "", "\u0661"])
def test_a_busy_gateway_is_asked_again(status: int, retry_after: str | None) -> None:
    pause = pause_after_answer(status, retry_after, 0, repeatable=True)
    assert pause is not None
    assert 0 <= pause <= 3
    assert pause_after_answer(status, retry_after, 0, repeatable=False) is None


def test_what_the_gateway_asks_for_is_kept() -> None:
    assert all((pause_after_answer(503, "2", 0, repeatable=True) or 0) > 2 for _ in range(100))


@pytest.mark.parametrize("retry_after", ["11", "3600", "9" * 400])
def test_a_long_wait_is_the_caller_s_to_decide_on(retry_after: str) -> None:
    assert pause_after_answer(503, retry_after, 0, repeatable=True) is None


def test_pauses_grow_are_bounded_and_differ() -> None:
    pauses = [
        [pause_after_failure(attempt, sent=False, repeatable=False) or 0 for _ in range(50)] for attempt in (0, 3)
    ]
    assert max(pauses[0]) < min(pauses[1])
    assert all(len(set(drawn)) > 1 for drawn in pauses)
    assert (pause_after_failure(100, sent=False, repeatable=True) or 0) <= LONGEST_PAUSE_SECONDS


def test_what_was_sent_is_repeated_only_where_that_is_harmless() -> None:
    assert pause_after_failure(0, sent=True, repeatable=False) is None
    assert pause_after_failure(0, sent=True, repeatable=True) is not None
    assert pause_after_failure(0, sent=False, repeatable=False) is not None
