"""May a request pass? The first part of an exchange's life: its route, the policies, and its key while it lasts.

Invariant: one of three things happens to every request that `begin` is called for: `admitted`, an answer of the
gateway's own, or a task that waits for either. A stream is judged by the same policies again when its key changes or
comes to its end (`readmit`); a store that cannot be asked then is no reason to end what was good when it began.
Turned down: an object of its own for this part, which would cost each request an allocation and a reference back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Final

from gateway.errors import StoreUnavailable
from gateway.policies.refusal import STORE_UNAVAILABLE, Refusal
from gateway.proxy import answers
from gateway.proxy.cors import Cors, preflight_method
from gateway.proxy.phases import ADMIT, OVER
from gateway.proxy.request_head import RequestHead
from gateway.proxy.routes import Route
from gateway.proxy.target import other_readings
from gateway.proxy.teller import Teller
from gateway.recording.records import NOWHERE

if TYPE_CHECKING:
    from gateway.cache.key_cache import Entry
    from gateway.proxy.client_connection import ClientConnection

_LOG = logging.getLogger(__name__)
_READING: Final = frozenset({b"GET", b"HEAD"})
_SERVER_ERROR: Final = 500


class Admission:
    """See the module. `gateway.proxy.exchange` goes on from `admitted`."""

    __slots__ = (
        "_task",
        "client",
        "code",
        "cors",
        "entry",
        "head",
        "known",
        "now",
        "origin",
        "passed",
        "passes_authorization",
        "phase",
        "route",
        "secret",
        "where",
    )

    route: Route

    def __init__(self, client: "ClientConnection", head: RequestHead, now: float) -> None:
        self.client = client
        self.head = head
        self.now = now
        self.phase = ADMIT
        self.secret: bytes | None = None
        self.passes_authorization = False
        self.entry: Entry | None = None
        self.known: Entry | None = None
        """Whose key was presented, be it good or not: for the record."""
        self.cors: Cors | None = None
        """What its route, or one there for another method, says to pages: in every answer, whoever asks."""
        self.origin: bytes | None = None
        """The page's origin, on a route that it may use (CORS)."""
        self.passed = False
        """Whether the policies let it pass: then it is on record whatever becomes of it."""
        self.code = b""
        """Why it was refused or cut off, for the record."""
        self.where = NOWHERE
        """Its route, for the record."""
        self._task: asyncio.Task[None] | None = None

    # --- what the exchange does then --------------------------------------------------------------------------------

    def admitted(self) -> None:
        """It may pass: send it on."""
        raise NotImplementedError

    def refuse(self, refusal: Refusal) -> None:
        """It may not."""
        raise NotImplementedError

    def answer(self, answer: answers.OwnAnswer, *, keeps: bool = True) -> None:
        """Answer in the gateway's own name. `keeps`: the connection may serve another request."""
        raise NotImplementedError

    def abort(self) -> None:
        """End it so that the client sees it was cut off."""
        raise NotImplementedError

    # --- admit ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Find the route and judge the request."""
        head = self.head
        worker = self.client.worker
        routes = worker.routes
        if worker.me_route is not None and head.path == worker.me_path:
            route: Route | Refusal = worker.me_route
        elif routes.any_cors and head.method == b"OPTIONS" and self._answer_preflight():
            return
        else:
            route = routes.match(head.host, head.method, head.path)
        if isinstance(route, Refusal):
            self._refuse_unrouted(route)
            return
        self.route = route
        self.where = route.where
        if route.cors is not None:
            self.cors = route.cors
            self.origin = route.cors.origin(head.forwarded)
        if head.traits and (head.traits & route.refused_traits or self._reads_as_another_route(route)):
            self.refuse(answers.AMBIGUOUS_TARGET)
        elif head.body_length > route.max_body:
            self.refuse(answers.BODY_TOO_LARGE)
        elif worker.in_flight > worker.settings.max_in_flight:
            worker.overload.requests += 1
            self.refuse(answers.TOO_MANY_REQUESTS)
        elif worker.recording is not None and worker.recording.spool.blocked:
            self.refuse(answers.AUDIT_LOG_FULL)
        else:
            self.admit(0)

    def _refuse_unrouted(self, refusal: Refusal) -> None:
        """No route serves this, at least not with this method; a page that may use the path may read that."""
        head, routes = self.head, self.client.worker.routes
        asks = head.method == b"OPTIONS"  # a preflight that fails is read by the browser alone
        route = routes.with_cors(head.host, head.path) if routes.any_cors and not asks else None
        if route is not None and route.cors is not None:
            self.cors = route.cors
            self.origin = route.cors.origin(head.forwarded)
        self.refuse(refusal)

    def _reads_as_another_route(self, route: Route) -> bool:
        """Whether an upstream that reads this path in another way sees what another route stands in front of.

        Compared with the route's own path, read in the same way: one with a `;` in it was written down as it is.
        """
        head, routes = self.head, self.client.worker.routes
        own = other_readings(route.settings.path.encode())
        for path, meant in zip(other_readings(head.path), own, strict=True):
            if routes.match(head.host, head.method, path) is not routes.match(head.host, head.method, meant):
                return True
        return False

    def _answer_preflight(self) -> bool:
        """Answer or refuse a preflight where a route with CORS is; False: it is a request like any other."""
        head, routes = self.head, self.client.worker.routes
        method = preflight_method(head.forwarded)
        if method is None:
            return False
        route = routes.match(head.host, method, head.path)
        if isinstance(route, Refusal):
            # Not left to a route that serves OPTIONS there: it is a question about another one.
            if routes.with_cors(head.host, head.path) is None:
                return False
            self.refuse(route)
            return True
        if route.cors is None:
            return False
        self.where = route.where
        fields = route.cors.preflight_fields(route.cors.origin(head.forwarded), method)
        self.answer(answers.no_content(fields))
        return True

    def admit(self, first: int) -> None:
        """Ask the policies in their order, from number `first` on."""
        policies = self.route.policies
        for index in range(first, len(policies)):
            outcome = policies[index].check(self)
            if outcome is not None:
                if isinstance(outcome, Refusal):
                    self.refuse(outcome)
                else:
                    self.wait(self._admit_later(outcome, index + 1))
                return
        self.passed = True
        if self.route.teller is None:
            self.admitted()
        else:
            self.wait(self._tell(self.route.teller))

    async def _admit_later(self, outcome: Awaitable[Refusal | None], following: int) -> None:
        refusal = await outcome
        if refusal is not None:
            self.refuse(refusal)
        else:
            self.admit(following)

    async def _tell(self, teller: Teller) -> None:
        """Answer who the key is, in the API's place, unless it is no good any more by what the store says now."""
        try:
            told = await teller.tell(self.secret or b"")
        except StoreUnavailable:
            told = None
            refusal: Refusal | None = STORE_UNAVAILABLE
        else:
            refusal = await self._judged_again()
        if refusal is not None:
            self.refuse(refusal)
        elif told is None:  # gone, and the worker's memory could not be made to know it
            self.refuse(STORE_UNAVAILABLE)
        elif self.head.method in _READING:
            self.answer(answers.content(told))
        else:
            self.refuse(answers.ONLY_READ)

    async def _judged_again(self) -> Refusal | None:
        self.now = self.client.worker.clock()
        for policy in self.route.policies:
            outcome = policy.check(self)
            refusal = outcome if outcome is None or isinstance(outcome, Refusal) else await outcome
            if refusal is not None:
                return refusal
        return None

    # --- waiting, and changes meanwhile -----------------------------------------------------------------------------

    def wait(self, coroutine: Coroutine[object, object, None]) -> None:
        """Go on in a task; a policy or a connection has to be waited for."""
        self._task = task = asyncio.get_running_loop().create_task(coroutine)
        task.add_done_callback(self._waited)

    def _waited(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("a defect of the gateway ended %r", self, exc_info=error)
            if self.phase != OVER:
                self.refuse(answers.INTERNAL_ERROR)

    def key_is_over(self, now: float) -> bool:
        """Whether the key it was admitted with counts no more, and nobody is asking about it already."""
        entry = self.entry
        return entry is not None and self._task is None and (entry.dead or entry.active_until < now)

    def readmit(self) -> None:
        """The key of a running stream changed or came to its end: judge again, and cut off if it is no good."""
        self.now = self.client.worker.clock()
        for policy in self.route.policies:
            outcome = policy.check(self)
            if isinstance(outcome, Refusal):
                self._cut_off(outcome)
                return
            if outcome is not None:
                self.wait(self._readmit_later(outcome))
                return

    async def _readmit_later(self, outcome: Awaitable[Refusal | None]) -> None:
        refusal = await outcome
        if refusal is not None:
            self._cut_off(refusal)
        elif self.phase != OVER:
            self._task = None
            self.readmit()

    def _cut_off(self, refusal: Refusal) -> None:
        # A store that cannot be asked is no reason to end what was good when it began.
        if refusal.status < _SERVER_ERROR and self.phase != OVER:
            self.code = refusal.code.encode()
            self.abort()
