"""What is on record of one request, in the one form that spool, recorder and stores share.

Invariant: `position` names the entry for ever, within its spool: number of the segment and offset in it. Whoever writes
an entry twice writes it to the same place, so a batch may be repeated. A request that lasts is written twice on
purpose: when it is a second old (`OPEN`), and when it ends, at the same position.
"""

from enum import IntEnum
from typing import Final, NamedTuple

OFFSET_BITS: Final = 24
"""A segment is 16 MiB: `position` is its number shifted by this, plus the offset of the record."""


class Outcome(IntEnum):
    """What became of a request. The numbers are stored."""

    ANSWERED = 0
    """The response went out whole."""
    REFUSED = 1
    """The gateway answered in its own name, with the refusal that `code` names."""
    ABORTED = 2
    """The response was cut off: by the upstream, the client, the gateway, or the end of the key."""
    OPEN = 3
    """It has begun, and lasts."""
    INTERRUPTED = 4
    """It had begun, and the worker died."""


class RequestEntry(NamedTuple):
    """One entry. Texts are empty where there is nothing to say; moments are microseconds since 1970, UTC."""

    position: int
    at: int
    """When the head of the request was whole."""
    duration: int
    """Microseconds from then to the end, or to when this was written."""
    outcome: Outcome
    status: int
    """That of the answer; 0 where none was begun."""
    bytes_in: int
    """Of the request's body, as far as it was sent on."""
    bytes_out: int
    """Of the response's body, without framing."""
    request_id: str
    method: str
    path: str
    """Without the query."""
    route: str
    upstream: str
    address: str
    user_agent: str
    code: str
    """Of the refusal."""
    key_id: str
    key_name: str
    """As it was then."""
    secret_id: str
    organization_id: str
    owner_id: str
    run: int
    """Which run of which worker: the number of its first segment."""


def entry_id(spool: str, position: int) -> str:
    """What an entry is called outside. `spool`: 16 hexadecimal digits; ids sort by spool, then by position."""
    return f"req_{spool}{position:016x}"
