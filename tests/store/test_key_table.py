"""What a worker hears of the table when it is odd, and that nothing of that is ever a bad key."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import orjson
import pytest

from gateway.errors import RedisUnavailable
from gateway.keys.change import Change
from gateway.keys.projection import LogPosition, WorkerPresence
from gateway.keys.record import CredentialRecord
from gateway.store.key_table import KeyTable
from gateway.store.record_codec import Unreadable, decode, encode
from gateway.store.redis_link import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.servers.redis import RedisServer

DIGEST: Final = bytes(range(32))
EVERY_FIELD: Final = CredentialRecord(
    digest=DIGEST,
    secret_id="sec_1",
    secret_valid_until=1_790_000_000.123456,
    key_id="key_1",
    key_name="Nightly ⏾",
    version=7,
    expires_at=1_800_000_000.000001,
    disabled_at=1_780_000_000.5,
    revoked_at=1_785_000_000.25,
    permissions=("a:b", "c:*"),
    organization_id="org_1",
    organization_external_id="ext-1",
    owner_kind="service_account",
    owner_id="sva_1",
    owner_name="Fleet",
    owner_external_id="u-7",
    owner_permissions=("*:*",),
    allowed_origins=("https://app.example.com",),
)
NO_FIELD: Final = CredentialRecord(
    digest=DIGEST,
    secret_id="sec_1",
    secret_valid_until=None,
    key_id="key_1",
    key_name="",
    version=1,
    expires_at=None,
    disabled_at=None,
    revoked_at=None,
    permissions=None,
    organization_id="org_1",
    organization_external_id=None,
    owner_kind="member",
    owner_id="mem_1",
    owner_name="ada@example.com",
    owner_external_id=None,
    owner_permissions=(),
    allowed_origins=None,
)
PRESENCE: Final = WorkerPresence("n:worker-0:7", "n", "host", "worker-0", 7, 60.0, None)
KEYS: Final = "{keygate}:keys"


@pytest.fixture
def redis(redis_server: Callable[..., RedisServer]) -> RedisServer:
    return redis_server()


@pytest.fixture
async def table(redis: RedisServer) -> AsyncIterator[KeyTable]:
    made = KeyTable(connect(redis.url, timeout_seconds=2))
    yield made
    await made.close()


async def put_in_place(table: KeyTable, head: int = 3) -> None:
    build = await table.begin_build()
    assert build is not None
    assert await build.fill([(DIGEST, EVERY_FIELD)], head)
    tip = Change(head, "key", "key_1", 7) if head else None
    assert await build.install(LogPosition("e", head), tip) == 0


@pytest.mark.parametrize("record", [EVERY_FIELD, NO_FIELD, None], ids=["every field", "no field", "tombstone"])
def test_what_is_written_is_read_as_it_was(record: CredentialRecord | None) -> None:
    assert decode(DIGEST, encode(record, 812)) == record


@pytest.mark.parametrize(
    "value", [b"", b"1", b"2812 [1]", b"1812 ", b"1812 {", b"1812 {}", b"1812 [1,2]", b"1812 null", b"\xff"]
)
def test_what_is_in_no_known_form_is_neither_a_record_nor_an_absent_key(value: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(DIGEST, value)


async def test_no_table_is_no_word_on_any_key(table: KeyTable) -> None:
    answer = await table.find(DIGEST)
    assert (answer.record, answer.epoch, answer.head, answer.complete) == (None, None, None, False)
    pulse = await table.pulse(PRESENCE)
    assert (pulse.epoch, pulse.head, pulse.complete, pulse.stamp) == (None, None, False, None)


async def test_a_complete_table_knows_which_keys_there_are_and_which_not(table: KeyTable) -> None:
    await put_in_place(table)
    assert (await table.find(DIGEST)).record == EVERY_FIELD
    absent = await table.find(b"x" * 32)
    assert (absent.record, absent.epoch, absent.head, absent.complete) == (None, "e", 3, True)


async def test_a_record_of_a_newer_version_is_cannot_know_and_told_once(
    table: KeyTable, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await put_in_place(table)
    link = connect(redis.url, timeout_seconds=2)
    await link.call("HSET", KEYS, DIGEST, b"2812 \x00\x01")
    await link.close()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            answer = await table.find(DIGEST)
            assert (answer.record, answer.complete) == (None, False)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("field", ["head", "size", "complete", "stamp", "epoch"])
async def test_fields_that_hold_nonsense_make_the_table_unknown_and_no_key_bad(
    table: KeyTable, redis: RedisServer, field: str
) -> None:
    await put_in_place(table)
    redis.ask("HSET", KEYS, field, "2 nonsense")
    answer = await table.find(b"x" * 32)
    assert answer.epoch != "e" or answer.head is None or not answer.complete or field == "stamp"
    assert (await table.pulse(PRESENCE)).stamp is None


async def test_scripts_are_sent_again_where_redis_has_forgotten_them(table: KeyTable, redis: RedisServer) -> None:
    await put_in_place(table)
    redis.ask("SCRIPT", "FLUSH")
    assert (await table.find(DIGEST)).record == EVERY_FIELD


async def test_two_namespaces_of_one_redis_know_nothing_of_each_other(table: KeyTable, redis: RedisServer) -> None:
    await put_in_place(table)
    other = KeyTable(connect(redis.url, timeout_seconds=2), "staging")
    assert (await other.find(DIGEST)).epoch is None
    assert await other.presences() == {}
    await other.close()


async def test_messages_are_given_on_as_they_come_doubled_and_out_of_order(table: KeyTable, redis: RedisServer) -> None:
    """Whoever follows knows what to do with them; what is in no known form is passed over."""
    messages = table.follow()
    assert await anext(messages) is None
    sent = [orjson.dumps(["e", seq, "key", "key_1", 1]).decode() for seq in (4, 4, 3)]
    for text in [sent[0], "nonsense", '["e",1]', '["e","4","key","key_1",1]', *sent[1:]]:
        redis.ask("PUBLISH", "{keygate}:changes:0", text)
    heard = [await anext(messages) for _ in range(3)]
    await messages.aclose()
    assert heard == [("e", Change(seq, "key", "key_1", 1)) for seq in (4, 4, 3)]


async def test_a_subscription_that_is_lost_says_so_and_can_be_made_again(table: KeyTable, redis: RedisServer) -> None:
    messages = table.follow()
    await anext(messages)
    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
    with pytest.raises(RedisUnavailable):
        await anext(messages)
    again = table.follow()
    assert await anext(again) is None
    await again.aclose()


async def test_a_sign_of_life_in_an_unknown_form_hides_no_other_worker(table: KeyTable, redis: RedisServer) -> None:
    await table.pulse(PRESENCE)
    redis.ask("HSET", "{keygate}:workers", "n:worker-9:9", "123 {")
    assert set(await table.presences()) == {PRESENCE.id}


async def test_leaving_a_redis_that_is_away_raises_nothing(table: KeyTable, redis: RedisServer) -> None:
    redis.process.kill()
    await asyncio.wait_for(table.leave(PRESENCE.id), 10)


async def test_databases_of_one_server_do_not_hear_each_other(redis: RedisServer) -> None:
    """Channels are the server's: the number of the database is in their name."""
    tables = [KeyTable(connect(redis.url.replace("/0", f"/{number}"), timeout_seconds=2)) for number in (0, 1)]
    assert [each.channel for each in tables] == ["{keygate}:changes:0", "{keygate}:changes:1"]
    assert KeyTable(connect("redis+cluster://host", timeout_seconds=2)).channel == "{keygate}:changes:0"


@pytest.mark.parametrize("command", [("SET", "{keygate}:lock", "x"), ("HSET", "{keygate}:lock", "x", "y")])
async def test_a_lock_that_would_never_expire_is_taken_over_and_told(
    table: KeyTable, redis: RedisServer, caplog: pytest.LogCaptureFixture, command: tuple[str, ...]
) -> None:
    redis.ask(*command)
    await put_in_place(table)
    assert any("{keygate}:lock" in each for each in caplog.messages)
    assert await table.begin_build() is not None
    assert await table.begin_build() is None  # that of a builder is left alone


async def test_a_name_that_holds_something_else_is_told_once_by_its_name(
    table: KeyTable, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis.ask("SET", "{keygate}:workers", "x")
    for _ in range(2):
        with pytest.raises(RedisUnavailable):
            await table.pulse(PRESENCE)
        with pytest.raises(RedisUnavailable):
            await table.presences()
    assert [each for each in caplog.messages if "DEL {keygate}:workers" in each] == caplog.messages
    assert len(caplog.messages) == 1


async def test_a_head_that_is_no_number_does_not_keep_the_table_from_being_built(
    table: KeyTable, redis: RedisServer
) -> None:
    await put_in_place(table)
    redis.ask("HSET", KEYS, "head", "1" + "0" * 20)
    assert (await table.state())[1] is None
    await put_in_place(table)
    assert (await table.find(b"x" * 32)).complete
