"""The time that services go by, as something that can be handed in.

Invariant: a call asks once and uses one moment throughout, so nothing in it happens before something else. A clock of
the library's own, patched in tests, was turned down: what is handed in shows where time matters.
"""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)
