"""What readiness, status and metrics want to know of the recorder, where requests are recorded."""

from __future__ import annotations

from typing import Protocol


class RecordingState(Protocol):
    """How things stand, as of the recorder's last look. Reading it waits for nothing."""

    @property
    def active(self) -> bool:
        """Whether this process records for its node; another one may, for as long as a reload takes."""

    @property
    def entries(self) -> int:
        """How many records this process has taken into the store."""

    @property
    def lag_seconds(self) -> float | None:
        """How old the oldest is that was read and is not in the store yet.

        None where another process records, and where the store has not said yet how far it has them.
        """

    @property
    def spool_bytes(self) -> int:
        """What the spool takes on the disk, files that workers hold ready included."""

    @property
    def waiting_bytes(self) -> int:
        """What of it is not in the store yet."""

    @property
    def limit_bytes(self) -> int:
        """What it may take."""

    @property
    def damaged_bytes(self) -> int:
        """What could not be read in it."""

    @property
    def unrecorded_refusals(self) -> int:
        """Refusals that are on record by their number alone."""

    @property
    def dropped_segments(self) -> int:
        """Segments that workers gave up for want of room."""

    @property
    def store_away_seconds(self) -> float:
        """For how long nothing could be taken into the store, for whatever reason; 0 while it can."""

    @property
    def sink_failures(self) -> int:
        """Records that could not be copied to `audit.ndjson`."""
