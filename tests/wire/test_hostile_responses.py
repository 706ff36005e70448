"""Responses of every wrong and many a strange kind, whole and in pieces, and the client after the one that got them.

What a client sees is a 502, a visible abort, or a good answer; what the next client sees is its own answer, from a
connection that has not carried a byte of this.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import always_rested
from tests.wire.hostile_good import GOOD_ANSWERS
from tests.wire.hostile_responses import (
    BROKEN_BODIES,
    BROKEN_HEADS,
    GOOD,
    HEAD,
    INTERIMS,
    SURPLUS,
    Case,
)
from tests.wire.hostile_upstream import MARK, begin, check_next_client, code_of, hostile, outcome, request
from tests.wire.live import run

if TYPE_CHECKING:
    from tests.proxy.wire_reader import Message
    from tests.wire.conftest import Tried
    from tests.wire.hostile_upstream import HostileUpstream
    from tests.wire.live import Live
    from tests.wire.live_clients import Client

_SHORT = 400
"""Up to here a response is cut at every offset, and sent byte by byte; a longer one near its ends and its lines."""
_BATCH = 12


def batches(cases: list[Case]) -> list[list[Case]]:
    """Some cases for each test: one gateway serves them all, and the tests spread over the machine's cores."""
    return [cases[at : at + _BATCH] for at in range(0, len(cases), _BATCH)]


def offsets(response: bytes) -> list[int]:
    every = range(1, len(response))
    if len(response) <= _SHORT:
        return list(every)
    lines = [at for at in every if b"\r\n" in response[at - 2 : at + 2]]
    return sorted({*every[:20], *lines[:10], *lines[-10:], *every[-20:]})


def expected(case: Case, pieces: list[bytes]) -> set[str]:
    """What the client may see: "502", "cut", "good"."""
    if case.sees in {HEAD, GOOD}:
        return {"502" if case.sees == HEAD else "good"}
    begins = case.response.index(b"\r\n\r\n") + 4
    if case.ends:
        return {"cut"}  # the head was good, and out before the end was known
    reads = list(itertools.accumulate(map(len, pieces)))
    if case.sees == SURPLUS and case.whole in reads:
        return {"good"}
    out = next(read for read in reads if read >= begins)  # what was read when the head went out, if it did
    if out < (case.whole if case.sees == SURPLUS else begins + 1):
        return {"cut"}
    return {"502"} if out == len(case.response) else {"502", "cut"}


def seen(client: Client, case: Case) -> str:
    """What the client saw, all of it judged: no byte beyond one well-formed answer or the beginning of one."""
    assert MARK not in client.received
    answers = client.answers
    final = answers[-1]
    if client.was_reset:
        assert final.status == case.status
        assert not final.whole
        return "cut"
    assert tuple(each.status for each in answers[:-1]) == case.interims
    assert final.whole
    if final.status == 502:
        assert code_of(final) == (502, "" if case.method == b"HEAD" else case.code)
        return "502"
    assert (final.status, final.body) == (case.status, case.body)
    check_good(final)
    return "good"


def check_good(answer: Message) -> None:
    """Nothing of the hop behind is in it."""
    for name in ("keep-alive", "upgrade", "trailer", "x-b", "x-t", "transfer_encoding", "content_length"):
        assert not answer.all(name), name
    if answer.status == 204:
        assert not answer.all("content-length")
        assert not answer.all("transfer-encoding")


async def try_case(gate: Live, upstream: HostileUpstream, case: Case, pieces: list[bytes], *, reused: bool) -> None:
    if reused:
        warm, before = await begin(gate, request(b"/warm"), upstream=upstream)
        await before.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await outcome(gate, warm)
        warm.close()
        gate.clients.remove(warm)
    client, line = await begin(gate, request(b"/first", method=case.method), upstream=upstream)
    assert (len(line.requests) == 2) is reused
    await line.say(*pieces)
    if case.ends:
        await line.end()
    await outcome(gate, client)
    got, wanted = seen(client, case), expected(case, pieces)
    assert got in wanted, (got, wanted)
    await gate.settled()
    upstream.look()
    await check_next_client(gate, upstream, line, fresh=case.sees != GOOD or not case.keeps)
    if case.sees == GOOD and case.keeps:
        assert len(line.requests) == 2 + reused, "a good connection was not used again"
    client.close()
    gate.clients.remove(client)
    upstream.forget()
    await upstream.read_by_gateway()


async def try_all(cases: list[Case]) -> int:
    """Whole, on a fresh connection and on one that was used before; in two pieces; byte by byte."""
    tried = 0
    async with hostile() as (gate, upstream):
        always_rested(gate.worker)
        for case in cases:
            response = case.response
            ways = [([response], False), ([response], True)]
            ways += [([response[:at], response[at:]], False) for at in offsets(response) if case.every_offset]
            if len(response) <= _SHORT:
                ways.append(([response[at : at + 1] for at in range(len(response))], False))
            for pieces, reused in ways:
                try:
                    await try_case(gate, upstream, case, pieces, reused=reused)
                except Exception as error:
                    error.add_note(f"{case.name}: {[each[-60:] for each in pieces[:3]]}, reused={reused}")
                    raise
                tried += 1
        assert not upstream.gate.worker.in_flight
    return tried


def _names(batch: list[Case]) -> str:
    return f"{batch[0].name} to {batch[-1].name}".encode("ascii", "replace").decode()


@pytest.mark.parametrize("cases", batches(BROKEN_HEADS), ids=_names)
def test_a_broken_head_is_a_502_however_it_comes(cases: list[Case], tried: Tried) -> None:
    async def story() -> None:
        tried("hostile upstream: broken heads", await try_all(cases))

    run(story())


@pytest.mark.parametrize("cases", batches(INTERIMS), ids=_names)
def test_interim_responses_are_relayed_swallowed_or_refused(cases: list[Case], tried: Tried) -> None:
    async def story() -> None:
        tried("hostile upstream: interim responses", await try_all(cases))

    run(story())


@pytest.mark.parametrize("cases", batches(BROKEN_BODIES), ids=_names)
def test_a_broken_body_is_a_502_or_a_visible_abort(cases: list[Case], tried: Tried) -> None:
    async def story() -> None:
        tried("hostile upstream: broken bodies and surplus", await try_all(cases))

    run(story())


@pytest.mark.parametrize("cases", batches(GOOD_ANSWERS), ids=_names)
def test_a_strange_but_good_answer_is_the_same_however_it_comes(cases: list[Case], tried: Tried) -> None:
    async def story() -> None:
        tried("hostile upstream: good answers", await try_all(cases))

    run(story())
