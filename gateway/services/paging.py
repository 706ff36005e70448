"""Pages of a list: where one ended, as an opaque text, and how long one may be.

Invariant: a cursor is the position of a page's last item (what the list is sorted by, and the id), bound to its list by
a word; any other text is the caller's fault and is said so. OFFSET was turned down: it reads all it skips, and jumps or
repeats when things are added meanwhile.
"""

import base64
import json
from typing import Final

from gateway.errors import FieldError

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 1000
CURSOR_RULE: Final = "is not a cursor of this list; take next_cursor of the page before, with the same filters"


def encode(order: str, value: str, item_id: str) -> str:
    """Return the cursor of a page that ended with this item; `value` is what the list is sorted by before the id."""
    text = json.dumps([order, value, item_id], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, order: str) -> tuple[str, str]:
    """Return (value, item id) of a cursor that `encode` made for this order. Raises ValueError with the rule."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        match json.loads(base64.b64decode(padded, altchars=b"-_", validate=True)):
            case [str(word), str(value), str(item_id)] if word == order:
                value.encode(), item_id.encode()  # lone surrogates are no text of ours, and no store takes them
                return value, item_id
    except (ValueError, RecursionError):  # not ASCII, not base64, not UTF-8, not JSON, far too nested
        pass
    raise ValueError(CURSOR_RULE)


def limit_fault(limit: int) -> list[FieldError]:
    """Return what is wrong with a page's length."""
    return [] if 1 <= limit <= MAX_LIMIT else [FieldError("limit", f"must be 1 to {MAX_LIMIT}")]
