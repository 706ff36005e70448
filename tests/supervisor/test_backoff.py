"""The wait before a restart: short after one crash, longer in a crash loop, bounded, and forgiven after a good life."""

from gateway.supervisor.backoff import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, Backoff


def test_a_first_crash_costs_a_tenth_of_a_second() -> None:
    assert Backoff().after_life_of(0) == FIRST_DELAY_SECONDS == 0.1


def test_a_crash_loop_is_retried_ever_more_rarely_up_to_ten_seconds() -> None:
    backoff = Backoff()
    delays = [backoff.after_life_of(0) for _ in range(10)]
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == delays[-2] == LONGEST_DELAY_SECONDS == 10.0


def test_a_life_longer_than_the_longest_delay_starts_over() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.after_life_of(1)
    assert backoff.after_life_of(LONGEST_DELAY_SECONDS + 1) == FIRST_DELAY_SECONDS
