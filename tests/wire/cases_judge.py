"""What must come of a case of the battery: what its client got, and what reached the upstream, to the last byte.

Invariant: every answer and every byte at the upstream is accounted for. A request counts once for its answer, by its
id; one that came twice, or belongs to nobody, is a failure, and so is one without an end but where a case says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from tests.proxy.harness import problem
from tests.proxy.wire_reader import Incomplete, Message, read_request
from tests.wire.cases import SECOND, UPSTREAM_HOST, Answered, Denied, Forwarded, Refused

if TYPE_CHECKING:
    from tests.wire.cases import Case
    from tests.wire.live import Live, UpstreamPeer
    from tests.wire.live_clients import Client

_TOLD: Final = {401: ["www-authenticate"] * 2, 403: ["www-authenticate"] * 2, 405: ["allow"]}
"""Fields that answers of a status have: a challenge for each way to send a key; what is served."""
_SENT_ON: Final = ["content-length", "date", "x-request-id"]
"""Fields that each answer has, once: of the upstream's; of the gateway's, without and with a body."""
_EMPTY: Final = ["date", "x-request-id"]
_OWN: Final = ["cache-control", "content-length", "content-type", "date", "x-request-id"]
BEHIND: Final = Forwarded("the second one", SECOND, b"GET /2")


@dataclass(slots=True)
class Arrived:
    """What the upstream got."""

    whole: dict[bytes, tuple[bytes, Message]] = field(default_factory=dict)
    """By its id, each whole request with the bytes of its head; those that belong to an answer are taken out."""
    begun: set[bytes] = field(default_factory=set)
    """The ids of those that were cut off behind their head."""


def expected(case: Case, *, second: bool) -> int:
    """How many answers there are."""
    ends = isinstance(case, Refused) or case.ends
    return 2 if second and not ends else 1


def is_answered(client: Client, case: Case, *, second: bool) -> bool:
    """Whether nothing more has to come; what comes all the same is found later."""
    if isinstance(case, Refused) or case.ends:
        return client.over()
    heads = client.received.count(b"\r\n\r\n")
    return client.over() or heads >= expected(case, second=second)


def judge(
    gate: Live,
    case: Case,
    client: Client,
    arrived: Arrived,
    *,
    second: bool,
    where: object,
) -> int:
    """Judge what a client got; returns how many requests of its connection the upstream must have got."""
    assert not client.was_reset, where
    client.methods = [case.sends.lstrip(b"\r\n").partition(b" ")[0], b"GET"]
    if isinstance(case, Refused):  # its answer has a body whatever it was meant to be
        client.methods = []
    answers = client.answers
    assert all(answer.whole for answer in answers), (where, client.received)
    if isinstance(case, Denied | Answered) and case.ends is None and client.ended:
        assert len(answers) in {1, expected(case, second=second)}, (where, client.received)
    else:
        ends = isinstance(case, Refused) or case.ends or False
        assert len(answers) == expected(case, second=second), (where, client.received)
        assert client.ended is ends, (where, client.received)
        assert (answers[0].one("connection") == "close") is ends, where
    reached = 0
    if isinstance(case, Forwarded):
        judge_forwarded(gate, case, answers[0], arrived, where)
        reached = 1
    else:
        judge_own(case, answers[0], where)
        arrived.begun.discard(id_of(answers[0]))
    for answer in answers[1:]:
        if isinstance(case, Denied) and case.behind is not None:
            judge_own(case.behind, answer, where)
        else:
            judge_forwarded(gate, _behind(case), answer, arrived, where)
            reached += 1
    return reached


def _behind(case: Case) -> Forwarded:
    """The second request: what its route says of Host, and that its peer is trusted, is so for both."""
    if isinstance(case, Forwarded) and case.host_field != UPSTREAM_HOST:
        return replace(BEHIND, host_field=b"h")
    return BEHIND


def judge_own(case: Refused | Denied | Answered, answer: Message, where: object) -> None:
    if isinstance(case, Answered):
        assert answer.status == case.status, (where, answer)
        assert answer.body == (case.body or b""), (where, answer)
        assert _further_lines(answer, _EMPTY if case.body is None else _OWN) == case.fields, (where, answer)
        return
    status, code = case.verdict
    assert answer.status == status, (where, answer)
    told = [name for key, _ in answer.fields if (name := key.decode().lower()) in {"www-authenticate", "allow"}]
    assert told == _TOLD.get(status, []), (where, answer)
    fields = case.fields if isinstance(case, Denied) else b""
    assert _further_lines(answer, _OWN, told) == fields, (where, answer)
    if isinstance(case, Denied) and case.sends.startswith(b"HEAD "):
        assert answer.body == b"", where
        return
    body = problem(answer)
    assert body["code"] == code, (where, answer)
    assert body["type"] == f"urn:keygate:problem:{code}", (where, answer)
    assert body["title"] == HTTPStatus(status).phrase, (where, answer)
    if isinstance(case, Denied) and case.detail is not None:
        assert body["detail"] == case.detail, (where, answer)


def judge_forwarded(gate: Live, case: Forwarded, answer: Message, arrived: Arrived, where: object) -> None:
    assert answer.status == 200, (where, answer)
    request_id = id_of(answer)
    head, request = arrived.whole.pop(request_id)
    assert head == case.head(b"127.0.0.1:%d" % gate.upstream.port, request_id), (where, head)
    assert request.body == case.body, (where, request)
    assert _further_lines(answer, _SENT_ON) == case.told, (where, answer)
    if request.method != b"HEAD":
        assert answer.body == request.method + b" " + request.target, where


def judge_rest(gate: Live, case: Case, arrived: Arrived, reached: int) -> None:
    """Whether nothing reached the upstream but what was answered, or what the case says may have begun to."""
    assert not arrived.whole, (case.name, "requests that belong to no answer", arrived.whole)
    assert not arrived.begun, (case.name, "beginnings that belong to no refusal", arrived.begun)
    assert len(gate.upstream.requests) == reached, (case.name, gate.upstream.requests)


def id_of(message: Message) -> bytes:
    return (message.one("x-request-id") or "").encode()


def _further_lines(answer: Message, usual: list[str], told: list[str] | None = None) -> bytes:
    """Its field lines but for the usual ones, each there once, those of `told`, and what it says of the connection."""
    assert all(len(answer.all(name)) == 1 for name in usual), answer
    names = {"connection", *usual, *(told or [])}
    return b"".join(b"%b: %b\r\n" % each for each in answer.fields if each[0].decode().lower() not in names)


def what_arrived(gate: Live, case: Case) -> Arrived:
    """All that the upstream got, every byte of it; nothing came twice, and no request without an end but as allowed."""
    found = Arrived()
    assert not gate.upstream.faults, gate.upstream.faults
    for peer in gate.upstream.connections:
        data = peer.received
        while data:
            try:
                request, rest = read_request(data)
            except Incomplete as cut:
                _add_begun(found, case, peer, data, cut.begun)
                break
            head = data[: data.index(b"\r\n\r\n") + 4]
            assert id_of(request) not in found.whole, (case.name, "a request came twice", head)
            found.whole[id_of(request)] = head, request
            data = rest
    return found


def _add_begun(found: Arrived, case: Case, peer: UpstreamPeer, data: bytes, begun: Message | None) -> None:
    """What a connection ends in is no whole request: that may be so only where its refusal comes too late."""
    begins = isinstance(case, Refused) and case.begins
    assert begins, (case.name, "a request without an end", data)
    assert peer.ended, "a request without an end is cut off"
    assert b"GET /2" not in data, "and nothing of the next one is in it"
    assert begun is not None, (case.name, "a head without an end", data)
    assert id_of(begun) not in found.begun, (case.name, "it began twice", data)
    found.begun.add(id_of(begun))
