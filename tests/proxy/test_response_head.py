"""An upstream is believed no more than a client.

What is no response is a 502, or visibly cut off, and the connection that it came on is never used again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.proxy.response_head import MalformedResponse, read_response_head
from tests.proxy.harness import KEY_FIELD, OK, Gate, error_of, get

if TYPE_CHECKING:
    from tests.proxy.wire_reader import Message

INVALID = (502, "upstream_invalid_response")
STATUS = b"HTTP/1.1 200 OK\r\n"


def field(text: bytes) -> bytes:
    """A response with these bytes among its fields."""
    return STATUS + b"Content-Length: 2\r\n" + text + b"\r\nA: b\r\n\r\nok"


def framed(fields: bytes, body: bytes = b"ok") -> bytes:
    """A response with this framing."""
    return STATUS + fields + b"\r\n" + body


BROKEN = {
    "not HTTP": b"hello\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"<html>\r\n\r\n</html>",
    "version in lower case": b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "status of letters": b"HTTP/1.1 OK OK\r\nContent-Length: 0\r\n\r\n",
    "status of zero": b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    "control byte in the reason": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
    "CR in the reason": b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    "bare LFs": b"HTTP/1.1 200 OK\nContent-Length: 0\n\r\n\r\n",
    "empty line first": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "bare LF in a value": field(b"B: c\nSet-Cookie: d"),
    "bare CR in a value": field(b"B: c\rd"),
    "NUL in a value": field(b"B: \0"),
    "fold": field(b"B: c\r\n d"),
    "space before the colon": field(b"B : c"),
    "no colon": field(b"B"),
    "empty name": field(b": c"),
    "name above 7F": field(b"\xc3\xa4: c"),
    "length that is no number": framed(b"Content-Length: two\r\n"),
    "length with a plus": framed(b"Content-Length: +2\r\n"),
    "length with a minus": framed(b"Content-Length: -2\r\n"),
    "length with a leading zero": framed(b"Content-Length: 02\r\n"),
    "length as a list": framed(b"Content-Length: 2, 2\r\n"),
    "length empty": framed(b"Content-Length:\r\n"),
    "two lengths": framed(b"Content-Length: 2\r\nContent-Length: 2\r\n"),
    "length and coding": framed(b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"2\r\nok\r\n0\r\n\r\n"),
    "another coding": framed(b"Transfer-Encoding: gzip\r\n"),
    "two codings": framed(b"Transfer-Encoding: gzip, chunked\r\n", b"2\r\nok\r\n0\r\n\r\n"),
    "chunked twice": framed(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "no coding": framed(b"Transfer-Encoding:\r\n"),
    "surplus after a length": framed(b"Content-Length: 1\r\n"),
    "surplus after nothing": framed(b"Content-Length: 0\r\n"),
    "surplus after chunks": framed(b"Transfer-Encoding: chunked\r\n", b"2\r\nok\r\n0\r\n\r\nSURPLUS"),
    "surplus after no content": b"HTTP/1.1 204 No Content\r\n\r\nSURPLUS",
    "surplus after not modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\nSURPLUS",
    "a second response": OK + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "chunk size that is no number": framed(b"Transfer-Encoding: chunked\r\n", b"x\r\n"),
    "chunk with a broken end": framed(b"Transfer-Encoding: chunked\r\n", b"2\r\nokXX0\r\n\r\n"),
    "switching unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "head too large": STATUS + b"A: " + b"b" * 70_000,
}


def check_broken(gate: Gate, response: bytes, *, split: int = 0) -> None:
    """The client gets a 502 where nothing had gone out, else a visible abort; no byte of it reaches the next client."""
    client = gate.ask(get())
    upstream = gate.upstreams[-1]
    upstream.send(*((response[:split], response[split:]) if split else (response,)))
    assert upstream.aborted
    assert b"SURPLUS" not in client.received
    if client.aborted:
        assert not any(each.whole for each in client.answers)
    elif b"HTTP/1.1 502" in client.received:
        assert error_of(client.answer) == INVALID
    else:
        # The response was whole before the byte came that makes the connection useless.
        assert split
        assert client.answer.status in {200, 204, 304}
    client.end()
    later = gate.ask(get(b"/later"))
    assert gate.upstreams[-1] is not upstream
    gate.upstreams[-1].send(OK)
    assert later.received.endswith(b"ok")
    gate.upstreams[-1].reset()
    later.end()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_response_is_a_502(name: str) -> None:
    gate = Gate()
    client = gate.ask(get())
    gate.upstream.send(BROKEN[name])
    assert error_of(client.answer) == INVALID
    assert client.open
    check_broken(gate, BROKEN[name])
    gate.check_counts()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_response_in_pieces_is_a_502_or_cut_off(name: str) -> None:
    response = BROKEN[name]
    gate = Gate()
    for split in range(1, min(len(response), 200)):
        check_broken(gate, response, split=split)
    gate.check_counts()


@pytest.mark.parametrize("leave", ["end", "reset"])
@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ],
)
def test_a_response_cut_short_is_cut_off_and_never_ended(response: bytes, leave: str) -> None:
    gate = Gate()
    client = gate.ask(get())
    gate.upstream.send(response)
    getattr(gate.upstream, leave)()
    assert client.aborted
    assert client.transport.socket.resets
    assert not client.received.endswith(b"0\r\n\r\n")
    assert not client.answer.whole
    gate.check_counts()


@pytest.mark.parametrize(
    "response",
    [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"],
)
def test_a_response_that_never_came_whole_to_its_head_is_a_502(response: bytes) -> None:
    gate = Gate()
    client = gate.ask(get())
    if response:
        gate.upstream.send(response)
    gate.upstream.end()
    assert error_of(client.answers[-1]) == (502, "upstream_unreachable")
    assert client.open


def test_a_reset_does_not_end_a_body_without_framing() -> None:
    gate = Gate()
    client = gate.ask(get())
    gate.upstream.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
    gate.upstream.reset()
    assert client.aborted
    assert not client.received.endswith(b"0\r\n\r\n")


RESPONSES = {
    "length": (framed(b"Content-Length: 2\r\n"), b"ok"),
    "length of zero": (framed(b"Content-Length: 0\r\n", b""), b""),
    "chunks": (framed(b"Transfer-Encoding: chunked\r\n", b"1\r\no\r\n1\r\nk\r\n0\r\nA: b\r\n\r\n"), b"ok"),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "empty reason": (b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "reason above 7F": (b"HTTP/1.1 200 Sch\xf6n\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "HTTP/1.0 with a length": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_a_response_whole_and_in_pieces(name: str) -> None:
    response, body = RESPONSES[name]
    gate = Gate()
    for split in [0, *range(1, len(response))]:
        client = gate.ask(get())
        upstream = gate.upstreams[-1]
        upstream.send(*((response[:split], response[split:]) if split else (response,)))
        answer = client.answer
        assert (answer.status, answer.body, answer.whole) == (200, body, True), split
        assert client.open
        assert bool(gate.target.idle or gate.target.resting) is (b"HTTP/1.1" in response), split
        gate.check_counts()
        upstream.reset()


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_response_without_framing_lasts_until_its_connection_ends(version: bytes) -> None:
    gate = Gate()
    client = gate.ask(get())
    gate.upstream.send(b"HTTP/" + version + b" 200 OK\r\n\r\nhel", b"lo")
    assert not client.answer.whole
    gate.upstream.end()
    assert client.answer.whole
    assert client.answer.body == b"hello"
    assert client.answer.all("transfer-encoding") == ["chunked"]
    assert client.open
    gate.check_counts()


def test_http_1_0_clients_get_no_chunks() -> None:
    for response in (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nok",
    ):
        gate = Gate()
        client = gate.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n" + KEY_FIELD + b"\r\n")
        gate.upstream.send(response)
        gate.upstream.end()
        assert client.ended
        assert client.answer.one("transfer-encoding") is None
        assert (client.answer.body, client.answer.whole) == (b"ok", True)


def answer_to(response: bytes, *, method: bytes = b"GET") -> Message:
    """What becomes of a response."""
    gate = Gate()
    client = gate.ask(get().replace(b"GET", method, 1))
    gate.upstream.send(response)
    return client.answer


def test_hop_by_hop_fields_go_no_further() -> None:
    answer = answer_to(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x-private, Keep-Alive\r\n"
        b"X-Private: 1\r\nKeep-Alive: timeout=9\r\n"
        b"Proxy-Authenticate: Basic\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: A\r\n"
        b"Upgrade: h2c\r\nX-Public: 2\r\n\r\nok"
    )
    for name in (
        "x-private",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        "connection",
    ):
        assert answer.one(name) is None, name
    assert answer.one("x-public") == "2"


def test_fields_that_may_repeat_stay_apart_and_in_order() -> None:
    answer = answer_to(
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nContent-Length: 2\r\nSet-Cookie: b=2\r\nVary: A\r\nVary: B\r\n\r\nok"
    )
    assert answer.all("set-cookie") == ["a=1", "b=2"]
    assert answer.all("vary") == ["A", "B"]


def test_a_date_is_kept_or_added() -> None:
    assert answer_to(b"HTTP/1.1 200 OK\r\nDate: then\r\nContent-Length: 2\r\n\r\nok").one("date") == "then"
    assert answer_to(OK).one("date")


def test_naming_the_framing_in_connection_changes_nothing() -> None:
    answer = answer_to(b"HTTP/1.1 200 OK\r\nConnection: content-length, date\r\nContent-Length: 2\r\n\r\nok")
    assert answer.all("content-length") == ["2"]


@pytest.mark.parametrize(
    ("connection", "version", "kept"),
    [
        (b"", b"1.1", True),
        (b"Connection: keep-alive\r\n", b"1.1", True),
        (b"Connection: close\r\n", b"1.1", False),
        (b"Connection: Close\r\n", b"1.1", False),
        (b"Connection: a, close\r\n", b"1.1", False),
        (b"Connection: keep-alive, close\r\n", b"1.1", False),
        (b"Connection: keep-alive\r\nConnection: close\r\n", b"1.1", False),
        (b"", b"1.0", False),
        (b"Connection: keep-alive\r\n", b"1.0", True),
        (b"Connection: Keep-Alive\r\n", b"1.0", True),
        (b"Keep-Alive: timeout=1\r\n", b"1.1", False),
        (b"Keep-Alive: timeout=5, max=100\r\n", b"1.1", True),
    ],
)
def test_the_upstream_says_whether_its_connection_is_kept(connection: bytes, version: bytes, *, kept: bool) -> None:
    gate = Gate()
    client = gate.ask(get())
    gate.upstream.send(b"HTTP/" + version + b" 200 OK\r\nContent-Length: 2\r\n" + connection + b"\r\nok")
    assert client.answer.body == b"ok"
    assert client.open, "the client's connection is its own affair"
    assert bool(gate.target.idle) is kept
    assert gate.upstream.gone is not kept
    gate.check_counts()


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body(status: int) -> None:
    gate = Gate()
    client = gate.ask(get() + get(b"/second"))
    gate.upstream.send(b"HTTP/1.1 %d Such\r\nA: b\r\n\r\n" % status)
    gate.upstream.send(OK)
    client.methods.append(b"GET")
    first, second = client.answers
    assert (first.status, first.body, second.body) == (status, b"", b"ok")
    assert first.one("transfer-encoding") is None


def test_no_content_has_no_length_and_not_modified_keeps_it() -> None:
    assert answer_to(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").one("content-length") is None
    assert answer_to(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n").one("content-length") == "9"


@pytest.mark.parametrize("fields", [b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_head_has_no_body_and_the_fields_of_get(fields: bytes) -> None:
    gate = Gate()
    client = gate.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n" + KEY_FIELD + b"\r\n")
    gate.upstream.send(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
    answer = client.answer
    assert client.received.endswith(b"\r\n\r\n")
    assert client.open
    assert gate.target.idle
    assert answer.one("content-length") == ("1000" if b"1000" in fields else None)


def test_no_content_has_no_coding_to_head_either() -> None:
    """RFC 9112 section 6.1: no Transfer-Encoding in a 204, whoever asked for it."""
    gate = Gate()
    client = gate.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n" + KEY_FIELD + b"\r\n")
    gate.upstream.send(b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert client.answer.one("transfer-encoding") is None
    assert client.open
    assert gate.target.idle


def test_the_body_of_a_response_to_head_is_surplus() -> None:
    gate = Gate()
    client = gate.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n" + KEY_FIELD + b"\r\n")
    gate.upstream.send(OK)
    assert client.answer.status == 502
    assert gate.upstream.aborted
    assert client.received.endswith(b"\r\n\r\n"), "an answer to HEAD has no body, whoever gives it"


def test_the_reader_is_pure_and_names_what_is_wrong() -> None:
    with pytest.raises(MalformedResponse, match="status line"):
        read_response_head(b"hello", b"GET")
    head = read_response_head(b"HTTP/1.1 200 OK\r\nContent-Length: 3", b"GET")
    assert (head.status, head.length, head.keep_alive) == (200, 3, True)


@pytest.mark.parametrize(
    "begun",
    [b"X", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x03\0", b"\r\n", b"\n", b"HTTP/2", b"HTTP/1.1 200 OK\nA: b\n\n"],
)
def test_what_can_become_no_response_is_a_502_at_once(begun: bytes) -> None:
    """An upstream that speaks something else says no more, and waits."""
    gate = Gate()
    client = gate.ask(get())
    gate.upstream.send(begun)
    assert error_of(client.answer) == (502, "upstream_invalid_response")
    assert gate.upstream.aborted
