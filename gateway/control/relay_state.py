"""What readiness, status and metrics want to know of the relay between the store and Redis, where there is one."""

from __future__ import annotations

from typing import Protocol


class RelayState(Protocol):
    """How things stand, as of the relay's last look. Reading it waits for nothing."""

    @property
    def redis_reachable(self) -> bool:
        """Whether Redis answers."""

    @property
    def store_reachable(self) -> bool:
        """Whether the store answers the relay."""

    @property
    def complete(self) -> bool:
        """Whether the key table holds every key."""

    @property
    def head(self) -> int | None:
        """The newest change of the store's log."""

    @property
    def relayed(self) -> int | None:
        """The newest change that the key table has."""

    @property
    def rebuilds(self) -> int:
        """How often this process has built the table anew."""
