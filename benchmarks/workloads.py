"""The kinds of traffic that are compared, as one visible list.

Adding a workload is adding an entry here. `refused` says that every answer must be a refusal; elsewhere none may be.
"""

from dataclasses import dataclass
from enum import StrEnum

RATE_PER_SECOND = 2_000


class KeyChoice(StrEnum):
    """Which key a request carries."""

    ROTATE = "rotate"  # the next of 1,000, whatever the connection
    STEADY = "steady"  # each connection repeats its own
    UNKNOWN = "unknown"  # well formed, stored nowhere
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of traffic. `pause_milliseconds` is the mean pause of a connection between answer and next request."""

    name: str
    title: str
    connections: int = 64
    threads: int = 1
    keys: KeyChoice = KeyChoice.ROTATE
    method: str = "GET"
    path: str = "/json"
    body_bytes: int = 0
    browser_fields: bool = False
    pause_milliseconds: int = 0

    @property
    def refused(self) -> bool:
        """Whether the peers must refuse every request."""
        return self.keys in {KeyChoice.UNKNOWN, KeyChoice.NONE}

    @property
    def saturating(self) -> bool:
        """Whether connections ask again at once; otherwise the rate is fixed and latency is the point."""
        return self.pause_milliseconds == 0


WORKLOADS = (
    Workload("get", "GET, 75-byte answer, 64 connections"),
    Workload("get512", "GET, 75-byte answer, 512 connections", connections=512),
    Workload("steady", "GET, 75 bytes, 64 connections, each repeating its key", threads=8, keys=KeyChoice.STEADY),
    Workload("browser", "GET, 75 bytes, 64 connections, twelve browser fields", browser_fields=True),
    Workload("post", "POST 1 KiB JSON, 64 connections", method="POST", body_bytes=1024),
    Workload("get10k", "GET, 10 KiB answer, 64 connections", path="/10k"),
    Workload("get1m", "GET, 1 MiB answer, 64 connections", path="/1m"),
    Workload("nokey", "refused: no key, 64 connections", keys=KeyChoice.NONE),
    Workload("unknown", "refused: unknown keys, 64 connections", keys=KeyChoice.UNKNOWN),
    Workload(
        "rate",
        f"GET, 75 bytes, about {RATE_PER_SECOND:,} requests/s over 64 connections",
        pause_milliseconds=64 * 1_000 // RATE_PER_SECOND,
    ),
)
QUICK = ("get", "get512")


def workload(name: str) -> Workload:
    """Return the workload of that name, or raise `KeyError`."""
    return {each.name: each for each in WORKLOADS}[name]
