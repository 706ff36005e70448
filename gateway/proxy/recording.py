"""What a worker puts on record of each request, and what it does when that cannot be had.

Invariants: one record for each request that passed the policies, written right before the last bytes of its response go
to the client, so nobody holds a whole response that is not on record; where there is no room for it, the answer is that
it must not be sent. A request that lasts has two: one when it is a second old, and its end. Refusals are on record up
to a rate, above it counted by code: a flood of bad keys must not fill the disk. Neither the query nor a key is in a
record, wherever a client put it. Turned down: a record written after the response, which a crash in between loses.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from gateway.keys.request_entry import Outcome
from gateway.keys.secret import BODY_CHARACTERS, own_form
from gateway.policies.refusal import Refusal
from gateway.proxy.request_head import SHORTEST_SECRET_BYTES, USER_AGENT, presented
from gateway.recording.records import (
    NOBODY,
    NOWHERE,
    PATH_LIMIT_BYTES,
    TEXT_LIMIT_BYTES,
    USER_AGENT_LIMIT_BYTES,
    entry,
    unrecorded_refusals,
)
from gateway.recording.spool import Spool, SpoolFull

if TYPE_CHECKING:
    from gateway.proxy.exchange import Exchange

ANSWERED: Final = 0
REFUSED: Final = 1
ABORTED: Final = 2
OPEN: Final = 3
"""The values of `Outcome`: an Enum member costs a look-up in Python."""
assert [ANSWERED, REFUSED, ABORTED, OPEN] == [Outcome.ANSWERED, Outcome.REFUSED, Outcome.ABORTED, Outcome.OPEN]  # noqa: S101

LASTS_SECONDS: Final = 1.0
"""A request that is older has its beginning on record."""
_PREFLIGHT: Final = b"preflight"
_LEFT_EARLY: Final = b"client_left"
"""Under these is counted what was answered or given up without a refusal, before a key was found good."""
_MICROSECONDS: Final = 1_000_000.0
_ID_BEGIN: Final = len(b"X-Request-ID: ")
_AGENT_BEGIN: Final = len(b"User-Agent: ")
_LIMITS: Final = [TEXT_LIMIT_BYTES, TEXT_LIMIT_BYTES, PATH_LIMIT_BYTES, TEXT_LIMIT_BYTES, USER_AGENT_LIMIT_BYTES]
"""Of request id, method, path, address and user agent."""
_HIDDEN: Final = b"[secret]"


class Tail:
    """Texts of a record that are the same for most requests of one connection: address, user agent, code, route.

    No key of ours is in them, nor was the secret that was presented then.
    """

    __slots__ = ("agent", "agent_bytes", "texts", "where")

    def __init__(self, agent: bytes | None, agent_bytes: int, where: bytes, texts: bytes) -> None:
        self.agent = agent
        """The line of the user agent."""
        self.agent_bytes = agent_bytes
        self.where = where
        self.texts = texts


class Recording:
    """See the module. One per worker; a worker that records nothing has none."""

    __slots__ = (
        "_left",
        "_offset",
        "_own_bytes",
        "_own_form",
        "_prefix",
        "_rate",
        "_second",
        "_unrecorded",
        "_wall_clock",
        "clock",
        "spool",
        "unrecorded",
    )

    def __init__(
        self,
        spool: Spool,
        *,
        refusals_per_second: int,
        key_prefix: str,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` measures durations, finer than a loop's clock, which stands still while an event is handled."""
        self.spool = spool
        self.clock = clock
        self._wall_clock = wall_clock
        self._offset = wall_clock() - clock()
        self._rate = refusals_per_second
        self._second = 0
        """Of the clock, for which `_left` and `_unrecorded` count."""
        self._left = refusals_per_second
        self._unrecorded: dict[bytes, int] = {}
        self.unrecorded = 0
        """Refusals that are counted only, since the worker started."""
        self._prefix = key_prefix.encode()
        self._own_bytes = len(self._prefix) + BODY_CHARACTERS
        self._own_form = own_form(key_prefix)

    # --- on the way of a request --------------------------------------------------------------------------------------

    def write(self, exchange: "Exchange", outcome: int) -> int:
        """Put the exchange on record; returns where it lies, 0 where it is only counted, -1 where there is no room."""
        now = self.clock()
        if not exchange.passed:
            code = exchange.code or (_PREFLIGHT if outcome == ANSWERED else _LEFT_EARLY)
            if not self._may_record_refusal(code, now):
                return 0
        client, head, key, secret = exchange.client, exchange.head, exchange.known, exchange.secret
        path, method = head.path, head.method
        shortest = self._own_bytes if secret is None else min(len(secret), self._own_bytes)
        presented = (head.api_key is not None) + (head.authorization is not None)
        tail = client.tail
        if (
            tail is not None
            and tail.agent == head.special[USER_AGENT]
            and tail.where is exchange.where
            and not exchange.code
            and (presented == 1 if key is not None else not presented)
            and len(method) < shortest
            and (len(path) < shortest or (len(path) <= PATH_LIMIT_BYTES and not self._holds_secret(path, secret)))
            and (tail.agent_bytes < shortest or secret is None or tail.texts.find(secret) < 0)
        ):
            request_id = exchange.request_id_field[_ID_BEGIN:]
            whom = NOBODY if key is None else key.whom
            payload = self._payload(exchange, outcome, now, [request_id, method, path, tail.texts, whom])
        else:
            payload = self._judged(exchange, outcome, now)
        try:
            return self.spool.write(payload)
        except SpoolFull:
            return -1

    def _judged(self, exchange: "Exchange", outcome: int, now: float) -> bytes:
        """A record whose texts have to be looked at; what there is to know for the next ones is kept."""
        client, head, key, secret = exchange.client, exchange.head, exchange.known, exchange.secret
        field = head.special[USER_AGENT]
        agent = b"" if field is None else field[_AGENT_BEGIN:]
        texts = [
            exchange.request_id_field[_ID_BEGIN:],
            head.method,
            head.path,
            client.origin.address(head),
            agent,
            exchange.code,
            exchange.where,
            NOBODY if key is None else key.whom,
        ]
        if self._holds_secret(agent, secret) or len(agent) > USER_AGENT_LIMIT_BYTES:
            client.tail = None
        elif not exchange.code and not client.origin.trusted:
            client.tail = Tail(field, len(agent), exchange.where, b"\0".join(texts[3:7]))
        return self._payload(exchange, outcome, now, self._presentable(texts, _presented(exchange)))

    def _holds_secret(self, text: bytes, secret: bytes | None) -> bool:
        """Whether it may: an escape in a path may stand for any part of one."""
        return text.find(self._prefix) >= 0 or text.find(b"%") >= 0 or (secret is not None and text.find(secret) >= 0)

    def _payload(self, exchange: "Exchange", outcome: int, now: float, texts: list[bytes]) -> bytes:
        at = exchange.at
        if not at:  # once: the wall clock is followed meanwhile, and an entry is of one moment
            at = exchange.at = int((exchange.begun + self._offset) * _MICROSECONDS)
        return entry(
            outcome,
            exchange.status,
            at,
            int((now - exchange.begun) * _MICROSECONDS),
            exchange.bytes_in,
            exchange.bytes_out,
            exchange.opened,
            texts,
        )

    def _presentable(self, texts: list[bytes], secrets: list[bytes]) -> list[bytes]:
        """What clients and the proxies in front of us choose: without a key, its own or another, and not too long.

        They are cut after that, or the beginning of a key at the end of what is left would not be known as one.
        """
        presentable = list(texts)
        for index, limit in enumerate(_LIMITS):
            text = texts[index]
            for secret in secrets:
                text = text.replace(secret, _HIDDEN)
            text = self._own_form.sub(_HIDDEN, text)
            if text.find(b"%") >= 0:
                plain = unquote_to_bytes(text)
                if self._own_form.search(plain) or any(plain.find(secret) >= 0 for secret in secrets):
                    text = _HIDDEN
            presentable[index] = text[:limit]
        return presentable

    def refused_connection(self, address: bytes, request_id_field: bytes, refusal: Refusal) -> None:
        """Put on record what was refused before it was a request."""
        now = self.clock()
        code = refusal.code.encode()
        if not self._may_record_refusal(code, now):
            return
        texts = [request_id_field[_ID_BEGIN:], b"", b"", address, b"", code, NOWHERE, NOBODY]
        at = int((now + self._offset) * _MICROSECONDS)
        try:
            self.spool.write(entry(REFUSED, refusal.status, at, 0, 0, 0, 0, texts))
        except SpoolFull:
            self._count(code)

    # --- refusals -----------------------------------------------------------------------------------------------------

    def _may_record_refusal(self, code: bytes, now: float) -> bool:
        """Whether a refusal gets a record of its own; it is counted here when it does not."""
        if int(now) != self._second:
            self._begin_second(now)
        if self._left > 0 and not self.spool.blocked:
            self._left -= 1
            return True
        self._count(code)
        return False

    def _count(self, code: bytes) -> None:
        self.unrecorded += 1
        self._unrecorded[code] = self._unrecorded.get(code, 0) + 1

    def _begin_second(self, now: float) -> None:
        """Put the counts of the second that is over on record, and begin to count anew."""
        self.write_counts()
        self._second = int(now)
        self._left = self._rate

    def write_counts(self) -> None:
        """Put on record how many refusals have none of their own."""
        at = int(self._second + self._offset) * 1_000_000
        try:
            for code, count in list(self._unrecorded.items()):
                self.spool.write(unrecorded_refusals(at, code, count))
                del self._unrecorded[code]
        except SpoolFull:
            return  # they are counted on, and written with the next second

    # --- beside it ----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Follow the wall clock, and let no count wait for the next refusal."""
        now = self.clock()
        self._offset = self._wall_clock() - now
        if self._unrecorded and int(now) != self._second:
            self._begin_second(now)

    def close(self) -> None:
        """The last exchange is over. Blocks until all of it is on disk."""
        self.write_counts()
        self.spool.close()


def _presented(exchange: "Exchange") -> list[bytes]:
    """All that may be a secret among what was presented: the key, and whatever else Authorization holds."""
    secret = exchange.secret
    found = presented(exchange.head)
    if secret is not None:
        found.append(secret)
    good = exchange.known is not None
    return [each for each in found if len(each) >= SHORTEST_SECRET_BYTES or (good and each and each == secret)]
