"""Sends bytes as an upstream and holds what clients see against what they may see.

Three readers judge: the model (`fuzz_response_model`) says of which kind the bytes are; the strict reader and h11 each
read what the client received; and h11 reads the upstream's own bytes, where nothing that counts as whole may be another
response. Invariant: a client sees one whole response, a visible abort, or the gateway's own 502 or 504, and after
anything broken or surplus another client's answer comes on a fresh connection and is its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import h11

from tests.proxy.harness import OTHER_SECRET, Client, Gate, Upstream, get, problem
from tests.proxy.wire_reader import Message, read_responses
from tests.wire.fuzz_abnf import real
from tests.wire.fuzz_gates import Gates
from tests.wire.fuzz_request_judge import exchange_of
from tests.wire.fuzz_response_model import (
    BROKEN,
    NO_HEAD,
    NO_RESPONSE,
    OPEN,
    SURPLUS,
    TUNNEL,
    WHOLE,
    Judged,
    client_fields,
    judge,
)
from tests.wire.fuzz_responses import LINES, Context, context, responses

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from hypothesis import strategies as st

    from tests.wire.fuzz_mutations import Piece

KNOWN_OF_H11: Final = {
    "illegal chunk header": "blanks behind a chunk size; see LENIENT",
    "illegal status line": "h11 takes no control byte that the ABNF allows, such as a tab, in a reason phrase",
}
"""What h11 says of responses that the gateway relays whole; each is stricter than the contract."""

_SILENCE: Final = 301
_OTHERS: Final = b"X-API-KEY: " + OTHER_SECRET + b"\r\n"


@dataclass(slots=True)
class Seen:
    """What the client saw, and what became of the upstream's connection."""

    received: bytes
    aborted: bool
    ended: bool
    reusable: bool
    """Before the upstream's end: the next request would go there."""


class Back(Gates):
    """Where the upstream is the one that is fuzzed."""

    def new_gate(self) -> Gate:
        gate = Gate(upstream={"ejection_failures": 0})
        gate.store.put(OTHER_SECRET, key_id="key_2")
        return gate

    def answered(self, asked: Context, pieces: Sequence[bytes], ending: str) -> Seen:
        """What comes of these pieces, each a read of its own, as the answer to this request."""
        gate = self.gate
        client = gate.client()
        client.send(asked.request)
        upstream = self._asked()
        for piece in pieces:
            upstream.send(piece)
        reusable = not upstream.transport.closing
        unfinished = exchange_of(upstream) is not None
        if ending == "ends":
            upstream.end()
        elif ending == "is reset":
            upstream.reset()
        elif unfinished:
            gate.advance(_SILENCE, step=_SILENCE)
        transport = client.transport
        seen = Seen(client.received, transport.aborted, transport.eof_sent and not transport.aborted, reusable)
        idle = reusable and not unfinished
        again = client.open and exchange_of(upstream) is None and self.served % 2 == 0  # no tunnel, that is
        self._others(client, None if idle else upstream, again=again)
        self._end(client)
        return seen

    def _asked(self) -> Upstream:
        """The connection on which the request went out."""
        (upstream,) = [each for each in self.gate.upstreams if each.received and not each.gone]
        del upstream.transport.sent[:]
        return upstream

    def _others(self, client: Client, never: Upstream | None, *, again: bool) -> None:
        """Somebody else asks, and at times the same client `again`: each gets its own answer, on a good connection."""
        for who in [self.gate.client(), *([client] if again else [])]:
            before = len(who.received)
            who.send(get(b"/other", _OTHERS))
            upstream = self._asked()
            assert upstream is not never, "what broke or had a surplus is never used again"
            upstream.send(b"HTTP/1.1 200 OK\r\nX-For: other\r\nContent-Length: 5\r\n\r\nother")
            (answer,) = read_responses(who.received[before:], [b"GET"], ended=False)
            assert (answer.status, answer.body, answer.one("x-for")) == (200, b"other", "other")
            if who is not client:
                who.end()

    def _end(self, client: Client) -> None:
        gate = self.gate
        client.end()
        for upstream in gate.upstreams:
            if exchange_of(upstream) is not None:
                upstream.reset()
        self.input_over()


def check(judged: Judged, asked: Context, seen: Seen, ending: str, *, at_once: bool) -> str:
    """What the client saw is what it may see; returns what that was. `at_once`: the bytes came in one read."""
    answers = read_responses(seen.received, [asked.method], ended=seen.ended)
    interims = [each for each in answers if each.status < 200 and each.status != 101]
    _check_interims(judged, asked, interims)
    finals = answers[len(interims) :]
    assert len(finals) <= 1, finals
    final = finals[0] if finals else None
    if judged.kind == TUNNEL:
        assert final is not None
        assert (final.status, final.body) == (101, judged.body)
        return TUNNEL
    _check_reuse(judged, seen)
    if final is not None and _is_own(judged, final, seen):
        assert judged.kind in {NO_RESPONSE, NO_HEAD, BROKEN, SURPLUS}, (judged, final)
        in_vain = judged.kind == NO_HEAD and ending == "is silent"
        # A client that leaves its own body unfinished is the silent one, unless it waits to be asked for it.
        waits = asked.expects and not any(each.status == 100 for each in judged.interims)
        late = 408 if asked.unfinished and not waits else 504
        assert final.status == (late if in_vain else 502), (judged, final)
        assert asked.method == b"HEAD" or problem(final)
        return str(final.status)
    whole_at_end = judged.kind == OPEN and judged.until_end and ending == "ends"
    if judged.kind == WHOLE or whole_at_end or (judged.kind == SURPLUS and not at_once and _is_whole(final, seen)):
        assert final is not None
        assert not seen.aborted
        _check_whole(judged, asked, final)
        return WHOLE
    assert judged.kind in {BROKEN, SURPLUS, OPEN}, (judged, answers)
    assert judged.kind == OPEN or not at_once, "nothing goes out of what is known to be broken"
    assert seen.aborted, (judged, answers)
    if final is not None:
        assert judged.head is not None
        assert final.status == judged.head.status
        assert judged.body.startswith(final.body), (judged, final)
        assert not final.whole or not _frames(final), "an abort is visible"
    return "aborted"


def _is_own(judged: Judged, final: Message, seen: Seen) -> bool:
    """Of the gateway's own making; an upstream may send problem details, too."""
    own = final.all("content-type") == ["application/problem+json"] and final.all("cache-control") == ["no-store"]
    return own and not seen.aborted and judged.kind != WHOLE


def _is_whole(final: Message | None, seen: Seen) -> bool:
    return final is not None and not seen.aborted


def _frames(final: Message) -> bool:
    """Whether the client can see by the framing alone that it is whole."""
    return bool(final.all("content-length") or final.all("transfer-encoding"))


def _check_interims(judged: Judged, asked: Context, interims: list[Message]) -> None:
    wanted = [each for each in judged.interims if asked.minor and (each.status != 100 or asked.expects)]
    assert [each.status for each in interims] == [each.status for each in wanted], (judged, interims)
    for message, head in zip(interims, wanted, strict=True):
        assert message.fields == head.travelling


def _check_reuse(judged: Judged, seen: Seen) -> None:
    if judged.kind == WHOLE:
        head = judged.head
        assert head is not None
        if not judged.keeps:
            assert not seen.reusable, "it was not to be kept"
        elif not real(head.fields, b"keep-alive"):
            assert seen.reusable, "it was to be kept"
    elif judged.kind in {NO_RESPONSE, BROKEN, SURPLUS}:
        assert not seen.reusable, "it broke a rule, and is never used again"


def _check_whole(judged: Judged, asked: Context, final: Message) -> None:
    head = judged.head
    assert head is not None
    assert final.start == (b"%d" % head.status, head.reason), (judged, final)
    assert final.whole
    assert final.body == judged.body, (judged, final)
    expected = client_fields(judged, head, asked)
    got = [(name, b"" if name == b"Date" and not real(head.fields, b"date") else value) for name, value in final.fields]
    assert got[:-1] == expected, (got, expected)
    assert got[-1][0] == b"X-Request-ID"


def read_with_h11(data: bytes, method: bytes, *, ended: bool) -> tuple[int, bytes, bool]:
    """Status and body of the final response as h11 reads it, and whether it is whole; raises its error."""
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    if ended:
        reader.receive_data(b"")
    status, body = 0, b""
    while True:
        event = reader.next_event()
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif not isinstance(event, h11.InformationalResponse):
            return status, body, isinstance(event, h11.EndOfMessage)


def check_others(judged: Judged, asked: Context, stream: bytes, seen: Seen, what: str) -> None:
    """H11 reads the client's bytes as the strict reader does, and the upstream's as the gateway did."""
    head = judged.head
    if what == WHOLE and head is not None:
        assert read_with_h11(seen.received, asked.method, ended=seen.ended) == (head.status, judged.body, True)
        try:
            read = read_with_h11(stream, asked.method, ended=judged.until_end)
        except h11.RemoteProtocolError as error:
            known = judged.frames_in_trailers or any(each in str(error) for each in KNOWN_OF_H11)
            assert known, error  # noqa: PT017  most raise nothing
        else:
            assert read == (head.status, judged.body, True), (read, judged)
    elif what.isdigit():
        status, _, whole = read_with_h11(seen.received, asked.method, ended=seen.ended)
        assert (status, whole) == (int(what), True)


class ResponseSide:
    """What `fuzz_campaign` asks of a side."""

    name = "responses"

    def __init__(self) -> None:
        self.back = Back()

    def messages(self) -> st.SearchStrategy[list[list[Piece]]]:
        """One response; what stands behind it is a surplus."""
        return responses().map(lambda each: [each])

    def lines(self) -> Sequence[bytes]:
        return LINES

    def try_one(self, stream: bytes, ways: Sequence[Sequence[bytes]], told: Counter[str], *, valid: bool) -> None:
        """See Side."""
        asked, ending = context(stream[0])
        payload = stream[1:]
        if not payload:
            return
        judged = judge(payload, asked)
        if valid:
            assert judged.kind in {WHOLE, TUNNEL} or (judged.kind == OPEN and judged.until_end), judged
        for way in [[stream], *ways]:
            pieces = [each for each in [way[0][1:], *way[1:]] if each]
            try:
                seen = self.back.answered(asked, pieces, ending)
                what = check(judged, asked, seen, ending, at_once=len(pieces) == 1)
            except BaseException:
                self.back = Back()
                raise
            check_others(judged, asked, payload, seen, what)
            told[f"{judged.kind}: {what}"] += 1

    def again_on_sockets(self, kept: list[tuple[bytes, list[bytes]]]) -> None:
        """See Side."""
        from tests.wire.fuzz_sockets import responses_on_sockets  # noqa: PLC0415  which needs `check`

        responses_on_sockets(kept)
