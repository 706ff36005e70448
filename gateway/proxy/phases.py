"""The phases of an exchange's life, and which may follow which.

    ADMIT → LEASE → SENT → RELAY or TUNNEL → OVER

Plain numbers: an Enum member hashes in Python, and a request makes four moves.
"""

from typing import Final

ADMIT: Final = 0
"""Judged by the policies; nothing has left the gateway."""
LEASE: Final = 1
"""Waits for a connection to the upstream."""
SENT: Final = 2
"""The request's head is out, no final response head is back."""
RELAY: Final = 3
"""The response's head is out to the client."""
TUNNEL: Final = 4
"""Bytes go both ways unread (101)."""
OVER: Final = 5

NAMES: Final = ["ADMIT", "LEASE", "SENT", "RELAY", "TUNNEL", "OVER"]
_MOVES: Final = [
    1 << LEASE | 1 << OVER,
    1 << ADMIT | 1 << SENT | 1 << OVER,
    1 << LEASE | 1 << RELAY | 1 << TUNNEL | 1 << OVER,
    1 << OVER,
    1 << OVER,
    0,
]
"""By phase, the phases that may follow, as bits. A list: the compiler would build a tuple anew in every move."""


def may_follow(before: int, after: int) -> bool:
    """Whether an exchange may go from one phase to the other."""
    return bool(_MOVES[before] >> after & 1)
