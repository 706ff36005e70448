"""The targets of one upstream: which of them gets the next request, on which connection.

Invariants: a connection is idle, resting or lent, one of these; `in_flight` counts lent ones. The most recently used
idle connection goes out first, so that the others grow old and are closed before their peer closes them; where none is
idle, the one whose rest was over last. Choosing is synchronous; only opening a connection waits. A target that failed
several times in a row is left out for a while; when all are left out, all are used, since a guess beats a certain
refusal.
"""

import asyncio
import logging
import socket
import ssl
from bisect import bisect_right, insort
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

from gateway.proxy import kernel_view
from gateway.proxy.tls import explained, upstream_context
from gateway.proxy.tls_upstream import UpstreamTls
from gateway.proxy.upstream_connection import UpstreamConnection
from gateway.settings.addresses import parse_target
from gateway.settings.model import UpstreamSettings

_LOG = logging.getLogger(__name__)
_QUIET_SECONDS: Final = 1.0
"""An outage fails every request, and whoever reads the log wants to know why, not how often in each line."""
_REASONS_A_SECOND: Final = 16
_KEEP_ALIVE_MARGIN_SECONDS: Final = 1.0
"""Closed this long before the peer said it would, so that no request meets a closing connection."""
SHORTEST_REST_SECONDS: Final = 0.005
LONGEST_REST_SECONDS: Final = 1.0
LOOK_AFTER_SECONDS: Final = 0.02
"""A connection that was in use so long ago is looked at before it is used again. Longer than a turn of a saturated
worker's loop takes, in which otherwise nearly every connection would be looked at, just when that costs most."""
USES_BEFORE_REST: Final = 100
"""So often in a row is a connection used before it has to rest."""
_USES_APART: Final = 11
"""New connections begin to count their uses so far from one another, up to half of the above, or those that were opened
together would rest together, and as many would be opened in their place."""
PROBATION_LOOKS: Final = 1000
"""So many have to find nothing, before a target's connections are used unlooked at."""


class UpstreamUnreachable(Exception):
    """No connection to the target could be opened; `str()` is for our own log."""


def _took(connection: UpstreamConnection) -> float:
    """How long its last answer took, in seconds."""
    return connection.answered_at - connection.leased_at


def _end_of_rest(connection: UpstreamConnection) -> float:
    return connection.rests_until


class Target:
    """One server of an upstream."""

    __slots__ = (
        "_clock",
        "_ejected_until",
        "_failures",
        "_idle_timeout",
        "_max_idle",
        "_opened",
        "_probation",
        "_quiet_until",
        "_said",
        "_settings",
        "_unsaid",
        "authority",
        "connections",
        "distrusted",
        "healthy",
        "host",
        "host_field",
        "idle",
        "in_flight",
        "origins",
        "port",
        "precise_clock",
        "resting",
        "server_name",
        "tls",
    )

    def __init__(
        self, text: str, settings: UpstreamSettings, tls: ssl.SSLContext | None, clock: Callable[[], float]
    ) -> None:
        parsed = parse_target(text)
        self.host = parsed.host
        self.port = parsed.port
        self.authority = parsed.authority
        self.host_field = b"Host: " + parsed.authority.encode()
        default_port = parsed.port == (443 if parsed.scheme == "https" else 80)
        explicit = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
        authorities = {parsed.authority, f"{explicit}:{parsed.port}", *([explicit] if default_port else [])}
        schemes = (f"{parsed.scheme}:", "")  # without one, the client takes that of the request
        self.origins = [f"{scheme}//{each}".lower().encode() for scheme in schemes for each in authorities]
        """The target as a Location field may name it."""
        self.server_name = settings.tls.server_name or parsed.host
        """What a certificate of the target has to say."""
        self._settings = settings
        self._idle_timeout = settings.idle_timeout_seconds
        self._max_idle = settings.max_idle_connections
        self.tls = tls if parsed.scheme == "https" else None
        self._clock = clock
        self.precise_clock: Callable[[], float] = monotonic
        """Goes on while events are handled, as a loop's does not."""
        self.idle: list[UpstreamConnection] = []
        """Those that may be used; the one that was used last stands last."""
        self.resting: list[UpstreamConnection] = []
        """Those that may not yet; the one whose rest ends first stands first."""
        self.connections: set[UpstreamConnection] = set()
        self.in_flight = 0
        self.healthy = True
        """What the last active health checks say."""
        self.distrusted = False
        """Whether it ever sent what no request had asked for, or what begins no response."""
        self._probation = PROBATION_LOOKS
        self._opened = 0
        self._failures = 0
        self._ejected_until = 0.0
        self._quiet_until = 0.0
        self._said: set[str] = set()
        """Reasons of failures that the log was told in this second."""
        self._unsaid = 0

    def __repr__(self) -> str:
        """Name the target and its load."""
        return f"<Target {self.authority} in_flight={self.in_flight} idle={len(self.idle)} healthy={self.healthy}>"

    def usable(self, now: float) -> bool:
        """Whether requests should go here."""
        return self.healthy and self._ejected_until <= now

    def lease(self) -> UpstreamConnection | None:
        """An open connection to use now; None when one has to be opened with `connect`.

        What lies unread there would be read as the answer, and an end would lose a request, so the kernel is asked.
        That is a system call: where the connection served a moment ago, a target is spared it of which PROBATION_LOOKS
        looks found nothing.
        """
        now = self.precise_clock()
        while True:
            if self.idle:
                connection = self.idle.pop()
                looks = self._probation > 0 or now - connection.answered_at >= LOOK_AFTER_SECONDS
            else:
                rested = bisect_right(self.resting, now, key=_end_of_rest)
                if not rested:
                    return None
                connection = self.resting.pop(rested - 1)
                looks = True
            if looks:
                if connection.has_unread():
                    self._refuse_unread(connection)
                    continue
                if self._probation:
                    self._probation -= 1
            self._lend(connection, now)
            return connection

    def _lend(self, connection: UpstreamConnection, now: float) -> None:
        connection.leased = True
        connection.leased_at = now
        connection.deadline = inf
        self.in_flight += 1

    def _refuse_unread(self, connection: UpstreamConnection) -> None:
        if self.tls is None and kernel_view.unread(connection.transport):  # and not merely its end
            self.distrust()
        connection.discard()

    async def connect(self) -> UpstreamConnection:
        """Open a connection, lent from the start; raises UpstreamUnreachable."""
        self.in_flight += 1  # as good as lent, while it is being opened
        try:
            async with asyncio.timeout(self._settings.connect_timeout_seconds):
                connection = await (self._open() if self.tls is None else self._open_tls(self.tls))
        except (OSError, TimeoutError) as error:
            self.failed()
            raise UpstreamUnreachable(self._why(error)) from error
        finally:
            self.in_flight -= 1
        # Behind a handshake of TLS session tickets are on their way, which no request asks for.
        if connection.closing or (self.tls is None and connection.has_unread()):
            connection.discard()
            self.failed()
            message = "it closed the connection as soon as it was open, or spoke before it was asked"
            raise UpstreamUnreachable(message)
        self.connections.add(connection)
        connection.uses = self._opened * _USES_APART % (USES_BEFORE_REST // 2)
        self._opened += 1
        self._lend(connection, self.precise_clock())
        return connection

    def _why(self, error: OSError) -> str:
        """Why it could not be reached, and how to mend it."""
        if isinstance(error, ssl.SSLError):
            return explained(error, self.server_name)
        if isinstance(error, ConnectionRefusedError):
            return "nothing listens there (connection refused): does it run, and is its address in targets right?"
        if isinstance(error, socket.gaierror):
            return f"its name cannot be resolved: is it right in targets, and known to this machine? ({error.strerror})"
        return "no connection in time" if isinstance(error, TimeoutError) else str(error)

    async def _open(self) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: UpstreamConnection(self), self.host, self.port)
        return connection

    async def _open_tls(self, context: ssl.SSLContext) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        connection = UpstreamConnection(self)
        _, tls = await loop.create_connection(
            lambda: UpstreamTls(context, self.server_name, connection, self.complain), self.host, self.port
        )
        try:
            await tls.ready
        except BaseException:  # that time is over is one
            tls.abort()
            raise
        return connection

    def take_back(
        self, connection: UpstreamConnection, now: float, keep_alive_seconds: int, *, rests: bool = False
    ) -> None:
        """Keep a connection for the next request, or close it.

        `keep_alive_seconds`: what the peer says, or -1. `rests`: it is not to be used again at once.
        """
        seconds = self._idle_timeout
        if keep_alive_seconds >= 0:
            seconds = min(seconds, keep_alive_seconds - _KEEP_ALIVE_MARGIN_SECONDS)
        if seconds <= 0 or len(self.idle) + len(self.resting) >= self._max_idle:
            connection.discard()
            return
        self.in_flight -= 1
        connection.leased = False
        connection.deadline = now + seconds
        connection.answered_at = self.precise_clock()
        connection.uses += 1
        if connection.reused:  # the first answer of many new connections waits until the worker has opened all of them
            connection.slowest_seconds = max(connection.slowest_seconds, _took(connection))
        if rests or self.distrusted or connection.uses >= USES_BEFORE_REST:
            self._rest(connection)
        else:
            self.idle.append(connection)

    def _rest(self, connection: UpstreamConnection) -> None:
        """Let it be idle for longer than its answers took, so that one too many is heard while nobody waits for one.

        Where an answer came twice, or late, each request gets the answer to the one before, and none can tell. It
        goes on for as long as the next request comes before the answer that is owed; so now and then none comes.
        Answers that take more than LONGEST_REST_SECONDS may not be heard then.
        """
        longest = max(connection.slowest_seconds, _took(connection))
        rest = min(max(2 * longest, SHORTEST_REST_SECONDS), LONGEST_REST_SECONDS)
        connection.rests_until = connection.answered_at + rest
        connection.uses = 0
        connection.slowest_seconds = 0.0
        insort(self.resting, connection, key=_end_of_rest)

    def drop(self, connection: UpstreamConnection) -> None:
        """Forget a connection that is being closed."""
        self.connections.discard(connection)
        if connection.leased:
            connection.leased = False
            self.in_flight -= 1
        elif connection in self.idle:
            self.idle.remove(connection)
        elif connection in self.resting:
            self.resting.remove(connection)

    def distrust(self) -> None:
        """It sent what no request had asked for, or begins no response, and may again: each use ends in a rest."""
        if self.distrusted:
            return
        self.distrusted = True
        idle, self.idle = self.idle, []
        for connection in idle:
            self._rest(connection)
        _LOG.warning(
            "upstream %s, target %s sent what no request had asked for, or what is no response (often for a"
            " Content-Length that is too small, or a body where HEAD, 204 or 304 have none); until a reload its"
            " connections are used again only after a pause, so that nobody gets another's answer",
            self._settings.name,
            self.authority,
        )

    def answered(self) -> None:
        """A whole response came: failures are no longer in a row."""
        self._failures = 0

    def failed(self) -> None:
        """Count a failure; enough of them in a row eject the target for a while."""
        self._failures += 1
        limit = self._settings.ejection_failures
        if limit and self._failures >= limit:
            self._failures = 0
            now = self._clock()
            known = self._ejected_until > now  # and used all the same, for want of another one
            self._ejected_until = now + self._settings.ejection_seconds
            if known:
                return
            _LOG.warning(
                "target %s of upstream %s failed %d times in a row and is left out for %g s",
                self.authority,
                self._settings.name,
                limit,
                self._settings.ejection_seconds,
            )

    def complain(self, reason: str, whose: str = "") -> None:
        """Say in the log what went wrong, unless it was said in this second; what was not said is counted.

        `whose`: the code of the answer, and the request.
        """
        now = self._clock()
        if now >= self._quiet_until:
            self._said.clear()
            self._quiet_until = now + _QUIET_SECONDS
        elif reason in self._said or len(self._said) >= _REASONS_A_SECOND:
            self._unsaid += 1
            return
        self._said.add(reason)
        unsaid, self._unsaid = self._unsaid, 0
        if unsaid:
            whose += f"{', ' if whose else ''}failures before it that were not logged: {unsaid}"
        behind = f" ({whose})" if whose else ""
        _LOG.warning("upstream %s, target %s: %s%s", self._settings.name, self.authority, reason, behind)


class UpstreamPool:
    """All targets of one upstream."""

    __slots__ = ("_clock", "_next", "_only", "_round_robin", "origins", "settings", "targets")

    def __init__(self, settings: UpstreamSettings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self._clock = clock
        tls = upstream_context(settings) if any(text.startswith("https:") for text in settings.targets) else None
        self.targets = [Target(text, settings, tls, clock) for text in settings.targets]
        self.origins = [origin for target in self.targets for origin in target.origins]
        self._only = self.targets[0] if len(self.targets) == 1 else None
        self._round_robin = settings.balance == "round_robin"
        self._next = 0

    def pick(self, tried: set[Target] | None = None) -> Target | None:
        """The target for the next request; None when all have been `tried`."""
        if self._only is not None:
            return None if tried else self._only
        now = self._clock()
        open_ones = [target for target in self.targets if not tried or target not in tried]
        candidates = [target for target in open_ones if target.usable(now)] or open_ones
        if not candidates:
            return None
        self._next += 1
        if self._round_robin:
            return candidates[self._next % len(candidates)]
        # Ties go around, so that the first target does not get all of a light load.
        start = self._next % len(candidates)
        return min(candidates[start:] + candidates[:start], key=lambda target: target.in_flight)
