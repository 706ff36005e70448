"""Entries, and segments as workers leave them: being written, sealed, or left behind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from gateway.keys.request_entry import Outcome, RequestEntry
from gateway.recording.records import encode

if TYPE_CHECKING:
    from gateway.recording.open_segment import OpenSegment
    from gateway.recording.spool_directory import SpoolDirectory

SIZE = 1 << 17
NOON = 1_795_262_400_000_000  # 2026-11-21 12:00 UTC


def entry(number: int = 0, **given: Any) -> RequestEntry:  # noqa: ANN401 - whatever fields an entry has
    """An answered request by a key; its number is in the request id, and makes the moment."""
    plain: dict[str, Any] = dict.fromkeys(RequestEntry._fields, "")
    plain |= dict.fromkeys(("position", "run"), 0)
    plain |= {"at": NOON + number * 1000, "duration": 500, "outcome": Outcome.ANSWERED, "status": 200, "bytes_in": 3}
    plain |= {"bytes_out": 5, "request_id": f"r{number}", "method": "GET", "path": f"/p/{number}", "route": "api"}
    plain |= {"upstream": "orders", "address": "192.0.2.7", "user_agent": "curl/8", "key_id": "key_1"}
    plain |= {"key_name": "CI", "secret_id": "sec_1", "organization_id": "org_1", "owner_id": "mem_1"}
    return RequestEntry(**plain | given)


class Worker:
    """One run of a worker, which makes and locks its segments as the real one does."""

    def __init__(self, directory: SpoolDirectory, size: int = SIZE) -> None:
        self._directory = directory
        self._size = size
        self.run = 0
        self.segments: list[OpenSegment] = []
        self.move_on()

    @property
    def segment(self) -> OpenSegment:
        return self.segments[-1]

    def write(self, value: RequestEntry | bytes, *, opened: int = 0) -> int:
        payload = value if isinstance(value, bytes) else encode(value, opened=opened)
        position = self.segment.append(payload)
        assert position > 0
        return position

    def move_on(self) -> None:
        """Make the next segment, and seal the one before."""
        made = self._directory.create(self._size, run=self.run)
        assert made is not None
        self.run = self.run or made.number
        if self.segments:
            self.segment.seal()
            self.segment.close()
        self.segments.append(made)

    def drain(self) -> None:
        self.segment.seal()
        self.segment.close()

    def die(self) -> None:
        """As by SIGKILL: what was written is there, and the lock is not."""
        self.segment._map.close()
        os.close(self.segment._descriptor)
