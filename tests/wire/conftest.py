"""Counts the cases of the wire: `tried(section, count)` in a test, and one line per section at the end of a run.

One test tries a whole table of requests, so pytest's own count says nothing about how many were tried. The sums are
printed by `tests/conftest.py`; they travel as properties of the reports, so it does not matter which process a test
ran in. A test that failed counts for nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


class Tried(Protocol):
    """Say that this test tried so many cases of a section; may be called more than once."""

    def __call__(self, section: str, count: int) -> None: ...


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Tried:
    def say(section: str, count: int) -> None:
        record_property("tried", [section, count])

    return say


@pytest.fixture
def defects_alone(caplog: pytest.LogCaptureFixture) -> None:
    """What peers do wrong is in the log as a warning each; pytest would keep a million of them."""
    caplog.set_level(logging.ERROR, logger="gateway.proxy")
