"""Both kinds of store that requests are put on record in, by the same tests."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from gateway.keys.request_entry import OFFSET_BITS, Outcome, entry_id
from gateway.store.audit_postgres import PostgresAuditStore
from gateway.store.audit_query import EntryQuery
from gateway.store.audit_sqlite import SqliteAuditStore
from gateway.store.audit_store import StoredEntry
from gateway.store.engine import create_engine
from tests.store.audit_entries import DAY, NOON, OTHER, SEGMENT, SPOOL, anonymous, entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from gateway.keys.request_entry import RequestEntry
    from gateway.store.audit_store import AuditStore
    from tests.servers.postgres import PostgresServer

    OpenStore = Callable[[], AbstractAsyncContextManager[AuditStore]]


@pytest.fixture(params=["sqlite", "postgres"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Opens the same store each time, as a process that starts anew does."""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.url(server.new_database())

    @asynccontextmanager
    async def opened() -> AsyncIterator[AuditStore]:
        if request.param == "sqlite":
            files = SqliteAuditStore(tmp_path / "audit")
            try:
                yield files
            finally:
                await files.close()
            return
        engine = create_engine(url)
        rows = PostgresAuditStore(url, engine)
        try:
            yield rows
        finally:
            await rows.close()
            await engine.dispose()

    return opened


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[AuditStore]:
    async with open_store() as opened:
        yield opened


async def found(store: AuditStore, **wanted: Any) -> list[RequestEntry]:  # noqa: ANN401 - fields of the query
    return [each.entry for each in await store.find(EntryQuery(**wanted))]


# --- what is written is there ----------------------------------------------------------------------------------------


async def test_an_entry_comes_back_as_it_was_written(store: AuditStore) -> None:
    strange = entry(1, path="/ü/\\xff/'\"%", user_agent="a\tb 🗝", duration=1 << 40, status=0, outcome=Outcome.ABORTED)
    await store.write(SPOOL, [entry(0), strange, anonymous(2)])
    assert await store.find(EntryQuery()) == [StoredEntry(SPOOL, each) for each in (anonymous(2), strange, entry(0))]
    assert [type(each.outcome) for each in await found(store)] == [Outcome] * 3


async def test_nothing_is_found_in_a_store_that_was_never_written(store: AuditStore) -> None:
    assert await store.find(EntryQuery(organization_id="org_1", anonymous=True)) == []
    assert await store.count(SPOOL, SEGMENT) == 0
    assert await store.interrupt(SPOOL, SEGMENT) == 0
    assert await store.retain(1, NOON) == []


async def test_an_empty_batch_is_no_batch(store: AuditStore) -> None:
    await store.write(SPOOL, [])
    assert await store.find(EntryQuery()) == []


async def test_what_was_written_is_there_for_the_next_process(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.write(SPOOL, [entry(0)])
    async with open_store() as store:
        await store.write(SPOOL, [entry(0), entry(1)])
        assert await found(store) == [entry(1), entry(0)]


async def test_two_processes_may_write_at_once(open_store: OpenStore) -> None:
    """One that was thought dead may still be there: texts that the other one added are known to neither."""
    async with open_store() as first, open_store() as second:
        await first.write(SPOOL, [entry(0, path="/a", user_agent="x")])
        await second.write(SPOOL, [entry(1, user_agent="y")])
        await first.write(SPOOL, [entry(2, user_agent="z")])
        await second.write(SPOOL, [entry(3, user_agent="z", address="y")])
        agents = [each.user_agent for each in await found(first)]
        assert agents == ["z", "z", "y", "x"]
        assert await found(second) == await found(first)


# --- writing again ----------------------------------------------------------------------------------------------------


async def test_a_batch_that_is_written_again_changes_nothing(store: AuditStore) -> None:
    batch = [entry(number) for number in range(5)]
    await store.write(SPOOL, batch)
    await store.write(SPOOL, [*batch, entry(5)])
    await store.write(SPOOL, [entry(0, status=500, path="/other")])
    assert await found(store) == [entry(number) for number in reversed(range(6))]


async def test_an_end_takes_the_place_of_its_beginning(store: AuditStore) -> None:
    await store.write(SPOOL, [entry(0, outcome=Outcome.OPEN), entry(1)])
    ended = entry(0, outcome=Outcome.ABORTED, duration=9_000_000, bytes_out=12, key_name="renamed")
    await store.write(SPOOL, [ended])
    assert await found(store) == [entry(1), ended]


async def test_nothing_takes_the_place_of_an_end(store: AuditStore) -> None:
    """A batch with the beginning is written again after the one with the end."""
    for later in (entry(0, outcome=Outcome.OPEN), entry(0, outcome=Outcome.REFUSED), entry(0, bytes_out=1)):
        await store.write(SPOOL, [entry(0)])
        await store.write(SPOOL, [later])
        assert await found(store) == [entry(0)]


@pytest.mark.parametrize("turned", [False, True])
async def test_beginning_and_end_may_come_in_one_batch(store: AuditStore, turned: bool) -> None:  # noqa: FBT001
    batch = [entry(0, outcome=Outcome.OPEN), entry(0), entry(0)]
    await store.write(SPOOL, batch[::-1] if turned else batch)
    assert await found(store) == [entry(0)]


async def test_an_end_without_its_beginning_is_an_entry(store: AuditStore) -> None:
    """The beginning was in a part of the segment that is damaged."""
    await store.write(SPOOL, [entry(0, outcome=Outcome.ABORTED)])
    assert await found(store) == [entry(0, outcome=Outcome.ABORTED)]


async def test_spools_do_not_share_positions(store: AuditStore) -> None:
    await store.write(SPOOL, [entry(0)])
    await store.write(OTHER, [entry(0, path="/other")])
    await store.write(OTHER, [entry(0, path="/other")])
    first, second = await store.find(EntryQuery())
    assert (first.spool, first.entry.path) == (OTHER, "/other")
    assert (second.spool, second.entry.path) == (SPOOL, "/v1/things")
    assert await store.count(SPOOL, SEGMENT) == await store.count(OTHER, SEGMENT) == 1


async def test_many_spools_write_on_one_day(store: AuditStore) -> None:
    """A container has a new name each time, and with it a new spool."""
    spools = [f"{number:016x}" for number in range(140)]
    for spool in spools:
        await store.write(spool, [entry(0)])
    assert [each.spool for each in await store.find(EntryQuery(limit=1000))] == spools[::-1]
    assert [await store.count(spool, SEGMENT) for spool in spools] == [1] * 140


# --- runs that are over -----------------------------------------------------------------------------------------------


async def test_what_a_run_left_open_was_interrupted(store: AuditStore) -> None:
    opened = [entry(number, outcome=Outcome.OPEN) for number in range(6)]
    late = entry(6, outcome=Outcome.OPEN, at=NOON - 40 * DAY)
    of_another_run = opened[4]._replace(run=SEGMENT + 1)
    await store.write(SPOOL, [*opened[:4], of_another_run, entry(5), late])
    await store.write(OTHER, [opened[0]])
    await store.write(SPOOL, [entry(1)])
    assert await store.interrupt(SPOOL, SEGMENT) == 4
    expected = [entry(5), of_another_run]
    expected += [each if each == entry(1) else each._replace(outcome=Outcome.INTERRUPTED) for each in
                 (opened[3], opened[2], entry(1))]  # fmt: skip
    expected += [opened[0], opened[0]._replace(outcome=Outcome.INTERRUPTED), late._replace(outcome=Outcome.INTERRUPTED)]
    assert await found(store) == expected
    assert await store.interrupt(SPOOL, SEGMENT) == 0


async def test_an_interrupted_entry_stays_one_when_its_beginning_comes_again(store: AuditStore) -> None:
    opened = entry(0, outcome=Outcome.OPEN)
    await store.write(SPOOL, [opened])
    await store.interrupt(SPOOL, SEGMENT)
    await store.write(SPOOL, [opened])
    assert await found(store) == [opened._replace(outcome=Outcome.INTERRUPTED)]


async def test_an_end_that_comes_late_is_what_became_of_it(store: AuditStore) -> None:
    """A run that was taken for over too early: its last segment could not be read as one of it."""
    await store.write(SPOOL, [entry(0, outcome=Outcome.OPEN)])
    await store.interrupt(SPOOL, SEGMENT)
    await store.write(SPOOL, [entry(0)])
    assert await found(store) == [entry(0)]


async def test_a_day_that_was_looked_through_is_looked_through_again_when_something_came(store: AuditStore) -> None:
    await store.write(SPOOL, [entry(0)])
    assert await store.interrupt(SPOOL, SEGMENT) == 0
    await store.write(SPOOL, [entry(1, outcome=Outcome.OPEN)])
    assert await store.interrupt(SPOOL, SEGMENT) == 1


# --- finding ----------------------------------------------------------------------------------------------------------

_KEYS: Final = [("key_1", "sva_1", "org_1"), ("key_2", "sva_1", "org_1"), ("key_3", "mem_2", "org_1"),
                ("key_4", "mem_3", "org_2"), ("", "", "")]  # fmt: skip


def some_entries() -> list[StoredEntry]:
    """Of five days, several at the same moments, of two spools."""
    chance = random.Random(7)  # noqa: S311 - made up
    some = []
    for number in range(400):
        key, owner, organization = chance.choice(_KEYS)
        outcome = chance.choice(list(Outcome))
        each = entry(
            number,
            at=NOON + chance.randrange(-2, 3) * DAY + chance.randrange(20) * 1_000_000,
            outcome=outcome,
            status=chance.choice((0, 200, 204, 401, 404, 500)),
            code=chance.choice(("key_missing", "key_expired")) if outcome is Outcome.REFUSED else "",
            key_id=key, owner_id=owner, organization_id=organization,
        )  # fmt: skip
        some.append(StoredEntry(chance.choice((SPOOL, OTHER)), each))
    return some


def fits(wanted: EntryQuery, stored: StoredEntry) -> bool:
    """What a query means, in the plainest way."""
    each = stored.entry
    low, high = wanted.statuses or (0, 999)
    organizations = {wanted.organization_id} | ({""} if wanted.anonymous else set())
    return (
        (wanted.organization_id is None or each.organization_id in organizations)
        and wanted.owner_id in {None, each.owner_id}
        and wanted.key_id in {None, each.key_id}
        and wanted.outcome in {None, each.outcome}
        and wanted.code in {None, each.code}
        and wanted.request_id in {None, each.request_id}
        and low <= each.status <= high
        and (wanted.since is None or each.at >= wanted.since)
        and (wanted.until is None or each.at < wanted.until)
        and (wanted.before is None or (each.at, stored.id) < wanted.before)
    )


def newest_first(some: Sequence[StoredEntry]) -> list[StoredEntry]:
    return sorted(some, key=lambda stored: (stored.entry.at, stored.id), reverse=True)


async def filled(store: AuditStore) -> list[StoredEntry]:
    """Put some entries in, as batches come; return them newest first."""
    some = some_entries()
    for spool in (SPOOL, OTHER):
        entries = [each.entry for each in some if each.spool == spool]
        for start in range(0, len(entries), 50):
            await store.write(spool, entries[start : start + 50])
    return newest_first(some)


async def test_a_query_finds_what_fits_and_nothing_else(store: AuditStore) -> None:
    everything = await filled(store)
    values: dict[str, tuple[Any, ...]] = {
        "organization_id": (None, "org_1", "org_2", "org_gone", ""),
        "anonymous": (False, True),
        "owner_id": (None, "sva_1", "mem_gone"),
        "key_id": (None, "key_1", "key_4", ""),
        "statuses": (None, (404, 404), (400, 499), (0, 0)),
        "outcome": (None, Outcome.REFUSED, Outcome.ANSWERED),
        "code": (None, "key_expired", "never_heard_of"),
        "request_id": (None, some_entries()[7].entry.request_id, "never_heard_of"),
        "since": (None, NOON, NOON - 10 * DAY),
        "until": (None, NOON + 10_000_000, 0),
        "before": (None, (NOON + 5_000_000, "evt_1"), (NOON + 5_000_000, "zzz")),
        "limit": (1, 7, 1000),
    }
    chance = random.Random(11)  # noqa: S311 - made up
    queries = []
    for name, choices in values.items():
        queries += [EntryQuery(**{"limit": 1000, name: value}) for value in choices]
    queries += [EntryQuery(**{name: chance.choice(choices) for name, choices in values.items()}) for _ in range(300)]
    for wanted in queries:
        expected = [each for each in everything if fits(wanted, each)][: wanted.limit]
        assert await store.find(wanted) == expected, wanted


@pytest.mark.parametrize("limit", [1, 7, 1000])
async def test_pages_hold_everything_once(store: AuditStore, limit: int) -> None:
    """Entries of one moment too, wherever a page ends."""
    everything = await filled(store)
    for wanted in (EntryQuery(limit=limit), EntryQuery(organization_id="org_1", anonymous=True, limit=limit)):
        pages: list[StoredEntry] = []
        while page := await store.find(EntryQuery(
            organization_id=wanted.organization_id, anonymous=wanted.anonymous, limit=limit,
            before=(pages[-1].entry.at, pages[-1].id) if pages else None,
        )):  # fmt: skip
            pages += page
        assert pages == [each for each in everything if fits(wanted, each)]


async def test_a_cursor_may_name_something_that_is_no_entry(store: AuditStore) -> None:
    """The list that pages are made of has changes of keys in it as well."""
    await store.write(SPOOL, [entry(0)])
    assert entry_id(SPOOL, entry(0).position).startswith("req_")
    assert await found(store, before=(NOON, "evt_999")) == []
    assert await found(store, before=(NOON, "usr_0")) == [entry(0)]
    assert await found(store, before=(NOON + 1, "")) == [entry(0)]


# --- counting ---------------------------------------------------------------------------------------------------------


async def test_entries_are_counted_by_segment_whatever_their_day(store: AuditStore) -> None:
    first, last = SEGMENT << OFFSET_BITS, (SEGMENT + 1 << OFFSET_BITS) - 8
    places = {NOON: (first - 8, first, last), NOON - 3 * DAY: (first + 8, last + 8), NOON + 2 * DAY: (last + 16,)}
    for at, positions in places.items():
        await store.write(SPOOL, [entry(position=position, at=at) for position in positions])
    assert [await store.count(SPOOL, SEGMENT + each) for each in (-2, -1, 0, 1, 2)] == [0, 1, 3, 2, 0]
    assert await store.count(OTHER, SEGMENT) == 0


async def test_a_count_sees_what_came_since_the_last_one(store: AuditStore) -> None:
    for number in range(3):
        await store.write(SPOOL, [entry(number), entry(number, position=SEGMENT + 1 + number << OFFSET_BITS)])
        assert await store.count(SPOOL, SEGMENT) == number + 1
        assert await store.count(SPOOL, SEGMENT + 1 + number) == 1


# --- retention --------------------------------------------------------------------------------------------------------


async def test_days_that_are_over_go(store: AuditStore) -> None:
    entries = [entry(number, at=NOON - number * DAY) for number in range(5)]
    await store.write(SPOOL, entries)
    assert await store.retain(5, NOON) == []
    assert await store.retain(2, NOON) == ["2026-11-17", "2026-11-18"]
    assert await found(store) == entries[:3]
    assert await store.retain(2, NOON + DAY // 2 - 1) == []
    assert await store.retain(2, NOON + DAY // 2) == ["2026-11-19"]
    assert await found(store) == entries[:2]


async def test_an_entry_of_a_day_that_went_is_kept_until_the_next_time(store: AuditStore) -> None:
    """It lay in the spool while the store was away."""
    await store.write(SPOOL, [entry(0)])
    assert await store.retain(1, NOON + 5 * DAY) == ["2026-11-21"]
    await store.write(SPOOL, [entry(0), entry(1)])
    assert await found(store) == [entry(1), entry(0)]
    assert await store.retain(1, NOON + 5 * DAY) == ["2026-11-21"]
    assert await found(store) == []


async def test_another_process_may_have_removed_a_day(open_store: OpenStore) -> None:
    """What comes after that is kept, and not lost with the day."""
    async with open_store() as first, open_store() as second:
        await first.write(SPOOL, [entry(0)])
        assert await second.retain(1, NOON + 5 * DAY) == ["2026-11-21"]
        await first.write(SPOOL, [entry(1)])
        assert await found(first) == await found(second) == [entry(1)]


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_closing_twice_is_harmless(store: AuditStore) -> None:
    await store.write(SPOOL, [entry(0)])
    await store.close()
    await store.close()
