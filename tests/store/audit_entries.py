"""Entries for tests of audit stores."""

from __future__ import annotations

from typing import Any, Final

from gateway.keys.request_entry import OFFSET_BITS, Outcome, RequestEntry
from gateway.store.audit_query import DAY_MICROSECONDS, first_moment

SPOOL: Final = "00000000000000a1"
OTHER: Final = "fffffffffffffff2"
"""Its first bit is set: as a signed number it would come before the other one."""
SEGMENT: Final = 1_792_540_800
DAY: Final = DAY_MICROSECONDS
NOON: Final = first_moment("2026-11-21") + DAY // 2


def entry(number: int = 0, **fields: Any) -> RequestEntry:  # noqa: ANN401 - whatever an entry has
    """The entry at the given place of the segment, a second after the one before it."""
    plain = RequestEntry(
        position=SEGMENT << OFFSET_BITS | 64 + 8 * number,
        at=NOON + number * 1_000_000,
        duration=1_500,
        outcome=Outcome.ANSWERED,
        status=200,
        bytes_in=17,
        bytes_out=4_000_000_000,
        request_id=f"r{number}",
        method="GET",
        path="/v1/things",
        route="/v1/",
        upstream="things",
        address="192.0.2.7",
        user_agent="example/1.0",
        code="",
        key_id="key_1",
        key_name="first",
        secret_id="sec_1",
        organization_id="org_1",
        owner_id="sva_1",
        run=SEGMENT,
    )
    return plain._replace(**fields)


def anonymous(number: int, **fields: Any) -> RequestEntry:  # noqa: ANN401 - as above
    """A refused request without a key."""
    nobody = dict.fromkeys(("key_id", "key_name", "secret_id", "organization_id", "owner_id"), "")
    return entry(number, **{"outcome": Outcome.REFUSED, "status": 401, "code": "key_missing", **nobody, **fields})
