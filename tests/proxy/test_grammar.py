"""What was judged before is remembered, and no judgement depends on that: cold, warm and overflowing say the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.proxy import request_head, response_head
from gateway.proxy.grammar import FieldLines, RepeatedField
from gateway.proxy.request_head import MalformedRequest, read_request_head
from tests.proxy.harness import KEY_FIELD, OTHER_SECRET, SECRET, Gate, error_of, get
from tests.proxy.profiles import scaled

TABLES = {"requests": request_head._LINES, "responses": response_head._LINES}
NAMES = sorted({name.decode() for table in TABLES.values() for name in table._special} | {"accept", "x-custom", "x"})


def fresh(table: FieldLines) -> FieldLines:
    """One with the same rules that has seen nothing."""
    return FieldLines(
        table._special,
        table._once,
        dropped=table._dropped,
        whole=table._whole,
        noted=table._noted,
        unremembered=table._unremembered,
    )


def judged(table: FieldLines, lines: list[bytes]) -> Any:  # noqa: ANN401  compared alone
    """What comes of a head, or why it is refused."""
    try:
        return table.read([b"", *lines])
    except RepeatedField as error:
        return "repeated", str(error)
    except ValueError:
        return "malformed"


def _spelt(name: str) -> st.SearchStrategy[str]:
    return st.sampled_from(
        [name, name.title(), name.upper(), name.replace("-", "_"), name.title().replace("-", "_", 1), f"{name} ", name]
    )


LINES = st.one_of(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(NAMES).flatmap(_spelt),
        st.sampled_from([":", ": ", ":\t", "", " :", "::"]),
        st.sampled_from(["", "1", "chunked", "a, b", "a ", "a\0", "a\nb", "\r", "\x7f", "ä", "v" * 200]),
    ),
    st.sampled_from(["", " ", ":", ": a", " a: b", "\ta: b", "a b: c", "ä: b", "Host", "host", "HOST", "a\0: b"]),
    st.text(max_size=6),
).map(lambda line: line.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=scaled(400), deadline=None)
@given(heads=st.lists(st.lists(LINES, max_size=4), min_size=1, max_size=4))
def test_a_warm_memo_judges_as_a_cold_one(name: str, heads: list[list[bytes]]) -> None:
    warm = fresh(TABLES[name])
    for lines in [*heads, *heads]:
        expected = judged(fresh(TABLES[name]), lines)
        assert judged(warm, lines) == expected
        assert judged(TABLES[name], lines) == expected, "the gateway's own, which has seen other tests"


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("spelt", ["Host", "host", "Content-Length", "Accept", "X-Custom", "x_consumer_id"])
def test_a_name_alone_is_no_field_though_the_name_is_remembered(name: str, spelt: str) -> None:
    table = fresh(TABLES[name])
    field = f"{spelt}: 1".encode()
    for _ in range(2):
        assert judged(table, [field]) != "malformed"
        for bare in (spelt, f"{spelt} ", f" {spelt}", f"{spelt} : 1", f"{spelt}\t: 1"):
            assert judged(table, [bare.encode()]) == "malformed"
            assert judged(table, [field, bare.encode()]) == "malformed"


@pytest.mark.parametrize("bare", [b"Host", b"Accept", b"X-API-KEY", b"Content-Length"])
def test_nor_is_it_to_the_gateway(bare: bytes) -> None:
    gate = Gate()
    for _ in range(2):
        gate.ask(get(fields=KEY_FIELD + b"Accept: */*\r\nContent-Length: 0\r\n"))
        client = gate.ask(get(fields=KEY_FIELD + b"Accept: */*\r\n" + bare + b"\r\n"))
        assert error_of(client.answer) == (400, "malformed_request")
    assert all(len(each.requests) == 1 for each in gate.upstreams)


def test_a_special_name_is_special_in_whatever_order_its_spellings_come() -> None:
    for first, second in ((b"X_API_KEY: a", b"X-API-KEY: a"), (b"X-API-KEY: a", b"X_API_KEY: a")):
        table = fresh(TABLES["requests"])
        for line in (first, second, first, second):
            forwarded, special = table.read([b"", line])
            assert not forwarded
            assert (special[request_head.API_KEY] == b"a") is (line[1:2] == b"-")


# --- bounds -----------------------------------------------------------------------------------------------------------

SAMPLES = [
    [b"Host: api.test", b"Accept: */*"],
    [b"Host: a", b"host: b"],
    [b"X-Consumer-ID: forged", b"x_consumer_id: forged", b"X-Custom: 1"],
    [b"Content-Length: 1", b"Content_Length: 2"],
    [b"Host"],
    [b"Accept : a"],
    [b"X-HTTP-Method: PUT", b"X-Original-URL: /a"],
]


def test_more_lines_than_are_remembered_change_no_judgement() -> None:
    table = fresh(TABLES["requests"])
    expected = [judged(fresh(table), lines) for lines in SAMPLES]
    for number in range(3 * 4096):
        assert table.read([b"", b"X-Many: %d" % number]) == ([b"X-Many: %d" % number], [None] * table._size)
        if number % 500 == 0 or 4090 < number < 4100:
            assert [judged(table, lines) for lines in SAMPLES] == expected
        assert len(table._lines) <= 4096


def test_more_names_than_are_remembered_change_no_judgement() -> None:
    table = fresh(TABLES["requests"])
    expected = [judged(fresh(table), lines) for lines in SAMPLES]
    for number in range(3 * 1024):
        assert judged(table, [b"X-%d: a" % number])[0] == [b"X-%d: a" % number]
        assert judged(table, [b"X-%d" % number]) == "malformed"
        if number % 100 == 0 or 1020 < number < 1030:
            assert [judged(table, lines) for lines in SAMPLES] == expected
        assert len(table._names) <= 1024


def test_one_head_may_overflow_the_memo_while_it_is_read() -> None:
    table = fresh(TABLES["requests"])
    lines = [b"X-%d: a" % number for number in range(5000)]
    for _ in range(2):
        forwarded, special = table.read([b"", *lines, b"Host: a", *lines])
        assert forwarded == lines * 2
        assert special[request_head.HOST] == b"a"


def test_long_lines_and_names_are_not_remembered() -> None:
    table = fresh(TABLES["requests"])
    long_name = b"X-" + b"n" * 100
    for lines in ([b"X-Long: " + b"v" * 200], [long_name + b": a" + b"b" * 100]):
        assert judged(table, lines)[0] == lines
    assert not table._lines
    assert long_name not in table._names


def test_no_credential_is_remembered() -> None:
    gate, table = Gate(), TABLES["requests"]
    for memo in (table._lines, table._names, request_head._REQUEST_LINES):  # other tests send secrets as all sorts
        memo.clear()
    for fields in (KEY_FIELD, b"Authorization: Bearer " + SECRET + b"\r\n", b"x-api-key: " + OTHER_SECRET + b"\r\n"):
        for _ in range(2):
            gate.ask(get(fields=fields))
    remembered = [*table._lines, *table._names, *request_head._REQUEST_LINES]
    assert remembered
    assert not any(SECRET in each or OTHER_SECRET in each for each in remembered)


# --- whole heads, with the memo of request lines ----------------------------------------------------------------------

REQUEST_LINES = st.builds(
    "{} {} HTTP/1.{}".format,
    st.sampled_from(["GET", "POST", "OPTIONS", "TRACE", "CONNECT", "get", "G@T", ""]),
    st.sampled_from(
        [
            *("/", "/a", "/a?b", "/a?", "//a", "/a/../b", "/a/.b", "/%61", "/a%2Fb", "/a;b", "*", "http://a.test/c"),
            *("/a b", "/a#b", "a", "", "/" + "long" * 50),
        ]
    ),
    st.sampled_from(["1", "0", "2", "1 ", ""]),
).map(str.encode)


ATTRIBUTES = [
    *("api_key", "authorization", "body_length", "expects_continue", "forwarded", "host", "keep_alive", "method"),
    *("minor", "odd", "path", "query", "raw_path", "special", "traits", "wants_websocket"),
]
"""Of a RequestHead; a compiled one does not tell its slots."""


def read(section: bytes) -> Any:  # noqa: ANN401  compared alone
    """All that comes of a head, or the refusal."""
    try:
        head = read_request_head(section, 100)
    except MalformedRequest as error:
        return error.refusal
    return [getattr(head, name) for name in ATTRIBUTES]


def forget() -> None:
    """Make the gateway's memos as cold as in a new process."""
    for memo in (
        TABLES["requests"]._lines,
        TABLES["requests"]._names,
        request_head._REQUEST_LINES,
        request_head._HOSTS,
    ):
        memo.clear()


@settings(max_examples=scaled(400), deadline=None)
@given(st.lists(st.tuples(REQUEST_LINES, st.lists(LINES, max_size=3)), min_size=1, max_size=3))
def test_a_head_is_read_the_same_whatever_was_read_before(heads: list[tuple[bytes, list[bytes]]]) -> None:
    sections = [b"\r\n".join([line, b"Host: a.test", *fields]) for line, fields in heads]
    cold = []
    for section in sections:
        forget()
        cold.append(read(section))
    assert [read(section) for section in [*sections, *sections]] == cold * 2


def test_more_request_lines_than_are_remembered_change_no_judgement() -> None:
    forget()
    samples = [b"GET /a HTTP/1.1", b"GET /a HTTP/1.0", b"POST /a HTTP/1.1", b"GET /a?b HTTP/1.1", b"TRACE /a HTTP/1.1"]
    expected = [read(line + b"\r\nHost: a") for line in samples]
    for number in range(3 * 4096):
        head = read_request_head(b"GET /%d HTTP/1.1\r\nHost: a" % number, 100)
        assert (head.method, head.path, head.query) == (b"GET", b"/%d" % number, b"")
        if number % 500 == 0 or 4090 < number < 4100:
            assert [read(line + b"\r\nHost: a") for line in samples] == expected
        assert len(request_head._REQUEST_LINES) <= 4096


def test_a_head_that_was_read_is_not_changed_by_those_after_it() -> None:
    """Connection takes fields out of one head, not out of what is remembered."""
    for _ in range(2):
        plain = read_request_head(b"GET / HTTP/1.1\r\nHost: a\r\nX-Custom: 1\r\nVia: 1.1 x", 100)
        nominated = read_request_head(
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Custom: 1\r\nVia: 1.1 x\r\nConnection: x-custom, via", 100
        )
        assert plain.forwarded == [b"X-Custom: 1"]
        assert plain.special[request_head.VIA] == b"1.1 x"
        assert nominated.forwarded == []
        assert nominated.special[request_head.VIA] is None
