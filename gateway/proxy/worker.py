"""What the connections of one worker share: settings, routes, counts, the clock's tick, the drain.

Invariant: one per process, on one event loop; nothing here blocks. Deadlines are attributes of the connections, looked
at together four times a second: a `call_later` per request costs more than the comparison of ten thousand floats.
"""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Final

from gateway.cache.key_cache import KeyCache
from gateway.keys.change import Change
from gateway.keys.secret import own_form
from gateway.proxy.client_connection import ClientConnection
from gateway.proxy.overload import Overload
from gateway.proxy.phases import OVER
from gateway.proxy.recording import LASTS_SECONDS, Recording
from gateway.proxy.routes import Route, RouteTable
from gateway.proxy.upstream_pool import UpstreamPool
from gateway.settings.model import ServerSettings

if TYPE_CHECKING:
    from gateway.proxy.exchange import Exchange
    from gateway.proxy.tls_front import TlsFront

_TICK_SECONDS: Final = 0.25
_DRAIN_IDLE_SECONDS: Final = 1.0
_AHEAD_LIMIT_BYTES: Final = 65_536


class Worker:
    """See the module. Also the protocol factory and the `server` of aiohttp's runner."""

    def __init__(
        self,
        settings: ServerSettings,
        routes: RouteTable,
        pools: Iterable[UpstreamPool],
        cache: KeyCache,
        loop: asyncio.AbstractEventLoop,
        me_route: Route | None = None,
        recording: Recording | None = None,
    ) -> None:
        self.settings = settings
        self.routes = routes
        self.me_route = me_route
        """Tells the holder of a key who they are, at exactly its own path and for every host."""
        self.me_path = b"" if me_route is None else me_route.settings.path.encode()
        self.recording = recording
        """None: requests are not put on record."""
        self.pools = list(pools)
        self.cache = cache
        self.loop = loop
        self.clock = loop.time
        self.now = self.clock()
        """The clock when a request last came, a quarter of a second ago at most: good enough for idle times."""
        self.head_limit = min(settings.request_line_limit_bytes, settings.header_section_limit_bytes)
        """A head up to this size breaks neither limit, so neither is looked at."""
        self.client_idle_timeout = settings.client_idle_timeout_seconds
        self.client_body_timeout = settings.client_body_timeout_seconds
        self.client_least_rate = settings.client_body_min_bytes_per_second
        longest_head = settings.request_line_limit_bytes + settings.header_section_limit_bytes
        self.ahead_limit = max(_AHEAD_LIMIT_BYTES, longest_head + len(b"\r\n\r\n"))
        """Bytes that a client may have sent ahead of what the gateway does before it is read from no more."""
        self.max_connections = settings.max_connections
        self.turned_away = 0
        """Those of `connections` that are above the limit, and are there only to read their refusal."""
        self.overload = Overload(settings)
        self.field_limit = settings.header_count_limit
        self.trusted_networks: list[IPv4Network | IPv6Network] = [ip_network(text) for text in settings.trusted_proxies]
        self.connections: set[ClientConnection] = set()
        self.streaming: set[Exchange] = set()
        """Exchanges that are more than one read and one write: what a change of a key has to look at."""
        self.requests = 0
        """Since the start of this process; those whose head could not be read are not among them."""
        self.in_flight = 0
        self.draining = False
        self.hands_over = False
        """The drain is one of a reload: nobody waits for this process to end."""
        self.own_form = own_form("sk_")
        """Finds a key of this gateway in whatever it stands."""
        self.tls: TlsFront | None = None
        """None: clients speak plain HTTP."""
        self.date_field = b""
        self._deserted = asyncio.Event()
        """Set when the last connection has ended."""
        self._request_ids = _request_id_fields()
        self._set_date()

    def __call__(self) -> asyncio.Protocol:
        """Make the protocol of a TCP connection."""
        return ClientConnection(self) if self.tls is None else self.tls.protocol()

    def connection(self) -> ClientConnection:
        """Make the protocol of a connection that requests come on."""
        return ClientConnection(self)

    def request_id_field(self) -> bytes:
        """`X-Request-ID: …` for a new request."""
        return next(self._request_ids)

    def _set_date(self) -> None:
        self.date_field = b"Date: " + formatdate(usegmt=True).encode()

    def left(self, client: ClientConnection) -> None:
        """A connection has ended."""
        self.connections.discard(client)
        if client.turned_away:
            self.turned_away -= 1
        self.handshake_over()

    def handshake_over(self) -> None:
        """There may be nobody left."""
        if self.draining and not self.connections and not (self.tls is not None and self.tls.handshakes):
            self._deserted.set()

    # --- time ---------------------------------------------------------------------------------------------------------

    async def keep_time(self) -> None:
        """Look at all deadlines until cancelled."""
        for tick in itertools.count():
            await asyncio.sleep(_TICK_SECONDS)
            self.tick()
            if tick % 4 == 0:
                self._set_date()

    def tick(self) -> None:
        """End what has been silent for too long, and streams whose key has come to its end."""
        self.now = now = self.clock()
        for client in [each for each in self.connections if each.deadline < now]:
            client.on_deadline()
        if self.tls is not None:
            self.tls.tick(now)
        self.overload.tick(now)
        for client in [each for each in self.connections if each.flow.stops]:
            client.look_for_end()
        for exchange in [each for each in self.streaming if each.halves_closed]:
            exchange.look_for_reset()
        for pool in self.pools:
            for target in pool.targets:
                for upstream in [each for each in target.connections if each.deadline < now]:
                    upstream.on_deadline()
        for exchange in [each for each in self.streaming if each.key_is_over(now)]:
            exchange.readmit()
        if self.recording is not None:
            self._record_what_lasts(self.recording)

    def _record_what_lasts(self, recording: Recording) -> None:
        recording.tick()
        begun_before = recording.clock() - LASTS_SECONDS
        for client in self.connections:
            exchange = client.exchange
            if exchange is not None and exchange.lasts_unrecorded(begun_before) and not exchange.record_beginning():
                return  # nor is there room for another one

    # --- changes ------------------------------------------------------------------------------------------------------

    def changed(self, change: Change | None) -> None:
        """A key, an owner or an organization changed (None: anything may have): judge what streams with it again."""
        for exchange in list(self.streaming):
            entry = exchange.entry
            concerned = entry is not None and (change is None or entry.concerned_by(change))
            if concerned and exchange.phase != OVER:
                exchange.readmit()

    # --- the end: what aiohttp's runner calls, in this order ----------------------------------------------------------

    @property
    def drain_idle_seconds(self) -> float:
        """How long an idle connection is kept for one more request, whose answer then says that it is the last.

        A client learns of the drain in no other way (RFC 9112 section 9.6): one that is told nothing may send a request
        at the moment at which its connection is closed. A stop has somebody waiting; a reload has plenty of time, and
        leaves half of it to the requests that come.
        """
        half = self.settings.drain_timeout_seconds / 2
        return half if self.hands_over else min(_DRAIN_IDLE_SECONDS, half)

    def pre_shutdown(self) -> None:
        """The listeners are closed: answer what is here, take nothing new."""
        self.draining = True
        self._deserted.clear()
        for client in list(self.connections):
            client.drain()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  aiohttp's signature
        """Wait for the connections to end, then end the rest."""
        if self.connections or (self.tls is not None and self.tls.handshakes):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._deserted.wait(), timeout)
        for client in list(self.connections):
            if client.exchange is not None:
                client.exchange.abort()
            else:
                client.abort()
        if self.tls is not None:
            self.tls.end()
        for pool in self.pools:
            for target in pool.targets:
                for upstream in list(target.connections):
                    upstream.discard()


def _request_id_fields() -> Iterator[bytes]:
    """Ids that are unique over workers and restarts: 64 random bits of this process, and a count in hexadecimal.

    The last three digits come from a table: writing a number out costs more than all else about an id.
    """
    run = secrets.token_hex(8)
    endings = [b"%03x" % number for number in range(4096)]
    for block in itertools.count():
        beginning = f"X-Request-ID: {run}{block:09x}".encode()
        for ending in endings:
            yield beginning + ending
