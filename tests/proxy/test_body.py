"""Bodies end where their framing says, to the letter; what breaks the framing never becomes a whole message."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.proxy.body import LAST_CHUNK, BodyReader, ChunkedBody, ConnectionBody, LengthBody, MalformedBody, chunk
from gateway.proxy.small_reads import FINE_READ_BYTES, LARGE_READ_BYTES
from tests.proxy.harness import KEY_FIELD, OK, Gate, error_of, get, post
from tests.proxy.profiles import scaled
from tests.proxy.wire_reader import Incomplete, read_request

HEAD = b"POST / HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n" + KEY_FIELD + b"\r\n"
GOOD: dict[str, tuple[bytes, bytes]] = {
    "empty": (b"0\r\n\r\n", b""),
    "one chunk": (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "two chunks": (b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
    "payload like framing": (b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n"),
    "size in upper case": (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    "leading zeros": (b"0000000000000005\r\nhello\r\n0000\r\n\r\n", b"hello"),
    "extension": (b"5;a=b\r\nhello\r\n0;c\r\n\r\n", b"hello"),
    "extension after a space": (b"5 ;a=b\r\nhello\r\n0\r\n\r\n", b"hello"),
    "extension in quotes": (b'5;a="b;c"\r\nhello\r\n0\r\n\r\n', b"hello"),
    "longest extension": (b"5;" + b"a" * 255 + b"\r\nhello\r\n0\r\n\r\n", b"hello"),
    "trailer": (b"5\r\nhello\r\n0\r\nA: b\r\n\r\n", b"hello"),
    "trailers that would be fields": (b"0\r\nContent-Length: 5\r\nX-Consumer-ID: root\r\nHost: evil\r\n\r\n", b""),
}
BAD: dict[str, bytes] = {
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "size that is no number": b"x\r\nhello\r\n0\r\n\r\n",
    "size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "size with a plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "size with a minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "size with an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "size after a space": b" 5\r\nhello\r\n0\r\n\r\n",
    "size of 17 digits": b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    "size above 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "size line ends in LF": b"5\nhello\r\n0\r\n\r\n",
    "size line ends in CR": b"5\rhello\r\n0\r\n\r\n",
    "size line with two CRs": b"5\r\r\nhello\r\n0\r\n\r\n",
    "size with a NUL": b"5\0\r\nhello\r\n0\r\n\r\n",
    "size and something else": b"5 a\r\nhello\r\n0\r\n\r\n",
    "extension too long": b"5;" + b"a" * 256 + b"\r\nhello\r\n0\r\n\r\n",
    "extension without end": b"5;" + b"a" * 400,
    "extension with a control byte": b"5;a\x01\r\nhello\r\n0\r\n\r\n",
    "extension with a CR": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "extension with a LF": b"5;a\n\r\nhello\r\n0\r\n\r\n",
    "chunk too long": b"5\r\nhello!\r\n0\r\n\r\n",
    "chunk without an end": b"5\r\nhello0\r\n\r\n",
    "chunk ends in LF": b"5\r\nhello\n0\r\n\r\n",
    "chunk ends in CR": b"5\r\nhello\r0\r\n\r\n",
    "chunk ends in LF CR": b"5\r\nhello\n\r0\r\n\r\n",
    "last line ends in LF": b"0\r\n\n" + get(b"/smuggled"),
    "last chunk ends in LF": b"0\n\r\n",
    "trailer without a name": b"0\r\n: b\r\n\r\n",
    "trailer without a colon": b"0\r\nA\r\n\r\n",
    "trailer that is folded": b"0\r\nA: b\r\n c\r\n\r\n",
    "trailer with a space before the colon": b"0\r\nA : b\r\n\r\n",
    "trailer with a NUL": b"0\r\nA: \0\r\n\r\n",
    "trailer too long": b"0\r\nA: " + b"b" * 9000 + b"\r\n\r\n",
    "trailers too long": b"0\r\n" + b"A: bcdef\r\n" * 1200 + b"\r\n",
    "a request for a trailer": b"0\r\nGET /smuggled HTTP/1.1\r\n\r\n",
}


def read(body: BodyReader, *pieces: bytes) -> tuple[bytes, int]:
    """The payload, and how many bytes were taken."""
    payload, taken = b"", 0
    for piece in pieces:
        found, used = body.feed(piece)
        payload += b"".join(found)
        taken += used
        if body.done:
            break
    return payload, taken


@pytest.mark.parametrize("name", GOOD)
def test_a_chunked_body_whole_in_pieces_and_byte_by_byte(name: str) -> None:
    coded, payload = GOOD[name]
    ways = [[coded], [bytes([byte]) for byte in coded], *([coded[:at], coded[at:]] for at in range(1, len(coded)))]
    for pieces in ways:
        body = ChunkedBody()
        assert read(body, *pieces) == (payload, len(coded))
        assert body.done


@pytest.mark.parametrize("name", GOOD)
def test_a_chunked_body_takes_nothing_of_what_follows(name: str) -> None:
    coded, payload = GOOD[name]
    body = ChunkedBody()
    assert read(body, coded + b"GET / HTTP/1.1\r\n\r\n") == (payload, len(coded))
    assert body.done


@pytest.mark.parametrize("name", GOOD)
def test_a_chunked_request_goes_on_chunked_without_extensions_and_trailers(name: str) -> None:
    coded, payload = GOOD[name]
    gate = Gate()
    for split in [0, *range(len(HEAD) - 3, len(HEAD + coded))]:
        client = gate.ask(HEAD + coded, split=split)
        upstream = gate.upstreams[-1]
        request = upstream.request
        assert request.body == payload
        assert request.all("transfer-encoding") == ["chunked"]
        assert request.one("content-length") is None
        assert request.one("a") is None
        assert "root" not in request.all("x-consumer-id")
        upstream.send(OK)
        upstream.reset()
        assert client.answer.status == 200
    gate.check_counts()


@pytest.mark.parametrize("name", BAD)
def test_a_broken_chunked_body_is_an_error_whole_in_pieces_and_byte_by_byte(name: str) -> None:
    coded = BAD[name]
    ways = [[coded], [bytes([byte]) for byte in coded]]
    ways += [[coded[:at], coded[at:]] for at in range(1, min(len(coded), 60))]
    for pieces in ways:
        with pytest.raises(MalformedBody):
            read(ChunkedBody(), *pieces)


@pytest.mark.parametrize("name", BAD)
def test_a_broken_chunked_request_is_answered_400_and_never_whole_upstream(name: str) -> None:
    coded = BAD[name]
    gate = Gate()
    for request in (HEAD + coded, HEAD + coded + get(b"/smuggled")):
        for split in (0, len(HEAD), len(HEAD) + 1, len(HEAD) + 4, len(HEAD + coded) - 1):
            client = gate.ask(request, split=split)
            assert error_of(client.answer) == (400, "malformed_body"), split
            assert client.ended
            upstream = gate.upstreams[-1]
            assert upstream.aborted
            assert b"smuggled" not in upstream.received
            with pytest.raises(Incomplete):
                read_request(upstream.received)
            client.end()
            gate.check_counts()


@pytest.mark.parametrize("wrong", [b"X", b"\n", b"\rX"])
def test_a_chunk_that_is_too_long_is_noticed_at_its_first_byte_too_many(wrong: bytes) -> None:
    body = ChunkedBody()
    body.feed(b"5\r\nhello")
    with pytest.raises(MalformedBody):
        body.feed(wrong)


def test_a_length_is_taken_exactly() -> None:
    for size in range(1, 6):
        body = LengthBody(5)
        assert read(body, b"hello"[:size], b"hello"[size:] + b"more") == (b"hello", 5)
        assert body.done
    assert LengthBody(0).done
    assert not LengthBody(5).ends_with_connection()
    assert not ChunkedBody().ends_with_connection()


def test_a_body_without_framing_ends_with_its_connection() -> None:
    body = ConnectionBody()
    assert read(body, b"hello", b"more") == (b"hellomore", 9)
    assert not body.done
    assert body.ends_with_connection()


def test_a_request_body_goes_on_with_its_length_however_it_arrives() -> None:
    gate = Gate()
    request = post(b"0123456789" * 3)
    for split in [0, *range(1, len(request), 3)]:
        client = gate.ask(request, split=split)
        upstream = gate.upstreams[-1]
        assert upstream.request.body == b"0123456789" * 3
        assert upstream.request.all("content-length") == ["30"]
        assert upstream.request.all("transfer-encoding") == []
        upstream.send(OK)
        upstream.reset()
        assert client.answer.status == 200


def test_pieces_of_a_large_body_are_not_copied() -> None:
    data = b"x" * 1000
    pieces, used = ChunkedBody().feed(b"3e8\r\n" + data)
    assert used == 1005
    assert isinstance(pieces[0], memoryview)
    whole, _ = LengthBody(1000).feed(data)
    assert whole[0] is data


def test_no_payload_is_framed_as_the_end() -> None:
    assert chunk([]) == []
    assert chunk([b"", b""]) == []
    assert b"".join(chunk([b"ab", b"c"])) == b"3\r\nabc\r\n"


@pytest.mark.parametrize("size", [b"1", b"01", b"1;a"])
def test_a_body_in_tiny_chunks_is_handed_on_in_few_pieces_and_read_in_smaller_ones(size: bytes) -> None:
    """Each piece that waits for a slow peer costs a hundred bytes and more, whatever is in it."""
    for count, fine in ((64, False), (20_000, True)):
        body = ChunkedBody()
        pieces, used = body.feed((size + b"\r\nx\r\n") * count)
        assert used == (len(size) + 5) * count
        assert b"".join(pieces) == b"x" * count
        assert len(pieces) <= 16
        assert body.fine_grained is fine


def test_large_chunks_are_neither_copied_nor_read_in_smaller_pieces() -> None:
    body = ChunkedBody()
    body.feed((b"800\r\n" + bytes(0x800) + b"\r\n") * 70)
    assert not body.fine_grained
    pieces, _ = body.feed((b"2000\r\n" + bytes(0x2000) + b"\r\n") * 4)
    assert [type(piece) for piece in pieces] == [memoryview] * 4


def test_who_sends_tiny_chunks_is_read_in_smaller_pieces_until_the_body_ends() -> None:
    """Reading them takes long, and the other connections of the worker wait for it."""
    tiny = b"1\r\nx\r\n" * 100
    gate = Gate()
    client = gate.ask(HEAD + tiny)
    upstream = gate.upstream
    assert (client.transport.reads_at_once, upstream.transport.reads_at_once) == (FINE_READ_BYTES, None)
    client.send(LAST_CHUNK)
    upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + tiny)
    assert upstream.transport.reads_at_once == FINE_READ_BYTES
    upstream.send(LAST_CHUNK)
    assert client.answer.body == b"x" * 100
    assert (client.transport.reads_at_once, upstream.transport.reads_at_once) == (LARGE_READ_BYTES, LARGE_READ_BYTES)
    client.send(get())
    upstream.send(OK)
    assert client.answers[1].body == b"ok"
    assert len(gate.upstreams) == 1


@settings(max_examples=scaled(200), deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_any_payload_in_any_pieces_arrives(chunks: list[bytes], data: st.DataObject) -> None:
    extensions = st.sampled_from([b"", b";a", b';a="b"', b" ;a=b"])
    coded = b"".join(b"%x%b\r\n%b\r\n" % (len(each), data.draw(extensions), each) for each in chunks) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(coded)), max_size=8)))
    pieces = [coded[start:end] for start, end in zip([0, *cuts], [*cuts, len(coded)], strict=True)]
    assert read(ChunkedBody(), *pieces) == (b"".join(chunks), len(coded))


@settings(max_examples=scaled(200), deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_any_bytes_are_read_the_same_in_pieces(garbage: bytes, cut: int) -> None:
    """Whole or cut, the same bytes are the same body, or the same error."""
    for prefix in (b"", b"5\r\nhel", b"0\r\nA"):
        coded = prefix + garbage
        results = []
        for pieces in ([coded], [coded[:cut], coded[cut:]]):
            body = ChunkedBody()
            try:
                payload, taken = read(body, *pieces)
            except MalformedBody:
                results.append("error")
            else:
                results.append(repr((payload, taken, body.done)))
        assert results[0] == results[1]
