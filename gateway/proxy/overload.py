"""What was refused since a limit was reached: counted for the metrics, and said in the log now and then.

Invariant: a refusal is counted where it is decided, and costs no log line of its own: a flood must not fill the log,
and whoever reads it wants to know which limit it was and how many it hit.
"""

import logging
from typing import Final

from gateway.settings.model import ServerSettings

_LOG = logging.getLogger(__name__)
_LOG_SECONDS: Final = 10.0


class Overload:
    """The counts of one worker since its start."""

    __slots__ = ("_quiet_until", "_settings", "_told_connections", "_told_requests", "connections", "requests")

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self.connections = 0
        """Those above `server.max_connections`."""
        self.requests = 0
        """Those above `server.max_in_flight`."""
        self._told_connections = 0
        self._told_requests = 0
        self._quiet_until = 0.0

    def tick(self, now: float) -> None:
        """Tell of what is new, not more often than every ten seconds. `now` is the loop's clock."""
        connections = self.connections - self._told_connections
        requests = self.requests - self._told_requests
        if now < self._quiet_until or not (connections or requests):
            return
        self._quiet_until = now + _LOG_SECONDS
        self._told_connections, self._told_requests = self.connections, self.requests
        if connections:
            _say("max_connections", self._settings.max_connections, connections, "connections")
        if requests:
            _say("max_in_flight", self._settings.max_in_flight, requests, "requests")


def _say(setting: str, limit: int, refused: int, what: str) -> None:
    _LOG.warning(
        "server.%s = %d is reached in this worker, %s refused: %d; raise that or server.workers, if they are wanted",
        setting,
        limit,
        what,
        refused,
    )
