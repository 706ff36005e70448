"""Whatever Redis delivers, the key table raises RedisUnavailable and nothing else, and no key is absent by garbage."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, cast

import hiredis
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import RedisUnavailable
from gateway.keys.change import Change
from gateway.keys.projection import LogPosition, WorkerPresence
from gateway.store.key_table import Build, KeyTable, TableState
from gateway.store.record_codec import Unreadable, decode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from gateway.store.redis_connection import Connection, Reply
    from gateway.store.redis_link import RedisLink

DIGEST: Final = bytes(range(32))
PRESENCE: Final = WorkerPresence("n:worker-0:7", "n", "host", "worker-0", 7, 60.0, None)

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
).map(orjson.dumps)
_position = st.sampled_from(["e", "", "\x00", 7, None, "9" * 5000]), st.sampled_from([1, "x", None, True, 10**15, -1])
_presence = st.tuples(
    *[st.sampled_from(["n", 7, None, {}, "\n"])] * 3,
    st.sampled_from([7, "p", 1.5, -1, 2**63]),
    st.sampled_from([60.0, "60", 1e308, -1, True]),
    *_position,
).map(lambda fields: b"1 " + orjson.dumps(fields))
_message = st.tuples(
    st.sampled_from(["e", [1], 7, ""]),
    st.sampled_from([1, "1", 10**15, 10**19 - 1, True]),
    st.sampled_from(["key", ["key"], {}, "other"]),
    st.sampled_from(["x", {"a": 1}, 7]),
    st.sampled_from([1, 1.5, "1"]),
).map(orjson.dumps)
_words = st.sampled_from(
    [b"", b"e", b"1", b"9" * 5000, b"1" + b"0" * 20, b"\xff\xfe", b"x" * 5000, b"key x " + b"9" * 5000, b"1 e 5", b"-"]
) | st.sampled_from(
    [b"1 e " + b"9" * 5000, b"9" * 5000 + b" e 5", b"1812 -", b"1x -", b"1812 [1]", b"1700000000000000", b"key x 1"]
)
_bytes = _words | st.binary(max_size=40) | _json | _json.map(lambda text: b"1812 " + text) | _presence | _message
_one = _bytes | st.none() | st.integers(-3, 3) | st.booleans() | st.floats() | st.builds(hiredis.ReplyError, st.text())
_any = st.recursive(
    _one, lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.binary(max_size=3), inner, max_size=2)
)
_whole = st.sampled_from([0, 1, 1, b"1"])
_near = st.one_of(
    st.tuples(_one, _one, _whole, _one).map(list),
    st.tuples(st.just(b"e"), st.just(b"3"), _whole, _one).map(list),
    st.tuples(_one, _one, _whole, _one, _bytes).map(list),
    st.tuples(_bytes, st.integers(0, 9), *[_one] * 6).map(list),
    st.tuples(st.just(b"1700000000000000"), st.lists(_any, max_size=6)).map(list),
)
_replies = _any | _near


class OddLink:
    """A link whose every answer is the same."""

    database = 0

    def __init__(self, reply: object) -> None:
        self._reply = reply

    async def ask(self, *_words: object, on: object = None) -> tuple[Reply, Connection]:
        del on
        return cast("Reply", self._reply), cast("Connection", self)

    async def call(self, *_words: object) -> Reply:
        return cast("Reply", self._reply)

    async def subscribe(self, _channel: str) -> AsyncGenerator[bytes | None, None]:
        yield None
        if isinstance(self._reply, bytes):
            yield self._reply


def table_of(reply: object) -> KeyTable:
    return KeyTable(cast("RedisLink", OddLink(reply)))


@settings(max_examples=400, deadline=None)
@given(_replies)
async def test_nothing_but_redis_unavailable_is_raised_whatever_redis_answers(reply: object) -> None:
    table = table_of(reply)
    change = Change(4, "key", "key_1", 1)
    state = TableState(1, "e", "b", 3, None, True, True, cast("Connection", None))  # noqa: FBT003 - as it is read
    build = Build(table, "t")
    for call in (
        table.pulse(PRESENCE),
        table.presences(),
        table.state(),
        table.put(state, 3, [(DIGEST, None)]),
        table.advance(state, change, 3, []),
        table.stamp(1, LogPosition("e", 3)),
        table.begin_build(),
        build.fill([(DIGEST, None)], 3),
        build.install(LogPosition("e", 3), None),
        build.give_up(),
        table.leave("x"),
    ):
        with contextlib.suppress(RedisUnavailable):
            await call
    with contextlib.suppress(RedisUnavailable):
        async for heard in table.follow():
            assert heard is None or (type(heard[1].seq) is int and isinstance(heard[0], str))
    with contextlib.suppress(RedisUnavailable):
        for presence, silent in (await table.presences()).values():
            assert silent >= 0
            assert 0 <= presence.believes_for_seconds <= 1e7
            assert all(isinstance(each, str) for each in (presence.id, presence.node, presence.host, presence.name))


@settings(max_examples=400, deadline=None)
@given(_replies)
async def test_no_key_is_absent_by_garbage(reply: object) -> None:
    """Only a table that is whole, and says nothing or a tombstone in a known form, knows that there is no such key."""
    with contextlib.suppress(RedisUnavailable):
        answer = await table_of(reply).find(DIGEST)
        if answer.record is None and answer.complete:
            assert isinstance(reply, list)
            assert reply[2] == 1
            assert reply[1].isdigit()
            assert reply[3] is None or (reply[3][:1] == b"1" and reply[3].endswith(b" -"))


@given(_bytes)
def test_a_value_is_a_record_of_the_right_types_or_unreadable(value: bytes) -> None:
    with contextlib.suppress(Unreadable):
        record = decode(DIGEST, value)
        assert record is None or isinstance(record.key_name, str)
