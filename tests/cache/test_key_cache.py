"""What a worker remembers of keys: three answers, for a bounded time, in bounded space, and never past a change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.cache.key_cache import Entry, KeyCache, NotHeld
from gateway.errors import StoreUnavailable
from gateway.keys.change import Change
from gateway.keys.secret import digest
from gateway.policies.identity import identity_fields
from tests.proxy.harness import KeyStore, record
from tests.proxy.profiles import scaled
from tests.proxy.virtual_loop import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable

ONE, TWO, THREE = (digest(b"%d" % number) for number in range(3))


class Memory:
    """A cache over a store of the test's own."""

    def __init__(self, **changes: Any) -> None:  # noqa: ANN401  any setting of the cache
        self.loop = VirtualLoop(lambda *_: None)
        self.store = KeyStore(self.loop)
        self.told: list[Change | None] = []
        values: dict[str, Any] = {
            "positive_ttl_seconds": 60.0,
            "negative_ttl_seconds": 5.0,
            "max_entries": 100,
            "max_absent_entries": 100,
            "max_stale_seconds": 0.0,
            **changes,
        }
        self.cache = KeyCache(
            self.store,
            identity=identity_fields,
            clock=self.loop.time,
            wall_clock=lambda: self.loop.time() + 1e9,
            **values,
        )
        self.cache.on_change = self.told.append
        self.prove()

    def prove(self) -> None:
        """Hear that nothing has changed."""
        self.cache.proven(self.loop.time())

    def put(self, key_digest: bytes, **changes: Any) -> None:  # noqa: ANN401  any field of a record
        """Store a key; each has its own id unless said otherwise."""
        fields = {"key_id": f"key_{key_digest.hex()[:4]}", **changes}
        self.store.records[key_digest] = record(b"", digest=key_digest, **fields)

    def find(self, key_digest: bytes) -> Entry | NotHeld:
        """What is known without asking."""
        return self.cache.find(key_digest, self.loop.time())

    def ask(self, key_digest: bytes) -> Entry | None:
        """Ask, where the store answers at once."""
        found = self.cache.look_up(key_digest)
        assert found is None or isinstance(found, Entry)
        return found

    def ask_and_wait(self, key_digest: bytes) -> asyncio.Task[Entry | None]:
        """Ask, where the store makes one wait."""

        async def wait(found: Awaitable[Entry | None]) -> Entry | None:
            return await found

        with self.loop.inside():
            found = self.cache.look_up(key_digest)
            assert found is not None
            assert not isinstance(found, Entry)
            task = self.loop.create_task(wait(found))
        self.loop.settle()
        return task

    def answer(self) -> None:
        """Let the store answer whoever waits, with what it holds now."""
        self.store.answer()
        self.loop.settle()

    def change(self, subject: str, kind: Literal["key", "owner", "organization"] = "key") -> None:
        """Hear of a change."""
        self.cache.apply(Change(1, kind, subject, 2))


def key_of(key_digest: bytes) -> str:
    """The id that `put` gives."""
    return f"key_{key_digest.hex()[:4]}"


# --- three answers ----------------------------------------------------------------------------------------------------


def test_hit_absent_and_miss() -> None:
    memory = Memory()
    memory.put(ONE)
    assert memory.find(ONE) is NotHeld.MISS
    entry = memory.ask(ONE)
    assert entry is not None
    assert memory.find(ONE) is entry
    assert memory.find(TWO) is NotHeld.MISS
    assert memory.ask(TWO) is None
    assert memory.find(TWO) is NotHeld.ABSENT
    assert memory.store.reads == 2
    assert len(memory.cache) == 1


def test_a_known_key_is_believed_for_its_time() -> None:
    memory = Memory(positive_ttl_seconds=60.0)
    memory.put(ONE)
    memory.ask(ONE)
    memory.loop.advance(59.9)
    memory.prove()
    assert isinstance(memory.find(ONE), Entry)
    memory.loop.advance(0.1)
    memory.prove()
    assert memory.find(ONE) is NotHeld.MISS


def test_an_unknown_key_is_believed_unknown_for_its_time() -> None:
    memory = Memory(negative_ttl_seconds=5.0)
    memory.ask(ONE)
    memory.loop.advance(4.9)
    assert memory.find(ONE) is NotHeld.ABSENT
    memory.loop.advance(0.1)
    assert memory.find(ONE) is NotHeld.MISS


def test_nothing_is_served_past_the_last_proof_of_being_current() -> None:
    """Counted from the proof, not from when the entry was filled."""
    memory = Memory(positive_ttl_seconds=60.0, negative_ttl_seconds=100.0)
    memory.put(ONE)
    memory.loop.advance(50)
    memory.ask(ONE)
    memory.ask(TWO)
    memory.loop.advance(9.9)
    assert isinstance(memory.find(ONE), Entry)
    memory.loop.advance(0.1)
    assert memory.find(ONE) is NotHeld.MISS
    assert memory.find(TWO) is NotHeld.MISS
    memory.prove()
    assert isinstance(memory.find(ONE), Entry)


def test_staleness_is_granted_only_where_it_is_set() -> None:
    memory = Memory(positive_ttl_seconds=60.0, max_stale_seconds=30.0)
    memory.put(ONE)
    memory.ask(ONE)
    memory.store.down = True
    memory.loop.advance(89)
    assert isinstance(memory.ask(ONE), Entry)
    memory.loop.advance(1)
    with pytest.raises(StoreUnavailable):
        memory.ask(ONE)


# --- outages ----------------------------------------------------------------------------------------------------------


def test_an_outage_is_never_an_absent_key() -> None:
    memory = Memory()
    memory.store.down = True
    with pytest.raises(StoreUnavailable):
        memory.ask(ONE)
    assert memory.find(ONE) is NotHeld.MISS
    assert memory.cache.counts.lookup_failures == 1


def test_an_entry_past_its_own_time_is_served_through_an_outage_until_the_proof_runs_out() -> None:
    memory = Memory(positive_ttl_seconds=60.0)
    memory.put(ONE)
    entry = memory.ask(ONE)
    memory.loop.advance(59)
    memory.prove()
    memory.store.down = True
    memory.loop.advance(30)
    assert memory.find(ONE) is NotHeld.MISS
    assert memory.ask(ONE) is entry
    memory.loop.advance(30)
    with pytest.raises(StoreUnavailable):
        memory.ask(ONE)


def test_an_outage_brings_back_no_entry_that_a_change_has_dropped() -> None:
    memory = Memory()
    memory.put(ONE)
    memory.ask(ONE)
    memory.store.down = True
    memory.change(key_of(ONE))
    with pytest.raises(StoreUnavailable):
        memory.ask(ONE)


def test_an_outage_met_by_a_lookup_that_waits() -> None:
    memory = Memory()
    memory.put(ONE)
    entry = memory.ask(ONE)
    memory.store.waits = memory.store.down = True
    task = memory.ask_and_wait(ONE)
    other = memory.ask_and_wait(TWO)
    memory.answer()
    assert task.result() is entry
    assert isinstance(other.exception(), StoreUnavailable)


# --- eviction ---------------------------------------------------------------------------------------------------------


def numbered(number: int) -> bytes:
    """One of many digests."""
    return digest(b"key %d" % number)


def test_entries_are_bounded() -> None:
    memory = Memory(max_entries=10)
    for number in range(50):
        memory.put(numbered(number))
        memory.ask(numbered(number))
        assert len(memory.cache) <= 10
    assert memory.cache.counts.evictions == 40


def test_what_was_used_gets_a_second_chance() -> None:
    memory = Memory(max_entries=10)
    for number in range(10):
        memory.put(numbered(number))
        memory.ask(numbered(number))
    for number in range(100):
        assert isinstance(memory.find(numbered(3)), Entry)
        memory.put(numbered(100 + number))
        memory.ask(numbered(100 + number))
    assert isinstance(memory.find(numbered(3)), Entry)
    assert memory.find(numbered(4)) is NotHeld.MISS


def test_all_may_have_been_used() -> None:
    memory = Memory(max_entries=4)
    for number in range(20):
        memory.put(numbered(number))
        memory.ask(numbered(number))
        for each in range(20):
            memory.find(numbered(each))
    assert len(memory.cache) == 4


def test_a_flood_of_invented_keys_evicts_no_good_one() -> None:
    memory = Memory(max_entries=10, max_absent_entries=5)
    for number in range(10):
        memory.put(numbered(number))
        memory.ask(numbered(number))
    for number in range(1000):
        memory.ask(numbered(1000 + number))
    assert all(isinstance(memory.find(numbered(number)), Entry) for number in range(10))
    absent = [number for number in range(1000) if memory.find(numbered(1000 + number)) is NotHeld.ABSENT]
    assert absent == [995, 996, 997, 998, 999]


def test_a_key_that_appears_is_no_longer_absent() -> None:
    memory = Memory()
    memory.ask(ONE)
    memory.put(ONE)
    memory.loop.advance(6)
    assert isinstance(memory.ask(ONE), Entry)
    assert isinstance(memory.find(ONE), Entry)


# --- changes ----------------------------------------------------------------------------------------------------------


def test_a_change_of_a_key_drops_all_its_secrets_and_no_other() -> None:
    memory = Memory()
    memory.put(ONE, key_id="key_a", secret_id="sec_1")
    memory.put(TWO, key_id="key_a", secret_id="sec_2")
    memory.put(THREE, key_id="key_b")
    first, second, third = (memory.ask(each) for each in (ONE, TWO, THREE))
    memory.change("key_a")
    assert memory.find(ONE) is memory.find(TWO) is NotHeld.MISS
    assert memory.find(THREE) is third
    assert first is not None
    assert second is not None
    assert third is not None
    assert (first.dead, second.dead, third.dead) == (True, True, False)
    assert memory.told == [Change(1, "key", "key_a", 2)]


@pytest.mark.parametrize(("kind", "field"), [("owner", "owner_id"), ("organization", "organization_id")])
def test_a_change_of_an_owner_or_an_organization_drops_its_keys(kind: Any, field: str) -> None:  # noqa: ANN401  a Literal
    memory = Memory()
    memory.put(ONE, **{field: "a"})
    memory.put(TWO, **{field: "a"})
    memory.put(THREE, **{field: "b"})
    for each in (ONE, TWO, THREE):
        memory.ask(each)
    memory.change("a", kind)
    assert memory.find(ONE) is memory.find(TWO) is NotHeld.MISS
    assert isinstance(memory.find(THREE), Entry)
    assert memory.told == [Change(1, kind, "a", 2)]


def test_a_change_forgets_what_was_absent_since_it_may_be_a_new_key() -> None:
    memory = Memory()
    memory.ask(ONE)
    memory.put(ONE)
    memory.change(key_of(ONE))
    assert memory.find(ONE) is NotHeld.MISS
    assert isinstance(memory.ask(ONE), Entry)


def test_whoever_is_told_of_a_change_may_ask_again_at_once() -> None:
    memory = Memory()
    memory.put(ONE, key_id="key_a")
    memory.put(TWO, key_id="key_a")
    memory.ask(ONE)
    memory.ask(TWO)
    seen: list[object] = []

    def ask_again(_: Change | None) -> None:
        seen.extend(memory.find(each) for each in (ONE, TWO))
        seen.append(memory.ask(ONE))

    memory.cache.on_change = ask_again
    memory.put(ONE, key_id="key_a", revoked_at=1.0)
    memory.change("key_a")
    assert seen[:2] == [NotHeld.MISS, NotHeld.MISS]
    assert isinstance(seen[2], Entry)
    assert seen[2].active_until == 0


def test_forgetting_everything_forgets_everything() -> None:
    memory = Memory()
    entries = []
    for each in (ONE, TWO):
        memory.put(each)
        entries.append(memory.ask(each))
    memory.ask(THREE)
    memory.cache.forget_everything()
    assert len(memory.cache) == 0
    assert [memory.find(each) for each in (ONE, TWO, THREE)] == [NotHeld.MISS] * 3
    assert memory.told == [None]
    assert all(each is not None and each.dead for each in entries)


def test_an_entry_that_was_replaced_is_dead_to_whoever_still_holds_it() -> None:
    memory = Memory()
    memory.put(ONE)
    old = memory.ask(ONE)
    memory.loop.advance(61)
    memory.prove()
    new = memory.ask(ONE)
    assert old is not None
    assert new is not None
    assert old.dead
    assert not new.dead
    assert memory.find(ONE) is new


def test_an_entry_that_was_evicted_is_dead_to_whoever_still_holds_it() -> None:
    """A change can no longer find it, so its holder has to ask before acting on it."""
    memory = Memory(max_entries=1)
    memory.put(ONE)
    memory.put(TWO)
    evicted = memory.ask(ONE)
    memory.ask(TWO)
    assert evicted is not None
    assert evicted.dead


def test_what_was_just_looked_up_is_not_what_is_evicted() -> None:
    """However much the others are used: whoever asked for it would be handed a dead entry."""
    memory = Memory(max_entries=2)
    for each in (ONE, TWO):
        memory.put(each)
        memory.ask(each)
        memory.find(each)
    memory.put(THREE)
    entry = memory.ask(THREE)
    assert entry is not None
    assert not entry.dead
    assert memory.find(THREE) is entry


def test_a_change_of_what_is_not_held_is_told_too() -> None:
    """Somebody may still act on what was once held."""
    memory = Memory()
    for kind in ("key", "owner", "organization"):
        memory.change("unknown", kind)
    assert len(memory.told) == 3
    assert memory.cache.counts.changes == 3


# --- lookups that wait ------------------------------------------------------------------------------------------------


def test_concurrent_lookups_of_one_digest_are_one() -> None:
    memory = Memory()
    memory.put(ONE)
    memory.store.waits = True
    tasks = [memory.ask_and_wait(ONE) for _ in range(5)]
    other = memory.ask_and_wait(TWO)
    assert memory.store.reads == 2
    memory.answer()
    assert len({id(task.result()) for task in tasks}) == 1
    assert other.result() is None
    memory.store.waits = False
    memory.change(key_of(ONE))
    assert memory.ask(ONE) is not None
    assert memory.store.reads == 3


def test_one_waiter_that_is_cancelled_does_not_cancel_the_others() -> None:
    memory = Memory()
    memory.put(ONE)
    memory.store.waits = True
    first, second = memory.ask_and_wait(ONE), memory.ask_and_wait(ONE)
    with memory.loop.inside():
        first.cancel()
    memory.loop.settle()
    memory.answer()
    assert first.cancelled()
    assert isinstance(second.result(), Entry)


def test_a_lookup_overtaken_by_a_change_is_thrown_away_and_made_again() -> None:
    memory = Memory()
    memory.put(ONE)
    memory.store.waits = True
    task = memory.ask_and_wait(ONE)
    old = [(key_digest, future, memory.store.records[key_digest]) for key_digest, future in memory.store.waiting]
    memory.store.waiting.clear()
    memory.put(ONE, revoked_at=1.0)
    memory.change(key_of(ONE))
    for _, future, answer in old:
        future.set_result(answer)
    memory.loop.settle()
    assert not task.done()
    assert memory.find(ONE) is NotHeld.MISS
    memory.answer()
    entry = task.result()
    assert entry is not None
    assert entry.active_until == 0
    assert memory.cache.counts.lookups_discarded == 1


def test_a_lookup_overtaken_by_forgetting_is_made_again() -> None:
    memory = Memory()
    memory.put(ONE)
    memory.store.waits = True
    task = memory.ask_and_wait(ONE)
    waiting, memory.store.waiting = memory.store.waiting, []
    memory.cache.forget_everything()
    waiting[0][1].set_result(None)
    memory.loop.settle()
    assert not task.done()
    memory.answer()
    assert isinstance(task.result(), Entry)


def _discarded(change: Change | None, *, found: bool) -> bool:
    """Whether a lookup is thrown away because of a change while it is under way (None: of everything)."""
    memory = Memory()
    if found:
        memory.put(ONE, version=5, owner_id="owner", organization_id="organization")
    memory.store.waits = True
    task = memory.ask_and_wait(ONE)
    memory.cache.forget_everything() if change is None else memory.cache.apply(change)
    memory.answer()
    memory.answer()
    assert isinstance(task.result(), Entry) is found
    return memory.cache.counts.lookups_discarded == 1


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (Change(1, "key", "another", 9), False),
        (Change(1, "owner", "another", 9), False),
        (Change(1, "organization", "another", 9), False),
        (Change(1, "key", key_of(ONE), 5), False),
        (Change(1, "key", key_of(ONE), 6), True),
        (Change(1, "owner", "owner", 1), True),
        (Change(1, "organization", "organization", 1), True),
        (None, True),
    ],
)
def test_a_lookup_is_made_again_for_changes_that_its_record_may_lack_and_for_no_others(
    change: Change | None, *, again: bool
) -> None:
    """Else a store that answers slowly could answer nobody while others' keys change all the time."""
    assert _discarded(change, found=True) is again


@pytest.mark.parametrize("change", [Change(1, "key", "another", 9), Change(1, "owner", "another", 9), None])
def test_an_unknown_key_is_asked_for_again_after_any_change(change: Change | None) -> None:
    assert _discarded(change, found=False)


def test_an_answer_of_before_the_process_was_stopped_is_asked_for_again() -> None:
    """Whoever changed the key meanwhile may have stopped waiting for this worker."""
    memory = Memory()
    memory.put(ONE)
    memory.store.waits = True
    task = memory.ask_and_wait(ONE)
    memory.loop.advance(5)
    memory.answer()
    assert not task.done()
    assert memory.cache.counts.lookups_discarded == 1
    memory.answer()
    assert isinstance(task.result(), Entry)


def test_more_changes_than_are_remembered_overtake_every_lookup() -> None:
    memory = Memory()
    memory.put(ONE)
    memory.store.waits = True
    task = memory.ask_and_wait(ONE)
    for _ in range(1001):
        memory.change("another")
    memory.answer()
    assert memory.cache.counts.lookups_discarded == 1
    memory.answer()
    assert isinstance(task.result(), Entry)


def test_what_the_cache_says_of_itself() -> None:
    memory = Memory()
    assert memory.cache.oldest_entry_seconds() == 0
    memory.put(ONE)
    memory.put(TWO)
    memory.ask(ONE)
    memory.loop.advance(3)
    memory.ask(TWO)
    memory.find(TWO)
    memory.find(ONE)
    assert memory.cache.counts.hits == 2
    assert memory.cache.oldest_entry_seconds() == 3
    memory.change(key_of(ONE))
    assert memory.cache.oldest_entry_seconds() == 0
    memory.prove()
    held = memory.cache.proven_for_seconds()
    memory.loop.advance(1)
    assert memory.cache.proven_for_seconds() == held - 1


def test_a_lookup_overtaken_again_and_again_is_unavailable_not_wrong() -> None:
    memory = Memory()
    memory.put(ONE)
    memory.store.waits = True
    task = memory.ask_and_wait(ONE)
    for _ in range(20):
        memory.change(key_of(ONE))
        memory.answer()
    assert isinstance(task.exception(), StoreUnavailable)
    memory.store.waits = False
    assert isinstance(memory.ask(ONE), Entry)


def test_a_lookup_asked_for_after_a_change_is_never_answered_from_before_it() -> None:
    """Also in the very turn of the loop in which the old lookup ended."""
    memory = Memory()
    memory.store.waits = True
    overtaken = memory.ask_and_wait(ONE)
    memory.store.answer()
    memory.store.waits = False
    results: list[object] = []

    def later() -> None:
        memory.put(ONE)
        memory.change(key_of(ONE))
        found = memory.cache.look_up(ONE)
        if found is None or isinstance(found, Entry):
            results.append(found)
        else:
            future = asyncio.ensure_future(found)
            future.add_done_callback(lambda done: results.append(done.result()))

    with memory.loop.inside():
        for _ in range(3):
            memory.loop.call_soon(memory.loop.call_soon, later)
    memory.loop.settle()
    assert overtaken.done()
    assert len(results) == 3
    assert all(isinstance(each, Entry) for each in results), "known since the change, whichever turn it came in"


# --- what an entry says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, float("inf")),
        ({"expires_at": 1e9 + 1000 + 30}, 30),
        ({"secret_valid_until": 1e9 + 1000 + 20}, 20),
        ({"expires_at": 1e9 + 1000 + 30, "secret_valid_until": 1e9 + 1000 + 20}, 20),
    ],
)
def test_until_when_a_key_is_active_is_told_on_the_loops_clock(fields: dict[str, float], seconds: float) -> None:
    memory = Memory()
    memory.put(ONE, **fields)
    entry = memory.ask(ONE)
    assert entry is not None
    assert entry.active_until == memory.loop.time() + seconds


@pytest.mark.parametrize("state", ["revoked_at", "disabled_at", "expires_at", "secret_valid_until"])
def test_a_key_that_may_not_be_used_is_never_active(state: str) -> None:
    memory = Memory()
    memory.put(ONE, **{state: 1.0})
    entry = memory.ask(ONE)
    assert entry is not None
    assert entry.active_until <= memory.loop.time()


# --- any order --------------------------------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """In any order of questions, changes and evictions, nothing is served that the store does not say any more."""

    numbers = st.integers(0, 7)

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory(max_entries=4, max_absent_entries=2, positive_ttl_seconds=10.0, negative_ttl_seconds=2.0)
        self.versions: dict[int, int] = {}
        self.heard_at = self.memory.loop.time()

    @rule(number=numbers)
    def ask(self, number: int) -> None:
        found = self.memory.find(numbered(number))
        if found is NotHeld.MISS:
            found = self.memory.ask(numbered(number)) or NotHeld.ABSENT
        expected = self.versions.get(number)
        if expected is None:
            assert found is NotHeld.ABSENT
        else:
            assert isinstance(found, Entry)
            assert not found.dead
            assert found.owner_id == f"owner {expected}"

    @rule(number=numbers)
    def key_changes(self, number: int) -> None:
        version = self.versions[number] = self.versions.get(number, 0) + 1
        self.memory.put(numbered(number), owner_id=f"owner {version}")
        self.memory.change(key_of(numbered(number)))

    @rule(number=numbers)
    def key_is_deleted(self, number: int) -> None:
        if self.versions.pop(number, None) is not None:
            del self.memory.store.records[numbered(number)]
            self.memory.change(key_of(numbered(number)))

    @rule()
    def everything_is_forgotten(self) -> None:
        self.memory.cache.forget_everything()

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0]), proven=st.booleans())
    def time_passes(self, seconds: float, *, proven: bool) -> None:
        self.memory.loop.advance(seconds)
        if proven:
            self.memory.prove()
            self.heard_at = self.memory.loop.time()

    @invariant()
    def space_and_time_are_bounded(self) -> None:
        cache = self.memory.cache
        assert len(cache) <= 4
        assert len(cache._absent) <= 2
        assert len(cache._candidates) <= 9
        assert sum(map(len, cache._digests_by_key.values())) == len(cache)
        if self.memory.loop.time() - self.heard_at >= 10:
            assert all(self.memory.find(numbered(number)) is NotHeld.MISS for number in range(8))


AnyOrder.TestCase.settings = settings(max_examples=scaled(60), stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
