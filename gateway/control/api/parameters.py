"""Query parameters that several operations take.

Invariant: what one list takes every list takes, in the same words and bounds, and removals alike.
"""

from __future__ import annotations

from typing import Final

from gateway.control.api import query
from gateway.services.paging import DEFAULT_LIMIT, MAX_LIMIT

MAX_CURSOR_CHARACTERS: Final = 8000  # of the longest name there is, folded and in base64
MAX_REFERENCE_CHARACTERS: Final = 254

PAGE: Final = (
    query.text(
        "cursor", "`next_cursor` of the page before, with the same filters.", max_characters=MAX_CURSOR_CHARACTERS
    ),
    query.whole_number("limit", 1, MAX_LIMIT, "The longest page.", default=DEFAULT_LIMIT),
)
"""Of every list."""

REMOVAL: Final = (
    query.choice("keys", ("revoke", "move"), "What becomes of keys that are not revoked; needed where there are any."),
    query.text(
        "move_to",
        "With keys=move: the id of the service account that gets them.",
        max_characters=MAX_REFERENCE_CHARACTERS,
    ),
)
"""Of the removal of a member or service account."""
