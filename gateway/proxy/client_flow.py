"""Flow control with one client: when it is read from, and how long it may take to send a body or to read an answer.

Invariants: a client is read from unless a reason stands against it, and each reason is taken away by whoever gave it.
Time in which the upstream is the slow one is not the client's. A byte buys the time that it may take at the least rate
(`client_body_min_bytes_per_second`), and all that was bought never reaches further than `client_body_timeout_seconds`
from now: so one number bounds silence and dribbling alike, and what came fast buys no hours of dribbling afterwards.

What is seen of a reader is how its window opens. One that took much fast has a large one, which opens in steps of some
hundred kilobytes: below 5 KB/s these can be further apart than `client_body_timeout_seconds`, and it is cut.

Turned down: a limit on the silence alone, since a byte a minute holds a connection and its upstream for years; the
average over the whole body, as Kestrel and Apache's mod_reqtimeout have it, since a first mebibyte then buys an hour.
"""

import asyncio
from math import inf
from typing import Final

from gateway.proxy import kernel_view

AHEAD: Final = 1
"""Much that the client sent ahead waits already."""
UPSTREAM: Final = 2
"""The upstream takes no more of the body for now."""


class ClientFlow:
    """See the module. Moments are on the loop's clock."""

    __slots__ = (
        "_ahead_limit",
        "_body_due",
        "_held_since",
        "_least_rate",
        "_timeout",
        "_transport",
        "_unread",
        "reading_due",
        "stops",
        "writing_paused",
    )

    def __init__(self, transport: asyncio.Transport, ahead_limit: int, timeout: float, least_rate: int) -> None:
        self._transport = transport
        self._ahead_limit = ahead_limit
        self._timeout = timeout
        self._least_rate = least_rate
        """In bytes per second; 0: silence alone is bounded."""
        self.stops = 0
        """Why nothing is read from the client, as bits; it is read from while there are none."""
        self._held_since = 0.0
        self._body_due = inf
        self.writing_paused = False
        """Whether more has been written than the client reads."""
        self.reading_due = inf
        """By when it has to have read some of that."""
        self._unread = 0

    # --- whether it is read from --------------------------------------------------------------------------------------

    def bound_ahead(self, waiting: int) -> None:
        """Read no more while that many bytes are too many that wait already, and again when they are not."""
        full = waiting > self._ahead_limit
        if full != bool(self.stops & AHEAD):
            if full:
                self._stop(AHEAD)
            else:
                self._go_on(AHEAD)

    def hold(self, now: float) -> None:
        """The upstream takes no more of the body; the client need not hurry."""
        if not self.stops & UPSTREAM:
            self._held_since = now
            self._stop(UPSTREAM)

    def release(self, now: float) -> None:
        """See hold; the client has the time that it had left."""
        if self.stops & UPSTREAM:
            self._body_due += now - self._held_since
            self._go_on(UPSTREAM)

    def read_freely(self) -> None:
        """Whatever stood against it does so no more."""
        if self.stops:
            self.stops = 0
            self._transport.resume_reading()

    def _stop(self, reason: int) -> None:
        if not self.stops:
            self._transport.pause_reading()
        self.stops |= reason

    def _go_on(self, reason: int) -> None:
        self.stops &= ~reason
        if not self.stops:
            self._transport.resume_reading()

    # --- how fast it sends a body -------------------------------------------------------------------------------------

    def expect_body(self, now: float) -> None:
        """A body is due from now on; `inf`: it is not, until some of it comes."""
        self._body_due = now + self._timeout

    def body_came(self, size: int, now: float) -> None:
        """So many bytes of it came, framing counted."""
        most = now + self._timeout
        due = self._body_due + size / self._least_rate if self._least_rate else most
        self._body_due = min(due, most)

    def body_due(self) -> float:
        """By when more of it has to come."""
        return inf if self.stops & UPSTREAM else self._body_due

    # --- how fast it reads --------------------------------------------------------------------------------------------

    def pause_writing(self, now: float) -> None:
        """The client reads slowly."""
        self.writing_paused = True
        self.await_reader(now)

    def resume_writing(self) -> None:
        """It has read most of what was written."""
        self.writing_paused = False
        self.reading_due = inf

    def await_reader(self, now: float) -> None:
        """From now on it has to read."""
        self._unread = self._left_to_read()
        self.reading_due = now + self._timeout

    def reads_on(self, now: float) -> bool:
        """Whether it has read enough since it was looked at last; if so, it has as much time again."""
        left = self._left_to_read()
        taken = self._unread - left
        if taken <= 0 or taken < self._least_rate * self._timeout:
            return False
        self._unread = left
        self.reading_due = now + self._timeout
        return True

    def _left_to_read(self) -> int:
        """What the client's side has not taken yet, here and in the kernel, which can hold megabytes."""
        return self._transport.get_write_buffer_size() + kernel_view.unacknowledged(self._transport)
