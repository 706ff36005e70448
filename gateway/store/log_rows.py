"""What a worker reads of the change log in one look, and what it makes of the rows; the same for every store.

Invariant: a look is one statement, so that epoch, head and changes are of one moment in any store and at any level of
isolation. Each row is `LOG_COLUMNS`; there is one at least, with NULLs for the change where none is from `seq` on.
"""

from collections.abc import Sequence
from typing import Any, Final

from gateway.keys.change import Change
from gateway.keys.projection import LogLook

LOG_COLUMNS: Final = "i.epoch, (SELECT max(seq) FROM key_changes), c.seq, c.subject_kind, c.subject_id, c.version"
LOG_TABLES: Final = """
  FROM store_identity i
  LEFT JOIN (SELECT seq, subject_kind, subject_id, version FROM key_changes WHERE seq >= {seq} ORDER BY seq LIMIT {rows}
            ) c ON c.seq IS NOT NULL
 ORDER BY c.seq
"""
"""To be formatted with the driver's marks for `seq` and for one row more than there may be changes."""


def look_of(seq: int, limit: int, rows: Sequence[Any]) -> LogLook:  # Any: a driver's row has no static type
    """Make the look behind `seq` of its rows, of which there is one at least."""
    epoch, head = rows[0][0], rows[0][1]
    found = [Change(*tuple(row)[2:6]) for row in rows if row[2] is not None]
    at = found.pop(0) if found and found[0].seq == seq else None
    return LogLook(epoch, head or 0, at, tuple(found[:limit]))
