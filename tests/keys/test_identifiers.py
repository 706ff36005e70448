"""Identifiers: kind, order, uniqueness."""

from __future__ import annotations

import re
import threading
import time

import pytest

from gateway.keys.identifiers import is_id, new_id


def test_an_identifier_is_its_kind_and_26_characters() -> None:
    assert re.fullmatch("key_[0-9a-hjkmnp-tv-z]{26}", new_id("key"))


def test_text_order_is_creation_order() -> None:
    made = [new_id("key") for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_order_holds_when_the_clock_steps_back_and_when_a_millisecond_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = time.time_ns() + 10_000_000_000
    made = []
    for reading in (ahead, ahead - 5_000_000_000, *[ahead] * 70_000):
        monkeypatch.setattr(time, "time_ns", lambda reading=reading: reading)
        made.append(new_id("sec"))
    assert made == sorted(set(made))


def test_threads_never_get_the_same_identifier() -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend(new_id("key") for _ in range(1000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4000


def test_an_identifier_is_one_of_its_kind_and_of_no_other() -> None:
    assert is_id("key", new_id("key"))
    assert is_id("org", new_id("org"))
    assert not is_id("org", new_id("key"))


@pytest.mark.parametrize(
    "text",
    ["", "key", "key_", "key_" + "0" * 25, "key_" + "0" * 27, "key_" + "0" * 25 + "\n", "key_" + "0" * 26 + "\n"]
    + [f"key_{'0' * 25}{character}" for character in "ilouAZ-_ é٣"]
    + ["KEY_" + "0" * 26, " key_" + "0" * 26, "key-" + "0" * 26],
)
def test_no_other_text_has_the_form_of_an_identifier(text: str) -> None:
    assert not is_id("key", text)
