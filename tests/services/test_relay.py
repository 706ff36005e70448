"""The table in Redis follows the store: whoever committed, whatever was lost, and however many relays there are."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import delete, func, insert, select, update

from gateway.errors import RedisUnavailable
from gateway.keys import secret as secrets
from gateway.keys.projection import LogPosition, WorkerPresence
from gateway.services import projection
from gateway.services import relay as relay_module
from gateway.services.relay import Relay
from gateway.store.engine import read_transaction
from gateway.store.key_table import KeyTable
from gateway.store.redis_link import connect
from gateway.store.schema import key_changes, key_secrets, keys, retired_digests, store_identity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from gateway.keys.change import Change
    from gateway.keys.projection import LogLook
    from tests.servers.redis import RedisServer
    from tests.services.conftest import World

KEYS: Final = "{keygate}:keys"


@pytest.fixture
def redis(redis_server: Callable[..., RedisServer]) -> RedisServer:
    return redis_server()


@pytest.fixture
async def table(redis: RedisServer) -> AsyncIterator[KeyTable]:
    made = KeyTable(connect(redis.url, timeout_seconds=2))
    yield made
    await made.close()


@pytest.fixture
async def another(redis: RedisServer) -> AsyncIterator[KeyTable]:
    """As a second control process has it."""
    made = KeyTable(connect(redis.url, timeout_seconds=2))
    yield made
    await made.close()


async def settle(relay: Relay) -> None:
    """Step until there is nothing to do."""
    for _ in range(100):
        again = await relay.step()
        if relay._building is not None:
            await asyncio.wait([relay._building])
        elif not again and relay.complete and relay.relayed == relay.head:
            return
    raise AssertionError(f"not settled: {relay.relayed} of {relay.head}")


async def built(world: World, table: KeyTable) -> Relay:
    relay = Relay(world.engine, table)
    await settle(relay)
    return relay


async def agrees(world: World, table: KeyTable) -> int:
    """Assert that the table says of each digest what the store does; return how many there are."""
    async with read_transaction(world.engine) as connection:
        log = await projection.look(connection, 0, 0)
        gone = (await connection.execute(select(retired_digests.c.digest))).scalars().all()
        there = {digest: record async for page in projection.of_everything(connection) for digest, record in page}
    for digest in [*there, *gone, secrets.digest(b"invented")]:
        answer = await table.find(digest)
        assert answer.record == there.get(digest)
        assert (answer.epoch, answer.head, answer.complete) == (log.epoch, log.head, True)
    return len(there)


async def head(world: World) -> int:
    return (await world.log())[-1][0]


def presence(position: LogPosition | None = None) -> WorkerPresence:
    return WorkerPresence("n:worker-0:7", "n", "host", "worker-0", 7, 60.0, position)


async def test_a_table_is_built_where_there_is_none_and_each_change_is_relayed_in_order(
    world: World, table: KeyTable
) -> None:
    relay = await built(world, table)
    assert await agrees(world, table) == 1
    messages = table.follow()
    assert await anext(messages) is None
    made = await world.keys.create(world.admin, {"name": "One"})
    await world.keys.disable(world.admin, made.resource.id)
    await world.keys.revoke(world.admin, made.resource.id, {})
    await settle(relay)
    heard = [await anext(messages) for _ in range(3)]
    await messages.aclose()
    last = await head(world)
    assert [each and each[1].seq for each in heard] == [last - 2, last - 1, last]
    assert {each and each[0] for each in heard} == {(await table.pulse(presence())).epoch}
    assert await agrees(world, table) == 2
    assert relay.rebuilds == 1


async def test_a_nudge_is_enough_for_a_change_to_be_announced(world: World, table: KeyTable) -> None:
    relay = await built(world, table)
    running = asyncio.create_task(relay.run())
    messages = table.follow()
    await anext(messages)
    made = await world.keys.create(world.admin, {"name": "One"})
    relay.nudge()
    heard = await anext(messages)
    assert heard is not None
    assert (heard[1].subject_id, heard[1].seq) == (made.resource.id, made.seq)
    await messages.aclose()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_failure_that_nobody_foresaw_does_not_end_the_relay(
    world: World, table: KeyTable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    relay = await built(world, table)
    with monkeypatch.context() as patched:
        patched.setattr(table, "state", None)
        running = asyncio.create_task(relay.run())
        while "not foreseen" not in caplog.text:
            await asyncio.sleep(0.01)
    made = await world.keys.create(world.admin, {"name": "One"})
    relay.nudge()
    while relay.relayed != made.seq:
        await asyncio.sleep(0.01)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_table_as_far_as_the_store_is_stamped_with_where_the_store_was(world: World, table: KeyTable) -> None:
    relay = await built(world, table)
    await relay.step()
    pulse = await table.pulse(presence())
    assert pulse.stamp is not None
    assert (pulse.stamp.epoch, pulse.stamp.head) == (pulse.epoch, pulse.head)
    assert 0 <= pulse.stamp.age_seconds < 60
    assert pulse.complete


async def test_a_stamp_never_takes_the_place_of_a_later_one(world: World, table: KeyTable) -> None:
    await built(world, table)
    at, state = await table.state()
    assert state is not None
    assert await table.stamp(at, LogPosition(state.epoch, 5))
    assert not await table.stamp(at - 1, LogPosition(state.epoch, 4))  # somebody was paused after asking
    stamp = (await table.pulse(presence())).stamp
    assert stamp is not None
    assert stamp.head == 5


async def test_that_the_store_cannot_be_asked_is_said_only_where_nobody_else_can(
    world: World, table: KeyTable, redis: RedisServer
) -> None:
    await built(world, table)
    at, _ = await table.state()
    assert not await table.stamp(at, None)  # the stamp in place is fresh
    old = f"{at - 2_000_001} {(await table.pulse(presence())).epoch} 1"
    redis.ask("HSET", KEYS, "stamp", old)
    assert await table.stamp(at, None)
    stamp = (await table.pulse(presence())).stamp
    assert stamp is not None
    assert stamp.head is None


async def test_while_the_store_does_not_answer_stamps_go_on_and_say_so(
    world: World, table: KeyTable, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could believe Redis otherwise, for as long as a server that is stopped is waited for."""
    monkeypatch.setattr(relay_module, "SILENCE_SECONDS", 0.01)
    relay = await built(world, table)
    answer, look = asyncio.Event(), projection.look

    async def slow(connection: AsyncConnection, seq: int, limit: int) -> LogLook:
        await answer.wait()
        return await look(connection, seq, limit)

    monkeypatch.setattr(projection, "look", slow)
    step = asyncio.create_task(relay.step())
    at, state = await table.state()
    assert state is not None
    redis.ask("HSET", KEYS, "stamp", f"{at - 2_000_001} {state.epoch} 1")
    link = connect(redis.url, timeout_seconds=2)
    stamps: set[object] = set()
    while len(stamps) < 3:
        stamp = await link.call("HGET", KEYS, "stamp")
        assert isinstance(stamp, bytes)
        if stamp.endswith(b" "):
            stamps.add(stamp)
        await asyncio.sleep(0.005)
    await link.close()
    assert not relay.store_reachable
    answer.set()
    await step
    assert relay.store_reachable
    said = (await table.pulse(presence())).stamp
    assert said is not None
    # What the store said is of the moment before it was asked, which is older than the last of these stamps.
    assert said.head is None
    await relay.step()
    said = (await table.pulse(presence())).stamp
    assert said is not None
    assert said.head == await head(world)


async def test_a_stamp_of_a_moment_to_come_is_not_believed_and_stands_in_nobodys_way(
    world: World, table: KeyTable, redis: RedisServer
) -> None:
    """Redis' clock was set back, or another server took over whose clock is behind."""
    relay = await built(world, table)
    at, state = await table.state()
    assert state is not None
    redis.ask("HSET", KEYS, "stamp", f"{at + 60_000_000} {state.epoch} 1")
    assert (await table.pulse(presence())).stamp is None
    await relay.step()
    assert (await table.pulse(presence())).stamp is not None


async def test_what_a_process_left_behind_is_relayed_by_another_one(
    world: World, table: KeyTable, another: KeyTable
) -> None:
    await built(world, table)
    made = await world.keys.create(world.admin, {"name": "Left behind"})  # committed, never told
    await world.keys.revoke(world.admin, made.resource.id, {})
    await settle(Relay(world.engine, another))
    assert await agrees(world, table) == 2


async def test_a_relay_that_died_between_two_writes_leaves_nothing_that_another_could_not_finish(
    world: World, table: KeyTable, another: KeyTable
) -> None:
    await built(world, table)
    made = await world.keys.create(world.admin, {"name": "Half"})
    _, state = await table.state()
    assert state is not None
    async with read_transaction(world.engine) as connection:
        assert await table.put(state, await head(world), await projection.of_keys(connection, [made.resource.id]))
    await settle(Relay(world.engine, another))
    assert await agrees(world, table) == 2


async def test_two_relays_at_once_tell_each_change_once(world: World, table: KeyTable, another: KeyTable) -> None:
    one, two = await built(world, table), await built(world, another)
    messages = table.follow()
    await anext(messages)
    first = await head(world) + 1
    made = await world.keys.create(world.admin, {"name": "Contested"})
    for round_ in range(10):
        await (world.keys.enable if round_ % 2 else world.keys.disable)(world.admin, made.resource.id)
        await asyncio.gather(one.step(), two.step(), one.step())
    await asyncio.gather(settle(one), settle(two))
    last = await head(world)
    heard = [await anext(messages) for _ in range(first, last + 1)]
    await messages.aclose()
    assert [each and each[1].seq for each in heard] == list(range(first, last + 1))
    assert await agrees(world, table) == 2
    assert one.rebuilds + two.rebuilds == 1


async def test_a_paused_relay_brings_nothing_back_that_others_have_changed_since(
    world: World, table: KeyTable, another: KeyTable
) -> None:
    relay = await built(world, another)
    made = await world.keys.create(world.admin, {"name": "Old"})
    _, state = await table.state()
    assert state is not None
    async with read_transaction(world.engine) as connection:
        log = await projection.look(connection, state.head, 10)
        entries = await projection.of_keys(connection, [made.resource.id])
    await world.keys.revoke(world.admin, made.resource.id, {})
    await world.keys.delete(world.admin, made.resource.id)
    await settle(relay)
    # Now the paused one goes on, with what it has read before all of that.
    assert not await table.put(state, log.head, entries)
    assert not await table.advance(state, log.changes[0], log.head, entries)
    assert await agrees(world, table) == 1


async def test_an_older_snapshot_never_replaces_what_a_younger_one_has_written(world: World, table: KeyTable) -> None:
    """Before the head has moved past either of them."""
    await built(world, table)
    made = await world.keys.create(world.admin, {"name": "Twice"})
    _, state = await table.state()
    assert state is not None
    async with read_transaction(world.engine) as connection:
        older = await projection.of_keys(connection, [made.resource.id])
    older_head = await head(world)
    await world.keys.delete(world.admin, made.resource.id)
    async with read_transaction(world.engine) as connection:
        younger = await projection.of_keys(connection, [made.resource.id])
    assert await table.put(state, await head(world), younger)
    assert await table.put(state, older_head, older)
    assert (await table.find(younger[0][0])).record is None
    await built(world, table)
    await agrees(world, table)


async def test_nothing_that_was_read_of_one_build_is_written_into_another(
    world: World, table: KeyTable, another: KeyTable, redis: RedisServer
) -> None:
    await built(world, table)
    await world.keys.create(world.admin, {"name": "New"})
    _, state = await table.state()
    assert state is not None
    async with read_transaction(world.engine) as connection:
        log = await projection.look(connection, state.head, 10)
    redis.ask("FLUSHALL")
    await built(world, another)
    assert not await table.put(state, log.head, [])
    assert not await table.advance(state, log.changes[0], log.head, [])


async def test_a_connection_made_anew_does_not_go_on_where_the_old_one_was(
    world: World, table: KeyTable, redis: RedisServer
) -> None:
    """What was written over the old one may be lost: another server may have taken over in between."""
    await built(world, table)
    _, state = await table.state()
    assert state is not None
    redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(RedisUnavailable):
        await table.put(state, state.head, [])
    with pytest.raises(RedisUnavailable):
        await table.put(state, state.head, [])
    assert (await table.state())[1] is not None


@pytest.mark.parametrize(
    "loss",
    [
        ("FLUSHALL",),
        ("DEL", KEYS),
        ("HDEL", KEYS, "head"),
        ("HDEL", KEYS, "tip"),
        ("HDEL", KEYS, "size"),
        ("HDEL", KEYS, "stamp"),
        ("HDEL", KEYS, "complete"),
        ("HDEL", KEYS, "epoch"),
        ("HDEL", KEYS, "build"),
    ],
    ids=" ".join,
)
async def test_a_table_that_lost_something_is_not_complete_until_it_is_built_anew(
    world: World, table: KeyTable, redis: RedisServer, loss: tuple[str, ...]
) -> None:
    relay = await built(world, table)
    redis.ask(*loss)
    assert not (await table.find(b"x" * 32)).complete
    assert not (await table.pulse(presence())).complete
    await settle(relay)
    await agrees(world, table)
    assert relay.rebuilds == 2


async def test_a_single_record_that_was_lost_is_noticed(world: World, table: KeyTable, redis: RedisServer) -> None:
    relay = await built(world, table)
    await world.keys.create(world.admin, {"name": "One"})
    await settle(relay)
    link = connect(redis.url, timeout_seconds=2)
    async with read_transaction(world.engine) as connection:
        digest = (await connection.execute(select(key_secrets.c.digest).limit(1))).scalar_one()
    assert await link.call("HDEL", KEYS, digest) == 1
    await link.close()
    answer = await table.find(digest)
    assert (answer.record, answer.complete) == (None, False)
    await settle(relay)
    await agrees(world, table)


async def test_redis_restarted_empty_is_filled_again(world: World, table: KeyTable, redis: RedisServer) -> None:
    relay = await built(world, table)
    redis.process.kill()
    await relay.step()
    assert not relay.redis_reachable
    redis.restart()
    await asyncio.sleep(0.3)
    await settle(relay)
    assert await agrees(world, table) == 1


@pytest.mark.parametrize("further", [False, True], ids=["behind", "written on since"])
async def test_a_store_that_went_back_gets_a_new_epoch_and_all_is_built_under_it(
    world: World,
    table: KeyTable,
    further: bool,  # noqa: FBT001 - pytest passes it by name
) -> None:
    relay = await built(world, table)
    made = await world.keys.create(world.admin, {"name": "Lost"})
    await settle(relay)
    before = await table.pulse(presence())
    # As a backup from before the key would leave the store.
    await world.execute(delete(key_secrets).where(key_secrets.c.key_id == made.resource.id))
    await world.execute(delete(keys).where(keys.c.id == made.resource.id))
    await world.execute(delete(key_changes).where(key_changes.c.seq == made.seq))
    if further:
        await world.keys.create(world.admin, {"name": "Another"})
        await world.keys.create(world.admin, {"name": "And another"})
    await settle(relay)
    after = await table.pulse(presence())
    assert after.epoch != before.epoch
    await agrees(world, table)


async def test_a_store_restored_from_before_its_newest_epoch_does_not_take_up_the_old_one_again(
    world: World, table: KeyTable
) -> None:
    relay = await built(world, table)
    first = (await table.pulse(presence())).epoch
    await world.execute(update(store_identity).values(epoch="3.abc"))
    await settle(relay)
    await world.execute(update(store_identity).values(epoch=first))
    await settle(relay)
    now = (await table.pulse(presence())).epoch
    assert now is not None
    assert now.startswith("4.")
    await agrees(world, table)


async def test_far_behind_the_table_is_built_anew(
    world: World, table: KeyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "MOST_BEHIND", 5)
    relay = await built(world, table)
    for number in range(6):
        await world.keys.create(world.admin, {"name": f"Key {number}"})
    await settle(relay)
    assert relay.rebuilds == 2
    assert await agrees(world, table) == 7


async def _add_keys(world: World, count: int, owner: str) -> None:
    """Rows as services leave them, by the thousand."""
    one = {"organization_id": world.org, "owner_id": owner, "description": "", "version": 1}
    made = {"created_at": world.clock.now, "created_by_text": "System"}
    rows = [{**one, **made, "id": f"key_{n:06}", "name": f"N {n}", "name_search": f"n {n}"} for n in range(count)]
    held = [
        {"digest": secrets.digest(b"%d" % n), "id": f"sec_{n}", "key_id": f"key_{n:06}", "slot": 0}
        for n in range(count)
    ]
    for start in range(0, count, 1000):
        await world.execute(insert(keys).values(rows[start : start + 1000]))
        some = [{**each, "created_at": world.clock.now} for each in held[start : start + 1000]]
        await world.execute(insert(key_secrets).values(some))


async def test_an_owner_of_five_thousand_keys_changes_all_of_their_records_before_the_head_moves(
    world: World, table: KeyTable
) -> None:
    account = await world.add_service_account("Fleet")
    await _add_keys(world, 5000, account)
    relay = await built(world, table)
    changed = await world.service_accounts.update(world.admin, account, {"permissions": ["fleet:drive"]})
    messages = table.follow()
    await anext(messages)
    stepping = asyncio.create_task(settle(relay))
    heard = await anext(messages)
    await messages.aclose()
    assert heard is not None
    assert heard[1].seq == changed.seq
    for number in (0, 2500, 4999):
        record = (await table.find(secrets.digest(b"%d" % number))).record
        assert record is not None
        assert record.owner_permissions == ("fleet:drive",)
    await stepping
    assert relay.rebuilds == 1


async def test_changes_go_on_while_the_table_is_built(
    world: World, table: KeyTable, another: KeyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new table takes the place of the old one only when it is as far; nothing that was told is lost with it."""
    monkeypatch.setattr(projection, "PAGE", 50)
    await _add_keys(world, 600, await world.add_service_account("Fleet"))
    await built(world, table)
    builder, other = Relay(world.engine, table), Relay(world.engine, another)
    building = asyncio.create_task(builder._build())
    heads = []
    while not building.done():
        made = await world.keys.create(world.admin, {"name": "Meanwhile"})
        await world.keys.revoke(world.admin, made.resource.id, {})
        await other.step()
        heads.append((await table.pulse(presence())).head or -1)
    await building
    assert builder.rebuilds == 1
    assert heads == sorted(heads)
    await settle(other)
    await agrees(world, table)


async def test_a_builder_that_lost_its_right_puts_nothing_in_place(
    world: World, table: KeyTable, another: KeyTable, redis: RedisServer
) -> None:
    late = await table.begin_build()
    assert late is not None
    assert await another.begin_build() is None
    redis.ask("DEL", "{keygate}:lock")  # it was paused for longer than the lock lasts
    await built(world, another)
    assert await late.install(LogPosition("old", 1), None) is None
    assert not await late.fill([(b"x" * 32, None)], 1)
    await agrees(world, another)
    await late.give_up()
    assert redis.ask("DBSIZE") == b":1"


async def test_a_failed_build_leaves_nothing_behind(
    world: World, table: KeyTable, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(world.engine, table)

    async def broken(_connection: object) -> AsyncIterator[object]:
        yield [(b"x" * 32, None)]
        raise RedisUnavailable("away")

    monkeypatch.setattr(projection, "of_everything", broken)
    await relay._build()
    assert redis.ask("DBSIZE") == b":0"


async def test_a_replica_that_lags_behind_and_takes_over_is_brought_up(
    world: World, table: KeyTable, redis: RedisServer, redis_server: Callable[..., RedisServer]
) -> None:
    relay = await built(world, table)
    replica = redis_server("--replicaof", "127.0.0.1", str(redis.port))
    behind = KeyTable(connect(replica.url, timeout_seconds=2))
    while not (await behind.find(b"x" * 32)).complete:
        await asyncio.sleep(0.01)
    with pytest.raises(RedisUnavailable, match="replica"):
        await behind.pulse(presence())  # what cannot take a sign of life proves nothing
    replica.ask("REPLICAOF", "NO", "ONE")  # from here on it gets nothing more, as one that is far behind
    made = await world.keys.create(world.admin, {"name": "Not there yet"})
    await world.keys.revoke(world.admin, made.resource.id, {})
    await settle(relay)
    redis.process.kill()
    await asyncio.sleep(0.3)  # it was found to be read-only, and is left alone for a moment
    assert (await behind.pulse(presence())).head == await head(world) - 2
    taken_over = Relay(world.engine, behind)
    await settle(taken_over)
    assert await agrees(world, behind) == 2
    assert taken_over.rebuilds == 0  # what a replica has is whole up to its head
    await behind.close()


@pytest.mark.parametrize(
    ("break_it", "mend_it", "said"),
    [
        (("SET", KEYS, "mine"), ("DEL", KEYS), "choose another redis.namespace"),
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "its memory is full"),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "it is a replica that may not be written to"),
        (("CONFIG", "SET", "requirepass", "other"), None, "it asks for a password"),
    ],
    ids=["wrong type", "full", "read-only", "password"],
)
async def test_what_redis_refuses_is_told_once_with_what_to_do(
    world: World,
    redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
    break_it: tuple[str, ...],
    mend_it: tuple[str, ...] | None,
    said: str,
) -> None:
    redis.ask(*break_it)
    table = KeyTable(connect(redis.url, timeout_seconds=2))
    relay = Relay(world.engine, table)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await relay.step()
            if relay._building is not None:
                await asyncio.wait([relay._building])
    assert len([each for each in caplog.messages if said in each]) == 1
    if mend_it is not None:
        redis.ask(*mend_it)
        await asyncio.sleep(0.3)
        await settle(relay)
        await agrees(world, table)
    await table.close()


async def test_presences_are_told_with_their_age_and_go_when_they_are_taken_back(table: KeyTable) -> None:
    at = presence(LogPosition("e", 7))
    new = dataclasses.replace(presence(), id="n:worker-1:8", name="worker-1", pid=8)
    await table.pulse(at)
    await table.pulse(new)
    found = await table.presences()
    assert {id_: each for id_, (each, _) in found.items()} == {at.id: at, new.id: new}
    assert all(0 <= silent < 60 for _, silent in found.values())
    await table.leave(new.id)
    await table.remove_presences([])
    assert set(await table.presences()) == {at.id}


async def test_the_log_row_of_the_newest_change_is_what_the_tip_says(world: World, table: KeyTable) -> None:
    await built(world, table)
    _, state = await table.state()
    assert state is not None
    async with read_transaction(world.engine) as connection:
        newest: Change | None = (await projection.look(connection, await head(world), 0)).at
        count = (await connection.execute(select(func.count()).select_from(key_changes))).scalar_one()
    assert state.tip == newest
    assert state.head == count


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_is_lost_the_table_never_says_less_than_its_head_promises(
    world: World, redis: RedisServer, table: KeyTable, another: KeyTable, seed: int
) -> None:
    """Two relays run while keys change and Redis is emptied, cut off and robbed of fields in between."""
    chance = random.Random(seed)  # noqa: S311 - the same every time is what is wanted
    reader = KeyTable(connect(redis.url, timeout_seconds=2))
    relays = [Relay(world.engine, each) for each in (table, another)]
    running = [asyncio.create_task(each.run()) for each in relays]
    versions: dict[bytes, list[tuple[int, int]]] = {}
    """Digest → the numbers and versions of the changes of its key."""
    ids: dict[bytes, str] = {}
    faults: list[tuple[str, ...]] = [
        ("FLUSHALL",),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("SCRIPT", "FLUSH"),
        ("HDEL", KEYS, "tip"),
        ("HDEL", KEYS, "size"),
    ]

    async def look(digest: bytes) -> None:
        with contextlib.suppress(RedisUnavailable):
            answer = await reader.find(digest)
            promised = max((version for seq, version in versions[digest] if seq <= (answer.head or 0)), default=0)
            if answer.record is not None:
                assert answer.record.version >= promised
            elif answer.complete:
                assert promised == 0

    for _ in range(60):
        if not ids or chance.random() < 0.2:
            made = await world.keys.create(world.admin, {"name": f"Key {len(ids)}"})
            digest = secrets.digest((made.resource.secret or "").encode())
            ids[digest], versions[digest] = made.resource.id, [(made.seq or 0, 1)]
        digest = chance.choice(list(ids))
        last = versions[digest][-1][1]
        change = world.keys.enable if last % 2 == 0 else world.keys.disable
        seq = (await change(world.admin, ids[digest])).seq
        versions[digest].append((seq or 0, last + 1))
        chance.choice(relays).nudge()
        if chance.random() < 0.2:
            redis.ask(*chance.choice(faults))
        for each in chance.sample(list(ids), min(3, len(ids))):
            await look(each)
    for task in running:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await asyncio.sleep(0.3)
    await settle(relays[0])
    assert await agrees(world, reader) == len(ids) + 1
    await reader.close()
